"""What a statement lists, in a form that takes further criteria and an order.

A limit, a window function or a UNION changes with every criterion that is added, so such a
statement is put behind one that may be added to. Nothing here sends SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sqlalchemy import (
    Column,
    Table,
    and_,
    inspect,
    select,
    tuple_,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper, Query
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import (
    ColumnElement,
    Grouping,
    Label,
    Over,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import (
    CompoundSelect,
    FromClause,
    Select,
)
from sqlalchemy.sql.util import ClauseAdapter

from ..exceptions import PlanError
from .expressions import base_of, tables_of
from .uniqueness import (
    descriptions_of,
    entities_of,
    froms_of,
    groups_of,
    identify,
    is_extended,
    is_whole,
    primary_key,
)

# ruff: noqa: SLF001 - SQLAlchemy lets a statement be asked for its FROM and columns only. DISTINCT,
# GROUP BY, LIMIT and loader options have no public getter.

__all__ = [
    "ListedStatement",
    "Settled",
    "criteria_for",
    "read_statement",
    "settle",
    "without_locks",
]


@dataclass(frozen=True)
class ListedStatement:
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

    @cached_property
    def mapper(self) -> Mapper[Any] | None:
        """The mapper of the entity, if there is one."""
        return inspect(self.entity).mapper if self.entity is not None else None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The keys of a row: those of SQLAlchemy's result, each once."""
        found: list[str] = []
        for description in descriptions_of(self.statement):
            name = description["name"] or inspect(description["entity"]).mapper.class_.__name__
            number, unique = 0, name
            while unique in found:
                number += 1
                unique = f"{name}_{number}"
            found.append(unique)
        return tuple(found)

    @property
    def lasting(self) -> bool:
        """Tell whether it fits every statement of the same form; aliases are made anew."""
        return all(isinstance(leaf, Table) for leaf in self.tables)

    def is_nullable(self, expression: ColumnElement[Any]) -> bool:
        """Tell whether an expression can be NULL, as far as the metadata says."""
        element: Any = expression
        while isinstance(element, (Grouping, Label)):
            element = element.element
        if isinstance(element, Column) and element.table is not None:
            table = element.table
            trusted = isinstance(base_of(table), Table) and table not in self.optional
            return bool(element.nullable) or not trusted
        return not (isinstance(element, FunctionElement) and element.name == "count")

    def covers(self, expression: ColumnElement[Any]) -> bool:
        """Tell whether every table of an expression is in the statement."""
        return tables_of(expression) <= self.tables


