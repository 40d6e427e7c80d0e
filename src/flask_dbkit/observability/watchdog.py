"""Connections that are held for too long, and the line that took them."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Engine

from ..databases.forking import after_fork_in_child
from .call_sites import Place, place_of_call

__all__ = ["Watchdog"]

logger = logging.getLogger("flask_dbkit.connections")

_SHORTEST_LOOK_S = 0.02


class Watchdog:
    """Logs, once for each, the connections of one engine that are out for too long.

    Args:
        engine: Its pool tells when a connection is taken and given back.
        bind: The name of the database.
        after_s: So long a connection may be held.
    """

    def __init__(self, engine: Engine, bind: str, after_s: float) -> None:
        self._bind, self._after_s = bind, after_s
        self._lock = threading.Lock()
        self._held: dict[int, tuple[float, Place | None, str]] = {}
        self._thread: threading.Thread | None = None
        event.listen(engine, "checkout", self._taken)
        event.listen(engine, "checkin", self._given)
        event.listen(engine, "close", self._given)
        event.listen(engine, "invalidate", self._given)
        _living.add(self)

    def _taken(self, _dbapi: object, record: Any, _proxy: object) -> None:
        place, _ = place_of_call()
        held = (time.monotonic(), place, threading.current_thread().name)
        with self._lock:
            self._held[id(record)] = held
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look, name="dbkit-watchdog", daemon=True
                )
                self._thread.start()

    def _given(self, _dbapi: object, record: Any, *_error: object) -> None:
        with self._lock:
            self._held.pop(id(record), None)

    def _look(self) -> None:
        """Look at what is out, until nothing is."""
        while True:
            time.sleep(max(_SHORTEST_LOOK_S, min(self._after_s / 4, 5.0)))
            now = time.monotonic()
            with self._lock:
                if not self._held:
                    self._thread = None
                    return
                late = [key for key, held in self._held.items() if now - held[0] >= self._after_s]
                told = [self._held.pop(key) for key in late]
            for since, place, thread in told:
                site = f"{place[0]}:{place[1]}" if place is not None else "an unknown line"
                logger.warning(
                    "A connection of %s is held for more than %g seconds. It was taken at %s by %s:"
                    " end the transaction, or close the connection, there.",
                    self._bind,
                    self._after_s,
                    site,
                    thread,
                    extra={"bind": self._bind, "call_site": site, "held_s": round(now - since, 3)},
                )

    def _renew(self) -> None:
        self._lock, self._thread = threading.Lock(), None
        self._held.clear()


_living: WeakSet[Watchdog] = WeakSet()


def _renew_all() -> None:
    for each in list(_living):
        each._renew()  # noqa: SLF001 - one module


after_fork_in_child(_renew_all)
