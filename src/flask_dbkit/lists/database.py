"""What a database means for lists: the plain answers, for one we do not know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, Table, inspect, type_coerce
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from .codecs import RAW
from .converters import declared_range
from .statement.expressions import in_brackets, without_entity

__all__ = [
    "EQUAL",
    "PREFIX",
    "RANGE",
    "SEARCHES",
    "Facts",
    "KeyForm",
    "ListDatabase",
    "LiveIndex",
    "plainly",
]

EQUAL, RANGE, PREFIX = SEARCHES = ("equal", "range", "prefix")
"""How rows are searched for by a column, as far as an index may serve it."""


@dataclass(frozen=True)
class Facts:
    """What a database makes of an expression.

    Attributes:
        kind: ``"real"`` is a float of 32 bits, ``"words"`` a list of words that sorts by number,
            ``"unordered"`` what has no order; ``"other"`` is compared as it is read.
        characters: The most characters a text can have, if that is known.
        name: What the database calls the type, for messages.
        sorted_bytes: How many bytes of a text a sort looks at; ``None`` for all of them.
    """

    kind: Literal["real", "interval", "words", "text", "binary", "unordered", "other"] = "other"
    characters: int | None = None
    name: str = ""
    sorted_bytes: int | None = None


@dataclass(frozen=True)
class KeyForm:
    """How one database reads, compares and sorts a key.

    Attributes:
        read: What is read beside each row.
        compared: What is compared with a value.
        ordered: What stands in ORDER BY.
        sent_as: What the value is cast to when it is sent back, if it has to be.
    """

    read: ColumnElement[Any]
    compared: ColumnElement[Any]
    ordered: ColumnElement[Any]
    sent_as: TypeEngine[Any] | None = None


def plainly(expression: ColumnElement[Any]) -> KeyForm:
    """Return the form of a key that is read, compared and sorted as it stands."""
    raw = type_coerce(in_brackets(without_entity(expression)), RAW)
    return KeyForm(raw, raw, expression)


@dataclass(frozen=True)
class LiveIndex:
    """An index of the database.

    Attributes:
        name: Its name.
        columns: Its columns, and whether each descends.
        nulls: Where NULLs come in each, if it says so.
        unfit: Why it serves no order, if it does not.
        finds: What rows it finds by its columns in front, in :data:`SEARCHES`; ``None`` where
            that depends on ``unfit`` alone.
    """

    name: str
    columns: tuple[tuple[str, bool], ...]
    nulls: tuple[str | None, ...] = ()
    unfit: str | None = None
    finds: frozenset[str] | None = None

    @property
    def searches(self) -> frozenset[str]:
        """What rows it finds by its columns in front."""
        if self.finds is not None:
            return self.finds
        return frozenset() if self.unfit else frozenset({EQUAL, RANGE})


class ListDatabase:
    """One kind of database, as lists see it. This one knows nothing special."""

    # One guarded criterion is an index range there, however many rows share the leading key.
    reads_guards_in_ties = False
    asks_for_types = False
    sorts_starts_of_texts = False
    refuses_nul = False
    finds_prefixes = False

    def forms(
        self, expression: ColumnElement[Any], facts: Facts, dialect: Dialect
    ) -> Sequence[KeyForm]:
        """Return how a key is read, compared and sorted: usually one form.

        Args:
            expression: The key.
            facts: What the database, or the declaration of a column, says of it.
            dialect: The database.
        """
        return [plainly(expression)]

    def facts_of(self, cursor: Any) -> list[Facts]:
        """Tell what each column of a result is.

        Args:
            cursor: The driver's cursor, after a statement that reads no rows.
        """
        return [Facts() for _ in cursor.description]

    def declared(self, expression: ColumnElement[Any], dialect: Dialect) -> Facts:
        """Tell what a column is by its declaration.

        Args:
            expression: A column of a table.
            dialect: The database.
        """
        return Facts()

    def range_of(self, type_: TypeEngine[Any]) -> tuple[int, int]:
        """Return the least and the greatest number that a column of an integer type holds.

        Args:
            type_: The type.
        """
        return declared_range(type_)

    def sorted_bytes(self, connection: Connection) -> int | None:
        """Return how many bytes of a text a sort looks at; ``None`` for all of them."""
        return None

    def refused(self, connection: Connection, columns: Sequence[Column[Any]]) -> dict[str, str]:
        """Tell which columns can be sorted by and not compared, with the reason.

        Args:
            connection: To the database.
            columns: Columns of tables.
        """
        return {}

    def rows_of(self, connection: Connection, table: Table) -> int | None:
        """Return about how many rows a table has; ``None`` if the database does not know.

        Args:
            connection: To the database.
            table: The table.
        """
        return None

    def live_indexes(self, connection: Connection, table: Table) -> Iterator[LiveIndex]:
        """Yield the indexes of a table, the primary key left out.

        Args:
            connection: To the database.
            table: The table.
        """
        inspector = inspect(connection)
        for index in inspector.get_indexes(table.name, schema=table.schema):
            options = index.get("dialect_options", {})
            names = index["column_names"]
            if any(key.endswith("_where") and value for key, value in options.items()):
                continue
            if any(name is None for name in names):
                continue
            sorting = index.get("column_sorting", {})
            columns = tuple((str(name), "desc" in sorting.get(str(name), ())) for name in names)
            yield LiveIndex(str(index["name"]), columns)
        for constraint in inspector.get_unique_constraints(table.name, schema=table.schema):
            unique = tuple((name, False) for name in constraint["column_names"])
            yield LiveIndex(str(constraint["name"]), unique)
