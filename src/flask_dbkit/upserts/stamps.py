"""Columns with an ``onupdate`` that nobody assigned, and what they become with a change.

``ON CONFLICT DO UPDATE`` does not apply it by itself:
https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#the-set-clause
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection
from sqlalchemy.engine import Dialect, Engine

from .rows import RowGroup, Rows

__all__ = ["NO_STAMPS", "Stamps", "UpdateContext", "stamps_for"]


@dataclass(frozen=True)
class Stamps:
    """The values for one group of rows.

    Attributes:
        shared: Values and SQL expressions that are the same for each row, by column.
        own: One value per row, by column: what a function made of the row.
    """

    shared: Mapping[Column[Any], Any]
    own: Mapping[Column[Any], Sequence[Any]]

    def of_row(self, index: int) -> dict[Column[Any], Any]:
        """Return all values for one of the rows."""
        return {**self.shared, **self.own_of_row(index)}

    def own_of_row(self, index: int) -> dict[Column[Any], Any]:
        """Return those values for one of the rows that are its own."""
        return {column: values[index] for column, values in self.own.items()}


NO_STAMPS = Stamps({}, {})


def stamps_for(group: RowGroup, rows: Rows, connection: Connection) -> Stamps:
    """Work out the values, before anything is sent.

    Args:
        group: The rows; columns they assign keep what they are given.
        rows: Their values by column key.
        connection: What a function sees that takes the context of its execution.
    """
    shared: dict[Column[Any], Any] = {}
    own: dict[Column[Any], list[Any]] = {}
    parameters = [dict(row) for row in rows]
    for column in group.table.columns:
        default: Any = column.onupdate
        if default is None or column in {*group.key, *group.assigned, group.version}:
            continue
        if default.is_callable:
            contexts = [UpdateContext(connection, column, row) for row in parameters]
            first = default.arg(contexts[0])
            if contexts[0].was_asked:
                own[column] = [first, *map(default.arg, contexts[1:])]
            else:
                shared[column] = first
            for row, value in zip(parameters, own.get(column, [first] * len(rows)), strict=True):
                row[column.key] = value
        elif default.is_sequence:
            shared[column] = default.next_value()
        elif default.is_scalar or default.is_clause_element:
            shared[column] = default.arg
    return Stamps(shared, own)


@dataclass
class UpdateContext:
    """What a context-sensitive ``onupdate`` is given: the documented part of SQLAlchemy's own.

    The UPDATE is a clause of an INSERT, in whose context the values are those of a new row.
    https://docs.sqlalchemy.org/en/20/core/defaults.html#context-sensitive-default-functions

    Attributes:
        was_asked: Whether a function looked at anything here, so that another row may give
            another value.
    """

    _connection: Connection
    _column: Column[Any]
    _parameters: Mapping[str, Any]
    was_asked: bool = field(default=False, init=False)

    isinsert = False
    isupdate = True

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:
        """Return the values of the row, by column key."""
        self.was_asked = True
        return dict(self._parameters)

    @property
    def current_parameters(self) -> dict[str, Any]:
        """The values of the row, by column key."""
        return self.get_current_parameters()

    @property
    def current_column(self) -> Column[Any]:
        """The column that gets the value."""
        return self._column

    @property
    def connection(self) -> Connection:
        """The connection that sends the statement."""
        self.was_asked = True
        return self._connection

    root_connection = connection

    @property
    def engine(self) -> Engine:
        """The engine of the connection."""
        return self._connection.engine

    @property
    def dialect(self) -> Dialect:
        """The dialect of the connection."""
        return self._connection.dialect

    @property
    def execution_options(self) -> Mapping[str, Any]:
        """The options of the connection."""
        return self._connection.get_execution_options()
