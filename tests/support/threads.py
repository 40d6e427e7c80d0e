"""Functions that run side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["side_by_side"]


def side_by_side(*functions: Callable[[], object], most_s: float = 30) -> list[BaseException]:
    """Run each function in a thread of its own, and return what they raised, in any order."""
    raised: list[BaseException] = []

    def go(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=go, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(most_s)
        assert not thread.is_alive()
    return raised
