"""Rows written on SQLite.

https://www.sqlite.org/lang_upsert.html
"""

from __future__ import annotations

from sqlalchemy import Connection, String, type_coerce
from sqlalchemy.types import TypeEngine

from .on_conflict import write_answering
from .rows import Execute, Expression, RowGroup, Rows

__all__ = ["write"]


def write(connection: Connection, group: RowGroup, rows: Rows, execute: Execute) -> bool:
    """Insert the rows whose key is new and update the others, where a value differs."""
    from sqlalchemy.dialects.sqlite import insert  # noqa: PLC0415 - only if used

    statement = insert(group.table)
    return write_answering(
        connection, group, rows, execute, statement=statement, as_bytes=_as_bytes
    )


def _as_bytes(kind: TypeEngine[object], value: Expression) -> Expression:
    return type_coerce(value, String).collate("BINARY")  # only texts are compared by it
