"""Which indexes the filters of a list need, compared with those that are there.

A filter without an index reads the whole table, however few rows it leaves. What no index serves,
such as a text in the middle of another one, is left out, and so is what leaves most of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import Column, MetaData, Table, inspect
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Connection
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression

from .database import EQUAL, PREFIX, RANGE, SEARCHES, ListDatabase, LiveIndex
from .filtering import FilterAllowlist
from .indexes import IndexFinding, all_indexes, create_index
from .planner import Planner
from .probing import database_for

__all__ = ["Search", "examine_filter_indexes", "searches_of"]

_KINDS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("eq", "in"), EQUAL),
        **dict.fromkeys(("lt", "lte", "gt", "gte"), RANGE),
        "startswith": PREFIX,
    }
)
"""What an index may serve, by the operators of filters."""


@dataclass(frozen=True)
class Search:
    """One filter of a list, as far as an index may serve it.

    Attributes:
        parameter: The parameter of its first operator.
        column: What it compares; ``None`` for what is computed.
        kinds: How rows are searched for: in :data:`SEARCHES`.
        fixed: The columns that the statement of the list compares with one value: with these in
            front of it in an index it is found as well.
    """

    parameter: str
    column: Column[Any] | None
    kinds: frozenset[str]
    fixed: frozenset[Column[Any]] = frozenset()

    @property
    def has_few_values(self) -> bool:
        """Whether a value leaves so many rows that an index is of no use."""
        return self.column is not None and isinstance(
            self.column.type, (sqltypes.Boolean, sqltypes.Enum)
        )

    def kinds_on(self, database: ListDatabase) -> frozenset[str]:
        """Return those of its kinds that an index of the database may serve."""
        return self.kinds if database.finds_prefixes else self.kinds - {PREFIX}

    def begins(self, names: Iterable[str | None]) -> bool:
        """Tell whether an index of columns, by their names, finds rows by this one."""
        fixed = {column.name for column in self.fixed}
        for name in names:
            if self.column is not None and name == self.column.name:
                return True
            if name not in fixed:
                return False
        return False


def searches_of(planner: Planner, filters: FilterAllowlist | None) -> Iterator[Search]:
    """Yield the filters of a list that an index may serve. Touches no database.

    Args:
        planner: Its plans.
        filters: Its filters.
    """
    fixed = frozenset(_fixed_in(planner.statement))
    if filters is None:
        return
    for name, entry in filters.entries.items():
        served = [op for op in entry.ops if op in _KINDS]
        if entry.is_function or not served:
            continue
        kinds = frozenset(_KINDS[op] for op in served)
        target: Any = entry.expression
        plain = isinstance(target, Column) and isinstance(target.table, Table)
        column = target if plain else None
        yield Search(filters.parameter(name, served[0]), column, kinds, fixed)


def _fixed_in(statement: Any) -> Iterator[Column[Any]]:
    where = getattr(statement, "whereclause", None)
    for one in visitors.iterate(where) if where is not None else ():
        if isinstance(one, BinaryExpression) and one.operator is operators.eq:
            for side, other in ((one.left, one.right), (one.right, one.left)):
                if isinstance(side, Column) and not isinstance(other, Column):
                    yield side


def examine_filter_indexes(
    connection: Connection,
    name: str,
    planner: Planner,
    filters: FilterAllowlist | None,
    orders: Iterable[IndexFinding] = (),
) -> Iterator[IndexFinding]:
    """Compare the filters of a list with the indexes of their tables. Only reads.

    Args:
        connection: To the database of the list.
        name: The name of the list.
        planner: Its plans.
        filters: Its filters.
        orders: What was found of its orders: an index that is made for one serves filters too.

    Yields:
        One finding for each filter that an index may serve, or two where a prefix needs one of
        its own.
    """
    database = database_for(connection.dialect)
    live: dict[Table, list[LiveIndex]] = {}
    asked_for = dict(_asked_for(planner, orders))
    for search in searches_of(planner, filters):
        reason = _unchecked(connection, search)
        if reason is not None:
            yield IndexFinding(name, None, "unchecked", reason=reason, filter=search.parameter)
            continue
        assert search.column is not None
        table = search.column.table
        if table not in live:
            live[table] = list(all_indexes(connection, database, table))
        wanted = search.kinds_on(database)
        asked = asked_for.get(search.column)
        yield from _compared(connection, name, search, wanted, live=live[table], asked=asked)


def _asked_for(planner: Planner, orders: Iterable[IndexFinding]) -> Iterator[tuple[Any, str]]:
    """Yield the first column of each index that an order lacks, with what makes it."""
    for one in orders:
        if one.create is not None and planner.sort is not None:
            yield planner.sort.parse(one.sort)[0].key.element, one.create


def _unchecked(connection: Connection, search: Search) -> str | None:
    if search.column is None:
        return "it is computed"
    if search.has_few_values:
        return f"{search.column.name} has few values: an index would leave most of the rows"
    table = search.column.table
    if not inspect(connection).has_table(table.name, schema=table.schema):
        return f"no table {table.name}"
    if not search.kinds_on(database_for(connection.dialect)):
        return "no index there finds what begins with a text"
    return None


def _compared(
    connection: Connection,
    name: str,
    search: Search,
    wanted: frozenset[str],
    *,
    live: list[LiveIndex],
    asked: str | None,
) -> Iterator[IndexFinding]:
    beginning = [one for one in live if search.begins(column for column, _ in one.columns)]
    serving = {
        kind: next((one.name for one in beginning if kind in one.searches), None)
        for kind in SEARCHES
        if kind in wanted
    }
    missing = [kind for kind, index in serving.items() if index is None]
    if not missing:
        found = ", ".join(sorted({index for index in serving.values() if index is not None}))
        yield IndexFinding(name, None, "ok", index=found, filter=search.parameter)
        return
    unfit = "; ".join(f"{one.name}: {one.unfit}" for one in beginning if one.unfit) or None
    if missing != [PREFIX]:
        create = asked or _create(connection, search.column)
        yield IndexFinding(name, None, "missing", None, create, unfit, search.parameter)
    if PREFIX in missing:
        create = _create(connection, search.column, "text_pattern_ops")
        yield IndexFinding(name, None, "missing", None, create, unfit, search.parameter)


def _create(connection: Connection, column: Any, operators_: str | None = None) -> str:
    # A table of its own: an Index belongs to the table of its columns for good.
    copy = Table(column.table.name, MetaData(), Column(column.name), schema=column.table.schema)
    given = {"postgresql_ops": {column.name: operators_}} if operators_ is not None else {}
    words = [column.name, "prefix"] if operators_ is not None else [column.name]
    return create_index(connection, column.table, words, [copy.c[column.name]], **given)
