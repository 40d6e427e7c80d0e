"""What an expression is made of: its tables, and whether it is computed per group."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy import types as sqltypes
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    BindParameter,
    Case,
    Cast,
    ClauseList,
    ColumnClause,
    ColumnElement,
    Extract,
    FunctionFilter,
    Grouping,
    Label,
    Over,
    TextClause,
    TypeCoerce,
    UnaryExpression,
    WithinGroup,
    _label_reference,
    _textual_label_reference,
)
from sqlalchemy.sql.functions import Function, FunctionElement
from sqlalchemy.sql.selectable import (
    AliasedReturnsRows,
    FromClause,
    FromGrouping,
    Join,
    ScalarSelect,
    SelectBase,
)

from ..exceptions import PlanError

# ruff: noqa: SLF001 - there is no public way to ask an expression for its tables.

__all__ = [
    "base_of",
    "direction_of",
    "element_of",
    "in_brackets",
    "is_aggregate",
    "is_association_proxy",
    "is_plain_column",
    "is_volatile",
    "is_window",
    "leaves_of",
    "own_order",
    "own_parts",
    "refuse_order",
    "tables_of",
    "without_entity",
]

_AGGREGATES = frozenset(
    {
        *("count", "sum", "avg", "min", "max", "total", "every", "bool_and", "bool_or"),
        *("array_agg", "string_agg", "group_concat", "json_agg", "jsonb_agg", "json_group_array"),
        *("stddev", "stddev_pop", "stddev_samp", "variance", "var_pop", "var_samp"),
        *("bit_and", "bit_or"),
    }
)


# What has another value each time, or depends on when, where or for whom the statement runs.
_VOLATILE = frozenset(
    {
        *("random", "random_normal", "rand", "newid", "uuid", "uuid_short", "gen_random_uuid"),
        *("uuidv4", "uuidv7", "randomblob", "gen_random_bytes", "setseed"),
        *("uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4", "sys_guid"),
        *("nextval", "currval", "lastval", "setval", "last_insert_id"),
        *("last_insert_rowid", "changes", "total_changes", "found_rows", "row_count"),
        *("now", "sysdate", "getdate", "curdate", "curtime", "current_date", "current_time"),
        *("current_timestamp", "localtime", "localtimestamp", "clock_timestamp", "timeofday"),
        *("statement_timestamp", "transaction_timestamp", "utc_date", "utc_time"),
        *("utc_timestamp", "sysutcdatetime", "sysdatetime", "getutcdate"),
        *("current_user", "session_user", "system_user", "user", "current_role", "connection_id"),
        *("current_setting", "current_schema", "current_database", "current_catalog", "database"),
        *("pg_backend_pid", "txid_current", "pg_current_xact_id", "inet_client_addr"),
        *("inet_client_port", "get_lock", "benchmark", "sleep", "pg_sleep"),
    }
)
# These read the clock when they are not told a time: SQLite's functions without an argument, and
# PostgreSQL's age() and MariaDB's unix_timestamp().
# https://www.sqlite.org/lang_datefunc.html
_CLOCKS = {
    **dict.fromkeys(("date", "time", "datetime", "julianday", "unixepoch", "unix_timestamp"), 1),
    **dict.fromkeys(("strftime",), 2),
    **dict.fromkeys(("age",), 2),
}
# Words that mean a moment wherever text is taken for one.
# https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES
_MOMENTS = frozenset({"now", "today", "tomorrow", "yesterday", "localtime"})
_MOMENT_TAKERS = (sqltypes.DateTime, sqltypes.Date, sqltypes.Time)
_IN_TEXT = re.compile(
    r"(?<![\w.$])(?:"
    + "|".join(sorted(_VOLATILE - {"user", "database", "changes"}))
    + r")\s*\(|\b(?:current_(?:date|time|timestamp|user|role)|localtime(?:stamp)?)\b",
    re.IGNORECASE,
)


# What is one thing to every operator as it is written.
_CLOSED = (
    *(Grouping, Cast, Case, Extract, ScalarSelect, BindParameter),
    *(Function, Over, FunctionFilter, WithinGroup),
)


def is_association_proxy(given: object) -> bool:
    """Tell whether something is an association proxy of a class."""
    # Whoever made one has imported its module; for all others that would be in vain.
    module = sys.modules.get("sqlalchemy.ext.associationproxy")
    return module is not None and isinstance(given, module.AssociationProxyInstance)


def element_of(expression: Any) -> ColumnElement[Any]:
    """Return the column expression behind an attribute, a hybrid or an expression."""
    if isinstance(getattr(expression, "prop", None), RelationshipProperty):
        raise PlanError("It is a relationship. Take a column of the class it leads to.")
    if is_association_proxy(expression):
        raise PlanError(
            "It is an association proxy. Join the class it leads to and take its column, or use a"
            " correlated subquery."
        )
    try:
        while not isinstance(expression, ColumnElement) and hasattr(
            expression, "__clause_element__"
        ):
            expression = expression.__clause_element__()
    except (NotImplementedError, SQLAlchemyError):
        expression = None
    if not isinstance(expression, ColumnElement):
        raise PlanError("It is no single column expression: take one column of it.")
    return expression


_ORDERED = frozenset(
    {operators.asc_op, operators.desc_op, operators.nulls_first_op, operators.nulls_last_op}
)


def direction_of(clause: Any) -> tuple[bool, ColumnElement[Any] | None]:
    """Take an element of ORDER BY apart.

    Returns:
        Whether it descends, and what is sorted by; ``None`` where that is a name only, or NULLs
        have a place of their own.
    """
    descending, placed = False, False
    while isinstance(clause, UnaryExpression) and clause.modifier in _ORDERED:
        descending |= clause.modifier is operators.desc_op
        placed |= clause.modifier in (operators.nulls_first_op, operators.nulls_last_op)
        clause = clause.element
    named = placed or isinstance(clause, (_label_reference, _textual_label_reference))
    return descending, None if named or not isinstance(clause, ColumnElement) else clause


def own_order(statement: Any) -> Iterator[Any]:
    """Yield the elements of a statement's ORDER BY; of an entity, its columns."""
    for clause in statement._order_by_clauses:
        if isinstance(clause, ClauseList):
            yield from clause.clauses
        elif isinstance(clause, FromClause):
            yield from clause.c
        else:
            yield clause


