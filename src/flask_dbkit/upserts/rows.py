"""What the rows of one ``INSERT`` have in common, and when one differs from what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    LargeBinary,
    String,
    Table,
    Text,
    cast,
    false,
    literal,
    literal_column,
    or_,
)
from sqlalchemy.engine import Dialect, Result
from sqlalchemy.sql import ClauseElement, ColumnElement, Executable
from sqlalchemy.types import TypeDecorator

__all__ = ["Execute", "Expression", "RowGroup", "Rows", "any_differs", "is_sql"]

Expression = ColumnElement[Any]
Rows = Sequence[Mapping[str, Any]]
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

    def stamps(self) -> Iterator[tuple[Column[Any], Any]]:
        """Yield the columns with an ``onupdate`` that nobody assigned, and its value.

        ``ON CONFLICT DO UPDATE`` does not apply it by itself:
        https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#the-set-clause
        """
        for column in self.table.columns:
            default = column.onupdate
            if default is None or column in {*self.key, *self.assigned, self.version}:
                continue
            if default.is_callable:
                yield column, default.arg(None)  # type: ignore[attr-defined]
            elif default.is_scalar or default.is_clause_element:
                yield column, default.arg  # type: ignore[attr-defined]

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


def any_differs(group: RowGroup, new: Any, dialect: Dialect) -> Expression:
    """Return whether one of the assigned columns would change.

    Args:
        group: The rows to be written.
        new: The values that the statement brings, by column key.
        dialect: The database they go to.
    """
    differing = (_differs(column, new[column.key], dialect) for column in group.assigned)
    return or_(false(), *differing)


def _differs(column: Column[Any], other: Expression, dialect: Dialect) -> Expression:
    """Compare two values of a column as the bytes they are, with NULL as a value.

    A column that compares without regard to case would call "sea" and "Sea" equal, and the
    correction would be lost.
    """
    kind = column.type.dialect_impl(dialect)
    if isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    left: Expression = column
    right = other
    if isinstance(kind, JSON) and dialect.name == "postgresql":
        # The type json has no equality operator.
        # https://www.postgresql.org/docs/current/functions-json.html
        left, right = cast(left, Text), cast(right, Text)
    elif isinstance(kind, String):
        if dialect.name == "sqlite":
            left, right = left.collate("BINARY"), right.collate("BINARY")
        elif dialect.name == "postgresql":
            left, right = (cast(side, Text).collate("C") for side in (left, right))
        else:
            left, right = (cast(side, LargeBinary) for side in (left, right))
    return left.is_distinct_from(right)
