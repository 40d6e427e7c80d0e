"""The rules about what PostgreSQL locks, and for how long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alembic.operations import ops
from sqlalchemy import types

from .recording import Recorded
from .view import Hit, View, default_of, is_narrower, is_narrower_number, is_new, shorten, text_of

__all__ = ["locks", "rewrites", "sql_locks"]

_VOLATILE = re.compile(
    r"\b(?:random|gen_random_uuid|uuid_generate_v\w+|uuidv\d|clock_timestamp|nextval|timeofday)\s*\(",
    re.IGNORECASE,
)
_SQL_RULES = (
    ("DM201", re.compile(r"^\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?!CONCURRENTLY)", re.IGNORECASE)),
    ("DM203", re.compile(r"\bADD\b[^;]*\bFOREIGN\s+KEY\b(?![^;]*NOT\s+VALID)", re.IGNORECASE)),
    ("DM204", re.compile(r"\bADD\b[^;]*\bCHECK\s*\((?![^;]*NOT\s+VALID)", re.IGNORECASE)),
    ("DM205", re.compile(r"\bADD\b[^;]*\bUNIQUE\s*\(", re.IGNORECASE)),
)
_SQL_NOT_NULL = re.compile(
    r"ALTER\s+TABLE\s+(?:ONLY\s+)?\"?(\w+)\"?\s.*?ALTER\s+(?:COLUMN\s+)?\"?(\w+)\"?\s+SET\s+NOT\s+NULL",
    re.IGNORECASE | re.DOTALL,
)
_CONCURRENTLY = re.compile(r"\bINDEX\s+CONCURRENTLY\b", re.IGNORECASE)


def locks(each: Recorded, view: View) -> Iterator[Hit]:
    """Find what keeps others from writing, or from reading, until it is done."""
    if not view.is_postgresql:
        return
    op: Any = each.operation
    if isinstance(op, (ops.CreateIndexOp, ops.DropIndexOp)):
        yield from _index(each, view)
    elif is_new(each, view):
        return
    elif isinstance(op, ops.AddColumnOp):
        name = f"column {op.table_name}.{op.column.name}"
        if op.column.foreign_keys:
            yield Hit("DM203", each.line, name)
        if op.column.unique:
            yield Hit("DM205", each.line, name)
    elif isinstance(op, ops.AlterColumnOp):
        known = view.schema.is_known_not_null(op.table_name, op.column_name)
        if op.modify_nullable is False and not known:
            yield Hit("DM206", each.line, f"column {op.table_name}.{op.column_name}")
    else:
        yield from _constraint(each)


def _index(each: Recorded, view: View) -> Iterator[Hit]:
    op: Any = each.operation
    if op.kw.get("postgresql_concurrently"):
        if not each.autocommit:
            yield Hit("DM202", each.line, f"index {op.index_name}")
    elif isinstance(op, ops.CreateIndexOp) and not is_new(each, view):
        yield Hit("DM201", each.line, f"index {op.index_name} on {op.table_name}")


def _constraint(each: Recorded) -> Iterator[Hit]:
    op: Any = each.operation
    not_valid = getattr(op, "kw", {}).get("postgresql_not_valid")
    if isinstance(op, ops.CreateForeignKeyOp) and not not_valid:
        yield Hit("DM203", each.line, f"{op.source_table} to {op.referent_table}")
    elif isinstance(op, ops.CreateCheckConstraintOp) and not not_valid:
        yield Hit("DM204", each.line, f"on {op.table_name}")
    elif isinstance(op, ops.CreateUniqueConstraintOp):
        yield Hit("DM205", each.line, f"on {op.table_name}")


def rewrites(each: Recorded, view: View) -> Iterator[Hit]:
    """Find what copies every row under a lock."""
    op: Any = each.operation
    if not view.is_postgresql or is_new(each, view):
        return
    if isinstance(op, ops.AddColumnOp):
        column = op.column
        name = f"column {op.table_name}.{column.name}"
        if column.computed is not None and column.computed.persisted is not False:
            yield Hit("DM207", each.line, f"{name} is generated and stored")
        elif column.identity is not None:
            yield Hit("DM207", each.line, f"{name} is an identity")
        elif _VOLATILE.search(default_of(column)):
            yield Hit("DM207", each.line, f"{name} has the default {default_of(column)}")
    if isinstance(op, ops.AlterColumnOp) and op.modify_type is not None:
        before = op.existing_type or view.schema.type_of(op.table_name, op.column_name)
        if not _is_free(before, types.to_instance(op.modify_type)):
            yield Hit(
                "DM207", each.line, f"column {op.table_name}.{op.column_name} gets a new type"
            )


def _is_free(before: Any, after: Any) -> bool:
    """Tell whether PostgreSQL changes the type without reading the rows.

    https://www.postgresql.org/docs/current/sql-altertable.html
    """
    if before is None or isinstance(before, types.Enum) or isinstance(after, types.Enum):
        return False
    if isinstance(before, types.String) and isinstance(after, types.String):
        return not is_narrower(before, after)
    if isinstance(before, types.Numeric) and isinstance(after, types.Numeric):
        same = after.precision is None or before.scale == after.scale
        return same and not is_narrower_number(before, after)
    return repr(before) == repr(after)


def sql_locks(each: Recorded, view: View) -> Iterator[Hit]:
    """Find the same in SQL that is written by hand."""
    text = text_of(each.operation)
    if not view.is_postgresql or not text:
        return
    target = re.search(r"(?:\bON|ALTER\s+TABLE(?:\s+ONLY)?)\s+\"?(\w+)", text, re.IGNORECASE)
    if target is not None and target[1] in view.created:
        return
    if _CONCURRENTLY.search(text) and not each.autocommit:
        yield Hit("DM202", each.line, shorten(text))
    for rule, pattern in _SQL_RULES:
        if pattern.search(text):
            yield Hit(rule, each.line, shorten(text))
    match = _SQL_NOT_NULL.search(text)
    if match is not None and not view.schema.is_known_not_null(match[1], match[2]):
        yield Hit("DM206", each.line, shorten(text))
