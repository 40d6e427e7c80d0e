"""Rows written on PostgreSQL.

https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT
"""

from __future__ import annotations

from sqlalchemy import Connection, Text, cast
from sqlalchemy.types import TypeEngine

from .on_conflict import write_answering
from .rows import Execute, Expression, RowGroup, Rows

__all__ = ["write"]


def write(connection: Connection, group: RowGroup, rows: Rows, execute: Execute) -> bool:
    """Insert the rows whose key is new and update the others, where a value differs."""
    from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415 - only if used

    statement = insert(group.table)
    return write_answering(
        connection, group, rows, execute, statement=statement, as_bytes=_as_bytes
    )


def _as_bytes(kind: TypeEngine[object], value: Expression) -> Expression:
    # Every type has a text: https://www.postgresql.org/docs/current/sql-createcast.html
    return cast(value, Text).collate("C")
