"""What a statement lists: whose rows, and which columns together tell them apart.

A page is right only if its order is total. So before a statement is sorted, its FROM clause is
read: which tables are there, which of them are fixed by the row that is listed (a many-to-one
join is, a to-many join is not), and which key is unique for each row of the result. Nothing
here sends SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import (
    Column,
    Table,
    UniqueConstraint,
    and_,
    inspect,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.util import AliasedClass
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BooleanClauseList,
    ColumnElement,
    FunctionFilter,
    Grouping,
    Label,
    Over,
    _label_reference,
    _textual_label_reference,
)
from sqlalchemy.sql.functions import FunctionElement
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
from sqlalchemy.sql.util import ClauseAdapter

from .exceptions import PlanError

# ruff: noqa: SLF001 - SQLAlchemy lets a statement be asked for its FROM and columns only. DISTINCT,
# GROUP BY, LIMIT and loader options have no public getter.

__all__ = ["Shape", "element_of", "is_aggregate", "settle_groups", "shape_of", "tables_of"]

_AGGREGATES = frozenset(
    {
        *("count", "sum", "avg", "min", "max", "total", "every", "bool_and", "bool_or"),
        *("array_agg", "string_agg", "group_concat", "json_agg", "jsonb_agg", "json_group_array"),
        *("stddev", "stddev_pop", "stddev_samp", "variance", "var_pop", "var_samp"),
        *("bit_and", "bit_or"),
    }
)


@dataclass(frozen=True)
class Shape:
    """A statement made ready for criteria and an order, and what is known about its rows.

    Attributes:
        statement: The statement, or the same rows in a form that takes a ``WHERE``.
        scalar: One element per row, so a page lists elements and not rows.
        width: The number of elements of a row.
        entity: The mapped class, alias or table whose rows are listed, if it is one.
        identity: Expressions that are together unique in each row. Empty if none are known;
            then ``reason`` says why.
        reason: Why the rows cannot be told apart.
        tables: Every table, alias or subquery of the ``FROM`` clause.
        optional: Those that may be missing from a row: the far side of an outer join.
        grouped: Criteria on keys belong into ``HAVING``.
        adapt: Turns an expression over the original statement into one over this.
        plain: Rows of one entity with its primary key as identity: keys may be selected first.
        whole: The elements hold whole entities, which joined loading may repeat.
        distinct: Equal rows are one.
    """

    statement: Any
    scalar: bool
    width: int
    entity: Any
    identity: tuple[ColumnElement[Any], ...]
    reason: str | None
    tables: frozenset[FromClause]
    optional: frozenset[FromClause]
    grouped: bool = False
    adapt: Callable[[ColumnElement[Any]], ColumnElement[Any]] = lambda expression: expression
    plain: bool = False
    whole: bool = False
    distinct: bool = False

    def is_nullable(self, expression: ColumnElement[Any]) -> bool:
        """Tell whether an expression can be NULL, as far as the metadata says."""
        element: Any = expression
        while isinstance(element, (Grouping, Label)):
            element = element.element
        if isinstance(element, Column) and element.table is not None:
            table = element.table
            trusted = isinstance(_base_of(table), Table) and table not in self.optional
            return bool(element.nullable) or not trusted
        return not (isinstance(element, FunctionElement) and element.name == "count")

    def covers(self, expression: ColumnElement[Any]) -> bool:
        """Tell whether every table of an expression is in the statement."""
        return tables_of(expression) <= self.tables


@dataclass
class _Froms:
    """The leaves of a FROM clause and the equalities that tie them together."""

    leaves: list[FromClause] = field(default_factory=list)
    optional: set[FromClause] = field(default_factory=set)
    # Each with the leaves it can fix: ON of an outer join says nothing about the near side.
    equal: list[tuple[Any, Any, frozenset[FromClause] | None]] = field(default_factory=list)
    full: bool = False


def element_of(expression: Any) -> ColumnElement[Any]:
    """Return the column expression behind an attribute, a hybrid or an expression."""
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
    return frozenset(leaf for one in found for leaf in _leaves_of(one))


def is_aggregate(expression: ColumnElement[Any]) -> bool:
    """Tell whether an expression is computed per group, so that only HAVING may see it."""
    return any(
        isinstance(part, FunctionFilter)
        or (isinstance(part, FunctionElement) and part.name.lower() in _AGGREGATES)
        for part in _own_parts(expression)
    )


def shape_of(statement: Any, *, unique: bool = False, told: bool = False) -> Shape:
    """Read a statement.

    Args:
        statement: A ``select()``, or the ``union()`` of several.
        unique: Make a statement that repeats its entity list each once.
        told: The caller knows what is unique: a missing identity is no fault.

    Returns:
        Its shape. ``identity`` may be empty, with the reason.

    Raises:
        PlanError: The statement can repeat its entity, or cannot be paged at all.
    """
    statement, adapt = _normalise(statement)
    froms = _froms_of(statement)
    descriptions = _descriptions(statement)
    entities = _entities(statement, descriptions)
    whole = any(_is_whole(d) for d in descriptions)
    scalar = len(descriptions) == 1
    grouped = bool(_group_by(statement))
    shape = Shape(
        statement=statement,
        scalar=scalar,
        width=len(descriptions),
        entity=entities[0] if entities else None,
        identity=(),
        reason=None,
        tables=frozenset(froms.leaves),
        optional=frozenset(froms.optional),
        grouped=grouped,
        adapt=adapt,
        whole=whole,
        distinct=bool(statement._distinct),
    )
    identity, reason, repeats = _identity(statement, froms, entities, scalar=scalar, whole=whole)
    if repeats and unique and whole and not grouped:
        return _each_once(shape)
    if repeats and scalar and not unique and not (told and not whole):
        raise PlanError(
            f"{reason} Pass unique=True to list each once, or select both sides so that a row"
            " is a pair."
        )
    if froms.full:
        raise PlanError("A FULL JOIN has rows without the listed entity. Select from a UNION.")
    plain = bool(identity and scalar and whole and not grouped and not statement._distinct)
    return replace(shape, identity=identity, reason=reason, plain=plain)


def settle_groups(
    shape: Shape, statement: Any, keys: Sequence[ColumnElement[Any]]
) -> tuple[Any, list[ColumnElement[Any]], bool]:
    """Put grouped rows into a subquery, so that a key is a column of it.

    Args:
        shape: The shape of the statement before its criteria.
        statement: The statement with its criteria.
        keys: The expressions to sort by.

    Returns:
        The statement, the keys over it, and whether criteria on them go into HAVING. Rows that
        hold entities stay as they are: a subquery would cost them their loader options.
    """
    if not shape.grouped or shape.whole:
        return statement, list(keys), shape.grouped
    missing = [key for key in keys if statement.selected_columns.corresponding_column(key) is None]
    labels = {key: key.label(f"dbkit_g{number}") for number, key in enumerate(missing)}
    sub = statement.add_columns(*labels.values()).subquery()
    columns = list(sub.c)[: len(statement.selected_columns)]
    adapted = [sub.corresponding_column(labels.get(key, key)) for key in keys]
    return select(*columns), adapted, False


def _normalise(statement: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Turn a statement that takes no further WHERE into one that does."""
    if isinstance(statement, CompoundSelect):
        return _wrap(statement)
    if not isinstance(statement, Select):
        raise PlanError(
            f"Use a select() or a union() of some; {type(statement).__name__} cannot be paged."
        )
    windows = any(isinstance(part, Over) for c in statement.selected_columns for part in _parts(c))
    on = bool(statement._distinct_on)
    if not (statement._has_row_limiting_clause or windows or on):
        return statement.order_by(None), lambda expression: expression
    if not any(_is_whole(d) for d in _descriptions(statement)):
        return _wrap(statement)
    if windows or on:
        raise PlanError(
            "A window function or DISTINCT ON beside an entity changes with every criterion."
            " Put the statement into a subquery: select(aliased(Entity, statement.subquery()))."
        )
    return _limited(statement), lambda expression: expression


