"""The rules about code that runs while a revision is applied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alembic.operations import ops
from sqlalchemy import types

from .recording import Recorded
from .view import Hit, View, is_narrower, is_new, maps, shorten, text_of

__all__ = ["dropped", "enum_value", "narrowed", "renamed", "required"]

_ENUM_VALUE = re.compile(
    r"ALTER\s+TYPE\s+\S+\s+(?:DROP|RENAME)\s+VALUE|FROM\s+pg_enum", re.IGNORECASE
)


def dropped(each: Recorded, view: View) -> Iterator[Hit]:
    """Find what is dropped although a model maps it."""
    op: Any = each.operation
    if isinstance(op, ops.DropTableOp) and op.table_name in view.metadata.tables:
        yield Hit("DM101", each.line, f"table {op.table_name} is mapped by a model")
    elif isinstance(op, ops.DropTableOp) and op.table_name in view.schema.mapped:
        bind = view.schema.mapped[op.table_name]
        yield Hit(
            "DM101", each.line, f"table {op.table_name} is mapped by a model of the bind {bind!r}"
        )
    if isinstance(op, ops.DropColumnOp) and maps(view, op.table_name, op.column_name):
        yield Hit("DM101", each.line, f"column {op.table_name}.{op.column_name} is mapped")


def renamed(each: Recorded, view: View) -> Iterator[Hit]:
    """Find a new name of what a model maps under one of both."""
    op: Any = each.operation
    if isinstance(op, ops.RenameTableOp) and not is_new(each, view):
        names = {op.table_name, op.new_table_name}
        if names & set(view.metadata.tables):
            yield Hit("DM105", each.line, f"table {op.table_name} becomes {op.new_table_name}")
    if isinstance(op, ops.AlterColumnOp) and op.modify_name and not is_new(each, view):
        old, new = op.column_name, op.modify_name
        if maps(view, op.table_name, old) or maps(view, op.table_name, new):
            yield Hit("DM105", each.line, f"column {op.table_name}.{old} becomes {new}")


def required(each: Recorded, view: View) -> Iterator[Hit]:
    """Find a new column that every INSERT would have to name."""
    op: Any = each.operation
    if not isinstance(op, ops.AddColumnOp) or is_new(each, view):
        return
    column = op.column
    generated = column.computed is not None or column.identity is not None
    if not column.nullable and column.server_default is None and not generated:
        yield Hit("DM102", each.line, f"column {op.table_name}.{column.name}")


def narrowed(each: Recorded, view: View) -> Iterator[Hit]:
    """Find a type that holds less than the one before."""
    op: Any = each.operation
    if not isinstance(op, ops.AlterColumnOp) or op.modify_type is None or is_new(each, view):
        return
    before = op.existing_type or view.schema.type_of(op.table_name, op.column_name)
    after = types.to_instance(op.modify_type)
    where = f"{op.table_name}.{op.column_name}: {before!r} to {after!r}"
    if isinstance(before, types.Enum) and isinstance(after, types.Enum):
        gone = sorted(set(before.enums) - set(after.enums))
        if gone:
            yield Hit("DM104", each.line, f"{op.table_name}.{op.column_name}: {', '.join(gone)}")
    elif before is not None and is_narrower(types.to_instance(before), after):
        yield Hit("DM103", each.line, where)


def enum_value(each: Recorded, view: View) -> Iterator[Hit]:
    """Find SQL that takes a value from an enumeration."""
    text = text_of(each.operation)
    if text and _ENUM_VALUE.search(text):
        yield Hit("DM104", each.line, shorten(text))
