"""What a test leaves behind is told, with the line that took it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from .world import World

__all__ = ["LeftOpen", "tell_of_leaks"]


class LeftOpen(UserWarning):
    """A test has left a connection or a transaction open.

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
