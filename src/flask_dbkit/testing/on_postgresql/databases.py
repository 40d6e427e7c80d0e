"""Databases for tests on a PostgreSQL server, and tables emptied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.pool import NullPool

__all__ = ["drop", "empty", "lost_connection", "make"]


def make(server: URL, name: str) -> URL:
    """Make an empty database, in place of one of that name that was left behind.

    Args:
        server: Any database of the server; connected to, not touched.
        name: Of the new one.
    """
    drop(server, name)
    _run(server, f'CREATE DATABASE "{name}"')
    return server.set(database=name)


def drop(server: URL, name: str) -> None:
    """Drop a database, whoever is still connected to it."""
    _run(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _run(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def empty(connection: Connection, tables: Iterable[str]) -> None:
    """Delete all rows at once, whatever refers to what, and let keys begin at one again."""
    connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE"))


def lost_connection(dbapi: Any) -> BaseException:
    """Make what the driver raises when the server has ended the connection."""
    # Both drivers tell it by this text, which comes from libpq.
    error: BaseException = dbapi.OperationalError("server closed the connection unexpectedly")
    return error
