"""``stream()``: the generator of a streamed response in a scope of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from contextvars import copy_context
from typing import Any, TypeVar

from flask import globals as globals_
from flask import has_app_context, has_request_context

from ..support.calls import explained
from .current import transaction

__all__ = ["stream"]

T = TypeVar("T")


@explained()
def stream(generator: Iterable[T], read_only: bool = True) -> Iterator[T]:
    """Run a streamed response's generator in a scope of its own.

    The scope opens at the first item and ends when the generator is exhausted; an error rolls
    it back, and so does a client that goes away. The request, the application and ``g`` are
    those of the caller, the session is a new one once the request is over.

    Args:
        generator: Yields the pieces of the body.
        read_only: Refuse writes, which is what a streamed answer should do.

    Raises:
        RuntimeError: There is no application context.
        TypeError: ``generator`` cannot be iterated over: a function not called, or async.

    .. versionadded:: 0.1
    """
    contexts: list[Any] = [_behind(globals_.app_ctx)]
    if has_request_context() and not hasattr(contexts[0], "request"):
        # Two contexts until Flask 3.2 makes one of them.
        contexts.append(_behind(globals_.request_ctx))
    return _Stream(iter(generator), contexts, read_only)


class _Stream(Iterator[T]):
    """Iterates in a context of its own.

    Between two pieces somebody else runs in this thread. What the generator has pushed, and the
    scope it has open, must not be there for them, as it is with ``stream_with_context()``.
    """

    def __init__(self, source: Iterator[T], contexts: list[Any], read_only: bool) -> None:
        self._contexts = contexts
        self._started = False
        self._pieces = self._run(source, contexts, read_only)
        self._context = copy_context()

    @staticmethod
    def _run(source: Iterator[T], contexts: list[Any], read_only: bool) -> Generator[T, None, None]:
        with ExitStack() as stack:
            for context in _copies(contexts):
                stack.enter_context(context)
            stack.enter_context(transaction(read_only=read_only))
            close = getattr(source, "close", None)
            if close is not None:
                stack.callback(close)
            yield from source

    def __next__(self) -> T:
        if not self._started:
            self._started = True
            if has_app_context() and _behind(globals_.app_ctx) is self._contexts[0]:
                # Not over yet: whoever pushed it pops it, and the session is theirs.
                self._contexts.clear()
        return self._context.run(next, self._pieces)

    def close(self) -> None:
        """Roll back, unless the end was reached."""
        self._context.run(self._pieces.close)

    __del__ = close


def _copies(contexts: list[Any]) -> list[Any]:
    """Return contexts with the same application, request and ``g``, to be pushed here.

    Whoever has pushed those of the caller may push and pop them again meanwhile, as a test
    client in a ``with`` block does, and a context can be popped only where it was pushed.
    """
    copies: list[Any] = []
    for context in contexts:
        made = context.copy() if hasattr(context, "copy") else context.app.app_context()
        if hasattr(context, "g"):
            made.g = context.g
        copies.append(made)
    return copies


def _behind(proxy: Any) -> Any:
    return proxy._get_current_object()  # noqa: SLF001 - documented, whatever its name
