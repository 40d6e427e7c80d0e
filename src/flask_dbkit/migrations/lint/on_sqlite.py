"""The rules about what SQLite cannot do, or does by copying."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alembic.operations import ops

from .recording import Recorded
from .view import CONSTANT, Hit, View, default_of, is_new

__all__ = ["sqlite"]

_NOT_ON_SQLITE = (
    ops.AlterColumnOp,
    ops.CreateForeignKeyOp,
    ops.CreateUniqueConstraintOp,
    ops.CreateCheckConstraintOp,
    ops.CreatePrimaryKeyOp,
    ops.DropConstraintOp,
)


def sqlite(each: Recorded, view: View) -> Iterator[Hit]:
    """Find what needs a batch, and what a batch may lose."""
    if not view.is_sqlite:
        return
    op: Any = each.operation
    if each.batch is not None:
        yield from _batch(each, view)
    elif isinstance(op, _NOT_ON_SQLITE) and not _only_renames(op):
        yield Hit("DM405", each.line, f"{type(op).__name__.removesuffix('Op')} outside a batch")
    elif isinstance(op, ops.AddColumnOp) and not is_new(each, view):
        default = default_of(op.column)
        if default and not CONSTANT.match(default):
            yield Hit("DM404", each.line, f"column {op.table_name}.{op.column.name}: {default}")


def _only_renames(op: Any) -> bool:
    return (
        isinstance(op, ops.AlterColumnOp)
        and bool(op.modify_name)
        and not (
            op.modify_type is not None
            or op.modify_nullable is not None
            or op.modify_server_default is not False
        )
    )


def _batch(each: Recorded, view: View) -> Iterator[Hit]:
    op: Any = each.operation
    batch = each.batch
    assert batch is not None
    conventions = set(map(str, view.metadata.naming_convention))
    for kind, prefix in (
        (ops.CreateUniqueConstraintOp, "uq"),
        (ops.CreateForeignKeyOp, "fk"),
        (ops.CreateCheckConstraintOp, "ck"),
        (ops.DropConstraintOp, None),
    ):
        if isinstance(op, kind) and op.constraint_name is None and prefix not in conventions:
            yield Hit("DM402", each.line, f"{kind.__name__.removesuffix('Op')} on {batch.table}")
    column: Any = getattr(op, "column", None)
    if (
        column is not None
        and "fk" not in conventions
        and any(key.name is None for key in column.foreign_keys)
    ):
        yield Hit("DM402", each.line, f"foreign key of {batch.table}.{column.name}")
    if batch.table in view.created or batch.table in view.checks or not _recreates(each):
        return
    view.checks[batch.table] = True
    followers = [
        one.table
        for one in view.schema.references_to(batch.table)
        if one.ondelete.upper() in ("CASCADE", "SET NULL", "SET DEFAULT")
    ]
    if followers:
        listed = ", ".join(dict.fromkeys(followers))
        yield Hit("DM401", each.line, f"{batch.table}, which {listed} refer to")
    fragile = view.schema.fragile_indexes(batch.table)
    if fragile:
        yield Hit("DM403", each.line, f"{', '.join(sorted(fragile))} of {batch.table}")


def _recreates(each: Recorded) -> bool:
    assert each.batch is not None
    op: Any = each.operation
    if each.batch.recreate in ("always", "never"):
        return each.batch.recreate == "always"
    if isinstance(op, ops.AddColumnOp):
        default = default_of(op.column)
        constant = not default or bool(CONSTANT.match(default))
        return not constant or op.column.computed is not None or bool(op.column.foreign_keys)
    return not isinstance(op, (ops.CreateIndexOp, ops.DropIndexOp))
