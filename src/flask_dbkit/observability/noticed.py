"""What was seen of the work of this process, for who asks later: repeats, and writes.

Who asks is another process as a rule: ``flask dbkit doctor`` in a shell. So what is seen goes into
a small file that all processes of the application share. Most have nothing to write: statements are
repeated where somebody develops, and of what is written to a database only busy minutes count.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable
from weakref import WeakSet

from ..databases.forking import after_fork_in_child
from .noticed_file import BUSY, Noticed, NoticedFile, NoticedRepeat
from .windows import QueryStats, Repeat

__all__ = ["NoticedWork"]

_PAUSE_S = 5.0  # at least so long between two writes of this process
_MINUTE_S = 60
_MOST = 100  # entries in memory, where there is no file

_living: WeakSet[NoticedWork] = WeakSet()


class NoticedWork:
    """Keeps where an application's work repeated statements, and how busy it wrote.

    Args:
        file: Where it is kept for other processes; ``None`` keeps it in this one.
        counts_writes: Whether it matters how much is written.
        now: Tells the time, in seconds since 1970.
    """

    def __init__(
        self,
        file: NoticedFile | None = None,
        *,
        counts_writes: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._file, self._counts_writes, self._now = file, counts_writes, now
        self._begin_anew()
        _living.add(self)

    def _begin_anew(self) -> None:
        self._fresh = Noticed()
        self._minute, self._writes = 0, 0
        self._next_write = 0.0
        self._lock = threading.Lock()

    def note(self, stats: QueryStats, repeats: Iterable[Repeat], route: str | None) -> None:
        """Note a request, a job or a command that has ended."""
        writes = stats.writes if self._counts_writes else 0
        if not writes and not repeats:
            return
        now = self._now()
        with self._lock:
            self._count(writes, int(now // _MINUTE_S))
            for each in repeats:
                if each.call_site is not None:
                    kept = NoticedRepeat(each.count, each.relationship, each.fix, route, now)
                    self._fresh.repeats[each.call_site] = kept
            if len(self._fresh.repeats) > _MOST or len(self._fresh.writes) > _MOST:
                self._fresh = self._fresh.bounded(now)
            is_due = bool(self._fresh) and now >= self._next_write
            if is_due:
                self._next_write = now + _PAUSE_S
        if is_due:
            self._hand_over(patience_s=0)

    def known(self) -> Noticed:
        """Return what is known by now: what stands in the file, and what is not in it yet."""
        now = self._now()
        there = self._file.read() if self._file is not None else Noticed()
        with self._lock:
            self._count(0, int(now // _MINUTE_S))
            return there.with_(self._fresh).bounded(now)

    def write(self, patience_s: float = 1.0) -> None:
        """Write what is not in the file yet, at the end of the process.

        Args:
            patience_s: How long to wait for another process that writes.
        """
        with self._lock:
            self._count(0, self._minute + 1)
        self._hand_over(patience_s)

    def _count(self, writes: int, minute: int) -> None:
        if minute != self._minute:
            if self._writes >= BUSY // 10:  # others may have written the rest
                known = self._fresh.writes.get(self._minute, 0)
                self._fresh.writes[self._minute] = known + self._writes
            self._minute, self._writes = minute, 0
        self._writes += writes

    def _hand_over(self, patience_s: float) -> None:
        if self._file is None:
            return
        with self._lock:
            taken, self._fresh = self._fresh, Noticed()
        if taken and not self._file.add(taken, self._now(), patience_s):
            with self._lock:
                self._fresh = taken.with_(self._fresh).bounded(self._now())


def _write_all() -> None:
    for each in list(_living):
        each.write()


def _forget_in_child() -> None:
    """What the parent has noticed is the parent's to write, and a lock may be held there."""
    for each in list(_living):
        each._begin_anew()  # noqa: SLF001 - one module


atexit.register(_write_all)
after_fork_in_child(_forget_in_child)
