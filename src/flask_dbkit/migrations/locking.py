"""One upgrade at a time: a lock per database, which ends with the process that holds it."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, text

from ..databases import file_of
from ..support.files import UnsafeFile, open_side_file
from .connecting import server_of
from .exceptions import MigrationError, MigrationLocked
from .server import NamedLock

__all__ = ["LOCK_SUFFIX", "upgrade_lock"]

LOCK_SUFFIX = "-dbkit-migrate"
"""Ends the name of the side file that is locked beside a SQLite database."""

_LONGEST_PAUSE_S = 0.25


@contextmanager
def upgrade_lock(connection: Connection, *, name: str, wait_s: float) -> Iterator[None]:
    """Hold the lock of one database while its revisions are applied.

    PostgreSQL: a session's advisory lock. MariaDB, MySQL: ``GET_LOCK``. Both are taken on the
    connection that migrates, so that losing it loses the lock as well. SQLite: a lock on a side
    file that is a SQLite database itself, because that is a lock on every system. Other
    databases and memory have none.

    Nobody waits inside the server: a session that does holds a snapshot, and ``CREATE INDEX
    CONCURRENTLY`` of the one in front would wait for it for ever.

    Args:
        connection: Idle before and after.
        name: Of the bind, for the error.
        wait_s: Seconds to wait for another upgrade.

    Raises:
        MigrationLocked: Another upgrade did not end in time.
    """
    server = server_of(connection)
    path = file_of(connection.engine.url)
    context: contextlib.AbstractContextManager[None]
    if server is not None:
        lock = server.lock(connection.engine.url.database)
        context = _server_lock(connection, name, wait_s, lock)
    else:
        context = _file_lock(path, name, wait_s) if path else contextlib.nullcontext()
    with context:
        yield


@contextmanager
def _server_lock(
    connection: Connection, name: str, wait_s: float, lock: NamedLock
) -> Iterator[None]:
    _poll(lambda: bool(_ask(connection, lock.take)), name, wait_s)
    try:
        yield
    finally:
        # A lost connection has lost its lock as well.
        if not connection.closed and not connection.invalidated:
            if connection.in_transaction():
                connection.rollback()
            _ask(connection, lock.give)


def _ask(connection: Connection, statement: str) -> object:
    try:
        return connection.scalar(text(statement))
    finally:
        connection.rollback()


@contextmanager
def _file_lock(path: str, name: str, wait_s: float) -> Iterator[None]:
    # The file stays: whoever removed it could remove the one that the next holder has locked.
    side_file = f"{path}{LOCK_SUFFIX}"
    _make_side_file(side_file, path)
    raw = sqlite3.connect(side_file, timeout=0, isolation_level=None, check_same_thread=False)
    with closing(raw):
        _poll(lambda: _take_file(raw), name, wait_s)
        yield


def _make_side_file(side_file: str, database: str) -> None:
    """Make the file that is locked, where SQLite would follow a link."""
    beside = Path(database if Path(database).exists() else Path(database).parent)
    try:
        os.close(open_side_file(side_file, beside.stat()))
    except UnsafeFile as error:
        raise MigrationError(f"The lock of upgrades cannot be taken: {error}") from error


def _take_file(raw: sqlite3.Connection) -> bool:
    try:
        raw.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        return False
    return True


def _poll(take: Callable[[], bool], name: str, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    pause_s = 0.01
    while not take():
        if time.monotonic() > deadline:
            raise MigrationLocked(name, wait_s)
        time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)
