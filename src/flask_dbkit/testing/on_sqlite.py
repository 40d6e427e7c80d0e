"""Databases for tests in SQLite files, and tables emptied."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, text

__all__ = ["copy", "drop_all", "empty", "lost_connection", "make"]


def make(server: URL, name: str) -> URL:
    """Return the URL of a file that is made at its first use.

    Args:
        server: A file in the folder where it goes.
        name: Of the new one, without ``.db``.
    """
    return server.set(database=str(Path(str(server.database)).with_name(f"{name}.db")))


def copy(server: URL, source: str, name: str) -> URL:
    """Copy a file with all that is in it, whoever has it open.

    https://www.sqlite.org/backup.html
    """
    made = make(server, name)
    with (
        closing(sqlite3.connect(str(make(server, source).database))) as old,
        closing(sqlite3.connect(str(made.database))) as new,
    ):
        old.backup(new)
    return made


def drop_all(server: URL, prefix: str) -> None:
    """Do nothing: the folder of the run goes as a whole."""


def empty(connection: Connection, tables: Iterable[str]) -> None:
    """Delete all rows, whatever refers to what.

    https://www.sqlite.org/pragma.html#pragma_defer_foreign_keys
    """
    connection.execute(text("PRAGMA defer_foreign_keys = ON"))
    for table in tables:
        connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - a quoted name


def lost_connection(dbapi: Any) -> BaseException:
    """Make what the driver raises when the file cannot be reached."""
    error: BaseException = dbapi.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN  # type: ignore[attr-defined]
    error.sqlite_errorname = "SQLITE_CANTOPEN"  # type: ignore[attr-defined]
    return error