def _wrap(statement: Any) -> tuple[Any, Callable[[Any], Any]]:
    sub = statement.subquery()
    adapter = ClauseAdapter(sub)

    def adapt(expression: ColumnElement[Any]) -> ColumnElement[Any]:
        found = sub.corresponding_column(expression)
        return found if found is not None else adapter.traverse(expression)

    return select(*sub.c), adapt


def _limited(statement: Select[Any]) -> Select[Any]:
    """Keep the rows of a limited statement by their primary key, so that more WHERE may follow."""
    entities = _entities(statement, _descriptions(statement))
    keys = [key for entity in entities for key in _primary_key(entity)]
    labels = [key.label(f"dbkit_pk{number}") for number, key in enumerate(keys)]
    chosen = statement.with_only_columns(*labels, maintain_column_froms=True).subquery()
    free = statement.order_by(None).limit(None).offset(None)
    return free.where(
        and_(*(key == chosen.c[label.name] for key, label in zip(keys, labels, strict=True)))
    )


def _each_once(shape: Shape) -> Shape:
    """List each entity once: those whose key is among the keys of the given statement."""
    statement, keys = shape.statement, _primary_key(shape.entity)
    inner = statement.with_only_columns(*keys, maintain_column_froms=True).correlate(None)
    key = keys[0] if len(keys) == 1 else tuple_(*keys)
    # Loader options have no public getter.
    outer = select(shape.entity).where(key.in_(inner)).options(*statement._with_options)
    outer = outer.execution_options(**statement.get_execution_options())
    froms = _froms_of(outer)
    return replace(
        shape,
        statement=outer,
        identity=tuple(keys),
        reason=None,
        tables=frozenset(froms.leaves),
        optional=frozenset(froms.optional),
        plain=True,
        distinct=False,
    )


