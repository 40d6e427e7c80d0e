"""Errors that may be printed by anybody: made harmless where SQLAlchemy raises them.

An error goes where the program that caught it sends it: into a message, an ``extra=``, a list, a
group, the log of a server or of a library that caught it. Nobody can stand at all these doors, so
nothing that must not be told is left in the error itself: its text, its ``args``, ``params``, and
those of the driver's error in it. Classes, codes, ``statement`` (without literals) and the
driver's own diagnostics stay, and so do the words that programs look for, such as ``UNIQUE
constraint failed: book.title`` (:mod:`.words`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import StatementError

from ..databases import errors_of
from ..databases.errors import KEPT_FACTS
from .words import HIDDEN, mask_literals, words_of

__all__ = ["chain_of", "is_harmless", "make_errors_harmless", "make_harmless"]

_MARK = "_dbkit_harmless"
_OWN = "flask_dbkit."
_MOST_PARAMETERS = 200
_SHORTEST = 2  # characters of a value worth looking for in a message


def make_errors_harmless(
    engine: Engine, detailed: Callable[[], bool], left_alone: Callable[[BaseException], bool]
) -> None:
    """Make the errors of one engine harmless before the application can catch them.

    Args:
        engine: The application's.
        detailed: Whether SQL, without literals, may stand in their text now.
        left_alone: Whether an error goes to an operator's terminal and nowhere else.
    """

    @event.listens_for(engine, "handle_error")
    def handle_error(context: ExceptionContext) -> None:
        shown = detailed()
        # What another listener has put in its place is there only if one has.
        chained = getattr(context, "chained_exception", None)
        if left_alone(chained or context.sqlalchemy_exception or context.original_exception):
            return
        for error in (context.sqlalchemy_exception, chained):
            if error is not None:
                make_harmless(error, detailed=shown)
        make_harmless(context.original_exception, detailed=shown)


def make_harmless(error: BaseException, *, detailed: bool) -> None:
    """Take values, SQL and hosts out of an exception and the ones it came from, in place.

    Args:
        error: SQLAlchemy's or a driver's own; others are left as they are.
        detailed: With the SQL of a statement in its text, without literals.
    """
    if is_harmless(error):
        return
    values = list(_values(error))
    refused = isinstance(error, StatementError) and errors_of(error.orig or error) is None
    for each in list(chain_of(error)):
        if isinstance(each, StatementError):
            _clean_statement_error(each, values, detailed=detailed)
        elif errors_of(each) is not None:
            _clean_driver_error(each)
        elif refused and any(value in str(each) for value in values):
            _clean_refusal(each, values, detailed=detailed)


def is_harmless(error: BaseException) -> bool:
    """Tell whether an exception was made harmless."""
    return _MARK in error.__dict__


def _clean_statement_error(error: StatementError, values: list[str], *, detailed: bool) -> None:
    if is_harmless(error):
        return
    original = error.orig
    said = HIDDEN
    if original is not None:
        if errors_of(original) is None:
            _clean_refusal(original, values, detailed=detailed)
        else:
            _clean_driver_error(original, error.statement)
        kind = type(original)
        said = f"({kind.__module__}.{kind.__name__}) {original}"
    error.args = (said,)
    error.__dict__[_MARK] = True
    error.params = None
    if error.statement is not None:
        error.statement = mask_literals(error.statement)
    if not detailed:
        # What str() asks for; it would add the SQL. Nothing here may refer to the error itself: a
        # cycle would keep its frames, and the sessions in them.
        notes = error.detail
        setattr(error, "_sql_message", lambda: "\n".join([*(f"({n})" for n in notes), said]))


def _clean_driver_error(error: BaseException, statement: str | None = None) -> None:
    if is_harmless(error):
        return
    codes = errors_of(error)
    if codes is not None:  # some of it stands in the text alone
        error.__dict__[KEPT_FACTS] = codes.meaning(error, statement), codes.place(error)
    words = words_of(error)
    if words is None and codes is not None:
        code = codes.name(error)
        words = HIDDEN if code is None else f"code {code}"
    number: Any = next(iter(error.args), None)
    numbered = len(error.args) > 1 and isinstance(number, int)
    error.args = (number, words) if numbered else (words,)
    error.__dict__[_MARK] = True


def _clean_refusal(error: BaseException, values: list[str], *, detailed: bool) -> None:
    """Clean what a type raised about a value before anything was sent."""
    if is_harmless(error):
        return
    said = HIDDEN
    # The library's own types say what to do, and name the value only as the program gave it.
    if detailed or _raised_by_us(error):
        said = _without(str(error), values)
        said = said if _raised_by_us(error) else mask_literals(said)
    error.args = (said,)
    if isinstance(error, UnicodeEncodeError):
        error.object = ""  # the text that could not be encoded, apart from args
    error.__dict__[_MARK] = True


def _raised_by_us(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return str(name).startswith(_OWN)


def _values(error: BaseException) -> Iterator[str]:
    """Yield how the parameters of an error are written, the longest first."""
    params: Any = getattr(error, "params", None)
    found: set[str] = set()
    for value in _flat(params):
        found |= {repr(value), str(value)}
        if len(found) > 2 * _MOST_PARAMETERS:
            break
    yield from sorted((each for each in found if len(each) >= _SHORTEST), key=len, reverse=True)


def _flat(params: Any) -> Iterator[object]:
    if isinstance(params, dict):
        yield from params.values()
    elif isinstance(params, (list, tuple)):
        for each in params[:_MOST_PARAMETERS]:
            yield from _flat(each) if isinstance(each, (dict, list, tuple)) else (each,)


def _without(text: str, values: Iterable[str]) -> str:
    for value in values:
        text = text.replace(value, HIDDEN)
    return text


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and every one that it came from or holds, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, StatementError):
            waiting.append(each.orig)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        waiting += getattr(each, "errors", ()) if type(each).__module__.startswith(_OWN) else ()
