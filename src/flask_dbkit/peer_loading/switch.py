"""Whether anything in this process has asked for peer loading: until then nobody listens."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["is_used", "on_first_use", "use"]

_waiting: list[Callable[[], object]] = []
_used: list[bool] = []


def is_used() -> bool:
    """Tell whether ``peerload()`` or ``lazy_loading()`` was called."""
    return bool(_used)


def on_first_use(function: Callable[[], object]) -> None:
    """Call a function when one of them is called for the first time."""
    _waiting.append(function)


def use() -> None:
    """Note that one of them is called."""
    if not _used:
        _used.append(True)
        for function in _waiting:
            function()
