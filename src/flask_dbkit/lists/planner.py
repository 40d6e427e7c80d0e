"""Plans of a list: its statement with an order and criteria, built once per form.

Building a statement costs more than running it. So each combination of order, filters and kind
of page is built once, and every later request of the same form only binds its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import Column, select
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import CompoundSelect, GenerativeSelect, SelectBase

from .database import Facts
from .exceptions import PlanError
from .filtering import Condition, FilterAllowlist, add_conditions, call_functions
from .keys import keys_for, refuse_key
from .keyset import KeysetPlan
from .narrowing import Narrowed, Narrower
from .offset import OffsetPlan
from .plans import Plans
from .probing import database_for, facts_of_keys
from .sorting import SortAllowlist, SortTerm, nullable
from .statement import ListedStatement, Settled, read_statement, settle
from .statement.expressions import (
    direction_of,
    element_of,
    is_aggregate,
    is_volatile,
    is_window,
    own_order,
    refuse_order,
)

__all__ = ["Planner"]


_MOVES = (
    "It has another value each time, or at another time, so no two pages agree on an order. Sort by"
    " what is in the row."
)
_CONSTANT = (str, int, float, bytes, bool, Decimal, UUID, Enum, type(None))


@dataclass(frozen=True)
class _Ordered:
    """A statement with its criteria, and the total order it is to be read in."""

    listed: ListedStatement
    settled: Settled
    terms: tuple[SortTerm, ...]
    nullables: Sequence[bool]

    def clauses(
        self, forms: Callable[[ColumnElement[Any]], Sequence[ColumnElement[Any]]]
    ) -> list[ColumnElement[Any]]:
        keyed = zip(self.terms, self.settled.keys, self.nullables, strict=True)
        return [
            term.order(one, nullable=nullable)
            for term, key, nullable in keyed
            for one in forms(key)
        ]


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
        self._narrower: Narrower | None = None
        self._typed: Plans[tuple[str, object], bool] = Plans()
        self._plans: Plans[tuple[object, ...], Any] = Plans()
        self._listed: Plans[object, ListedStatement] = Plans()

    @property
    def statement(self) -> Any:
        """The statement; of an entity, its ``select()``."""
        if self._statement is None:
            source = self._source
            self._statement = source if isinstance(source, GenerativeSelect) else select(source)
        return self._statement

    @cached_property
    def constants(self) -> tuple[object, ...]:
        """The values in the list's own statement, moments left out: those may be made at start."""
        form = self.statement._generate_cache_key()  # noqa: SLF001 - no public one
        values = [one.effective_value for one in form.bindparams] if form is not None else []
        return tuple(value for value in values if isinstance(value, _CONSTANT))

    def entity(self) -> Any:
        """Return the mapped class or alias that is listed, if there is one."""
        statement = self.statement
        while isinstance(statement, CompoundSelect):
            statement = statement.selects[0]
        descriptions = getattr(statement, "column_descriptions", ())
        found = (one["entity"] for one in descriptions if one.get("entity") is not None)
        return next(found, None)

    def source(self, statement: Any = None) -> Narrowed:
        """Return what is to be planned: the list's own statement, or one in its place.

        Args:
            statement: In place of the list's own, usually that one with further criteria.
        """
        if statement is None or statement is self.statement:
            if self._own is None:
                self._own = Narrowed(self.statement, form=0)
            return self._own
        if self._narrower is None:
            self._narrower = Narrower(self.statement)
        return self._narrower.narrow(statement)

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
        source = source if source is not None else self.source()
        form = (dialect.name, source.form)
        if not self._typed.get(form):
            self._check_types(_connection(session, listed), listed, source)
            if source.form is not None:
                self._typed.keep(form, True)
        return dialect

    def check_on(self, connection: Connection) -> None:
        """Refuse what :meth:`check` refuses, for a command that has no session.

        Args:
            connection: To the database of the list.

        Raises:
            PlanError: As :meth:`check`.
        """
        self._check_types(connection, self.listed(), self.source())

    def keyset(
        self,
        session: Session,
        dialect: Dialect,
        terms: Sequence[SortTerm],
        conditions: Sequence[Condition] = (),
        source: Narrowed | None = None,
    ) -> tuple[KeysetPlan, dict[str, Any]]:
        """Return the plan for keyset pages, and the values to bind.

        Args:
            session: Reaches the database.
            dialect: The database, from :meth:`check`.
            terms: The order, without a tie-breaker.
            conditions: The filters.
            source: From :meth:`source`; ``None`` is the list's own.
        """
        source = source if source is not None else self.source()

        def build(values: dict[str, Any]) -> KeysetPlan:
            ordered = self._ordered(self.listed(source), terms, conditions)
            listed, settled = ordered.listed, ordered.settled
            identity = listed.identity if listed.plain else ()
            facts = facts_of_keys(
                _connection(session, listed), settled.statement, settled.keys, values
            )
            with self._blaming(None):
                keys = keys_for(
                    ordered.terms, settled.keys, ordered.nullables, facts, dialect, identity
                )
            return KeysetPlan(listed, settled.statement, keys, settled.having, dialect)

        return self._kept("keyset", dialect, terms, conditions, source, build)

    def offset(
        self,
        session: Session,
        dialect: Dialect,
        terms: Sequence[SortTerm],
        conditions: Sequence[Condition] = (),
        source: Narrowed | None = None,
    ) -> tuple[OffsetPlan, dict[str, Any]]:
        """Return the plan for offset pages, and the values to bind.

        Args:
            session: Reaches the database.
            dialect: The database.
            terms: As for :meth:`keyset`.
            conditions: As for :meth:`keyset`.
            source: As for :meth:`keyset`.
        """
        source = source if source is not None else self.source()
        listed = self.listed(source)

        def build(values: dict[str, Any]) -> OffsetPlan:
            def forms(key: ColumnElement[Any]) -> Sequence[ColumnElement[Any]]:
                if not database_for(dialect).sorts_starts_of_texts:
                    return [key]
                connection = _connection(session, ordered.listed)
                (facts,) = facts_of_keys(connection, ordered.settled.statement, [key], values)
                forms = database_for(dialect).forms(key, facts, dialect)
                return [form.ordered for form in forms]

            ordered = self._ordered(listed, terms, conditions)
            order = (
                self._own_order(source.statement, ordered.listed, forms)
                if self.sort is None
                else ordered.clauses(forms)
            )
            return OffsetPlan(ordered.listed, ordered.settled.statement, order)

        return self._kept("offset", dialect, terms, conditions, source, build)

    def _kept(  # noqa: PLR0917 - all of them make the form
        self,
        kind: str,
        dialect: Dialect,
        terms: Sequence[SortTerm],
        conditions: Sequence[Condition],
        source: Narrowed,
        build: Callable[[dict[str, Any]], Any],
    ) -> tuple[Any, dict[str, Any]]:
        values = {**source.values, **values_of_conditions(conditions)}
        if source.form is None or any(one.entry.is_function for one in conditions):
            return build(values), values
        form = (
            kind,
            dialect.name,
            tuple([(term.name, term.descending) for term in terms]),
            tuple([condition.signature for condition in conditions]),
            source.form,
        )
        plan = self._plans.get(form)
        return plan if plan is not None else self._plans.keep(form, build(values)), values

    def _ordered(
        self, listed: ListedStatement, terms: Sequence[SortTerm], conditions: Sequence[Condition]
    ) -> _Ordered:
        with self._blaming(None):
            built = add_conditions(listed.statement, conditions, listed.adapt)
            if any(condition.entry.is_function for condition in conditions):
                listed = self._filtered(listed, built, conditions)
                built = listed.statement
            if self.sort is None:
                return _Ordered(listed, Settled(built, ()), (), ())
            full = self.sort.complete(terms, listed)
            keys = [
                term.key.element
                if term.name is None and not self.sort.tiebreaker
                else listed.adapt(term.key.element)
                for term in full
            ]
            nullables = [nullable(term, key, listed) for term, key in zip(full, keys, strict=True)]
            return _Ordered(listed, settle(listed, built, keys), full, nullables)

    def _filtered(
        self, listed: ListedStatement, statement: Any, conditions: Sequence[Condition]
    ) -> ListedStatement:
        """Read a statement again that functions of the application have been given."""
        changed = call_functions(statement, conditions)
        by_caller = self.sort is not None and bool(self.sort.tiebreaker)
        names = ", ".join(one.name for one in conditions if one.entry.is_function)
        with self._blaming(names):
            if getattr(changed, "_has_row_limiting_clause", False):
                raise PlanError(
                    "The function adds LIMIT or OFFSET, and which rows are the first ones depends"
                    " on the order that was asked for. Choose them in a subquery:"
                    " where(Book.id.in_(select(...).limit(n)))."
                )
            again = read_statement(changed, unique=self._unique, unique_by_caller=by_caller)
            if (again.names, again.scalar, again.entity) != (
                listed.names,
                listed.scalar,
                listed.entity,
            ):
                raise PlanError(
                    "The function selects something else. Return the same statement with criteria."
                )
            if not again.identity and not by_caller:
                raise PlanError(str(again.reason))
        inner, outer = listed.adapt, again.adapt
        again = replace(again, adapt=lambda expression: outer(inner(expression)))
        self._check_entries(again)
        return again

    def _own_order(
        self,
        statement: Any,
        listed: ListedStatement,
        forms: Callable[[ColumnElement[Any]], Sequence[ColumnElement[Any]]],
    ) -> list[ColumnElement[Any]]:
        if not listed.identity:
            raise PlanError(str(listed.reason), listing=self._name())
        found: list[ColumnElement[Any]] = []
        descending = False
        for clause in own_order(statement):
            adapted = listed.adapt(clause)
            if is_volatile(adapted):
                with self._blaming(None):
                    raise PlanError(_MOVES)
            descending, element = direction_of(adapted)
            pieces = forms(element) if element is not None else [adapted]
            if len(pieces) > 1:
                found += [one.desc() if descending else one.asc() for one in pieces]
            else:
                found.append(adapted)
        return found + [key.desc() if descending else key.asc() for key in listed.identity]

    def _read(self, statement: Any) -> ListedStatement:
        by_caller = self.sort is not None and bool(self.sort.tiebreaker)
        with self._blaming(None):
            listed = read_statement(statement, unique=self._unique, unique_by_caller=by_caller)
            if not listed.identity and not by_caller:
                raise PlanError(str(listed.reason))
        self._check_entries(listed)
        for name, entry in (self.filters.entries if self.filters else {}).items():
            with self._blaming(name):
                _ = entry.converter
                if not entry.is_function and is_window(listed.adapt(element_of(entry.target))):
                    raise PlanError("A window function cannot be filtered by. Use a subquery.")
        return listed

    def _check_entries(self, listed: ListedStatement) -> None:
        for name, expression, is_key in self._entries():
            with self._blaming(name):
                adapted = listed.adapt(element_of(expression))
                refuse_order(adapted)
                if not listed.covers(adapted):
                    raise PlanError(
                        "Its table is not in the statement. Join it, or use a correlated subquery."
                    )
                if listed.distinct:
                    _check_distinct(listed, adapted)
                _check_computed(listed, adapted, is_key=is_key)

    def _check_types(
        self, connection: Connection, listed: ListedStatement, source: Narrowed
    ) -> None:
        dialect = connection.dialect
        names: list[str] = []
        keys: list[ColumnElement[Any]] = []
        for name, expression in self._keys():
            with self._blaming(name):
                adapted = listed.adapt(element_of(expression))
                if is_window(adapted):
                    raise PlanError(
                        "A window function is not known yet where the rows of a page are chosen."
                        " Put the statement into a subquery."
                    )
                refuse_key(name, adapted.type, Facts(), dialect)
            names.append(name)
            keys.append(adapted)
        settled = settle(listed, listed.statement, keys) if keys else Settled(None, ())
        facts = facts_of_keys(connection, settled.statement, settled.keys, dict(source.values))
        for name, adapted, fact in zip(names, keys, facts, strict=True):
            with self._blaming(name):
                refuse_key(name, adapted.type, fact, dialect)
        columns = [one for one in keys if isinstance(one, Column)]
        refused = database_for(dialect).refused(connection, columns)
        for name, adapted in zip(names, keys, strict=True):
            reason = refused.get(str(adapted))
            if reason is not None:
                with self._blaming(name):
                    raise PlanError(reason)

    def _keys(self) -> Iterator[tuple[str, Any]]:
        if self.sort is not None:
            for name, key in self.sort.entries.items():
                yield name, key.expr
            for expression in self.sort.tiebreaker:
                yield "tiebreaker", expression

    def _entries(self) -> Iterator[tuple[str, Any, bool]]:
        for name, expression in self._keys():
            yield name, expression, True
        if self.filters is not None:
            for name, entry in self.filters.entries.items():
                if not entry.is_function:
                    yield name, entry.target, False

    @contextmanager
    def _blaming(self, key: str | None) -> Iterator[None]:
        try:
            yield
        except PlanError as error:
            raise PlanError(error.reason, listing=self._name(), key=key or error.key) from None


def _connection(session: Session, listed: ListedStatement) -> Connection:
    bound = {"mapper": listed.mapper, "clause": listed.statement}
    return session.connection(bind_arguments=bound)


def dialect_of(session: Session, listed: ListedStatement) -> Dialect:
    """Return the database a statement of this form would run on."""
    return session.get_bind(mapper=listed.mapper, clause=listed.statement).dialect


def values_of_conditions(conditions: Sequence[Condition]) -> dict[str, Any]:
    """Return the values to bind, without building the criteria again."""
    values: dict[str, Any] = {}
    for place, condition in enumerate(conditions):
        values.update(condition.bound(place))
    return values


def _check_computed(
    listed: ListedStatement, expression: ColumnElement[Any], *, is_key: bool
) -> None:
    if is_key and is_volatile(expression):
        raise PlanError(_MOVES)
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