def _identity(  # noqa: PLR0911 - one per kind of statement
    statement: Any, froms: _Froms, entities: Sequence[Any], *, scalar: bool, whole: bool
) -> tuple[tuple[ColumnElement[Any], ...], str | None, bool]:
    """Return what is unique per row, or why nothing is, and whether an entity repeats."""
    groups = _group_by(statement)
    if groups:
        if scalar and whole:
            fixed = _determined(froms, _primary_key(entities[0]))
            if not all(tables_of(group) <= fixed for group in groups):
                return (), _repeats(entities[0], froms, fixed), True
        return groups, None, False
    if statement._distinct and not whole:
        return tuple(statement.selected_columns), None, False
    keys: list[ColumnElement[Any]] = []
    reached: set[FromClause] = set()
    for entity in entities:
        keys += _primary_key(entity)
        reached = _determined(froms, keys)
        if reached >= set(froms.leaves) or (scalar and statement._distinct):
            return tuple(keys), None, False
        if scalar:
            return (), _repeats(entity, froms, reached), True
    if not entities:
        for leaf in froms.leaves:
            unique = next(iter(_unique_keys(leaf)), None)
            keys += [leaf.c[name] for name in sorted(unique or ())]
            if _determined(froms, keys) >= set(froms.leaves):
                return tuple(keys), None, False
    lost = ", ".join(sorted(_name(leaf) for leaf in set(froms.leaves) - reached)) or "the rows"
    reason = (
        f"Nothing is known to be unique in each row: {lost} may match several times."
        " Give the allowlist a tiebreaker=, an expression or a tuple of them."
    )
    return (), reason, False


def _repeats(entity: Any, froms: _Froms, fixed: set[FromClause]) -> str:
    others = ", ".join(sorted(_name(leaf) for leaf in set(froms.leaves) - fixed)) or "the group"
    return f"The statement can repeat {_name(entity)}: {others} may match it several times."


