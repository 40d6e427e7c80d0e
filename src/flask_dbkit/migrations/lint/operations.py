"""The rules about operations, one after the other: see the modules beside this one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from alembic.operations import ops

from .compatibility import dropped, enum_value, narrowed, renamed, required
from .data import changes_rows, secrets, unbatched
from .locks import locks, rewrites, sql_locks
from .on_mysql import mysql
from .on_sqlite import sqlite
from .recording import Recorded, Recording
from .schema import Schema
from .view import Hit, View, is_ddl, table_of, text_of

__all__ = ["examine_operations"]

_REPEATABLE = re.compile(r"\bIF\s+(?:NOT\s+)?EXISTS\b", re.IGNORECASE)
_DDL = re.compile(r"^\s*(?:CREATE|ALTER|DROP|RENAME|TRUNCATE)\b", re.IGNORECASE)


def examine_operations(recording: Recording, schema: Schema) -> Iterator[Hit]:
    """Yield what is wrong with the operations of one revision on one database.

    Args:
        recording: The operations.
        schema: The tables before it; afterwards, those after it.
    """
    view = View(recording, schema, schema.metadata, is_first=not schema.tables)
    for each in recording.operations:
        for rule in _RULES:
            yield from rule(each, view)
        table = table_of(each.operation)
        if isinstance(each.operation, ops.CreateTableOp):
            view.created.add(each.operation.table_name)
        elif table and table not in view.created and is_ddl(each.operation):
            view.touched.setdefault(table, each.line)
        schema.apply(each.operation)
    yield from _whole(view)


def _whole(view: View) -> Iterator[Hit]:
    operations = view.recording.operations
    rows = [each for each in operations if changes_rows(each, view)]
    schema = [each for each in operations if _is_schema(each)]
    if rows and schema:
        yield Hit("DM302", rows[0].line, "rows are changed beside the schema")
    if view.is_postgresql and len(view.touched) > 1:
        names = ", ".join(sorted(view.touched))
        yield Hit("DM208", max(view.touched.values()), names)
    # What the first revision leaves half done is a database to drop, and to make again.
    if view.is_mysql and not view.is_first:
        committing = [
            line
            for line, text in view.recording.sql
            if _DDL.match(text) and not _REPEATABLE.search(text)
        ]
        if len(committing) > 1:
            yield Hit("DM502", committing[1], f"{len(committing)} statements")


def _is_schema(each: Recorded) -> bool:
    if isinstance(each.operation, ops.ExecuteSQLOp):
        return bool(_DDL.match(text_of(each.operation)))
    return not isinstance(each.operation, ops.BulkInsertOp)


_RULES: tuple[Callable[[Recorded, View], Iterator[Hit]], ...] = (
    dropped,
    renamed,
    required,
    narrowed,
    enum_value,
    locks,
    rewrites,
    sql_locks,
    unbatched,
    secrets,
    sqlite,
    mysql,
)
