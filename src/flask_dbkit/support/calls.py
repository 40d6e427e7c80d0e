"""Calls that do not fit: said in our words, with what is taken and what is nearest.

Python says "got an unexpected keyword argument 'readonly'" and stops there. Who reads that has to
look up what it takes; here the answer is part of the message.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NoReturn, TypeVar

from .words import closest, did_you_mean

__all__ = ["check_passed_on", "explained", "explained_methods", "raise_unknown"]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type[Any])

Hint = str | Callable[[Mapping[str, Any]], str]
"""How to write a missing argument: text, or a function of the arguments that were given."""


def explained(**hints: Hint) -> Callable[[F], F]:
    """Let a call that does not fit a function raise a :exc:`TypeError` that helps.

    Costs one more call, and nothing is looked at before something has failed.

    Args:
        hints: How to write an argument that is required, by its name.
    """

    def decorate(function: F) -> F:
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except TypeError as error:
                # What the function itself raises comes out of a frame of its own.
                if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                    raise
                message = _misfit(function, args, kwargs, hints)
                if message is None:
                    raise
                raise TypeError(message) from None

        return functools.update_wrapper(call, function)  # type: ignore[return-value]

    return decorate


def explained_methods(**hints: Hint) -> Callable[[C], C]:
    """Let calls that do not fit a class, or one of its public methods, raise an error that helps.

    Args:
        hints: How to write an argument of the class that is required, by its name.
    """

    def decorate(kind: C) -> C:
        for name, member in list(vars(kind).items()):
            if name == "__init__":
                setattr(kind, name, explained(**hints)(member))
            elif not name.startswith("_") and isinstance(member, FunctionType):
                setattr(kind, name, explained()(member))
        return kind

    return decorate


def raise_unknown(function: Callable[..., Any], unknown: Mapping[str, object]) -> NoReturn:
    """Refuse the keywords that a function has no use for, with the nearest of its own.

    Args:
        function: The function, whose last parameter has collected them.
        unknown: What it has collected.
    """
    parameters = inspect.signature(function).parameters.values()
    placed = [one for one in parameters if one.kind in _PLACED]
    words = [one.name for one in parameters if one.kind in _NAMED]
    raise TypeError(_unknown(function.__name__, next(iter(unknown)), placed, words))


def check_passed_on(
    name: str, function: Callable[..., Any], kwargs: Mapping[str, Any], own: str
) -> None:
    """Refuse a keyword that would be handed to a function, but was meant for the caller.

    Args:
        name: Who is called, for the message.
        function: Who would get the keywords.
        kwargs: The keywords.
        own: The caller's own keyword.
    """
    for word in kwargs:
        # Only what comes near in length is looked at; this is asked at each call.
        if abs(len(word) - len(own)) <= 2 and closest(word, [own]) is not None:
            try:
                inspect.signature(function).bind_partial(**{word: None})
            except TypeError:
                raise TypeError(
                    f"{name}() hands {word!r} on to {function!r}, which does not take it."
                    f" Did you mean {own!r}?"
                ) from None
            except ValueError:
                return  # written in C, without a signature


def _misfit(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    hints: Mapping[str, Hint],
) -> str | None:
    """Return what is wrong with a call, or ``None`` when it would fit."""
    parameters = list(inspect.signature(function).parameters.values())
    name = function.__qualname__.replace(".__init__", "").rpartition("<locals>.")[2]
    if parameters and parameters[0].name in ("self", "cls"):
        parameters, args = parameters[1:], args[1:]
    placed = [one for one in parameters if one.kind in _PLACED]
    named = [one for one in parameters if one.kind in _NAMED]
    if not _has(parameters, inspect.Parameter.VAR_KEYWORD):
        words = [one.name for one in named]
        for word in kwargs:
            if word not in words:
                return _unknown(name, word, placed, words)
    if len(args) > len(placed) and not _has(parameters, inspect.Parameter.VAR_POSITIONAL):
        return _too_many(name, args, kwargs, placed, named)
    for one in placed[: len(args)]:
        if one in named and one.name in kwargs:
            return f"{name}() got {one.name!r} twice: by its place, and by its name."
    given = {**{one.name: value for one, value in zip(placed, args, strict=False)}, **kwargs}
    missing = [
        one
        for one in parameters
        if one.default is one.empty and one.kind not in _OPEN and one.name not in given
    ]
    if missing:
        return _missing(name, given, missing, parameters, hints)
    return None


_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _has(parameters: Sequence[inspect.Parameter], kind: Any) -> bool:
    return any(one.kind is kind for one in parameters)


def _unknown(
    name: str, given: str, placed: Sequence[inspect.Parameter], words: Sequence[str]
) -> str:
    by_place = [one.name for one in placed if one.name not in words]
    if given in by_place:
        return f"{name}() takes {given!r} by its place: write {name}({given}), without the name."
    takes = f"It takes: {', '.join(words)}." if words else "It takes none by name."
    return f"{name}() has no argument {given!r}. {takes}{did_you_mean(given, words)}"


def _too_many(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    placed: Sequence[inspect.Parameter],
    named: Sequence[inspect.Parameter],
) -> str:
    free = [one.name for one in named if one not in placed and one.name not in kwargs]
    extra = len(args) - len(placed)
    by_place = [one.name for one in placed]
    if not free or extra > len(free):
        takes = f"at most {len(placed)}" if placed else "none"
        return f"{name}() got {len(args)} arguments by their place. It takes {takes} that way."
    write = ", ".join([*by_place, *(f"{word}={word}" for word in free[:extra])])
    takes = " and ".join(by_place) or "none"
    return (
        f"{name}() got {len(args)} arguments by their place, but takes only {takes} that way."
        f" Name the others: {name}({write}). It takes by name: {', '.join(free)}."
    )


def _missing(
    name: str,
    given: Mapping[str, Any],
    missing: Sequence[inspect.Parameter],
    parameters: Sequence[inspect.Parameter],
    hints: Mapping[str, Hint],
) -> str:
    written, told = [], []
    for one in parameters:
        if one.name in given and one.kind not in _OPEN:
            by_name = one.kind is one.KEYWORD_ONLY
            written.append(f"{one.name}=…" if by_name else one.name)
        elif one in missing:
            written.append(f"{one.name}=…" if one.kind is one.KEYWORD_ONLY else one.name)
            hint = hints.get(one.name)
            if hint is not None:
                told.append(hint if isinstance(hint, str) else hint(given))
    needs = " and ".join(
        f"{one.name}=" if one.kind is one.KEYWORD_ONLY else one.name for one in missing
    )
    return " ".join([f"{name}() needs {needs}: {name}({', '.join(written)}).", *told])
