"""What PostgreSQL and MariaDB have in common when they are backed up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ..exceptions import BackupError

__all__ = ["explaining", "fit_name", "fresh_suffix", "rows_of_revision"]


@contextmanager
def explaining(name: str, server: str) -> Iterator[None]:
    """Turn what a server or a driver refuses into one paragraph, without SQL or a password."""
    try:
        yield
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())
        raise BackupError(
            f"{server} refused while the database {name} was worked on: {said}",
            code="database.failed",
        ) from error


def fit_name(name: str, suffix: str, limit: int) -> str:
    """Append a suffix to a name, cutting the name so that both fit.

    A server would cut the end off without an error, and the suffix with it.
    """
    room = limit - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


def fresh_suffix() -> str:
    """Return a text that no other name has."""
    return os.urandom(4).hex()


def rows_of_revision(connection: Connection) -> str | None:
    """Return what ``alembic_version`` holds."""
    rows = connection.scalars(sa.text("SELECT version_num FROM alembic_version ORDER BY 1"))
    return ",".join(map(str, rows)) or None
