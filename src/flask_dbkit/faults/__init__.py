"""What the errors of the drivers mean: one table of codes per database.

The class of an error tells nothing: ``OperationalError`` is a broken CHECK on MariaDB, a typo on
SQLite and an outage on PostgreSQL. So each module here reads SQLSTATE, vendor code or SQLite's
extended result code. Scopes ask the same tables what to replay.

:func:`faults_of` picks the module by the error, :func:`faults_for` by the dialect.
"""

from __future__ import annotations

from .base import Faults, Place
from .mysql import MySQLFaults
from .postgresql import PostgreSQLFaults
from .sqlite import SQLiteFaults

__all__ = ["Faults", "Place", "faults_for", "faults_of"]

_SQLITE, _POSTGRESQL, _MYSQL = SQLiteFaults(), PostgreSQLFaults(), MySQLFaults()
_OTHERS = Faults()
_BY_NAME: dict[str, Faults] = {
    "sqlite": _SQLITE,
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}


def faults_for(dialect_name: str) -> Faults:
    """Return what is known about the errors of a dialect's drivers."""
    return _BY_NAME.get(dialect_name, _OTHERS)


def faults_of(error: BaseException) -> Faults | None:
    """Return what is known about a driver's own error; ``None`` if it is no driver's."""
    return next((known for known in _BY_NAME.values() if known.owns(error)), None)
