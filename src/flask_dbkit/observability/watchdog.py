"""Connections that are held for too long, and the line that took them."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from types import CodeType, FrameType
from typing import Any, NamedTuple
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Engine

from ..databases.forking import after_fork_in_child, after_fork_in_parent, before_fork
from .call_sites import Place, place_of_call

__all__ = ["Watchdog"]

logger = logging.getLogger("flask_dbkit.connections")

_SHORTEST_LOOK_S = 0.02
_LONGEST_LOOK_S = 5.0
_PATIENCE_S = 1.0  # for a thread that is about to write a line somewhere


_MOST_PLACES = 1024
_MOST_DEPTHS = 4


class _Places:
    """Which line of the application takes a connection, mostly without a walk along the frames.

    A walk makes an object of every frame, which costs as much as a tenth of a small transaction.
    From the same instruction, so many calls deep, it comes to the same line as before.
    """

    def __init__(self) -> None:
        self._depths: tuple[int, ...] = ()
        self._known: dict[tuple[int, int, int], tuple[CodeType, Place]] = {}

    def of_call(self) -> Place | None:
        """Return the line that has led here, ``None`` if it is none of the application's."""
        for depth in self._depths:
            try:
                frame = sys._getframe(depth)  # noqa: SLF001 - documented; nothing else is as fast
            except ValueError:
                continue  # so many calls are not under way
            # By its number: to compare code compares all that it is made of.
            known = self._known.get((depth, id(frame.f_code), frame.f_lasti))
            if known is not None:
                return known[1]
        return self._walk()

    def _walk(self) -> Place | None:
        place, _ = place_of_call()
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
        depth = 0
        while frame is not None and place is not None:
            code = frame.f_code
            if (code.co_filename, frame.f_lineno) == place:
                if len(self._known) >= _MOST_PLACES:
                    self._known.clear()
                # With the code itself, so that no other gets its number.
                self._known[depth, id(code), frame.f_lasti] = code, place
                others = [each for each in self._depths if each != depth]
                self._depths = (depth, *others)[:_MOST_DEPTHS]
                break
            frame, depth = frame.f_back, depth + 1
        return place


_places = _Places()


class _Held(NamedTuple):
    since: float
    place: Place | None
    thread: int


class Watchdog:
    """Logs, once for each, the connections of one engine that are out for too long.

    Args:
        engine: Its pool tells when a connection is taken and given back.
        bind: The name of the database.
        after_s: So long a connection may be held.
    """

    def __init__(self, engine: Engine, bind: str, after_s: float) -> None:
        self._bind, self._after_s = bind, after_s
        self.look_s = max(_SHORTEST_LOOK_S, min(after_s / 4, _LONGEST_LOOK_S))
        self.held: dict[int, _Held] = {}
        event.listen(engine, "checkout", self._taken)
        event.listen(engine, "checkin", self._given)
        event.listen(engine, "close", self._given)
        event.listen(engine, "detach", self._given)
        _living.add(self)

    def _taken(self, _dbapi: object, record: Any, _proxy: object) -> None:
        # Without a lock: each connection has a key of its own.
        place = _places.of_call()
        self.held[id(record)] = _Held(time.monotonic(), place, threading.get_ident())
        if self.look_s < _patrol.interval_s:
            _patrol.hurry(self.look_s)

    def _given(self, _dbapi: object, record: Any, *_error: object) -> None:
        self.held.pop(id(record), None)

    def look(self) -> None:
        """Log what is out for too long."""
        now = time.monotonic()
        for key, held in list(self.held.items()):
            if now - held.since >= self._after_s and self.held.pop(key, None) is held:
                self._tell(held, now - held.since)

    def _tell(self, held: _Held, held_s: float) -> None:
        site = ":".join(map(str, held.place)) if held.place is not None else "an unknown line"
        logger.warning(
            "A connection of %s is held for more than %g seconds. It was taken at %s by %s:"
            " end the transaction, or close the connection, there.",
            self._bind,
            self._after_s,
            site,
            _name_of(held.thread),
            extra={"bind": self._bind, "call_site": site, "held_s": round(held_s, 3)},
        )


def _name_of(ident: int) -> str:
    names = (each.name for each in threading.enumerate() if each.ident == ident)
    return next(names, "a thread that has ended")


class _Patrol:
    """The one thread that looks at the connections of every watchdog, while any is held.

    Attributes:
        interval_s: Until its next look; endless while there is no thread.
    """

    def __init__(self) -> None:
        self.interval_s = math.inf
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def hurry(self, look_s: float) -> None:
        """Look again so soon at the latest."""
        with self._lock:
            self.interval_s = min(look_s, self.interval_s)
            if self._thread is not None:
                self._wake.set()
                return
            thread = threading.Thread(
                target=self._walk, args=(self._wake,), name="dbkit-watchdog", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no thread is to be had: the next connection
                self.interval_s = math.inf
            else:
                self._thread = thread

    def stop(self) -> None:
        """Let no thread be alive, for a fork that is about to happen."""
        with self._lock:
            thread, self._thread, self.interval_s = self._thread, None, math.inf
            wake, self._wake = self._wake, threading.Event()
        wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE_S)

    def go_on(self) -> None:
        """Look after what is held, if anything is."""
        busy = _busy()
        if busy:
            self.hurry(min(each.look_s for each in busy))

    def _walk(self, wake: threading.Event) -> None:
        while True:
            wake.wait(self.interval_s)
            if self._wake is not wake:
                return
            wake.clear()
            for each in list(_living):
                each.look()
            with self._lock:
                if self._wake is not wake:
                    return
                # First this, then the look: whoever takes a connection does it the other way
                # round, so that one of the two sees the other.
                self.interval_s = math.inf
                busy = _busy()
                if not busy:
                    self._thread = None
                    return
                self.interval_s = min(each.look_s for each in busy)


def _busy() -> list[Watchdog]:
    return [each for each in list(_living) if each.held]


_living: WeakSet[Watchdog] = WeakSet()
_patrol = _Patrol()


def _renew() -> None:
    """The thread, and what is held, stay with the parent."""
    global _patrol  # noqa: PLW0603 - its lock may be taken by a thread that is not here
    _patrol = _Patrol()
    for each in list(_living):
        each.held.clear()


before_fork(lambda: _patrol.stop())  # noqa: PLW0108 - the one there is then
after_fork_in_parent(lambda: _patrol.go_on())  # noqa: PLW0108
after_fork_in_child(_renew)
