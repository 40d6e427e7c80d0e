"""``INSERT … ON CONFLICT``, of SQLite and PostgreSQL.

References:
    * https://www.sqlite.org/lang_upsert.html
    * https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table, literal
from sqlalchemy.engine import Dialect

from .rows import Execute, RowGroup, Rows, any_differs, is_sql

__all__ = ["write"]


def write(dialect: Dialect, group: RowGroup, rows: Rows, execute: Execute) -> bool:
    """Insert the rows whose key is new and update the others, where a value differs.

    The statement names the key whose conflict it answers. A conflict on any other key is an
    ``IntegrityError``.

    Returns:
        ``False``: a snapshot hides nothing from the statement that reads the rows back.
    """
    statement = _insert(dialect, group.table)
    if not group.assigned:
        execute(statement.on_conflict_do_nothing(index_elements=group.key), rows)
        return False
    new = statement.excluded
    answering = statement.on_conflict_do_update(
        index_elements=group.key,
        set_=_assignments(group, new),
        where=any_differs(group, new, dialect),
    )
    execute(answering, rows)
    return False


def _insert(dialect: Dialect, table: Table) -> Any:
    if dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite  # noqa: PLC0415 - only if used

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - only if used

    return postgresql.insert(table)


def _assignments(group: RowGroup, new: Any) -> dict[Column[Any], Any]:
    values: dict[Column[Any], Any] = {column: new[column.key] for column in group.assigned}
    for column, stamp in group.stamps():
        values[column] = stamp if is_sql(stamp) else literal(stamp, column.type)
    if group.version is not None:
        values[group.version] = group.counted()
    return values
