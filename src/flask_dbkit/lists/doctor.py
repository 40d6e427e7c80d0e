"""DK101, DK102 and DK12x: what clients may sort and filter by."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.exc import DBAPIError

from ..doctor.checks import check
from ..doctor.examination import Examination, ExaminedBind
from ..doctor.exceptions import NotExamined
from ..doctor.findings import Found
from ..doctor.flow import Flow
from ..doctor.sources import Source, last_name
from .current import Listing, listings_of
from .database import ListDatabase
from .exceptions import PlanError
from .filter_indexes import Search
from .probing import database_for

__all__: list[str] = []

_ORDERS = frozenset({"order_by", "group_by", "distinct"})
_MANY = 10_000  # rows that nobody wants to be read for each page
_DIRECTIONS = frozenset({"asc", "desc", "nulls_first", "nulls_last"})


def _flows(source: Source) -> Iterator[tuple[ast.Call, Flow]]:
    flows: dict[ast.AST, Flow] = {}
    for node, around in source.calls:
        name = last_name(node.func)
        if name == "getattr" or name in _ORDERS:
            yield node, flows.get(around) or flows.setdefault(around, Flow(source, around))


@check(
    "DK101",
    "An attribute of a model that the client names",
    level="error",
    tags=("code", "security", "lists"),
    cause="Any attribute can be asked for: a list sorted by password_hash tells the hash letter by"
    " letter, and a name that is none is an error 500.",
    fix='Say what may be asked for: SortAllowlist({"title": Book.title}, default="title").',
    link="https://cheatsheetseries.owasp.org/cheatsheets/Input_Validation_Cheat_Sheet.html",
)
def attributes_by_name(given: Examination) -> Iterator[Found]:
    """Look for getattr(Model, name) where the name comes out of the request."""
    models = {mapper.class_.__name__ for mapper in given.mappers}
    for source in given.sources:
        for node, flow in _flows(source):
            if last_name(node.func) != "getattr" or len(node.args) < 2:
                continue
            whose, name = last_name(node.args[0]), node.args[1]
            is_model = whose in models or whose in ("model", "cls_model", "entity", "Model")
            chosen = is_model and flow.from_client(name) and not flow.is_checked(name)
            if chosen and not source.is_ignored("DK101", node):
                yield Found(f"getattr({whose}, …) with a name of the request", source.place(node))


@check(
    "DK102",
    "An order that is put together from texts",
    level="error",
    tags=("code", "security", "lists"),
    cause="What is behind ORDER BY is SQL: whoever chooses it reads any column, or stops the"
    " server.",
    fix='Say what may be asked for: SortAllowlist({"title": Book.title}, default="title").',
    link="https://docs.sqlalchemy.org/en/20/core/sqlelement.html#sqlalchemy.sql.expression.text",
)
def orders_of_text(given: Examination) -> Iterator[Found]:
    """Look for order_by(text(…)), and for values of the request in order_by()."""
    for source in given.sources:
        for node, flow in _flows(source):
            if last_name(node.func) not in _ORDERS or source.is_ignored("DK102", node):
                continue
            for argument in node.args:
                said = _said_of(argument, flow)
                if said is not None:
                    yield Found(f"order_by() takes {said}", object=source.place(node))
                    break


def _said_of(argument: ast.expr, flow: Flow) -> str | None:
    for inner in ast.walk(argument):
        if isinstance(inner, ast.Call) and last_name(inner.func) in ("text", "literal_column"):
            told = inner.args[:1]
            if told and not flow.is_constant(told[0]) and not flow.is_checked(told[0]):
                return "a text that is not constant"
    plain = argument
    while isinstance(plain, ast.Call) and last_name(plain.func) in _DIRECTIONS:
        plain = plain.args[0] if plain.args else getattr(plain.func, "value", plain.func)
    # What is called with a value binds it, as Book.title.startswith(q) does.
    value = plain.func if isinstance(plain, ast.Call) else plain
    if flow.from_client(value) and not flow.is_checked(plain):
        return "a value of the request"
    return None


def _own_listings(given: Examination) -> list[Listing[Any]]:
    given.configure_mappers()
    return listings_of(given.metadata(bind) for bind in given.binds)


def _declared_indexes(table: Table) -> Iterator[list[str | None]]:
    """Yield the columns of each key and index of a table; ``None`` for what is computed."""
    yield [column.name for column in table.primary_key.columns]
    for index in table.indexes:
        elements = (getattr(one, "element", one) for one in index.expressions)  # title.desc()
        yield [one.name if isinstance(one, Column) else None for one in elements]
    for constraint in table.constraints:
        if type(constraint).__name__ == "UniqueConstraint":
            yield [column.name for column in getattr(constraint, "columns", ())]


def _first_columns(table: Table) -> set[str | None]:
    """Return the columns that a key or an index begins with."""
    return {names[0] for names in _declared_indexes(table) if names}


@check(
    "DK120",
    "An order of a list without an index",
    tags=("lists", "indexes"),
    cause="The whole table is sorted for every page.",
    fix="Add an index that begins with the column; flask dbkit indexes tells the whole of it.",
    link="https://use-the-index-luke.com/sql/sorting-grouping/indexed-order-by",
)
def orders_without_index(given: Examination) -> Iterator[Found]:
    """Compare the orders of each declared list with the indexes of the models."""
    for listing in _own_listings(given):
        for name, key in listing.sort.entries.items():
            column = key.element
            if not isinstance(column, Column) or not isinstance(column.table, Table):
                continue
            if column.name not in _first_columns(column.table):
                yield Found(
                    f"{listing.name} may be sorted by {name}, and no index begins with"
                    f" {column.table.fullname}.{column.name}",
                    **given.about(column.table, column),
                )


@check(
    "DK122",
    "A filter of a list without an index",
    level="info",
    tags=("lists", "indexes"),
    cause="The whole table is read, however few rows the filter leaves. A warning where the"
    " database tells of many.",
    fix="Add an index that begins with the column; flask dbkit indexes writes it.",
    link="https://use-the-index-luke.com/sql/where-clause",
)
def filters_without_index(given: Examination) -> Iterator[Found]:
    """Compare the filters of each declared list with the indexes of the models."""
    told: set[str] = set()
    for listing in _own_listings(given):
        bind = next(one for one in given.binds if given.metadata(one) is listing.metadata)
        for search, column in _unserved(listing, database_for(bind.engine.dialect)):
            name = f"{column.table.fullname}.{column.name}"
            if name in told:
                continue
            told.add(name)
            rows = _rows(given, bind, column.table)
            many = rows is not None and rows >= _MANY
            yield Found(
                f"{listing.name} may be filtered by {search.parameter}, and no index begins with"
                f" {name}{f', of about {rows} rows' if many else ''}",
                level="warning" if many else None,
                **given.about(column.table, column),
            )


def _unserved(
    listing: Listing[Any], database: ListDatabase
) -> Iterator[tuple[Search, Column[Any]]]:
    """Yield the searches that an index would serve, and that no other check tells of."""
    sorted_by = {str(key.element) for key in listing.sort.entries.values()}
    for search in listing.searches():
        column = search.column
        if column is None or not search.kinds_on(database) or search.has_few_values:
            continue
        # DK040 tells of keys, and DK120 of orders.
        if column.foreign_keys or str(column) in sorted_by:
            continue
        if not any(search.begins(names) for names in _declared_indexes(column.table)):
            yield search, column


def _rows(given: Examination, bind: ExaminedBind, table: Table) -> int | None:
    """Return about how many rows a table has, if a database may be asked and knows."""
    if not given.with_database:
        return None
    with suppress(NotExamined, DBAPIError), given.connect(bind) as connection:
        return database_for(connection.dialect).rows_of(connection, table)
    return None


@check(
    "DK121",
    "A list that cannot be planned",
    level="error",
    tags=("lists",),
    cause="Each request for it fails.",
    fix="Do what the message says: most often a tie-breaker is missing.",
)
def impossible_lists(given: Examination) -> Iterator[Found]:
    """Plan each declared list, without a database."""
    for listing in _own_listings(given):
        try:
            listing.check_plan()
        except PlanError as error:
            yield Found(f"{listing.name}: {error}", object=listing.name)
