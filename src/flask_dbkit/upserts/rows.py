"""What the rows of one ``INSERT`` have in common, and when one differs from what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    Table,
    Time,
    Uuid,
    false,
    literal,
    literal_column,
    or_,
)
from sqlalchemy.engine import Dialect, Result
from sqlalchemy.sql import ClauseElement, ColumnElement, Executable
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["Execute", "Expression", "RowGroup", "Rows", "any_differs", "is_sql"]

Expression = ColumnElement[Any]
Rows = Sequence[Mapping[str, Any]]
AsBytes = Callable[[TypeEngine[Any], Expression], Expression]
Execute = Callable[[Executable, Any], Result[Any]]
"""Runs a statement with one mapping of parameters, with a list of them, or with ``None``."""


@dataclass(frozen=True)
class RowGroup:
    """What rows that give the same attributes have in common.

    Attributes:
        table: Where they go.
        key: The columns that tell whether a row is there.
        assigned: The columns to update then.
        version: The column that counts the updates, if there is one.
        next_version: The value to give it, or ``None`` to add one.
    """

    table: Table
    key: tuple[Column[Any], ...]
    assigned: tuple[Column[Any], ...]
    version: Column[Any] | None = None
    next_version: Any = None

    def counted(self) -> Expression | None:
        """Return the next version, as SQL."""
        if self.version is None:
            return None
        if self.next_version is None:
            return self.version + literal_column("1")
        return literal(self.next_version, self.version.type)


def is_sql(value: object) -> bool:
    """Tell an SQL expression from a plain value."""
    return isinstance(value, ClauseElement)


def any_differs(group: RowGroup, new: Any, dialect: Dialect, as_bytes: AsBytes) -> Expression:
    """Return whether something else would be stored in one of the assigned columns.

    Args:
        group: The rows to be written.
        new: The values that the statement brings, by column key.
        dialect: The database they go to.
        as_bytes: How this database compares what it has stored, and not what it means: a
            column without regard to case calls "sea" and "Sea" equal, and ``numeric`` 1.0 and
            1.00; the type ``json`` cannot be compared at all.
    """

    def differs(column: Column[Any]) -> Expression:
        left: Expression = column
        right: Expression = new[column.key]
        kind = column.type.dialect_impl(dialect)
        while isinstance(kind, TypeDecorator) and not isinstance(kind, Interval):
            kind = kind.impl_instance.dialect_impl(dialect)
        if not _is_plain(kind):
            left, right = as_bytes(kind, left), as_bytes(kind, right)
        return left.is_distinct_from(right)

    return or_(false(), *map(differs, group.assigned))


def _is_plain(kind: TypeEngine[Any]) -> bool:
    """Tell whether values of a type that are equal are stored alike."""
    if isinstance(kind, Numeric) and not isinstance(kind, Float):
        return kind.scale is not None
    return isinstance(kind, (Integer, Boolean, Date, DateTime, Time, Float, LargeBinary, Uuid))
