"""SQLite files around a fork: closed before it if idle, refused in the child if in use.

SQLite keeps a book of the locks that this process holds on each file, because POSIX locks belong
to a process and not to a connection. A fork copies the book and not the locks. A connection that
the child opens later, on its own, asks no lock of the operating system: by the book this process
has it. Then the parent, which closes its last connection, believes to be alone, and deletes a
write-ahead log with what its children have committed: 56 to 75 of 90 acknowledged rows were lost.
Nothing in the child can correct the book, and closing an inherited connection does harm itself.

So the idle connections are closed before a fork: without one the book has no page for the file.
Where a connection is in use at that moment, the file is refused in the child.

References:
    * https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
    * The comment "POSIX ADVISORY LOCKS" in https://sqlite.org/src/file/src/os_unix.c
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Engine

from ..forking import after_fork_in_child, before_fork
from .files import FileIdentity, hand_over_files
from .transaction import inherited_file

__all__ = ["guard_file", "refuse_inherited"]

_records: WeakKeyDictionary[Engine, WeakSet[Any]] = WeakKeyDictionary()
"""The places in the pool of each engine, taken or not."""

_inherited: set[FileIdentity] = set()


def guard_file(engine: Engine, path: str | None) -> None:
    """Keep the connections that ``engine`` has to its file apart from those of forked children."""
    if path is None or engine.url.query.get("immutable") in ("1", "true"):
        return  # no file, or no locks
    records = _records[engine] = WeakSet()

    @event.listens_for(engine, "do_connect")
    def do_connect(*_: Any) -> None:
        refuse_inherited(path)

    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, record: Any) -> None:
        refuse_inherited(path)  # a function of the application's own may have opened it
        records.add(record)


def refuse_inherited(path: str | os.PathLike[str]) -> None:
    """Refuse a file that the parent of this process had open at the fork.

    Raises:
        sqlite3.OperationalError: Using it could lose what is acknowledged. The text says what
            to do in the parent.
    """
    if _inherited:
        with contextlib.suppress(OSError):  # it is not there, or not to be reached: no danger
            status = Path(path).stat()
            if (status.st_dev, status.st_ino) in _inherited:
                raise inherited_file(path)


def _close_idle() -> None:
    for engine, records in list(_records.items()):
        opened = [record for record in list(records) if record.dbapi_connection is not None]
        if opened and not any(record.in_use for record in opened):
            # Not one by one: a thread may be taking one from the pool right now.
            engine.dispose()
            for record in opened:  # of a pool that was replaced while it was in use
                if not record.in_use:
                    record.invalidate()


def _note_inherited() -> None:
    """Look which files are open, whoever opened them: another engine, or :mod:`sqlite3` itself."""
    for records in list(_records.values()):
        records.clear()  # the parent's, never to be closed here
    noted, descriptors = hand_over_files(), _descriptors()
    if not descriptors:  # what was noted may have been closed since
        _inherited.update(noted)
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # the one that listed them
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                _inherited.add((status.st_dev, status.st_ino))


def _descriptors() -> list[int]:
    with contextlib.suppress(OSError, ValueError):
        return [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208 - names, not paths
    return []


if hasattr(os, "register_at_fork"):
    before_fork(_close_idle)
    after_fork_in_child(_note_inherited)
