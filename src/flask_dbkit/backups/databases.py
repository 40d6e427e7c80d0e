"""Which module knows how to back up which database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from ..engines.urls import parse_database_url
from ..exceptions import BackupError
from .database import Database
from .on_mysql.database import MySQLDatabase
from .on_postgresql.database import PostgreSQLDatabase
from .on_sqlite.database import SQLiteDatabase

__all__ = ["database_at", "database_for"]

_KINDS: dict[str, type[Database]] = {
    "sqlite": SQLiteDatabase,
    "postgresql": PostgreSQLDatabase,
    "mysql": MySQLDatabase,
    "mariadb": MySQLDatabase,
}


def database_for(engine: Engine, connect_args: Mapping[str, Any] | None = None) -> Database:
    """Return what backs up and restores the database of an engine.

    Args:
        engine: On SQLite through Python's own module, PostgreSQL, MariaDB or MySQL.
        connect_args: The driver arguments the engine was made with, besides its URL.

    Raises:
        BackupError: No backup is written for this database.

    .. versionadded:: 0.1
    """
    kind = _KINDS.get(engine.dialect.name)
    if kind is None or (kind is SQLiteDatabase and engine.dialect.driver != "pysqlite"):
        raise BackupError(
            f"No backup is written for {engine.dialect.name}+{engine.dialect.driver}. There is one"
            " for SQLite, PostgreSQL, MariaDB and MySQL.",
            code="database.unsupported",
        )
    return kind(engine, connect_args)


def database_at(url: object) -> Database:
    """Return the same for a URL, with an engine that keeps no connection open.

    Raises:
        ConfigError: It is no database URL, or its driver is not installed.
        BackupError: As :func:`database_for`.

    .. versionadded:: 0.1
    """
    parsed = parse_database_url(url, key="--into")
    return database_for(sa.create_engine(parsed, poolclass=NullPool))
