"""What a test leaves behind is told, a connection with the line that took it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from .world import World

__all__ = ["LeftOpen", "tell_of_leaks", "tell_of_scope"]


class LeftOpen(UserWarning):
    """A test has left a connection, a transaction or a scope open.

    .. versionadded:: 0.1
    """


def tell_of_leaks(worlds: Iterable[World]) -> None:
    """Warn of each connection that nobody gave back."""
    for world in worlds:
        for transaction in world.taken:
            what = "with an open transaction" if transaction.is_open else "idle"
            warnings.warn(
                f"A connection was not given back, {what}. It was taken at"
                f" {transaction.opened_at}. Close it, or take it in a 'with' block.",
                LeftOpen,
                stacklevel=2,
            )


def tell_of_scope() -> None:
    """Warn of a scope that is still open where the test has ended."""
    warnings.warn(
        "A transaction() scope was entered and never left. Open scopes in a 'with' block, and read"
        " a generator that has one to its end, or close it.",
        LeftOpen,
        stacklevel=2,
    )