def refuse_order(expression: Any) -> None:
    """Refuse an entry that says more than which value it is.

    Raises:
        PlanError: It has a direction already.
    """
    while isinstance(expression, (Label, Grouping)):
        expression = expression.element
    if isinstance(expression, UnaryExpression) and expression.modifier in _ORDERED:
        raise PlanError(
            "It says how to order already, with asc(), desc() or nulls_first(). Give the"
            " expression itself: clients choose the direction, SortKey(nulls=…) places NULLs."
        )


def tables_of(expression: ColumnElement[Any]) -> frozenset[FromClause]:
    """Return the tables an expression needs; those inside its subqueries it brings itself."""
    # get_final_froms() of a select() would answer too, but compiles it and may configure
    # mappers; SQLAlchemy has no other public way to ask.
    found = expression._from_objects
    return frozenset(leaf for one in found for leaf in leaves_of(one))


def is_aggregate(expression: ColumnElement[Any]) -> bool:
    """Tell whether an expression is computed per group, so that only HAVING may see it."""
    return any(
        isinstance(part, FunctionFilter)
        or (
            isinstance(part, FunctionElement)
            and part.name.lower() in _AGGREGATES
            # Of several arguments SQLite takes the largest, row by row.
            and not (part.name.lower() in ("max", "min") and len(part.clauses) > 1)
        )
        for part in own_parts(expression)
    )


def is_window(expression: ColumnElement[Any]) -> bool:
    """Tell whether an expression is computed over the rows of the result: no WHERE sees it."""
    return any(isinstance(part, Over) for part in own_parts(expression))


def is_volatile(expression: Any) -> bool:
    """Tell whether an expression depends on more than the row: no two pages agree on its order.

    Its subqueries are looked into: they run as often as it does.
    """
    return any(_is_volatile(part) for part in visitors.iterate(expression))


def _is_volatile(part: Any) -> bool:
    if isinstance(part, FunctionElement):
        return _is_volatile_function(part.name.lower(), list(part.clauses))
    if isinstance(part, (Cast, TypeCoerce)) and isinstance(part.type, _MOMENT_TAKERS):
        return _names_a_moment(part.clause)
    if isinstance(part, TextClause):
        return _IN_TEXT.search(part.text) is not None
    literal = isinstance(part, ColumnClause) and part.is_literal
    return literal and _IN_TEXT.search(str(part.name)) is not None


def _is_volatile_function(name: str, arguments: list[Any]) -> bool:
    if name not in _CLOCKS:
        return name in _VOLATILE
    return len(arguments) < _CLOCKS[name] or any(map(_names_a_moment, arguments))


def _names_a_moment(argument: Any) -> bool:
    while isinstance(argument, (Cast, TypeCoerce, Grouping, Label)):
        argument = argument.clause if isinstance(argument, (Cast, TypeCoerce)) else argument.element
    value = getattr(argument, "value", None)
    return isinstance(value, str) and value.strip().lower() in _MOMENTS


def is_plain_column(expression: Any) -> bool:
    """Tell whether an expression is a column as its table declares it.

    Of all others the database decides what they are, whatever type is written on them.
    """
    while isinstance(expression, Label):
        expression = expression.element
    table = getattr(expression, "table", None)
    return (
        isinstance(expression, Column) and table is not None and isinstance(base_of(table), Table)
    )


def without_entity(expression: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column of the table, which brings no FROM of its mapped class with it.

    As a column of a subclass, it would join the tables of that a second time.
    """
    if isinstance(expression, Column):
        return expression._deannotate()
    return expression


def in_brackets(expression: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return an expression that may stand beside any operator.

    SQLAlchemy writes brackets by the precedence of the operators it knows, and none around
    ``NOT x`` or what is text to it: ``NOT x > 1`` is ``NOT (x > 1)`` on PostgreSQL.
    """
    inner: Any = expression
    while isinstance(inner, (Label, TypeCoerce)):
        inner = inner.element if isinstance(inner, Label) else inner.clause
    name = isinstance(inner, ColumnClause) and not inner.is_literal
    return expression if name or isinstance(inner, _CLOSED) else Grouping(expression)


def own_parts(expression: Any) -> Iterator[Any]:
    """Walk an expression, but not into its subqueries."""
    stack = [expression]
    while stack:
        part = stack.pop()
        if isinstance(part, SelectBase):
            continue
        yield part
        stack += part.get_children()


def base_of(leaf: FromClause) -> Any:
    """Return the table or select below every alias of a FROM element."""
    base: Any = leaf
    while isinstance(base, AliasedReturnsRows):
        base = base.element
    return base


def leaves_of(one: FromClause) -> list[FromClause]:
    """Return the tables, aliases and subqueries that a FROM element joins."""
    while isinstance(one, FromGrouping):
        one = one.element
    if isinstance(one, Join):
        return [*leaves_of(one.left), *leaves_of(one.right)]
    return [one]
