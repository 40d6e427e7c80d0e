"""Names of constraints in revisions: one that had none in its time goes without.

A convention for names that an application gets later, by moving its models to ``Base``, says
nothing about revisions that were written before. It would name what has no name in production,
and has no name at all for a CHECK: SQLAlchemy raises.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
    event,
)
from sqlalchemy.types import NullType

__all__ = ["for_revisions"]


# A convention is found by a short name, or by the class.
# https://docs.sqlalchemy.org/en/20/core/metadata.html#sqlalchemy.schema.MetaData.params.naming_convention
_KINDS = {
    Index: "ix",
    PrimaryKeyConstraint: "pk",
    CheckConstraint: "ck",
    UniqueConstraint: "uq",
    ForeignKeyConstraint: "fk",
}
_INDEXES = "ix_%(column_0_label)s"
"""What SQLAlchemy calls an index without a name where there is no convention at all."""


class _ForNamedOnly(str):
    """A convention that leaves a constraint without a name alone."""

    __slots__ = ("in_batches",)
    in_batches: bool

    def __mod__(self, values: Any) -> str:
        constraint, table = values.const, values.table
        # SQLite's batch operations cannot make a constraint without a name. Alembic describes what
        # they make on a table whose columns have no type.
        made_in_batch = self.in_batches and all(
            isinstance(column.type, NullType) for column in table.columns
        )
        if isinstance(constraint.name, str) or (made_in_batch and len(table.columns)):
            return super().__mod__(values)
        return ""


@event.listens_for(CheckConstraint, "after_parent_attach")
def _forget_deferred_name(constraint: CheckConstraint, table: Any) -> None:
    """Let the CHECK of a Boolean or an Enum have no name, where SQLAlchemy defers finding one."""
    conventions = getattr(getattr(table, "metadata", None), "naming_convention", {})
    deferred = constraint.name is not None and not isinstance(constraint.name, str)
    if deferred and isinstance(conventions.get("ck"), _ForNamedOnly):
        constraint.name = None


class _Metadata:
    """The tables of the models, with other conventions for names."""

    def __init__(self, metadata: Any, conventions: dict[Any, Any]) -> None:
        self._metadata = metadata
        self.naming_convention = conventions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metadata, name)


def for_revisions(metadata: Any, *, in_batches: bool) -> Any:
    """Return the metadata as revisions shall see it when they run.

    Args:
        metadata: ``target_metadata`` of Alembic's context.
        in_batches: Whether constraints are made by copying the table, as on SQLite.
    """
    conventions = getattr(metadata, "naming_convention", None)
    if not conventions:
        return metadata
    changed: dict[Any, Any] = {}
    by_kind = {_KINDS.get(kind, kind): each for kind, each in conventions.items()}
    # Where both are given the short name counts.
    by_kind |= {kind: each for kind, each in conventions.items() if isinstance(kind, str)}
    for kind, convention in ({"ix": _INDEXES} | by_kind).items():
        if kind == "ix" or not isinstance(convention, str):
            changed[kind] = convention  # an index always has a name
            continue
        changed[kind] = _ForNamedOnly(convention)
        changed[kind].in_batches = in_batches
    return _Metadata(metadata, changed)
