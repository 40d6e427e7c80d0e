"""What a pool does: connections that are used and idle, and how long it takes to get one.

Counted by SQLAlchemy's events, which every kind of pool has, and by a clock around
``Pool.connect()``, for which there is none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import Pool, QueuePool

from ..databases.forking import after_fork_in_child

__all__ = ["IDLE", "USED", "PoolWatch"]

USED, IDLE = "used", "idle"

Change = Callable[[str, int], None]
"""Called with a state, and by how many more or fewer connections are in it."""
Wait = Callable[[float], None]
"""Called with the seconds until a connection was there."""


class PoolWatch:
    """Counts the connections of one engine.

    Args:
        engine: Its pool, and every pool that it gets later.
        bind: The name of the database.
        overflow: How many connections its pool may have above its size; ``None`` where that is
            not known, negative for no limit.

    Attributes:
        changed: Called for each change.
        waited: Called for each connection that was taken.
        timed_out: Called when the pool had none to give.
    """

    def __init__(self, engine: Engine, bind: str, overflow: int | None) -> None:
        self.bind = bind
        self._engine, self._overflow = engine, overflow
        # The garbage collector may give a connection back while this thread has the lock.
        self._lock = threading.RLock()
        self._told = 0, 0
        self._open: set[int] = set()
        self._used: set[int] = set()
        self.changed: list[Change] = []
        self.waited: list[Wait] = []
        self.timed_out: list[Callable[[], None]] = []
        for name, listener in (
            ("connect", self._opened),
            ("checkout", self._taken),
            ("checkin", self._given),
            ("close", self._gone),
            ("detach", self._gone),
        ):
            event.listen(engine, name, listener)
        event.listen(engine, "engine_disposed", lambda disposed: self._time(disposed.pool))
        self._time(engine.pool)
        _living.add(self)

    @property
    def used(self) -> int:
        """Connections that somebody has."""
        return len(self._used)

    @property
    def idle(self) -> int:
        """Connections that are open and in the pool."""
        return len(self._open) - len(self._used)  # what is used is open

    @property
    def limit(self) -> int | None:
        """Most connections of the pool; ``None`` for no limit."""
        pool = self._engine.pool
        if not isinstance(pool, QueuePool) or self._overflow is None or self._overflow < 0:
            return None
        size = pool.size()
        return size + self._overflow if size > 0 else None

    def _opened(self, _dbapi: object, record: Any) -> None:
        with self._lock:
            self._open.add(id(record))
            self._tell()

    def _taken(self, _dbapi: object, record: Any, _proxy: object) -> None:
        with self._lock:
            self._open.add(id(record))  # it may have been opened before anybody counted
            self._used.add(id(record))
            self._tell()

    def _given(self, _dbapi: object, record: Any) -> None:
        with self._lock:
            self._used.discard(id(record))
            self._tell()

    def _gone(self, _dbapi: object, record: Any, *_error: object) -> None:
        with self._lock:
            self._open.discard(id(record))
            self._used.discard(id(record))
            self._tell()

    def _tell(self) -> None:
        """Tell what has changed since it was told last, which may have been a moment ago."""
        used, idle = self.used - self._told[0], self.idle - self._told[1]
        self._told = self.used, self.idle
        for changed in self.changed:
            if used:
                changed(USED, used)
            if idle:
                changed(IDLE, idle)

    def _time(self, pool: Pool) -> None:
        plain = pool.connect

        def connect() -> Any:
            begun = perf_counter()
            try:
                taken = plain()
            except PoolTimeout:
                for timed_out in self.timed_out:
                    timed_out()
                raise
            seconds = perf_counter() - begun
            for waited in self.waited:
                waited(seconds)
            return taken

        setattr(pool, "connect", connect)

    def forget(self) -> None:
        """Begin anew in a child, whose parent has the connections."""
        self._lock = threading.RLock()
        self._told = 0, 0
        self._open.clear()
        self._used.clear()


_living: WeakSet[PoolWatch] = WeakSet()


def _forget_all() -> None:
    for each in list(_living):
        each.forget()


after_fork_in_child(_forget_all)
