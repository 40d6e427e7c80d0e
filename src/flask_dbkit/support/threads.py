"""What a thread of the library takes over from the one that starts it: nothing, but for a few."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

__all__ = ["handed_on", "in_our_thread"]

P = ParamSpec("P")
V = TypeVar("V")

_handed_on: list[ContextVar[Any]] = []


def handed_on(variable: ContextVar[V]) -> ContextVar[V]:
    """Declare a variable that our threads take over; Flask's contexts, for example, they do not."""
    _handed_on.append(variable)
    return variable


def in_our_thread(function: Callable[P, None]) -> Callable[P, None]:
    """Return a function for a new thread, in which the variables are as they are here and now."""
    values = [(variable, variable.get()) for variable in _handed_on]

    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for variable, value in values:
            variable.set(value)
        function(*args, **kwargs)

    return run
