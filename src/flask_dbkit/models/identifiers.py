"""Identifiers that sort by the time they were made."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable

__all__ = ["UUIDv7Generator", "uuid7"]

_COUNTER_BITS = 42
_TAIL_BITS = 32


class UUIDv7Generator:
    """Makes UUIDs of version 7, each greater than the one before.

    The layout is the one Python 3.14 uses: 48 bits of Unix milliseconds, a 42 bit counter that
    starts at random in every millisecond, and 32 random bits. Safe to call from several
    threads.

    Args:
        clock: Returns nanoseconds since 1970.

    References:
        RFC 9562, sections 5.7 and 6.2 (method 1, a counter of fixed length):
        https://www.rfc-editor.org/rfc/rfc9562#section-6.2
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Start anew: with a free lock and, in the next UUID, a counter of its own."""
        self._lock = threading.Lock()
        self._last_ms = -1
        self._counter = 0

    def __call__(self) -> uuid.UUID:
        """Return the next UUID."""
        with self._lock:
            now_ms = self._clock() // 1_000_000
            self._counter += 1
            if now_ms > self._last_ms:
                self._last_ms, self._counter = now_ms, _first_count()
            elif self._counter >> _COUNTER_BITS:
                # Full: borrow a millisecond from the future, as the RFC suggests, rather than
                # wait for it.
                self._last_ms, self._counter = self._last_ms + 1, _first_count()
            # A clock that stepped back changes nothing: the last millisecond stays in force.
            high, low = divmod(self._counter, 1 << 30)
            value = (self._last_ms & 0xFFFF_FFFF_FFFF) << 80
            value |= 0x7 << 76 | high << 64
            value |= 0b10 << 62 | low << _TAIL_BITS | secrets.randbits(_TAIL_BITS)
            return uuid.UUID(int=value)


def _first_count() -> int:
    # The highest bit is left free, so that a fresh counter always has room to grow.
    return secrets.randbits(_COUNTER_BITS - 1)


if sys.version_info >= (3, 14):  # pragma: no cover - as the standard library has tested it
    _lock = threading.Lock()

    def uuid7() -> uuid.UUID:
        """Return a new UUID of version 7.

        Greater than every one this process has made before. Made by the standard library,
        which reads its last value without a lock; here one thread calls it at a time.

        .. versionadded:: 0.1
        """
        with _lock:
            return uuid.uuid7()

    def _after_fork() -> None:
        global _lock  # noqa: PLW0603 - the fork copied it, and nobody will ever release it
        _lock = threading.Lock()

else:
    _generate = UUIDv7Generator()
    _after_fork = _generate.forget

    def uuid7() -> uuid.UUID:
        """Return a new UUID of version 7.

        Greater than every one this process has made before, also within one millisecond and
        when the clock steps back. Safe with threads, and in a process that was forked.

        .. versionadded:: 0.1
        """
        return _generate()


# A forked child would go on with its parent's counter, and with a lock that another thread of
# the parent may have held: the copy would never be released.
# https://docs.python.org/3/library/os.html#os.register_at_fork
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
