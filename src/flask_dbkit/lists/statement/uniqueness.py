"""Which expressions are together unique in each row of a statement.

A page is right only if its order is total. So the FROM clause of a statement is read: which
tables are there, which of them are fixed by the row that is listed (a many-to-one join is, a
to-many join is not), and which key tells every row of the result apart. Nothing here sends SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Table, UniqueConstraint, inspect, literal_column
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.util import AliasedClass
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BooleanClauseList,
    ClauseList,
    ColumnElement,
    Grouping,
    _label_reference,
    _textual_label_reference,
)
from sqlalchemy.sql.selectable import (
    AliasedReturnsRows,
    CompoundSelect,
    FromClause,
    FromGrouping,
    GenerativeSelect,
    Join,
    Select,
    SelectBase,
)

from .expressions import base_of, element_of, is_aggregate, is_window, leaves_of, tables_of

# ruff: noqa: SLF001 - SQLAlchemy has no public getter for DISTINCT, GROUP BY and LIMIT.

__all__ = [
    "Froms",
    "RowIdentity",
    "descriptions_of",
    "entities_of",
    "froms_of",
    "groups_of",
    "identify",
    "is_extended",
    "is_whole",
    "primary_key",
]


# Where SQLAlchemy 2.1 keeps what ``Select.ext()`` was given, DISTINCT ON for example.
_EXTENSIONS = (
    "_pre_columns_clause",
    "_post_select_clause",
    "_post_criteria_clause",
    "_post_body_clause",
)


@dataclass
class Froms:
    """The leaves of a FROM clause and the equalities that tie them together."""

    leaves: list[FromClause] = field(default_factory=list)
    optional: set[FromClause] = field(default_factory=set)
    # Each with the leaves it can fix: ON of an outer join says nothing about the near side.
    equal: list[tuple[Any, Any, frozenset[FromClause] | None]] = field(default_factory=list)
    full: bool = False


def _has_one_row(statement: Select[Any]) -> bool:
    limit = getattr(statement._limit_clause, "value", None)
    aggregate = any(is_aggregate(c) and not is_window(c) for c in statement.selected_columns)
    return limit == 1 or (aggregate and not groups_of(statement))


def froms_of(statement: Select[Any]) -> Froms:
    """Read the FROM clause of a statement and the equalities that tie its tables together."""
    froms = Froms()
    # Without the entities, which bring the tables of joined loading: those repeat nothing.
    bare: Select[Any] = statement.with_only_columns(literal_column("1"), maintain_column_froms=True)
    for name in _EXTENSIONS:
        if getattr(bare, name, None) is not None:
            setattr(bare, name, None)
    # Nor what may refer to one of them by its name in text.
    for one in bare.group_by(None).order_by(None).get_final_froms():
        _collect(one, froms, optional=False)
    for one, other in _equalities(statement.whereclause):
        froms.equal.append((one, other, None))
    return froms


def _collect(one: FromClause, froms: Froms, *, optional: bool) -> None:
    while isinstance(one, FromGrouping):
        one = one.element
    if not isinstance(one, Join):
        froms.leaves.append(one)
        if optional:
            froms.optional.add(one)
        return
    froms.full |= one.full
    _collect(one.left, froms, optional=optional or one.full)
    _collect(one.right, froms, optional=optional or one.isouter or one.full)
    scope = frozenset(leaves_of(one.right)) if one.isouter else frozenset(leaves_of(one))
    for left, right in _equalities(one.onclause):
        froms.equal.append((left, right, scope))


def _equalities(clause: Any) -> Iterator[tuple[Any, Any]]:
    while isinstance(clause, Grouping):
        clause = clause.element
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        for part in clause.clauses:
            yield from _equalities(part)
    elif isinstance(clause, BinaryExpression) and clause.operator is operators.eq:
        yield clause.left, clause.right


@dataclass(frozen=True)
class RowIdentity:
    """What tells the rows of a statement apart.

    Attributes:
        expressions: Together unique in each row. Empty if none are known.
        missing_because: Why none are.
        may_repeat: One entity is listed, and may come several times.
    """

    expressions: tuple[ColumnElement[Any], ...] = ()
    missing_because: str | None = None
    may_repeat: bool = False


def identify(  # noqa: PLR0911 - one per kind of statement
    statement: Select[Any], froms: Froms | None = None
) -> RowIdentity:
    """Find what is unique in each row.

    Args:
        statement: Any ``select()``.
        froms: Its FROM clause, if it has been read already.
    """
    froms = froms if froms is not None else froms_of(statement)
    descriptions = descriptions_of(statement)
    entities = entities_of(descriptions)
    whole = any(is_whole(one) for one in descriptions)
    scalar = len(descriptions) == 1
    groups = groups_of(statement)
    if groups:
        if scalar and whole:
            fixed = _determined(froms, primary_key(entities[0]))
            if not all(tables_of(group) <= fixed for group in groups):
                return RowIdentity((), _repeats(entities[0], froms, fixed), may_repeat=True)
        return RowIdentity(_shortest(groups))
    distinct = _distinct_columns(statement, whole=whole)
    if distinct:
        return RowIdentity(distinct)
    keys: list[ColumnElement[Any]] = []
    reached: set[FromClause] = set()
    for entity in entities:
        keys += primary_key(entity)
        reached = _determined(froms, keys)
        if reached >= set(froms.leaves) or (scalar and statement._distinct):
            return RowIdentity(tuple(keys))
        if scalar:
            return RowIdentity((), _repeats(entity, froms, reached), may_repeat=True)
    if not entities:
        for leaf in froms.leaves:
            # UNIQUE lets NULL in many times.
            certain = (
                keys
                for keys in _unique_keys(leaf)
                if not any(getattr(leaf.c[name], "nullable", True) for name in keys)
                or not isinstance(base_of(leaf), Table)
            )
            unique = next(certain, None)
            keys += [leaf.c[name] for name in sorted(unique or ())]
            if _determined(froms, keys) >= set(froms.leaves):
                return RowIdentity(tuple(keys))
    lost = ", ".join(sorted(_name(leaf) for leaf in set(froms.leaves) - reached)) or "the rows"
    reason = (
        f"Nothing is known to be unique in each row: {lost} may match several times."
        " Give the allowlist a tiebreaker=, an expression or a tuple of them."
    )
    return RowIdentity((), reason)


def _distinct_columns(statement: Select[Any], *, whole: bool) -> tuple[ColumnElement[Any], ...]:
    selected = statement.selected_columns
    if statement._distinct_on:
        shown = all(
            selected.corresponding_column(one) is not None for one in statement._distinct_on
        )
        return tuple(statement._distinct_on) if shown else ()
    return tuple(selected) if statement._distinct and not whole else ()


def _repeats(entity: Any, froms: Froms, fixed: set[FromClause]) -> str:
    others = ", ".join(sorted(_name(leaf) for leaf in set(froms.leaves) - fixed)) or "the group"
    return f"The statement can repeat {_name(entity)}: {others} may match it several times."


def _determined(froms: Froms, keys: Iterable[ColumnElement[Any]]) -> set[FromClause]:
    """Return the tables with at most one row for each value of ``keys``."""
    known: dict[FromClause, set[str]] = {leaf: set() for leaf in froms.leaves}
    for key in keys:
        if isinstance(key, Column) and key.table in known:
            known[key.table].add(key.key)
    fixed: set[FromClause] = set()
    grown = True
    while grown:
        grown = False
        for leaf in froms.leaves:
            if leaf not in fixed and any(known[leaf] >= unique for unique in _unique_keys(leaf)):
                fixed.add(leaf)
                grown = True
        for one, other, scope in froms.equal:
            for column, source in ((one, other), (other, one)):
                table = getattr(column, "table", None)
                if (
                    table in known
                    and (scope is None or table in scope)
                    and column.key not in known[table]
                    and tables_of(source) <= fixed
                    # A correlated subquery may differ from row to row.
                    and not any(isinstance(part, SelectBase) for part in visitors.iterate(source))
                ):
                    known[table].add(column.key)
                    grown = True
    return fixed


def _unique_keys(leaf: FromClause) -> Iterator[frozenset[str]]:
    """Yield sets of column keys that are unique in a table, alias or subquery."""
    base = base_of(leaf)
    if isinstance(base, Table):
        if base.primary_key.columns:
            yield frozenset(column.key for column in base.primary_key.columns)
        for constraint in base.constraints:
            if isinstance(constraint, UniqueConstraint):
                yield frozenset(column.key for column in constraint.columns)
        for index in base.indexes:
            # A partial index is unique among some rows only.
            partial = any(name.endswith("_where") for name in index.dialect_kwargs)
            plain = all(isinstance(expression, Column) for expression in index.expressions)
            if index.unique and plain and not partial:
                yield frozenset(column.key for column in index.columns)
    elif isinstance(base, SelectBase) and isinstance(leaf, AliasedReturnsRows):
        yield from _unique_in_subquery(leaf, base)


def _unique_in_subquery(leaf: AliasedReturnsRows, inner: SelectBase) -> Iterator[frozenset[str]]:
    if isinstance(inner, CompoundSelect):
        if not inner.keyword.name.endswith("_ALL"):
            yield frozenset(leaf.c.keys())
        return
    if not isinstance(inner, Select):
        return
    if _has_one_row(inner):
        yield frozenset()
        return
    # A limit takes rows away, and none of them becomes less unique.
    keys = identify(inner).expressions
    columns = [leaf.corresponding_column(key) for key in keys]  # type: ignore[arg-type]
    if columns and all(column is not None for column in columns):
        yield frozenset(column.key for column in columns if column is not None)


def is_extended(statement: Select[Any]) -> bool:
    """Tell whether a statement has DISTINCT ON or another extension of one database."""
    extended = any(getattr(statement, name, None) is not None for name in _EXTENSIONS)
    return extended or bool(statement._distinct_on)


def entities_of(descriptions: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the mapped classes and aliases among the columns, each once."""
    found: list[Any] = []
    for description in descriptions:
        entity = description.get("entity")
        if entity is not None and not any(entity is other for other in found):
            found.append(entity)
    return found


