"""``INSERT … ON CONFLICT``, of SQLite and PostgreSQL.

References:
    * https://www.sqlite.org/lang_upsert.html
    * https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, bindparam, literal

from .rows import AsBytes, Execute, RowGroup, Rows, any_differs, is_sql
from .stamps import Stamps, stamps_for

__all__ = ["write_answering"]


def write_answering(
    connection: Connection,
    group: RowGroup,
    rows: Rows,
    execute: Execute,
    *,
    statement: Any,
    as_bytes: AsBytes,
) -> bool:
    """Insert the rows whose key is new and update the others, where a value differs.

    The statement names the key whose conflict it answers. A conflict on any other key is an
    ``IntegrityError``.

    Args:
        connection: Sends the statement.
        group: What the rows have in common.
        rows: Their values by column key.
        execute: Runs a statement.
        statement: The INSERT of this database.
        as_bytes: How this database compares what it has stored.

    Returns:
        ``False``: a snapshot hides nothing from the statement that reads the rows back.
    """
    if not group.assigned:
        execute(statement.on_conflict_do_nothing(index_elements=group.key), rows)
        return False
    new = statement.excluded
    stamps = stamps_for(group, rows, connection)
    answering = statement.on_conflict_do_update(
        index_elements=group.key,
        set_=_assignments(group, new, stamps),
        where=any_differs(group, new, connection.dialect, as_bytes),
    )
    execute(answering, [{**row, **_own(stamps, index)} for index, row in enumerate(rows)])
    return False


def _assignments(group: RowGroup, new: Any, stamps: Stamps) -> dict[Column[Any], Any]:
    values: dict[Column[Any], Any] = {column: new[column.key] for column in group.assigned}
    for column, stamp in stamps.shared.items():
        values[column] = stamp if is_sql(stamp) else literal(stamp, column.type)
    for column in stamps.own:
        values[column] = bindparam(_name(column), type_=column.type)
    if group.version is not None:
        values[group.version] = group.counted()
    return values


def _own(stamps: Stamps, index: int) -> dict[str, Any]:
    return {_name(column): value for column, value in stamps.own_of_row(index).items()}


def _name(column: Column[Any]) -> str:
    """Return the parameter of a row's own value for a column with an ``onupdate``."""
    return f"dbkit_onupdate_{column.key}"
