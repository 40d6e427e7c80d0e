"""Databases for tests in SQLite files, and tables emptied."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, text

__all__ = ["empty", "lost_connection"]


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
