"""Databases for tests on a server of MySQL or MariaDB, and tables emptied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.pool import NullPool

__all__ = ["DEFAULT_SERVER", "copy", "drop_all", "empty", "lost_connection", "make"]

DEFAULT_SERVER = "mysql+pymysql://root@127.0.0.1:3306/"


copy = None
"""A server has no means to copy a database."""


def make(server: URL, name: str) -> URL:
    """Make an empty database, in place of one of that name that was left behind."""
    with _connected(server) as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS `{name}`"))
        connection.execute(text(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4"))
    return server.set(database=name)


def drop_all(server: URL, prefix: str) -> None:
    """Drop every database whose name begins so."""
    with _connected(server) as connection:
        names = connection.scalars(
            text(
                "SELECT schema_name FROM information_schema.schemata"
                " WHERE left(schema_name, char_length(:prefix)) = :prefix"
            ),
            {"prefix": prefix},
        )
        for name in names.all():
            connection.execute(text(f"DROP DATABASE IF EXISTS `{name}`"))


@contextmanager
def _connected(server: URL) -> Iterator[Connection]:
    engine = create_engine(server.set(database=None), poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


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
