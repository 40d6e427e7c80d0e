"""A thorough look at a SQLite file in the background.

A damaged page in the middle of a file passes every quick probe. ``quick_check`` reads them all,
a second per gigabyte, so it is run seldom, in a thread of its own, and not on large files.

References:
    https://www.sqlite.org/pragma.html#pragma_quick_check
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from pathlib import Path
from urllib.parse import quote
from weakref import WeakSet

from ..databases.forking import after_fork_in_child, briefly_open
from ..databases.sqlite.files import FileIdentity
from ..databases.sqlite.inheriting import refuse_inherited

__all__ = ["IntegrityCheck"]

logger = logging.getLogger("flask_dbkit.health")

_LARGEST_BYTES = 1_000_000_000
_AGAIN_S = 1.0  # a damaged file is looked at again soon: it may have been repaired
_AGAIN_FACTOR = 10  # but not more than a tenth of the time


class IntegrityCheck:
    """When a file was last looked at, and what was found.

    Args:
        every_s: Seconds between two looks; ``None`` or 0 for none at all.
    """

    def __init__(self, every_s: float | None) -> None:
        self._every_s = every_s or None
        self._lock = threading.Lock()
        self._running = False
        self._due_at = float("-inf")
        self._looked_at: FileIdentity | None = None
        self._damaged = False
        _living.add(self)

    def is_damaged(self, identity: FileIdentity) -> bool:
        """Tell whether the last look at this very file found damage."""
        return self._damaged and self._looked_at == identity

    def start_if_due(self, path: str, identity: FileIdentity) -> None:
        """Look at the file in the background, unless that was done lately."""
        if self._every_s is None:
            return
        with self._lock:
            if self._running:
                return
            if time.monotonic() < self._due_at and self._looked_at in (identity, None):
                return
            if Path(path).stat().st_size > _LARGEST_BYTES:
                self._due_at = time.monotonic() + self._every_s
                return
            thread = threading.Thread(
                target=self._look, args=(path, identity), name="dbkit-quick-check", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # no thread is to be had: later
                thread.start()
                self._running = True

    def _look(self, path: str, identity: FileIdentity) -> None:
        began = time.monotonic()
        damaged = _is_damaged(path)
        took = time.monotonic() - began
        assert self._every_s is not None
        pause = min(self._every_s, max(_AGAIN_S, took * _AGAIN_FACTOR))
        with self._lock:
            if damaged is not None:
                self._damaged, self._looked_at = damaged, identity
            self._due_at = time.monotonic() + (self._every_s if damaged is False else pause)
            self._running = False

    def renew(self) -> None:
        """Go on in a forked child, where the thread and the holder of the lock are not."""
        self._lock = threading.Lock()
        self._running = False


def _is_damaged(path: str) -> bool | None:
    """Run ``quick_check``; ``None`` when the file could not be looked at."""
    uri = f"file:{quote(str(Path(path).absolute()))}?mode=rw"
    try:
        refuse_inherited(path)
        with (
            briefly_open(),
            contextlib.closing(
                sqlite3.connect(uri, uri=True, timeout=1.0, check_same_thread=False)
            ) as raw,
        ):
            return bool(raw.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.DatabaseError as error:
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return True
        logger.debug("quick_check was not run: %s", type(error).__name__)
        return None


_living: WeakSet[IntegrityCheck] = WeakSet()


def _renew_all() -> None:
    for check in list(_living):
        check.renew()


after_fork_in_child(_renew_all)
