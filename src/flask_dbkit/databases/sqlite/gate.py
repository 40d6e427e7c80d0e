"""Fair turns in front of SQLite's one write lock.

SQLite lets one connection write at a time, and its own busy handler is a lottery: a waiter
sleeps and tries again, and the unlucky one waits for seconds while others come and go. The
gate puts the writers of one file in a queue before they say ``BEGIN IMMEDIATE``.

Inside a process it is a lock that is handed to the longest waiter. Only a thread that writes
again and again may go on, which costs no thread switch, until somebody has waited for a *turn*.
Between processes it is an advisory lock on a side file, taken with short sleeps. SQLite's own
lock stays the authority: a gate that cannot be had, or that another program ignores, costs
fairness and never correctness. The kernel drops the advisory lock of a process that dies.

References:
    * SQLite's busy handler: https://www.sqlite.org/c3ref/busy_timeout.html
    * POSIX record locks: https://man7.org/linux/man-pages/man2/fcntl_locking.2.html
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from pathlib import Path
from weakref import WeakSet, WeakValueDictionary

from ...support.files import UnsafeFile, open_side_file

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: the queue inside the process still works
    fcntl = None  # type: ignore[assignment]

__all__ = ["SIDE_FILE_SUFFIX", "WriterGate", "gate_for"]

logger = logging.getLogger("flask_dbkit.sqlite")

SIDE_FILE_SUFFIX = "-dbkit-writers"
"""Appended to the database's path to name the file that carries the advisory lock."""

TURN_S = 0.07
"""Seconds a thread may be kept waiting before the lock is handed over."""

FILE_TURN_S = 0.12
"""Seconds a process may keep coming back to the side file while another one wants it.

Longer than the turn of a thread: handing over to a process costs a sleep instead of a switch.
"""

_RETURN_S = 0.001  # a thread that wants the lock again so soon is expected to go on
_IDLE_S = 0.005  # if it does not, a free lock goes to the first waiter after this long
_POLL_MIN_S, _POLL_MAX_S = 0.002, 0.004  # sleeps between tries for the side file
_STAND_BACK_S = 0.004  # a process whose turn is over leaves the side file alone for this long
_GATE_BYTE, _WAITING_BYTE = 0, 1


class _LastRelease(threading.local):
    release = 0.0  # when this thread last gave the lock back


class _Waiter:
    __slots__ = ("chosen", "goes_on", "since", "stirred")

    def __init__(self, since: float, *, goes_on: bool) -> None:
        self.since = since
        self.goes_on = goes_on
        self.chosen = False  # the lock was handed to it
        self.stirred = threading.Event()  # it was chosen, or is now first in line


class _Queue:
    """A lock that may be taken out of turn until somebody has waited for a whole turn.

    It belongs to no thread: a connection may be given back, and so release it, anywhere.
    """

    def __init__(self) -> None:
        # Reentrant, because a connection that is garbage collected gives its gate back from
        # wherever the collector happened to run.
        self._mutex = threading.RLock()
        self._waiters: deque[_Waiter] = deque()
        self._held = False
        self._free_since = 0.0
        self._goes_on = False  # the holder came back at once, and is expected to do so again
        self._last = _LastRelease()

    def try_acquire(self) -> bool:
        with self._mutex:
            now = time.monotonic()
            if self._held or self._overdue(now):
                return False
            self._held = True
            self._goes_on = self._is_back(now)
            return True

    def acquire(self, timeout_s: float) -> bool:
        if self.try_acquire():
            return True
        now = time.monotonic()
        waiter = _Waiter(now, goes_on=self._is_back(now))
        deadline = now + timeout_s
        with self._mutex:
            self._waiters.append(waiter)
        try:
            return self._wait(waiter, deadline)
        except BaseException:
            # Ctrl-C, or a worker's time limit: nobody is there any more to be handed the lock.
            self._leave(waiter)
            raise

    def _wait(self, waiter: _Waiter, deadline: float) -> bool:
        while True:
            now = time.monotonic()
            with self._mutex:
                if waiter.chosen:
                    return True
                first = self._waiters[0] is waiter
                idle = now - self._free_since >= _IDLE_S or now - waiter.since >= TURN_S
                if first and idle and not self._held:
                    self._hand_over()
                    return True
                if now >= deadline:
                    self._leave(waiter)
                    return False
            # The first in line looks in now and then, because whoever was expected back may stay
            # away. The others sleep: threads that wake up for nothing take the interpreter's
            # lock from the one that writes.
            left = deadline - now
            if waiter.stirred.wait(min(left, _IDLE_S) if first else left):
                waiter.stirred.clear()

    def _hand_over(self) -> None:
        """Give the lock to the first in line, and let the one behind look in from now on."""
        self._held = True
        waiter = self._waiters.popleft()
        self._goes_on = waiter.goes_on
        waiter.chosen = True
        waiter.stirred.set()
        if self._waiters:
            self._waiters[0].stirred.set()

    def _leave(self, waiter: _Waiter) -> None:
        with self._mutex:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                if self._waiters:
                    self._waiters[0].stirred.set()
            elif waiter.chosen:
                self.release()  # it was handed the lock already

    def release(self) -> None:
        with self._mutex:
            now = self._last.release = time.monotonic()
            if self._overdue(now) or (self._waiters and not self._goes_on):
                self._hand_over()
            else:
                self._held = False
                self._free_since = now

    def _is_back(self, now: float) -> bool:
        return now - self._last.release < _RETURN_S

    def _overdue(self, now: float) -> bool:
        return bool(self._waiters) and now - self._waiters[0].since >= TURN_S


