"""What an expression is made of: its tables, and whether it is computed per group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.sql.elements import ColumnElement, FunctionFilter, Over
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import (
    AliasedReturnsRows,
    FromClause,
    FromGrouping,
    Join,
    SelectBase,
)

from ..exceptions import PlanError

# ruff: noqa: SLF001 - there is no public way to ask an expression for its tables.

__all__ = [
    "base_of",
    "element_of",
    "is_aggregate",
    "is_volatile",
    "is_window",
    "leaves_of",
    "own_parts",
    "tables_of",
]

_AGGREGATES = frozenset(
    {
        *("count", "sum", "avg", "min", "max", "total", "every", "bool_and", "bool_or"),
        *("array_agg", "string_agg", "group_concat", "json_agg", "jsonb_agg", "json_group_array"),
        *("stddev", "stddev_pop", "stddev_samp", "variance", "var_pop", "var_samp"),
        *("bit_and", "bit_or"),
    }
)


_VOLATILE = frozenset(
    {
        *("random", "rand", "newid", "uuid", "uuid_short", "gen_random_uuid", "randomblob"),
        *("uuid_generate_v1", "uuid_generate_v4", "clock_timestamp", "nextval"),
    }
)


def element_of(expression: Any) -> ColumnElement[Any]:
    """Return the column expression behind an attribute, a hybrid or an expression."""
    if isinstance(getattr(expression, "prop", None), RelationshipProperty):
        raise PlanError("It is a relationship. Take a column of the class it leads to.")
    while not isinstance(expression, ColumnElement) and hasattr(expression, "__clause_element__"):
        expression = expression.__clause_element__()
    if not isinstance(expression, ColumnElement):
        raise PlanError(f"{expression!r} is no column expression.")
    return expression


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


def is_volatile(expression: ColumnElement[Any]) -> bool:
    """Tell whether an expression has another value each time: no two pages agree on its order."""
    return any(
        isinstance(part, FunctionElement) and part.name.lower() in _VOLATILE
        for part in own_parts(expression)
    )


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
