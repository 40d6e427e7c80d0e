"""Plans of a list: its statement with an order and criteria, built once per form.

Building a statement costs more than running it. So each combination of order, filters and kind
of page is built once, and every later request of the same form only binds its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import ColumnElement, Grouping, Label, UnaryExpression
from sqlalchemy.sql.selectable import GenerativeSelect, SelectBase

from .codecs import raw_key
from .exceptions import PlanError
from .filtering import Condition, FilterAllowlist, add_conditions
from .keyset import KeysetPlan, keys_for
from .offset import OffsetPlan
from .pages import is_private
from .sorting import SortAllowlist, SortTerm, nullable
from .statement.expressions import element_of, is_aggregate, is_volatile, is_window
from .statement.listed import Shape, settle_groups, shape_of

__all__ = ["Planner"]

_KEPT = 256  # forms per list; a client can ask for many


class Planner:
    """Builds and keeps the plans of one list.

    Args:
        source: A mapped class, alias or statement.
        sort: Its orders; ``None`` keeps the order of the statement.
        filters: Its filters.
        unique: List each entity once where the statement repeats it.
        name: Says in errors which list it is. Called when needed.
    """

    def __init__(
        self,
        source: Any,
        sort: SortAllowlist | None,
        filters: FilterAllowlist | None,
        *,
        unique: bool = False,
        name: Callable[[], str],
    ) -> None:
        self._source, self._sort, self._filters = source, sort, filters
        self._unique, self._name = unique, name
        self._statement: Any = None
        self._shape: Shape | None = None
        self._typed: set[str] = set()
        self._plans: dict[tuple[object, ...], Any] = {}
        self._known: dict[object, Shape] = {}

    @property
    def statement(self) -> Any:
        """The statement; of an entity, its ``select()``."""
        if self._statement is None:
            source = self._source
            self._statement = source if isinstance(source, GenerativeSelect) else select(source)
        return self._statement

    def entity(self) -> Any:
        """Return the mapped class or alias that is listed, if there is one."""
        descriptions = getattr(self.statement, "column_descriptions", ())
        found = (one["entity"] for one in descriptions if one.get("entity") is not None)
        return next(found, None)

    def shape(self, statement: Any = None) -> Shape:
        """Read a statement and check every entry of the allowlists against it.

        Args:
            statement: In place of the list's own.

        Raises:
            PlanError: It could not be sorted, filtered or paged rightly.
        """
        if statement is None or statement is self.statement:
            if self._shape is None:
                self._shape = self._read(self.statement)
            return self._shape
        # Reading a FROM clause costs more than a page. The same form with other values has the
        # same tables and keys; SQLAlchemy's own cache goes by the same key.
        form = (
            statement._generate_cache_key()  # noqa: SLF001
            if hasattr(statement, "_generate_cache_key")
            else None
        )
        found = self._known.get(form.key) if form is not None else None
        if found is not None:
            return replace(found, statement=statement.order_by(None))
        shape = self._read(statement)
        if (
            form is not None
            and shape.plain
            and shape.lasting
            and shape.statement.whereclause is statement.whereclause
        ):
            _keep(self._known, form.key, shape)
        return shape

    def check(self, session: Session, statement: Any = None) -> Dialect:
        """Refuse what could not be paged by keyset, before anybody asks for it.

        Args:
            session: Tells the database.
            statement: In place of the list's own.

        Returns:
            The database, for :meth:`keyset`.

        Raises:
            PlanError: The statement or an entry is wrong, or a key has a type without a codec.
        """
        shape = self.shape(statement)
        dialect = dialect_of(session, shape)
        if dialect.name not in self._typed:
            self._check_types(shape, dialect)
            self._typed.add(dialect.name)
        return dialect

    def keyset(
        self,
        dialect: Dialect,
        terms: Sequence[SortTerm],
        conditions: Sequence[Condition] = (),
        statement: Any = None,
    ) -> tuple[KeysetPlan, dict[str, Any]]:
        """Return the plan for keyset pages, and the values to bind.

        Args:
            dialect: The database, from :meth:`check`.
            terms: The order, without a tie-breaker.
            conditions: The filters.
            statement: In place of the list's own.
        """

        def build() -> Any:
            shape = self.shape(statement)
            built, expressions, having, full, nulls = self._ordered(shape, terms, conditions)
            with self._blaming(None):
                identity = shape.identity if shape.plain else ()
                keys = keys_for(full, expressions, nulls, dialect, identity)
            return KeysetPlan(shape, built, keys, having, dialect.name)

        return self._kept("keyset", dialect, terms, conditions, statement, build)

    def offset(
        self,
        session: Session,
        terms: Sequence[SortTerm],
        conditions: Sequence[Condition] = (),
        statement: Any = None,
    ) -> tuple[OffsetPlan, dict[str, Any]]:
        """Return the plan for offset pages, and the values to bind.

        Args:
            session: Tells the database.
            terms: As for :meth:`keyset`.
            conditions: As for :meth:`keyset`.
            statement: As for :meth:`keyset`.
        """
        shape = self.shape(statement)

        def build() -> Any:
            if self._sort is None:
                built, _ = add_conditions(shape.statement, conditions, shape.adapt)
                given = self.statement if statement is None else statement
                return OffsetPlan(shape, built, self._own_order(given, shape))
            built, expressions, _, full, nulls = self._ordered(shape, terms, conditions)
            order = [
                term.order(expression, nullable=null)
                for term, expression, null in zip(full, expressions, nulls, strict=True)
            ]
            return OffsetPlan(shape, built, order)

        return self._kept("offset", dialect_of(session, shape), terms, conditions, statement, build)

    def hidden(self, shape: Shape) -> frozenset[int]:
        """Return the places of a row whose columns are private."""
        if shape.scalar:
            return frozenset()
        columns = [one["expr"] for one in shape.statement.column_descriptions]
        found = enumerate(getattr(c, "__clause_element__", lambda c=c: c)() for c in columns)
        return frozenset(place for place, column in found if _shows_private(column))

    def _kept(  # noqa: PLR0917 - all of them make the form
        self,
        kind: str,
        dialect: Dialect,
        terms: Sequence[SortTerm],
        conditions: Sequence[Condition],
        statement: Any,
        build: Callable[[], Any],
    ) -> tuple[Any, dict[str, Any]]:
        own = statement is None or statement is self.statement
        if not own or any(condition.entry.is_function for condition in conditions):
            return build(), values_of_conditions(conditions)
        form = (
            kind,
            dialect.name,
            tuple([(term.name, term.descending) for term in terms]),
            tuple([condition.signature for condition in conditions]),
        )
        # Not looked up twice: another thread may put it out in between.
        plan = self._plans.get(form)
        if plan is None:
            plan = build()
            _keep(self._plans, form, plan)
        return plan, values_of_conditions(conditions)

    def _ordered(
        self, shape: Shape, terms: Sequence[SortTerm], conditions: Sequence[Condition]
    ) -> tuple[Any, list[ColumnElement[Any]], bool, tuple[SortTerm, ...], list[bool]]:
        assert self._sort is not None
        with self._blaming(None):
            full = self._sort.complete(terms, shape)
            # A function of the application may have joined something: look again.
            built, _ = add_conditions(shape.statement, conditions, shape.adapt)
            if any(condition.entry.is_function for condition in conditions):
                shape_of(built, told=True)
        expressions = [
            term.key.element
            if term.name is None and not self._sort.tiebreaker
            else shape.adapt(term.key.element)
            for term in full
        ]
        pairs = zip(full, expressions, strict=True)
        nulls = [nullable(term, expression, shape) for term, expression in pairs]
        built, expressions, having = settle_groups(shape, built, expressions)
        return built, expressions, having, full, nulls

    def _own_order(self, statement: Any, shape: Shape) -> list[ColumnElement[Any]]:
        given = [shape.adapt(clause) for clause in statement._order_by_clauses]  # noqa: SLF001 - no public getter
        last = given[-1] if given else None
        while isinstance(last, UnaryExpression) and last.modifier is not operators.desc_op:
            last = last.element
        descending = isinstance(last, UnaryExpression)
        if not shape.identity:
            raise PlanError(str(shape.reason), listing=self._name())
        return given + [key.desc() if descending else key.asc() for key in shape.identity]

    def _read(self, statement: Any) -> Shape:
        told = self._sort is not None and bool(self._sort.tiebreaker)
        with self._blaming(None):
            shape = shape_of(statement, unique=self._unique, told=told)
            if not shape.identity and not told:
                raise PlanError(str(shape.reason))
        for name, expression in self._entries():
            with self._blaming(name):
                adapted = shape.adapt(element_of(expression))
                if not shape.covers(adapted):
                    raise PlanError(
                        "Its table is not in the statement. Join it, or use a correlated subquery."
                    )
                if shape.distinct:
                    _check_distinct(shape, adapted)
                _check_computed(shape, adapted)
        for name, entry in (self._filters.entries if self._filters else {}).items():
            with self._blaming(name):
                _ = entry.converter
                if not entry.is_function and is_window(shape.adapt(element_of(entry.target))):
                    raise PlanError("A window function cannot be filtered by. Use a subquery.")
        return shape

    def _check_types(self, shape: Shape, dialect: Dialect) -> None:
        for name, key in (self._sort.entries if self._sort else {}).items():
            with self._blaming(name):
                adapted = shape.adapt(key.element)
                if is_window(adapted):
                    raise PlanError(
                        "A window function is not known yet where the rows of a page are chosen."
                        " Put the statement into a subquery."
                    )
                raw_key(adapted, dialect)

    def _entries(self) -> Iterator[tuple[str, Any]]:
        if self._sort is not None:
            for name, key in self._sort.entries.items():
                yield name, key.expr
            for expression in self._sort.tiebreaker:
                yield "tiebreaker", expression
        if self._filters is not None:
            for name, entry in self._filters.entries.items():
                if not entry.is_function:
                    yield name, entry.target

    @contextmanager
    def _blaming(self, key: str | None) -> Iterator[None]:
        try:
            yield
        except PlanError as error:
            raise PlanError(error.reason, listing=self._name(), key=key or error.key) from None


def dialect_of(session: Session, shape: Shape) -> Dialect:
    """Return the database a statement of this shape would run on."""
    return session.get_bind(mapper=shape.mapper, clause=shape.statement).dialect


def _shows_private(column: Any) -> bool:
    """Tell whether a column of a row, a label or a union of some shows a private one."""
    while isinstance(column, (Label, Grouping)):
        column = column.element
    bases = getattr(column, "base_columns", ())
    return is_private(column) or any(_shows_private(base) for base in bases if base is not column)


def values_of_conditions(conditions: Sequence[Condition]) -> dict[str, Any]:
    """Return the values to bind, without building the criteria again."""
    values: dict[str, Any] = {}
    for place, condition in enumerate(conditions):
        values.update(condition.bound(place))
    return values


def _check_computed(shape: Shape, expression: ColumnElement[Any]) -> None:
    if is_volatile(expression):
        raise PlanError("It has another value each time, so no two pages agree on an order.")
    if is_aggregate(expression) and not (shape.grouped or is_window(expression)):
        raise PlanError("It is computed per group, but the statement has no GROUP BY.")


def _check_distinct(shape: Shape, expression: ColumnElement[Any]) -> None:
    selected = shape.statement.selected_columns
    for part in visitors.iterate(expression):
        if isinstance(part, SelectBase):
            break
        if isinstance(part, Column) and selected.corresponding_column(part) is None:
            raise PlanError(
                f"The statement is DISTINCT and does not select {part.name}: with this key, its"
                " rows would be told apart that are equal. Select it, or leave DISTINCT out."
            )


def _keep(known: dict[Any, Any], key: object, value: Any) -> None:
    if len(known) >= _KEPT:
        # Another thread may be doing the same.
        known.pop(next(iter(known.copy()), None), None)
    known[key] = value
