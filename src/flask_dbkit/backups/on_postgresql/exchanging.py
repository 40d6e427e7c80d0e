"""One PostgreSQL database in the place of another, while nobody can write to either.

Nobody can be kept out of a database and pg_dump let in: ``ALLOW_CONNECTIONS false`` is for
everybody, and other bars are none for its owner or a superuser. So the live database is moved
aside, to a name that nobody knows. There it is as it will stay, and can be backed up.

References:
    * https://www.postgresql.org/docs/current/sql-alterdatabase.html
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ..database import as_it_was
from ..exceptions import BackupError
from ..servers import moved_aside, passing_name, send
from .catalog import quoted

__all__ = ["NAME_BYTES", "Maintenance", "alone", "drop_aside", "exchanged"]

NAME_BYTES = 63
_PATIENCE_S = 5.0
_POLL_S = 0.05

Maintenance = Callable[[], AbstractContextManager[Connection]]
"""Connects, in autocommit mode, to a database that is not the one that is replaced."""


@contextmanager
def alone(connection: Connection, live: str) -> Iterator[None]:
    """Let one restore at a time work on a database, and end what a killed one has begun.

    Args:
        connection: Of the maintenance database; it holds the lock.
        live: The name of the database.

    Raises:
        BackupError: Another one is at work.
    """
    digest = hashlib.sha256(f"flask_dbkit.backups {live}".encode()).digest()
    key = int.from_bytes(digest[:8]) >> 1
    if not connection.scalar(sa.text(f"SELECT pg_try_advisory_lock({key})")):
        raise BackupError(
            f"Another restore of {live} is at work. Wait until it has ended.", code="database.busy"
        )
    try:
        _bring_back_left_over(connection, live)
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            connection.execute(sa.text(f"SELECT pg_advisory_unlock({key})"))


def _bring_back_left_over(connection: Connection, live: str) -> None:
    names = list(connection.scalars(sa.text("SELECT datname FROM pg_database")))
    aside = moved_aside(names, live, NAME_BYTES)
    if live not in names:
        if len(aside) != 1:
            return
        _rename(connection, aside[0], live)
    # Killed before it was moved, a forced restore has left it closed.
    send(connection, f"ALTER DATABASE {quoted(live)} ALLOW_CONNECTIONS true")


@contextmanager
def exchanged(maintenance: Maintenance, live: str, new: str, *, force: bool) -> Iterator[str]:
    """Move the live database aside, yield its name there, then give the new one its name.

    Args:
        maintenance: Connects past both.
        live: The name of the live database.
        new: The name of the one that takes its place.
        force: End the sessions of others.

    Raises:
        BackupError: Others are connected, or what the block raised; the live database has its
            name again then. The code is ``restore.unfinished`` when not even that was possible.
    """
    aside = passing_name(live, "before", NAME_BYTES)
    try:
        with maintenance() as connection:
            _move_aside(connection, live, aside, force=force)
    except BackupError as error:
        raise as_it_was(error, live) from error
    try:
        yield aside
        with maintenance() as connection:
            _rename(connection, new, live)
    except BaseException as error:
        _bring_back(maintenance, aside, live, error)
        if isinstance(error, BackupError):
            raise as_it_was(error, live) from error
        raise


def _move_aside(connection: Connection, live: str, aside: str, *, force: bool) -> None:
    if not force:
        # It keeps new sessions out while it waits, for five seconds, until the others have ended.
        _rename(connection, live, aside)
        return
    send(connection, f"ALTER DATABASE {quoted(live)} ALLOW_CONNECTIONS false")
    try:
        _end_sessions(connection, live)
        _rename(connection, live, aside)
    except BaseException:
        send(connection, f"ALTER DATABASE {quoted(live)} ALLOW_CONNECTIONS true")
        raise
    send(connection, f"ALTER DATABASE {quoted(aside)} ALLOW_CONNECTIONS true")


def drop_aside(connection: Connection, aside: str) -> None:
    """Remove a database, whoever looks at it: a monitor may go through all there are."""
    _end_sessions(connection, aside)
    send(connection, f"DROP DATABASE IF EXISTS {quoted(aside)}")


def _end_sessions(connection: Connection, name: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    end = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = :name AND pid <> pg_backend_pid()"
        # It leaves by itself when somebody renames or drops the database.
        " AND backend_type <> 'autovacuum worker'"
    )
    while connection.execute(end, {"name": name}).first() is not None:
        if time.monotonic() > deadline:
            raise BackupError(f"Sessions of {name} could not be ended.", code="database.busy")
        time.sleep(_POLL_S)


def _rename(connection: Connection, old: str, new: str) -> None:
    try:
        send(connection, f"ALTER DATABASE {quoted(old)} RENAME TO {quoted(new)}")
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", getattr(error.orig, "pgcode", None)) != "55006":
            raise
        raise BackupError(
            f"Somebody is connected to {old}, so it cannot be renamed. Stop the application first,"
            " or add --force.",
            code="database.busy",
        ) from error


def _bring_back(maintenance: Maintenance, aside: str, live: str, cause: BaseException) -> None:
    try:
        with maintenance() as connection:
            _end_sessions(connection, aside)
            _rename(connection, aside, live)
            send(connection, f"ALTER DATABASE {quoted(live)} ALLOW_CONNECTIONS true")
    except (DBAPIError, BackupError) as error:
        raise BackupError(
            f"The restore failed: {cause} And what was begun could not be undone: {error} The"
            f" database {live} is as it was, but is called {aside} now. Give it its name again:"
            f" ALTER DATABASE {quoted(aside)} RENAME TO {quoted(live)}",
            code="restore.unfinished",
        ) from cause
