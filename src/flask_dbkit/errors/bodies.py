"""A streamed body whose errors are told in our words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["GuardedBody"]


class GuardedBody:
    """The chunks of a body. What an error of them becomes is what the server sees and logs.

    Args:
        chunks: What the response was made of.
        stand_in: Returns what is raised in place of an exception; the same one to leave it.
    """

    def __init__(self, chunks: Iterable[Any], stand_in: Callable[[Exception], Exception]) -> None:
        self._whole, self._chunks = chunks, iter(chunks)
        self._stand_in = stand_in

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next chunk."""
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except Exception as error:
            told = self._stand_in(error)
            if told is error:
                raise
        # Outside of the handler, so that the original is not its context.
        raise told

    def close(self) -> None:
        """Close what is iterated over, if it can be closed."""
        close = getattr(self._whole, "close", None)
        if close is None:
            return
        try:
            close()
        except Exception as error:
            told = self._stand_in(error)
            if told is error:
                raise
        else:
            return
        raise told
