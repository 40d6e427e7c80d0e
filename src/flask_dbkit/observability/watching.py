"""The one that watches each statement: counts it in every window, and hands slow ones on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from ..databases.execution import Execution, Order, Watcher, watch
from .windows import opened_windows, when_looking

__all__ = ["StatisticsWatcher", "install", "watch_sessions"]

Slow = Callable[[Execution, float, str], None]
"""Called for a slow statement, with the seconds it took and the name of its bind."""


class StatisticsWatcher(Watcher):
    """Counts the statements of one engine.

    Args:
        bind: The name of the database.
        slow_s: From here on a statement is slow; ``None`` for none.
        slow: Called with a slow one.
    """

    order = Order.STATISTICS
    timed = True

    def __init__(self, bind: str, slow_s: float | None, slow: Slow) -> None:
        self._bind = bind
        self._slow_s = float("inf") if slow_s is None else slow_s
        self._slow = slow

    def after(self, execution: Execution) -> None:
        """Count a statement that was answered."""
        time_s = execution.ended - execution.started
        windows = opened_windows()
        if windows:
            rows = execution.cursor.rowcount
            for window in windows:
                window.note(execution, time_s, rows, self._bind)
        if time_s >= self._slow_s:
            self._slow(execution, time_s, self._bind)

    def failed(self, execution: Execution, error: BaseException) -> None:
        """Count a statement that failed: it was sent all the same."""
        time_s, rows = execution.ended - execution.started, execution.cursor.rowcount
        for window in opened_windows():
            window.note(execution, time_s, rows, self._bind)


def install(engine: Engine, bind: str, slow_s: float | None, slow: Slow) -> None:
    """Watch one engine."""
    watch(engine, StatisticsWatcher(bind, slow_s, slow))
    watch_checkouts(engine)


def watch_checkouts(engine: Engine) -> None:
    """Count the connections that are taken out of a pool."""

    @event.listens_for(engine, "checkout")
    def checkout(*_connection: object) -> None:
        for window in opened_windows():
            window.stats.checkouts += 1


def watch_sessions(sessions: Any) -> None:
    """Note when a session is flushed, as soon as anybody looks for repeats.

    Args:
        sessions: What ``event.listen`` takes: ``db.session``.
    """
    found = ref(sessions)

    def begin() -> None:
        known = found()
        if known is not None:
            _listen(known)

    when_looking(begin)


def _listen(sessions: Any) -> None:
    numbers = iter(range(1, 1 << 62))

    @event.listens_for(sessions, "before_flush")
    def before_flush(*_arguments: object) -> None:
        number = next(numbers)
        for window in opened_windows():
            window.flush = number

    @event.listens_for(sessions, "after_flush_postexec")
    def after_flush(*_arguments: object) -> None:
        for window in opened_windows():
            window.flush = 0

    @event.listens_for(sessions, "after_soft_rollback")
    def after_soft_rollback(_session: Session, _transaction: object) -> None:
        for window in opened_windows():
            window.flush = 0
