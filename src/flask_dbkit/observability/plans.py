"""The plan of a statement, asked for on its own connection: without running it, and in time.

``EXPLAIN`` without ``ANALYZE`` runs nothing, but a planner may take its time, and on PostgreSQL an
error would be the end of the application's transaction. So each server gets a deadline and a
guard of its kind. SQLite plans while it reads the text.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..databases import MYSQL, POSTGRESQL, SQLITE, database_of
from ..databases.execution import Execution
from ..errors.words import mask_literals
from . import on_mysql, on_postgresql

__all__ = ["DEADLINE_MS", "plan_of"]

DEADLINE_MS = 200
"""So long a server may take for a plan; then there is none."""
_MOST_LINES = 60


def plan_of(execution: Execution) -> str | None:
    """Ask for the plan of a statement that was answered, with the same parameters.

    Returns:
        Its lines, without the values that a server writes into them; ``None`` for a database
        that is not known.
    """
    database = database_of(execution.connection)
    if not database.is_known:
        return None
    explain = {
        SQLITE: "EXPLAIN QUERY PLAN",
        POSTGRESQL: "EXPLAIN",
        MYSQL: on_mysql.explain(execution.connection.dialect, DEADLINE_MS),
    }[database]
    raw: Any = execution.connection.connection.dbapi_connection
    cursor = raw.cursor()
    try:
        with _guard(raw, cursor) if database is POSTGRESQL else nullcontext():
            cursor.execute(f"{explain} {execution.statement}", execution.parameters)
            rows = cursor.fetchall()
            names = [column[0] for column in cursor.description or ()]
    finally:
        cursor.close()
    return "\n".join(_line(row, names, database.is_embedded) for row in rows[:_MOST_LINES])


def _guard(raw: Any, cursor: Any) -> AbstractContextManager[None]:
    return on_postgresql.guarded(cursor, DEADLINE_MS, in_transaction=not raw.autocommit)


def _line(row: Any, names: list[str], embedded: bool) -> str:
    if embedded:
        return str(row[-1])
    if len(row) == 1:
        return _without_values(str(row[0]))
    pairs = zip(names, row, strict=False)
    return ", ".join(f"{name}={value}" for name, value in pairs if value is not None)


def _without_values(line: str) -> str:
    """Take out what a server writes into the conditions of a plan; costs stay."""
    begin, mark, condition = line.partition(": ")
    return f"{begin}{mark}{mask_literals(condition)}" if mark else line