class _SideFile:
    """The advisory lock between processes. Used by one thread of a process at a time."""

    def __init__(self, path: str, like: str) -> None:
        self._path, self._like = path, like
        self._descriptor: int | None = None
        self._usable = fcntl is not None
        self._streak_since: float | None = None
        self._stand_back_until = 0.0

    def acquire(self, deadline: float) -> bool:
        """Take the lock before ``deadline`` (monotonic seconds); tell whether it was had."""
        if not self._usable:
            return True
        now = started = time.monotonic()
        announced = False
        while True:
            if now >= self._stand_back_until and self._try_lock(_GATE_BYTE):
                if announced:
                    self._unlock(_WAITING_BYTE)
                if announced or self._streak_since is None:
                    self._streak_since = time.monotonic()
                return True
            if self._has_given_up():
                return True
            if now >= deadline:
                if announced:
                    self._unlock(_WAITING_BYTE)
                return False
            announced = announced or self._try_lock(_WAITING_BYTE, shared=True)
            # Whoever has waited longer looks more often, and so is more likely to be next.
            share = min(1.0, (now - started) / FILE_TURN_S)
            pause = _POLL_MAX_S - share * (_POLL_MAX_S - _POLL_MIN_S)
            time.sleep(min(pause, max(deadline - now, 0.0)))
            now = time.monotonic()

    def release(self) -> None:
        if not self._usable:
            return
        now = time.monotonic()
        streak = now - (self._streak_since if self._streak_since is not None else now)
        if streak >= FILE_TURN_S:
            # A process that keeps coming back would win most races: let the others have it.
            if self._is_wanted():
                self._stand_back_until = now + _STAND_BACK_S
            self._streak_since = None
        self._unlock(_GATE_BYTE)

    def _has_given_up(self) -> bool:
        return not self._usable

    def _is_wanted(self) -> bool:
        if self._try_lock(_WAITING_BYTE):
            self._unlock(_WAITING_BYTE)
            return False
        return True

    def _try_lock(self, byte: int, *, shared: bool = False) -> bool:
        try:
            descriptor = self._open()
            assert fcntl is not None
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError) as error:
            if self._descriptor is None:
                self._give_up(error)  # the side file itself may not be opened
            return False
        except OSError as error:
            self._give_up(error)
            return False
        return True

    def _unlock(self, byte: int) -> None:
        if self._descriptor is None:
            return
        assert fcntl is not None
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, byte)
        except OSError as error:
            self._give_up(error)

    def _open(self) -> int:
        if self._descriptor is None:
            # Whoever may write the database shall write this file too, whatever the umask and
            # whoever makes it. SQLite does the same with its own side files.
            self._descriptor = open_side_file(self._path, Path(self._like).stat())
        return self._descriptor

    def _give_up(self, error: OSError) -> None:
        self._usable = False
        self.close()
        logger.log(
            # Somebody has put it there.
            logging.WARNING if isinstance(error, UnsafeFile) else logging.INFO,
            "No advisory lock on %s (%s): writers of other processes take no turns here."
            " SQLite's own lock keeps the data safe.",
            self._path,
            error.strerror or error,
        )

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    __del__ = close


class WriterGate:
    """The queue of one database file: one per file and process, shared by all engines.

    Args:
        path: The database file, or ``None`` for a queue inside the process only.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._side_file: _SideFile | None = None
        self._holder: int | None = None  # the thread that has taken it
        self.reset()
        _gates.add(self)

    def acquire(self, timeout_s: float) -> bool:
        """Wait for the turn to write.

        Args:
            timeout_s: Seconds to wait at most.

        Returns:
            Whether the gate is held now; if so, :meth:`release` it, from any thread.
        """
        deadline = time.monotonic() + timeout_s
        return self._queue.acquire(timeout_s) and self._take_side_file(deadline)

    def is_held_here(self) -> bool:
        """Tell whether this very thread has taken it, and would wait for itself."""
        return self._holder == threading.get_ident()

    def try_acquire(self) -> bool:
        """Take the gate if it is free now and nobody has waited too long."""
        return self._queue.try_acquire() and self._take_side_file(deadline=0.0)

    def _take_side_file(self, deadline: float) -> bool:
        """Take the lock between processes, or give the one inside this process back."""
        taken = False
        try:
            taken = self._side_file is None or self._side_file.acquire(deadline)
        finally:
            if taken:
                self._holder = threading.get_ident()
            else:
                self._queue.release()
        return taken

    def release(self) -> None:
        """Let the next writer in."""
        self._holder = None
        if self._side_file is not None:
            self._side_file.release()
        self._queue.release()

    def reset(self) -> None:
        """Start anew, as a forked child must: its threads are gone and its lock is not its own.

        Closing the inherited descriptor releases nothing of the parent's: record locks belong
        to a process and are not inherited.
        """
        if self._side_file is not None:
            self._side_file.close()
        self._holder = None
        self._queue = _Queue()
        path = self._path
        self._side_file = _SideFile(path + SIDE_FILE_SUFFIX, path) if path is not None else None


_gates: WeakSet[WriterGate] = WeakSet()
_by_path: WeakValueDictionary[str, WriterGate] = WeakValueDictionary()
_by_path_lock = threading.Lock()


def gate_for(path: str) -> WriterGate:
    """Return the gate of a database file, the same one for every spelling of its path."""
    real = os.path.realpath(path)
    with _by_path_lock:
        gate = _by_path.get(real)
        if gate is None:
            gate = _by_path[real] = WriterGate(real)
        return gate


def reset_gates() -> None:
    """Reset every gate of this process; called in a forked child."""
    global _by_path_lock  # noqa: PLW0603 - the parent's may be held by a thread that is not here
    _by_path_lock = threading.Lock()
    for gate in list(_gates):
        gate.reset()