def _determined(froms: _Froms, keys: Iterable[ColumnElement[Any]]) -> set[FromClause]:
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
                ):
                    known[table].add(column.key)
                    grown = True
    return fixed


def _unique_keys(leaf: FromClause) -> Iterator[frozenset[str]]:
    """Yield sets of column keys that are unique in a table, alias or subquery."""
    base = _base_of(leaf)
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
    try:
        # A limit takes rows away, and none of them becomes less unique.
        identity = shape_of(inner.limit(None).offset(None), told=True).identity
    except PlanError:
        return
    columns = [leaf.corresponding_column(key) for key in identity]  # type: ignore[arg-type]
    if columns and all(column is not None for column in columns):
        yield frozenset(column.key for column in columns if column is not None)


def _froms_of(statement: Select[Any]) -> _Froms:
    froms = _Froms()
    # Without the entities, which bring the tables of joined loading: those repeat nothing.
    bare: Select[Any] = statement.with_only_columns(literal_column("1"), maintain_column_froms=True)
    for one in bare.group_by(None).get_final_froms():
        _collect(one, froms, optional=False)
    for one, other in _equalities(statement.whereclause):
        froms.equal.append((one, other, None))
    return froms


def _collect(one: FromClause, froms: _Froms, *, optional: bool) -> None:
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
    scope = frozenset(_leaves_of(one.right)) if one.isouter else frozenset(_leaves_of(one))
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


def _leaves_of(one: FromClause) -> Iterator[FromClause]:
    froms = _Froms()
    _collect_leaves(one, froms.leaves)
    return iter(froms.leaves)


def _collect_leaves(one: FromClause, leaves: list[FromClause]) -> None:
    while isinstance(one, FromGrouping):
        one = one.element
    if isinstance(one, Join):
        _collect_leaves(one.left, leaves)
        _collect_leaves(one.right, leaves)
    else:
        leaves.append(one)


def _descriptions(statement: GenerativeSelect) -> list[dict[str, Any]]:
    return list(statement.column_descriptions)  # type: ignore[attr-defined]


def _is_whole(description: dict[str, Any]) -> bool:
    entity = description.get("entity")
    return entity is not None and description["expr"] is entity


def _entities(statement: Any, descriptions: Sequence[dict[str, Any]]) -> list[Any]:
    found: list[Any] = []
    for description in descriptions:
        entity = description.get("entity")
        if entity is not None and not any(entity is other for other in found):
            found.append(entity)
    return found


def _primary_key(entity: Any) -> list[ColumnElement[Any]]:
    mapper: Mapper[Any] = inspect(entity).mapper
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    return [element_of(getattr(entity, name)) for name in names]


def _group_by(statement: Any) -> tuple[ColumnElement[Any], ...]:
    found = []
    for clause in getattr(statement, "_group_by_clauses", ()):
        if isinstance(clause, _textual_label_reference):
            found.append(statement.selected_columns[clause.element])
        else:
            found.append(clause.element if isinstance(clause, _label_reference) else clause)
    return tuple(found)


def _base_of(leaf: FromClause) -> Any:
    base: Any = leaf
    while isinstance(base, AliasedReturnsRows):
        base = base.element
    return base


def _parts(expression: Any) -> Iterator[Any]:
    return visitors.iterate(expression)


def _own_parts(expression: Any) -> Iterator[Any]:
    """Walk an expression, but not into its subqueries."""
    stack = [expression]
    while stack:
        part = stack.pop()
        if isinstance(part, SelectBase):
            continue
        yield part
        stack += part.get_children()


def _name(thing: Any) -> str:
    if isinstance(thing, FromClause):
        return str(getattr(thing, "name", None) or "a subquery")
    if isinstance(thing, AliasedClass):
        thing = inspect(thing).mapper.class_
    return str(getattr(thing, "__name__", thing))
