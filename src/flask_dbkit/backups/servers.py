"""What PostgreSQL and MariaDB have in common when they are backed up."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from .exceptions import BackupError

__all__ = [
    "escaped",
    "explaining",
    "fit_name",
    "left_over",
    "moved_aside",
    "passing_name",
    "rows_of_revision",
    "send",
]

_PASSING = re.compile(r"_(?:verify|restored|replaced)_([0-9a-f]{8})[0-9a-f]{4}$")
_ASIDE = re.compile(r"_before_[0-9a-f]{12}$")
_OLD_S = 86_400


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


def passing_name(name: str, purpose: str, limit: int) -> str:
    """Name a database that is there for the time of one command.

    Args:
        name: Of the database it belongs to.
        purpose: ``verify``, ``restored`` or ``replaced``, which are removed when a command that
            was killed has left them behind; ``before`` for what a restore in place has moved
            aside, which is never removed by age.
        limit: Bytes a name may have.
    """
    suffix = f"_{purpose}_{int(time.time()):08x}{os.urandom(2).hex()}"
    return fit_name(name, suffix, limit)


def left_over(names: Iterable[str], name: str, limit: int) -> list[str]:
    """Return the names that commands which were killed have left behind, a day ago or before.

    Args:
        names: Of all databases of the server.
        name: Of the database they belonged to.
        limit: Bytes a name may have.
    """
    found = []
    for each in names:
        match = _PASSING.search(each)
        if (
            match is not None
            and each == fit_name(name, match[0], limit)
            and time.time() - int(match[1], 16) > _OLD_S
        ):
            found.append(each)
    return found


def moved_aside(names: Iterable[str], name: str, limit: int) -> list[str]:
    """Return what restores of a database have moved aside, and not brought back or removed.

    Args:
        names: Of all databases of the server.
        name: Of the database they belonged to.
        limit: Bytes a name may have.
    """
    return [
        each
        for each in names
        if (match := _ASIDE.search(each)) is not None and each == fit_name(name, match[0], limit)
    ]


def rows_of_revision(connection: Connection) -> str | None:
    """Return what ``alembic_version`` holds."""
    rows = connection.scalars(sa.text("SELECT version_num FROM alembic_version ORDER BY 1"))
    return ",".join(map(str, rows)) or None


def escaped(sql: str) -> str:
    """Escape what SQLAlchemy takes for a parameter in a statement that has none."""
    return sql.replace(":", "\\:")


def send(connection: Connection, sql: str) -> None:
    """Send a statement whose names may hold what a driver or SQLAlchemy takes for a placeholder."""
    connection.execute(sa.text(escaped(sql)))
