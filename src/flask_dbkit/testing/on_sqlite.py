"""Databases for tests in SQLite files, and tables emptied."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text

__all__ = ["empty"]


def empty(connection: Connection, tables: Iterable[str]) -> None:
    """Delete all rows, whatever refers to what.

    https://www.sqlite.org/pragma.html#pragma_defer_foreign_keys
    """
    connection.execute(text("PRAGMA defer_foreign_keys = ON"))
    for table in tables:
        connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - a quoted name
