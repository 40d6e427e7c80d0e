"""The rules about MariaDB and MySQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alembic.operations import ops
from sqlalchemy import Index, PrimaryKeyConstraint, UniqueConstraint, types

from .recording import Recorded
from .view import Hit, View, is_new

__all__ = ["mysql"]

_INDEXED = (PrimaryKeyConstraint, UniqueConstraint, Index)
_LARGEST_INDEX = 768  # characters of four bytes: 3072, InnoDB's limit


def mysql(each: Recorded, view: View) -> Iterator[Hit]:
    """Find what copies the table, and indexes that are too long."""
    if not view.is_mysql:
        return
    op: Any = each.operation
    if isinstance(op, ops.AlterColumnOp) and op.modify_type is not None:
        before = op.existing_type or view.schema.type_of(op.table_name, op.column_name)
        if not is_new(each, view) and not _is_in_place(before, types.to_instance(op.modify_type)):
            yield Hit(
                "DM501", each.line, f"column {op.table_name}.{op.column_name} gets a new type"
            )
    yield from _long_indexes(each, view)


def _is_in_place(before: Any, after: Any) -> bool:
    if not (isinstance(before, types.String) and isinstance(after, types.String)):
        return repr(before) == repr(after)
    if before.length is None or after.length is None or after.length < before.length:
        return repr(before) == repr(after)
    # One length byte or two: 255 bytes, 63 characters of four.
    # https://mariadb.com/kb/en/innodb-online-ddl-operations-with-the-inplace-alter-algorithm/
    return (before.length <= 63) == (after.length <= 63)


def _long_indexes(each: Recorded, view: View) -> Iterator[Hit]:
    op: Any = each.operation
    if isinstance(op, ops.CreateTableOp):
        table = op.to_table()
        for item in (*table.constraints, *table.indexes):
            if isinstance(item, _INDEXED) and _is_long([one.type for one in item.columns]):
                columns = ", ".join(one.name for one in item.columns)
                yield Hit("DM503", each.line, f"{columns} of {op.table_name}")
    if isinstance(op, (ops.CreateIndexOp, ops.CreateUniqueConstraintOp)):
        if getattr(op, "kw", {}).get("mysql_length"):
            return
        names = [str(each) for each in op.columns]
        if _is_long([view.schema.type_of(op.table_name, name) for name in names]):
            yield Hit("DM503", each.line, f"{', '.join(names)} of {op.table_name}")
    added: Any = getattr(op, "column", None)
    if added is not None and (added.unique or added.index) and _is_long([added.type]):
        yield Hit("DM503", each.line, f"column {op.table_name}.{added.name}")


def _is_long(kinds: list[Any]) -> bool:
    total = 0
    for kind in kinds:
        if isinstance(kind, types.Enum) or not isinstance(kind, types.String):
            continue
        if kind.length is None:
            return True
        total += kind.length
    return total > _LARGEST_INDEX
