"""Databases for tests on a PostgreSQL server, and tables emptied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.pool import NullPool

__all__ = ["copy", "drop_all", "empty", "lost_connection", "make"]


def make(server: URL, name: str) -> URL:
    """Make an empty database, in place of one of that name that was left behind.

    Args:
        server: Any database of the server; connected to, not touched.
        name: Of the new one.
    """
    with _connected(server) as connection:
        _drop(connection, name)
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    return server.set(database=name)


def copy(server: URL, source: str, name: str) -> URL:
    """Copy a database with all that is in it.

    https://www.postgresql.org/docs/current/manage-ag-templatedbs.html
    """
    with _connected(server) as connection:
        _drop(connection, name)
        # Nobody may be connected to what is copied.
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": source},
        )
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{source}"'))
    return server.set(database=name)


def drop_all(server: URL, prefix: str) -> None:
    """Drop every database whose name begins so, whoever is still connected to it."""
    with _connected(server) as connection:
        names = connection.scalars(
            text("SELECT datname FROM pg_database WHERE starts_with(datname, :prefix)"),
            {"prefix": prefix},
        )
        for name in names.all():
            _drop(connection, name)


def _drop(connection: Connection, name: str) -> None:
    connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@contextmanager
def _connected(server: URL) -> Iterator[Connection]:
    engine = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def empty(connection: Connection, tables: Iterable[str]) -> None:
    """Delete all rows at once, whatever refers to what, and let keys begin at one again."""
    connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE"))


def lost_connection(dbapi: Any) -> BaseException:
    """Make what the driver raises when the server has ended the connection."""
    # Both drivers tell it by this text, which comes from libpq.
    error: BaseException = dbapi.OperationalError("server closed the connection unexpectedly")
    return error
