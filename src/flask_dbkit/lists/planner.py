"""Plans of a list: its statement with an order and criteria, built once per form.

Building a statement costs more than running it. So each combination of order, filters and kind
of page is built once, and every later request of the same form only binds its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from .narrowing import Narrowed, narrow
from .offset import OffsetPlan
from .pages import is_private
from .plans import Plans
from .sorting import SortAllowlist, SortTerm, nullable
from .statement import ListedStatement, Settled, read_statement, settle_groups
from .statement.expressions import element_of, is_aggregate, is_volatile, is_window

__all__ = ["Planner"]


@dataclass(frozen=True)
class _Ordered:
    """A statement with its criteria, and the total order it is to be read in."""

    settled: Settled
    terms: tuple[SortTerm, ...]
    nullables: Sequence[bool]

    def clauses(self) -> list[ColumnElement[Any]]:
        keyed = zip(self.terms, self.settled.keys, self.nullables, strict=True)
        return [term.order(key, nullable=nullable) for term, key, nullable in keyed]


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
        self.sort, self.filters = sort, filters
        self._source, self._unique, self._name = source, unique, name
        self._statement: Any = None
        self._own: Narrowed | None = None
        self._typed: set[tuple[str, object]] = set()
        self._plans: Plans[tuple[object, ...], Any] = Plans()
        self._listed: Plans[object, ListedStatement] = Plans()

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

    def source(self, statement: Any = None) -> Narrowed:
        """Return what is to be planned: the list's own statement, or one in its place.

        Args:
            statement: In place of the list's own, usually that one with further criteria.
        """
        if statement is None or statement is self.statement:
            if self._own is None:
                self._own = Narrowed(self.statement, form="")
            return self._own
        return narrow(self.statement, statement)

    def listed(self, source: Narrowed | None = None) -> ListedStatement:
        """Read a statement and check every entry of the allowlists against it.

        Args:
            source: From :meth:`source`; ``None`` is the list's own.

        Raises:
            PlanError: It could not be sorted, filtered or paged rightly.
        """
        source = source if source is not None else self.source()
        if source.form is None:
            return self._read(source.statement)
        found = self._listed.get(source.form)
        if found is None:
            found = self._listed.keep(source.form, self._read(source.statement))
        return found

    def check(self, session: Session, source: Narrowed | None = None) -> Dialect:
        """Refuse what could not be paged by keyset, before anybody asks for it.

        Args:
            session: Tells the database.
            source: From :meth:`source`; ``None`` is the list's own.

        Returns:
            The database, for :meth:`keyset`.

        Raises:
            PlanError: The statement or an entry is wrong, or a key has a type without a codec.
        """
        listed = self.listed(source)
        dialect = dialect_of(session, listed)
        form = (dialect.name, source.form if source is not None else "")
        if form not in self._typed:
            self._check_types(listed, dialect)
            if form[1] is not None:
                self._typed.add(form)
        return dialect

    def keyset(
        self,
        dialect: Dialect,
        terms: Sequence[SortTerm],
        conditions: Sequence[Condition] = (),
        source: Narrowed | None = None,
    ) -> tuple[KeysetPlan, dict[str, Any]]:
        """Return the plan for keyset pages, and the values to bind.

        Args:
            dialect: The database, from :meth:`check`.
            terms: The order, without a tie-breaker.
            conditions: The filters.
            source: From :meth:`source`; ``None`` is the list's own.
        """
        source = source if source is not None else self.source()

        def build() -> KeysetPlan:
            listed = self.listed(source)
            ordered = self._ordered(listed, terms, conditions)
            settled = ordered.settled
            with self._blaming(None):
                identity = listed.identity if listed.plain else ()
                keys = keys_for(ordered.terms, settled.keys, ordered.nullables, dialect, identity)
            return KeysetPlan(listed, settled.statement, keys, settled.having, dialect.name)

        return self._kept("keyset", dialect, terms, conditions, source, build)

    def offset(
        self,
        session: Session,
        terms: Sequence[SortTerm],
        conditions: Sequence[Condition] = (),
        source: Narrowed | None = None,
    ) -> tuple[OffsetPlan, dict[str, Any]]:
        """Return the plan for offset pages, and the values to bind.

        Args:
            session: Tells the database.
            terms: As for :meth:`keyset`.
            conditions: As for :meth:`keyset`.
            source: As for :meth:`keyset`.
        """
        source = source if source is not None else self.source()
        listed = self.listed(source)

        def build() -> OffsetPlan:
            if self.sort is None:
                built, _ = add_conditions(listed.statement, conditions, listed.adapt)
                return OffsetPlan(listed, built, self._own_order(source.statement, listed))
            ordered = self._ordered(listed, terms, conditions)
            return OffsetPlan(listed, ordered.settled.statement, ordered.clauses())

        dialect = dialect_of(session, listed)
        return self._kept("offset", dialect, terms, conditions, source, build)

    def hidden(self, listed: ListedStatement) -> frozenset[int]:
        """Return the places of a row whose columns are private."""
        if listed.scalar:
            return frozenset()
        columns = [one["expr"] for one in listed.statement.column_descriptions]
        found = enumerate(getattr(c, "__clause_element__", lambda c=c: c)() for c in columns)
        return frozenset(place for place, column in found if _shows_private(column))

    def _kept(  # noqa: PLR0917 - all of them make the form
        self,
        kind: str,
        dialect: Dialect,
        terms: Sequence[SortTerm],
        conditions: Sequence[Condition],
        source: Narrowed,
        build: Callable[[], Any],
    ) -> tuple[Any, dict[str, Any]]:
        values = {**source.values, **values_of_conditions(conditions)}
        if source.form is None or any(one.entry.is_function for one in conditions):
            return build(), values
        form = (
            kind,
            dialect.name,
            tuple([(term.name, term.descending) for term in terms]),
            tuple([condition.signature for condition in conditions]),
            source.form,
        )
        plan = self._plans.get(form)
        return plan if plan is not None else self._plans.keep(form, build()), values

    def _ordered(
        self, listed: ListedStatement, terms: Sequence[SortTerm], conditions: Sequence[Condition]
    ) -> _Ordered:
        assert self.sort is not None
        with self._blaming(None):
            full = self.sort.complete(terms, listed)
            # A function of the application may have joined something: look again.
            built, _ = add_conditions(listed.statement, conditions, listed.adapt)
            if any(condition.entry.is_function for condition in conditions):
                read_statement(built, unique_by_caller=True)
        keys = [
            term.key.element
            if term.name is None and not self.sort.tiebreaker
            else listed.adapt(term.key.element)
            for term in full
        ]
        nullables = [nullable(term, key, listed) for term, key in zip(full, keys, strict=True)]
        return _Ordered(settle_groups(listed, built, keys), full, nullables)

    def _own_order(self, statement: Any, listed: ListedStatement) -> list[ColumnElement[Any]]:
        given = [listed.adapt(clause) for clause in statement._order_by_clauses]  # noqa: SLF001 - no public getter
        last = given[-1] if given else None
        while isinstance(last, UnaryExpression) and last.modifier is not operators.desc_op:
            last = last.element
        descending = isinstance(last, UnaryExpression)
        if not listed.identity:
            raise PlanError(str(listed.reason), listing=self._name())
        return given + [key.desc() if descending else key.asc() for key in listed.identity]

    def _read(self, statement: Any) -> ListedStatement:
        by_caller = self.sort is not None and bool(self.sort.tiebreaker)
        with self._blaming(None):
            listed = read_statement(statement, unique=self._unique, unique_by_caller=by_caller)
            if not listed.identity and not by_caller:
                raise PlanError(str(listed.reason))
        for name, expression in self._entries():
            with self._blaming(name):
                adapted = listed.adapt(element_of(expression))
                if not listed.covers(adapted):
                    raise PlanError(
                        "Its table is not in the statement. Join it, or use a correlated subquery."
                    )
                if listed.distinct:
                    _check_distinct(listed, adapted)
                _check_computed(listed, adapted)
        for name, entry in (self.filters.entries if self.filters else {}).items():
            with self._blaming(name):
                _ = entry.converter
                if not entry.is_function and is_window(listed.adapt(element_of(entry.target))):
                    raise PlanError("A window function cannot be filtered by. Use a subquery.")
        return listed

    def _check_types(self, listed: ListedStatement, dialect: Dialect) -> None:
        for name, key in (self.sort.entries if self.sort else {}).items():
            with self._blaming(name):
                adapted = listed.adapt(key.element)
                if is_window(adapted):
                    raise PlanError(
                        "A window function is not known yet where the rows of a page are chosen."
                        " Put the statement into a subquery."
                    )
                raw_key(adapted, dialect)

    def _entries(self) -> Iterator[tuple[str, Any]]:
        if self.sort is not None:
            for name, key in self.sort.entries.items():
                yield name, key.expr
            for expression in self.sort.tiebreaker:
                yield "tiebreaker", expression
        if self.filters is not None:
            for name, entry in self.filters.entries.items():
                if not entry.is_function:
                    yield name, entry.target

    @contextmanager
    def _blaming(self, key: str | None) -> Iterator[None]:
        try:
            yield
        except PlanError as error:
            raise PlanError(error.reason, listing=self._name(), key=key or error.key) from None


def dialect_of(session: Session, listed: ListedStatement) -> Dialect:
    """Return the database a statement of this form would run on."""
    return session.get_bind(mapper=listed.mapper, clause=listed.statement).dialect


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


def _check_computed(listed: ListedStatement, expression: ColumnElement[Any]) -> None:
    if is_volatile(expression):
        raise PlanError("It has another value each time, so no two pages agree on an order.")
    if is_aggregate(expression) and not (listed.grouped or is_window(expression)):
        raise PlanError("It is computed per group, but the statement has no GROUP BY.")


def _check_distinct(listed: ListedStatement, expression: ColumnElement[Any]) -> None:
    selected = listed.statement.selected_columns
    for part in visitors.iterate(expression):
        if isinstance(part, SelectBase):
            break
        if isinstance(part, Column) and selected.corresponding_column(part) is None:
            raise PlanError(
                f"The statement is DISTINCT and does not select {part.name}: with this key, its"
                " rows would be told apart that are equal. Select it, or leave DISTINCT out."
            )
