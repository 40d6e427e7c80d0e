"""Which indexes the orders of a list need, compared with those that are there.

An order without an index sorts the whole table for every page. The check reads the live
database and says which ``CREATE INDEX`` is missing, with the directions of the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Column, Index, MetaData, Table, inspect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex

from ..databases import Database, database_of
from .database import ListDatabase, LiveIndex
from .exceptions import PlanError
from .planner import Planner
from .probing import database_for
from .sorting import SortAllowlist, SortTerm, nullable
from .statement import ListedStatement

__all__ = ["IndexFinding", "all_indexes", "create_index", "examine_indexes"]

_NAME_LIMIT = 63


@dataclass(frozen=True)
class IndexFinding:
    """What is known about one order, or one filter, of one list.

    Attributes:
        listing: The name of the list.
        sort: The order, as a client writes it; ``None`` for a filter.
        status: ``"ok"``, ``"missing"``, ``"unchecked"`` (no index could serve it, or we cannot
            tell) or ``"error"`` (the list cannot be planned).
        index: The name of the index that serves it, if one does.
        create: The statement that makes the missing one.
        reason: Why it was not checked, or why an index that looks right does not serve.
        filter: The parameter of the filter; ``None`` for an order.
    """

    listing: str
    sort: str | None
    status: Literal["ok", "missing", "unchecked", "error"]
    index: str | None = None
    create: str | None = None
    reason: str | None = None
    filter: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Return it for JSON."""
        return {
            "listing": self.listing,
            "sort": self.sort,
            "filter": self.filter,
            "status": self.status,
            "index": self.index,
            "create": self.create,
            "reason": self.reason,
        }


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
    try:
        planner.check_on(connection)
    except PlanError as error:
        label = error.key if error.key in sort.entries else sort.default
        yield IndexFinding(name, label or sort.default, "error", reason=str(error))
        return
    except DBAPIError:
        # The tables are not there yet, which each finding says.
        connection.rollback()
    orders = {sort.default: sort.default_terms}
    for key in sort.entries:
        orders.setdefault(key, sort.parse(key))
    live: dict[Table, list[LiveIndex]] = {}
    for label, terms in orders.items():
        try:
            full = sort.complete(terms, listed)
        except PlanError as error:
            yield IndexFinding(name, label, "error", reason=str(error))
            return
        yield _examine(connection, name, label, full, listed, live)


def _examine(  # noqa: PLR0911, PLR0917 - one finding is of all of them
    connection: Connection,
    name: str,
    label: str,
    terms: Sequence[SortTerm],
    listed: ListedStatement,
    live: dict[Table, list[LiveIndex]],
) -> IndexFinding:
    database, known = database_for(connection.dialect), database_of(connection)
    keys: list[tuple[Column[Any], SortTerm]] = []
    for term in terms:
        expression = listed.adapt(term.key.element)
        called = term.name or "the tie-breaker"
        if not isinstance(expression, Column) or not isinstance(expression.table, Table):
            return IndexFinding(name, label, "unchecked", reason=f"{called} is computed")
        facts = database.declared(expression, connection.dialect)
        if len(database.forms(expression, facts, connection.dialect)) > 1:
            reason = f"{called} is a long text, which is sorted in pieces: no index serves that"
            return IndexFinding(name, label, "unchecked", reason=reason)
        if term.key.nulls and nullable(term, expression, listed):
            natural = _natural_nulls(known, descending=term.descending)
            if natural != term.key.nulls and not known.indexes_place_nulls:
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
        live[table] = list(all_indexes(connection, database, table))
    # What comes after a unique key orders nothing any more.
    wanted = _up_to_unique(keys, table)
    serving = [index for index in live[table] if _serves(known, index, wanted)]
    for index in serving:
        if index.unfit is None:
            return IndexFinding(name, label, "ok", index=index.name)
    unfit = "; ".join(f"{index.name}: {index.unfit}" for index in serving)
    create = _create(connection, known, table, wanted)
    return IndexFinding(name, label, "missing", create=create, reason=unfit or None)


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


def _natural_nulls(known: Database, *, descending: bool) -> str:
    return "first" if known.nulls_are_largest is descending else "last"


def _serves(
    known: Database, index: LiveIndex, wanted: Sequence[tuple[Column[Any], SortTerm]]
) -> bool:
    """Tell whether the columns of an index have the order, read from its start or its end."""
    if len(index.columns) < len(wanted):
        return False
    flipped: set[bool] = set()
    for place, (column, term) in enumerate(wanted):
        name, descending = index.columns[place]
        if name != column.name:
            return False
        flip = descending is not term.descending
        flipped.add(flip)
        if column.nullable and known.indexes_place_nulls:
            given = index.nulls[place] if index.nulls else None
            given = given or _natural_nulls(known, descending=descending)
            asked = term.key.nulls or _natural_nulls(known, descending=term.descending)
            if flip:
                asked = "last" if asked == "first" else "first"
            if given != asked:
                return False
    return len(flipped) == 1


def all_indexes(
    connection: Connection, database: ListDatabase, table: Table
) -> Iterator[LiveIndex]:
    """Yield the indexes of a table, the primary key among them, each with all of its columns."""
    primary = [column.name for column in table.primary_key.columns]
    hidden = _hidden_key(database_of(connection), primary)
    if primary:
        yield LiveIndex("PRIMARY KEY", tuple((name, False) for name in primary))
    for index in database.live_indexes(connection, table):
        have = {name for name, _ in index.columns}
        tail = tuple((name, False) for name in hidden if name not in have)
        nulls = index.nulls and (*index.nulls, *(None for _ in tail))
        yield replace(index, columns=index.columns + tail, nulls=nulls)


def _hidden_key(known: Database, primary: list[str]) -> Sequence[str]:
    # Every index of InnoDB and of a SQLite table ends in the row's key, ascending.
    # https://mariadb.com/docs/server/server-usage/storage-engines/innodb
    # https://www.sqlite.org/queryplanner.html#_searching_and_sorting
    rowid = known.rowid_is_key and len(primary) == 1
    return primary if rowid or known.indexes_end_in_key else ()


def _create(
    connection: Connection,
    known: Database,
    table: Table,
    wanted: Sequence[tuple[Column[Any], SortTerm]],
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
        if nulls and column.nullable and known.indexes_place_nulls:
            if backward:
                nulls = "last" if nulls == "first" else "first"
            if nulls != _natural_nulls(known, descending=descending):
                part = part.nulls_first() if nulls == "first" else part.nulls_last()
                words.append(f"nulls_{nulls}")
        parts.append(part)
    return create_index(connection, table, words, parts)


def create_index(
    connection: Connection,
    table: Table,
    words: Sequence[str],
    parts: Sequence[Any],
    **options: Any,
) -> str:
    """Return the statement that makes an index.

    Args:
        connection: To the database.
        table: The table it is for.
        words: Its name is made of these.
        parts: Its expressions, over a copy of the table.
        **options: Of :class:`sqlalchemy.Index`.
    """
    index = Index(f"ix_{table.name}_{'_'.join(words)}"[:_NAME_LIMIT], *parts, **options)
    return " ".join(str(CreateIndex(index).compile(connection)).split()) + ";"
