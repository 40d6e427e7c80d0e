"""Databases for tests on a server of MySQL or MariaDB, and tables emptied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.pool import NullPool

__all__ = ["DEFAULT_SERVER", "drop", "empty", "lost_connection", "make"]

DEFAULT_SERVER = "mysql+pymysql://root@127.0.0.1:3306/"


def make(server: URL, name: str) -> URL:
    """Make an empty database, in place of one of that name that was left behind."""
    drop(server, name)
    _run(server, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    return server.set(database=name)


def drop(server: URL, name: str) -> None:
    """Drop a database."""
    _run(server, f"DROP DATABASE IF EXISTS `{name}`")


def _run(server: URL, statement: str) -> None:
    engine = create_engine(server.set(database=None), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def empty(connection: Connection, tables: Iterable[str]) -> None:
    """Delete all rows, whatever refers to what.

    Not by TRUNCATE, which costs as much as making the table again.
    """
    connection.execute(text("SET SESSION foreign_key_checks = 0"))
    try:
        for table in tables:
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - a quoted name
    finally:
        connection.execute(text("SET SESSION foreign_key_checks = 1"))


def lost_connection(dbapi: Any) -> BaseException:
    """Make what the driver raises when the server has ended the connection."""
    error: BaseException = dbapi.OperationalError(2013, "Lost connection to server during query")
    return error
