"""The rules about rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alembic.operations import ops
from sqlalchemy import Table
from sqlalchemy.sql import dml

from .recording import Recorded
from .view import CHANGE, Hit, View, shorten, text_of

__all__ = ["changes_rows", "secrets", "unbatched"]

_BOUNDED = re.compile(r"\bLIMIT\b|\bBETWEEN\b|\bIN\s*\(|[<>]|\bid\s*=|_id\s*=", re.IGNORECASE)
_INSERT = re.compile(r"^\s*INSERT\s+INTO\s+\"?`?(\w+)\"?`?\s*(?:\(([^)]*)\))?", re.IGNORECASE)
_SECRET = re.compile(r"passw|secret|token|api_?key|private_?key|credential", re.IGNORECASE)


def unbatched(each: Recorded, view: View) -> Iterator[Hit]:
    """Find an UPDATE or DELETE of no bounded number of rows."""
    statement = getattr(each.operation, "sqltext", None)
    text = text_of(each.operation)
    if not text:
        return
    match = CHANGE.match(text)
    table = match[2] if match is not None else ""
    if isinstance(statement, (dml.Update, dml.Delete)):
        table = str(getattr(statement.table, "name", ""))
    if not table or table in view.created or table == "alembic_version":
        return
    where = re.split(r"\bWHERE\b", text, maxsplit=1, flags=re.IGNORECASE)
    if len(where) == 1 or not _BOUNDED.search(where[1]):
        yield Hit("DM301", each.line, shorten(text))


def secrets(each: Recorded, view: View) -> Iterator[Hit]:
    """Find a password or the like that is inserted."""
    op: Any = each.operation
    if isinstance(op, ops.BulkInsertOp):
        names = {n for row in op.rows for n, v in row.items() if _SECRET.search(n) and _is_text(v)}
        if names:
            yield Hit("DM303", each.line, f"{op.table.name}.{', '.join(sorted(names))}")
        return
    statement = getattr(op, "sqltext", None)
    if isinstance(statement, dml.Insert):
        values: Any = statement.compile().params
        names = {name for name, value in values.items() if _SECRET.search(name) and _is_text(value)}
        if names:
            yield Hit("DM303", each.line, ", ".join(sorted(names)))
        return
    match = _INSERT.match(text_of(op))
    if match is not None and _SECRET.search(match[2] or ""):
        yield Hit("DM303", each.line, f"{match[1]} ({match[2]})")


def _is_text(value: object) -> bool:
    return isinstance(value, (str, bytes)) and bool(value)


def changes_rows(each: Recorded, view: View) -> bool:
    """Tell whether an operation changes rows of a table that was there before."""
    op: Any = each.operation
    if isinstance(op, ops.BulkInsertOp):
        return isinstance(op.table, Table) and op.table.name not in view.created
    if not isinstance(op, ops.ExecuteSQLOp):
        return False
    text = text_of(op)
    match = CHANGE.match(text)
    table = match[2] if match is not None else ""
    inserted = _INSERT.match(text)
    if inserted is not None:
        table = inserted[1]
    return bool(table) and table not in view.created
