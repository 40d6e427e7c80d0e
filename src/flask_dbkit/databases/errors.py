"""What the errors of the drivers mean: one table of codes per database.

The class of an error tells nothing: ``OperationalError`` is a broken CHECK on MariaDB, a typo on
SQLite and an outage on PostgreSQL. So each module here reads SQLSTATE, vendor code or SQLite's
extended result code. Scopes ask the same tables what to replay.

:func:`faults_of` picks the module by the error, :func:`faults_for` by the dialect.
"""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DataError

from .error_codes import Faults, Place
from .mysql.errors import MySQLFaults
from .postgresql.errors import PostgreSQLFaults
from .sqlite.errors import SQLiteFaults

__all__ = ["Faults", "Place", "faults_for", "faults_of", "install_value_errors"]

_SQLITE, _POSTGRESQL, _MYSQL = SQLiteFaults(), PostgreSQLFaults(), MySQLFaults()
_OTHERS = Faults()
_BELOW = frozenset(
    {
        "sqlalchemy",
        "flask_dbkit",
        "psycopg",
        "psycopg_binary",
        "psycopg_c",
        "psycopg2",
        "pymysql",
        "MySQLdb",
    }
)
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
    return next((known for known in (_SQLITE, _MYSQL, _POSTGRESQL) if known.owns(error)), None)


def install_value_errors(engine: Engine) -> None:
    """Let one engine raise a ``DataError`` for a value that its driver cannot even send.

    An integer that is too large is a bare ``OverflowError`` of :mod:`sqlite3`, a NUL byte a bare
    ``ValueError`` of psycopg2: nothing tells either from a mistake of the application's own.
    """

    @event.listens_for(engine, "handle_error")
    def handle_error(context: ExceptionContext) -> DataError | None:
        original = context.original_exception
        if context.sqlalchemy_exception is not None or context.statement is None:
            return None
        if not isinstance(original, (ValueError, OverflowError)) or not _is_raised_below(original):
            return None
        return DataError(
            context.statement, context.parameters, original, hide_parameters=engine.hide_parameters
        )


def _is_raised_below(error: BaseException) -> bool:
    """Tell whether an error comes from a driver, not from a listener of the application's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = str(trace.tb_frame.f_globals.get("__name__", "")) if trace is not None else ""
    return name.partition(".")[0] in _BELOW
