"""Which indexes the orders of a list need, compared with those that are there.

An order without an index sorts the whole table for every page. The check reads the live
database and says which ``CREATE INDEX`` is missing, with the directions of the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, Index, MetaData, Table, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateIndex

from .exceptions import PlanError
from .planner import Planner
from .sorting import SortAllowlist, SortTerm, nullable
from .statement import ListedStatement

__all__ = ["IndexFinding", "examine_indexes"]

_MYSQL = frozenset({"mysql", "mariadb"})
_NAME_LIMIT = 63


@dataclass(frozen=True)
class IndexFinding:
    """What is known about one order of one list.

    Attributes:
        listing: The name of the list.
        sort: The order, as a client writes it.
        status: ``"ok"``, ``"missing"``, ``"unchecked"`` (no index could serve it, or we cannot
            tell) or ``"error"`` (the list cannot be planned).
        index: The name of the index that serves it, if one does.
        create: The statement that makes the missing one.
        reason: Why it was not checked.
    """

    listing: str
    sort: str
    status: Literal["ok", "missing", "unchecked", "error"]
    index: str | None = None
    create: str | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Return it for JSON."""
        return {
            "listing": self.listing,
            "sort": self.sort,
            "status": self.status,
            "index": self.index,
            "create": self.create,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class _Live:
    """An index of the database: its name, its columns, and which of them descend."""

    name: str
    columns: tuple[tuple[str, bool], ...]
    nulls: tuple[str | None, ...] = ()


def examine_indexes(
    connection: Connection, name: str, planner: Planner, sort: SortAllowlist
) -> Iterator[IndexFinding]:
    """Compare the orders of a list with the indexes of its table.

    Only reads. Each entry alone is an order, and so is the default; the opposite direction is
    served by the same index, read from its end.

    Args:
        connection: To the database of the list.
        name: The name of the list.
        planner: Its plans.
        sort: Its orders.

    Yields:
        One finding per order.
    """
    try:
        listed = planner.listed()
    except PlanError as error:
        yield IndexFinding(name, sort.default, "error", reason=str(error))
        return
    orders = {sort.default: sort.default_terms}
    for key in sort.entries:
        orders.setdefault(key, sort.parse(key))
    live: dict[Table, list[_Live]] = {}
    for label, terms in orders.items():
        try:
            full = sort.complete(terms, listed)
        except PlanError as error:
            yield IndexFinding(name, label, "error", reason=str(error))
            return
        yield _examine(connection, name, label, full, listed, live)


def _examine(  # noqa: PLR0917 - one finding is of all of them
    connection: Connection,
    name: str,
    label: str,
    terms: Sequence[SortTerm],
    listed: ListedStatement,
    live: dict[Table, list[_Live]],
) -> IndexFinding:
    keys: list[tuple[Column[Any], SortTerm]] = []
    for term in terms:
        expression = term.key.element
        if not isinstance(expression, Column) or not isinstance(expression.table, Table):
            return IndexFinding(name, label, "unchecked", reason=f"{term.name} is computed")
        if term.key.nulls and nullable(term, expression, listed):
            natural = _natural_nulls(connection, descending=term.descending)
            if natural != term.key.nulls and connection.dialect.name != "postgresql":
                reason = f"no index has NULLs {term.key.nulls} for {term.text}"
                return IndexFinding(name, label, "unchecked", reason=reason)
        keys.append((expression, term))
    tables = {column.table for column, _ in keys}
    if len(tables) > 1:
        names = ", ".join(sorted(str(getattr(one, "name", one)) for one in tables))
        return IndexFinding(name, label, "unchecked", reason=f"keys of several tables: {names}")
    table = tables.pop()
    assert isinstance(table, Table)
    if table not in live:
        if not inspect(connection).has_table(table.name, schema=table.schema):
            return IndexFinding(name, label, "unchecked", reason=f"no table {table.name}")
        live[table] = list(_live_indexes(connection, table))
    # What comes after a unique key orders nothing any more.
    wanted = _up_to_unique(keys, table)
    for index in live[table]:
        if _serves(connection, index, wanted):
            return IndexFinding(name, label, "ok", index=index.name)
    return IndexFinding(name, label, "missing", create=_create(connection, table, wanted))


def _up_to_unique(
    keys: Iterable[tuple[Column[Any], SortTerm]], table: Table
) -> list[tuple[Column[Any], SortTerm]]:
    primary = {column.name for column in table.primary_key.columns}
    found: list[tuple[Column[Any], SortTerm]] = []
    for column, term in keys:
        found.append((column, term))
        if primary and primary <= {one.name for one, _ in found}:
            break
    return found


def _natural_nulls(connection: Connection, *, descending: bool) -> str:
    largest = connection.dialect.name == "postgresql"
    return "first" if largest is descending else "last"


def _serves(
    connection: Connection, index: _Live, wanted: Sequence[tuple[Column[Any], SortTerm]]
) -> bool:
    if len(index.columns) < len(wanted):
        return False
    flipped: set[bool] = set()
    for place, (column, term) in enumerate(wanted):
        name, descending = index.columns[place]
        if name != column.name:
            return False
        flip = descending is not term.descending
        flipped.add(flip)
        if term.key.nulls and column.nullable and connection.dialect.name == "postgresql":
            given = index.nulls[place] if index.nulls else None
            given = given or _natural_nulls(connection, descending=descending)
            asked = term.key.nulls
            if flip:
                asked = "last" if asked == "first" else "first"
            if given != asked:
                return False
    return len(flipped) == 1


def _live_indexes(connection: Connection, table: Table) -> Iterator[_Live]:
    primary = [column.name for column in table.primary_key.columns]
    reader = {"sqlite": _of_sqlite, "mysql": _of_mysql, "mariadb": _of_mysql}.get(
        connection.dialect.name, _of_others
    )
    # Every index of InnoDB and of a SQLite table ends in the row's key, ascending.
    # https://mariadb.com/docs/server/server-usage/storage-engines/innodb
    # https://www.sqlite.org/queryplanner.html#_searching_and_sorting
    rowid = len(primary) == 1 and connection.dialect.name == "sqlite"
    hidden = primary if rowid or connection.dialect.name in _MYSQL else []
    if primary:
        yield _Live("PRIMARY KEY", tuple((name, False) for name in primary))
    for index in reader(connection, table):
        have = {name for name, _ in index.columns}
        tail = tuple((name, False) for name in hidden if name not in have)
        yield _Live(index.name, index.columns + tail, index.nulls)


def _of_sqlite(connection: Connection, table: Table) -> Iterator[_Live]:
    # The inspector does not tell directions. https://www.sqlite.org/pragma.html#pragma_index_xinfo
    names = text("SELECT name FROM pragma_index_list(:table) WHERE NOT partial")
    parts = text('SELECT name, "desc" FROM pragma_index_xinfo(:index) WHERE key ORDER BY seqno')
    for (name,) in connection.execute(names, {"table": table.name}).all():
        columns = connection.execute(parts, {"index": name}).all()
        if all(column is not None for column, _ in columns):
            yield _Live(name, tuple((column, bool(desc)) for column, desc in columns))


def _of_mysql(connection: Connection, table: Table) -> Iterator[_Live]:
    # The inspector does not tell directions there either.
    parts = text(
        "SELECT index_name, column_name, collation FROM information_schema.statistics"
        " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table"
        " AND sub_part IS NULL AND column_name IS NOT NULL ORDER BY index_name, seq_in_index"
    )
    found: dict[str, list[tuple[str, bool]]] = {}
    for name, column, collation in connection.execute(
        parts, {"schema": table.schema, "table": table.name}
    ).all():
        found.setdefault(name, []).append((column, collation == "D"))
    for name, columns in found.items():
        if name != "PRIMARY":
            yield _Live(name, tuple(columns))


def _of_others(connection: Connection, table: Table) -> Iterator[_Live]:
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
        nulls = tuple(_nulls_of(sorting.get(str(name), ())) for name in names)
        yield _Live(str(index["name"]), columns, nulls)
    for constraint in inspector.get_unique_constraints(table.name, schema=table.schema):
        columns = tuple((name, False) for name in constraint["column_names"])
        yield _Live(str(constraint["name"]), columns)


def _nulls_of(words: Iterable[str]) -> str | None:
    return next((word.removeprefix("nulls_") for word in words if word.startswith("nulls_")), None)


def _create(
    connection: Connection, table: Table, wanted: Sequence[tuple[Column[Any], SortTerm]]
) -> str:
    # A table of its own: an Index belongs to the table of its columns for good.
    copy = Table(table.name, MetaData(), schema=table.schema)
    for column, _ in wanted:
        copy.append_column(Column(column.name, column.type))
    # All ascending serves all descending as well, and is what people write.
    backward = all(term.descending for _, term in wanted)
    parts: list[Any] = []
    words: list[str] = []
    for column, term in wanted:
        descending = term.descending is not backward
        part: Any = copy.c[column.name]
        part = part.desc() if descending else part
        words += [column.name, "desc"] if descending else [column.name]
        nulls = term.key.nulls
        if nulls and column.nullable and connection.dialect.name == "postgresql":
            if backward:
                nulls = "last" if nulls == "first" else "first"
            if nulls != _natural_nulls(connection, descending=descending):
                part = part.nulls_first() if nulls == "first" else part.nulls_last()
                words.append(f"nulls_{nulls}")
        parts.append(part)
    name = f"ix_{table.name}_{'_'.join(words)}"[:_NAME_LIMIT]
    return " ".join(str(CreateIndex(Index(name, *parts)).compile(connection)).split()) + ";"