def read_statement(
    statement: Any, *, unique: bool = False, unique_by_caller: bool = False
) -> ListedStatement:
    """Read a statement.

    Args:
        statement: A ``select()``, or the ``union()`` of several.
        unique: Make a statement that repeats its entity list each once.
        unique_by_caller: The caller knows what is unique: a missing identity is no fault.

    Returns:
        What it lists. ``identity`` may be empty, with the reason.

    Raises:
        PlanError: The statement can repeat its entity, or cannot be paged at all.
    """
    statement, adapt = _normalise(_with_explicit_joins(statement))
    froms = froms_of(statement)
    descriptions = descriptions_of(statement)
    entities = entities_of(descriptions)
    whole = any(is_whole(d) for d in descriptions)
    scalar = len(descriptions) == 1
    grouped = bool(groups_of(statement))
    listed = ListedStatement(
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
    identity = identify(statement, froms)
    if identity.may_repeat and unique and whole and not grouped:
        return _each_once(listed)
    if identity.may_repeat and scalar and not unique and not (unique_by_caller and not whole):
        raise PlanError(
            f"{identity.missing_because} Pass unique=True to list each once, or select both"
            " sides so that a row is a pair."
        )
    if froms.full:
        raise PlanError("A FULL JOIN has rows without the listed entity. Select from a UNION.")
    known = identity.expressions
    plain = bool(known and scalar and whole and not grouped and not statement._distinct)
    return replace(listed, identity=known, reason=identity.missing_because, plain=plain)


@dataclass(frozen=True)
class Settled:
    """A statement with its criteria, ready for an order.

    Attributes:
        statement: The statement.
        keys: The expressions to sort by, over it.
        having: Criteria on keys go into HAVING.
    """

    statement: Any
    keys: Sequence[ColumnElement[Any]]
    having: bool = False


def settle(listed: ListedStatement, statement: Any, keys: Sequence[ColumnElement[Any]]) -> Settled:
    """Put a statement with its criteria into a form that may be ordered by its keys.

    Args:
        listed: The statement before its criteria.
        statement: The statement with its criteria.
        keys: The expressions to sort by.

    Raises:
        PlanError: No form may.
    """
    if listed.grouped:
        return _settle_groups(listed, statement, keys)
    if listed.distinct:
        return _settle_distinct(listed, statement, keys)
    return Settled(statement, keys)


def _settle_groups(
    listed: ListedStatement, statement: Any, keys: Sequence[ColumnElement[Any]]
) -> Settled:
    # Rows that hold entities stay as they are: a subquery would cost them their loader options.
    if listed.whole:
        return Settled(statement, keys, having=True)
    missing = [key for key in keys if statement.selected_columns.corresponding_column(key) is None]
    labels = {key: key.label(f"dbkit_g{number}") for number, key in enumerate(missing)}
    sub = statement.add_columns(*labels.values()).subquery()
    columns = _columns_of(sub)[: len(statement.selected_columns)]
    adapted = [sub.corresponding_column(labels.get(key, key)) for key in keys]
    return Settled(criteria_for(select(*columns), statement), adapted)


def _settle_distinct(
    listed: ListedStatement, statement: Any, keys: Sequence[ColumnElement[Any]]
) -> Settled:
    """Take DISTINCT out of the way of a key that is computed.

    ``ORDER BY`` of a DISTINCT statement may only have what is selected, and what is selected in
    addition tells rows apart that are equal.
    """
    selected = statement.selected_columns
    if all(selected.corresponding_column(key) is not None for key in keys):
        return Settled(statement, keys)
    if listed.whole and listed.scalar:
        return Settled(_once(listed.entity, statement), keys)
    if listed.whole:
        raise PlanError(
            "The statement is DISTINCT and does not select the expression it is sorted by. Select"
            " it, or leave DISTINCT out."
        )
    outer, adapt = _wrap(statement)
    return Settled(outer, [adapt(key) for key in keys])


def _with_explicit_joins(statement: Any) -> Any:
    """Write out the joins that SQLAlchemy finds by what is selected.

    A count or a look behind the page selects something else, and it would not find them.
    """
    if not isinstance(statement, Select):
        return statement
    try:
        froms_of(statement)
    except SQLAlchemyError:
        pass
    else:
        return statement
    entities = entities_of(descriptions_of(statement))
    columns = [key for entity in entities for key in primary_key(entity)]
    columns = columns or list(statement.selected_columns)
    bare = statement.with_only_columns(*columns, maintain_column_froms=True)
    try:
        froms = bare.group_by(None).order_by(None).get_final_froms()
    except SQLAlchemyError as error:
        raise PlanError(
            f"Its joins cannot be read: {' '.join(str(error).split())} Write each with its ON:"
            " .join(target, onclause)."
        ) from None
    explicit: Select[Any] = statement._generate()
    explicit._setup_joins = ()
    explicit._from_obj = tuple(froms)
    froms_of(explicit)
    return explicit


def _normalise(statement: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Turn a statement that takes no further WHERE into one that does."""
    if isinstance(statement, CompoundSelect):
        return _wrap(statement)
    if isinstance(statement, Query):
        raise PlanError("It is a Query, whose statement is a select(): give query.statement.")
    if not isinstance(statement, Select):
        raise PlanError(
            f"Use a select() or a union() of some; {type(statement).__name__} cannot be paged."
        )
    windows = any(isinstance(part, Over) for c in statement.selected_columns for part in _parts(c))
    on = is_extended(statement)
    if not (statement._has_row_limiting_clause or windows or on):
        return statement.order_by(None), lambda expression: expression
    if not any(is_whole(d) for d in descriptions_of(statement)):
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

    return criteria_for(select(*_columns_of(sub)), statement), adapt


def _columns_of(sub: FromClause) -> list[ColumnElement[Any]]:
    """Return the columns of a subquery by the names they have in a row of the statement inside."""
    return [
        # count(*) has a name that is made up when it is compiled.
        column if key == column.name or key.startswith("_no_label") else column.label(key)
        for key, column in sub.c.items()
    ]


def _limited(statement: Select[Any]) -> Select[Any]:
    """Keep the rows of a limited statement by their primary key, so that more WHERE may follow."""
    entities = entities_of(descriptions_of(statement))
    keys = [key for entity in entities for key in primary_key(entity)]
    labels = [key.label(f"dbkit_pk{number}") for number, key in enumerate(keys)]
    chosen = statement.with_only_columns(*labels, maintain_column_froms=True).subquery()
    free = statement.order_by(None).limit(None).offset(None)
    return free.where(
        and_(*(key == chosen.c[label.name] for key, label in zip(keys, labels, strict=True)))
    )


def _each_once(listed: ListedStatement) -> ListedStatement:
    """List each entity once: those whose key is among the keys of the given statement."""
    outer = _once(listed.entity, listed.statement)
    froms = froms_of(outer)
    return replace(
        listed,
        statement=outer,
        identity=tuple(primary_key(listed.entity)),
        reason=None,
        tables=frozenset(froms.leaves),
        optional=frozenset(froms.optional),
        plain=True,
        distinct=False,
    )


def _once(entity: Any, statement: Any) -> Any:
    keys = primary_key(entity)
    if any(_reads_joins(option) for option in statement._with_options):
        raise PlanError(
            "contains_eager() reads from the joins of the statement, which listing each entity once"
            " leaves out. Use selectinload() or joinedload()."
        )
    inner = statement.with_only_columns(*keys, maintain_column_froms=True).correlate(None)
    inner = inner.order_by(None)
    key = keys[0] if len(keys) == 1 else tuple_(*keys)
    # Loader options have no public getter.
    outer = select(entity).where(key.in_(inner)).options(*statement._with_options)
    return outer.execution_options(**statement.get_execution_options())


def _reads_joins(option: Any) -> bool:
    """Tell whether a loader option is ``contains_eager()``."""
    return any(
        "eager_from_alias" in (getattr(one, "local_opts", None) or {})
        for one in getattr(option, "context", ())
    )


def without_locks(statement: Any) -> Any:
    """Return a statement without ``FOR UPDATE``, to count or look at rows that are not listed."""
    if statement._for_update_arg is None:
        return statement
    free = statement._generate()
    free._for_update_arg = None
    return free


def criteria_for(outer: Any, inner: Any) -> Any:
    """Give a statement around another one the loader criteria of that.

    SQLAlchemy applies ``with_loader_criteria()`` of the outermost statement only.
    """
    found = [one for one in inner._with_options if isinstance(one, LoaderCriteriaOption)]
    return outer.options(*found) if found else outer


def _parts(expression: Any) -> Iterator[Any]:
    return visitors.iterate(expression)