def primary_key(entity: Any) -> list[ColumnElement[Any]]:
    """Return the key columns of a mapped class or alias."""
    mapper: Mapper[Any] = inspect(entity).mapper
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    return [element_of(getattr(entity, name)) for name in names]


def groups_of(statement: Any) -> tuple[ColumnElement[Any], ...]:
    """Return the expressions of GROUP BY; of an entity, its columns."""
    found: list[ColumnElement[Any]] = []
    for clause in getattr(statement, "_group_by_clauses", ()):
        if isinstance(clause, _textual_label_reference):
            found.append(statement.selected_columns[clause.element])
        elif isinstance(clause, ClauseList):
            found += clause.clauses
        elif isinstance(clause, FromClause):
            found += clause.c
        else:
            found.append(clause.element if isinstance(clause, _label_reference) else clause)
    return tuple(found)


def _shortest(groups: Sequence[ColumnElement[Any]]) -> tuple[ColumnElement[Any], ...]:
    """Leave out the columns of a table whose primary key is among the groups."""
    found: list[ColumnElement[Any]] = []
    for group in groups:
        table = group.table if isinstance(group, Column) else None
        base = base_of(table) if table is not None else None
        if isinstance(base, Table) and base.primary_key.columns and table is not None:
            keys = [table.c[column.key] for column in base.primary_key.columns]
            grouped = [one for one in groups if isinstance(one, Column) and one.table is table]
            names = {one.key for one in grouped}
            if names >= {key.key for key in keys} and group.key not in {k.key for k in keys}:
                continue
        found.append(group)
    return tuple(found)


def descriptions_of(statement: GenerativeSelect) -> list[dict[str, Any]]:
    """Return what SQLAlchemy tells about each element of a row."""
    return list(statement.column_descriptions)  # type: ignore[attr-defined]


def is_whole(description: dict[str, Any]) -> bool:
    """Tell whether an element of a row is a mapped object, and not one of its columns."""
    entity = description.get("entity")
    return entity is not None and description["expr"] is entity


def _name(thing: Any) -> str:
    if isinstance(thing, FromClause):
        return str(getattr(thing, "name", None) or "a subquery")
    if isinstance(thing, AliasedClass):
        thing = inspect(thing).mapper.class_
    return str(getattr(thing, "__name__", thing))
