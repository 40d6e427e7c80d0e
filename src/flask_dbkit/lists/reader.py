"""From the arguments of a list to a page, without Flask."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import GenerativeSelect
from werkzeug.exceptions import NotFound

from .counting import Count, check_count
from .cursor import Direction, Keyset, Signer, fingerprint
from .exceptions import PlanError, QueryError, mistake
from .filtering import Condition
from .keyset import KeysetPlan, KeysetRows
from .pages import KeysetPage, Links, OffsetPage, Order, Respond, answer
from .planner import Planner, dialect_of
from .probing import range_on
from .query import Limits, ListQuery, NoText, Pairs, read_query
from .sorting import SortTerm

__all__ = ["PageReader", "PageRequest"]

_STABLE = (
    *(type(None), str, int, float, bytes, uuid.UUID, Decimal, Enum),
    *(date, datetime, time, timedelta),
)


@dataclass(frozen=True)
class PageRequest:
    """What is asked of a list, once.

    Attributes:
        args: Every parameter with its value.
        session: Runs the statements. Never committed or rolled back.
        statement: In place of the list's own.
        page: In place of the parameter.
        per_page: In place of the parameter.
        cursor: In place of the parameter.
        bind: What else a cursor belongs to.
        count: How to count.
        error_out: Raise a 404 for a page past the end.
        signer: Makes and reads cursors. Needed for pages by cursor.
        path: The path of the request, for links.
        respond: Makes a response of a page's JSON and headers.
    """

    args: Pairs
    session: Session
    statement: GenerativeSelect | None = None
    page: int | None = None
    per_page: int | None = None
    cursor: str | None = None
    bind: object = None
    count: Count = "exact"
    error_out: bool = False
    signer: Signer | None = None
    path: str | None = None
    respond: Respond = answer

    def __post_init__(self) -> None:
        check_count(self.count)
        _check_bind(self.bind)

    def links(self) -> Links:
        """Return what makes the addresses of the other pages."""
        return Links(self.path, tuple([pair for pair in self.args if type(pair[1]) is not NoText]))


class PageReader:
    """Reads the pages of one list.

    Args:
        planner: The plans of the list.
        limits: How much may be asked for.
        name: Part of what a cursor is bound to.
    """

    def __init__(self, planner: Planner, limits: Limits, name: str) -> None:
        self._planner, self._limits, self._name = planner, limits, name

    def by_number(self, request: PageRequest) -> OffsetPage[Any]:
        """Read one page by its number.

        Args:
            request: What is asked.

        Raises:
            QueryError: With every mistake of the request.
            PlanError: The statement cannot be paged rightly.
            NotFound: The page is past the end and ``error_out`` is set.
        """
        planner, session = self._planner, request.session
        source = planner.source(request.statement)
        # Before the client's mistakes: this one is the developer's.
        dialect = dialect_of(session, planner.listed(source))
        query = read_query(
            request.args,
            planner.sort,
            planner.filters,
            self._limits,
            kind="offset",
            range_of=range_on(dialect),
            page=request.page,
            per_page=request.per_page,
        )
        plan, values = planner.offset(session, dialect, query.terms, query.conditions, source)
        encode = plan.encode
        links, order = request.links(), _order(planner, query.terms)

        def fetch(number: int, must_have_rows: bool) -> OffsetPage[Any]:
            rows = plan.fetch(session, number, query.per_page, count=request.count, values=values)
            if must_have_rows and not rows.items and number > 1:
                raise NotFound
            return OffsetPage(
                items=rows.items,
                per_page=query.per_page,
                has_next=rows.has_next,
                has_prev=number > 1,
                page=number,
                total=rows.total,
                total_is_exact=rows.total_is_exact,
                max_per_page=self._limits.max_per_page,
                _links=links,
                _respond=request.respond,
                _encode=encode,
                _order=order,
                _fetch=fetch,
            )

        return fetch(query.page, request.error_out)

    def by_cursor(self, request: PageRequest) -> KeysetPage[Any]:
        """Read one page by its place.

        Args:
            request: What is asked, with a signer.

        Raises:
            QueryError: With every mistake of the request.
            PlanError: The statement cannot be paged rightly.
        """
        planner, signer = self._planner, request.signer
        assert signer is not None
        source = planner.source(request.statement)
        # Before the client's mistakes: these are the developer's.
        dialect = planner.check(request.session, source)
        query = read_query(
            request.args,
            planner.sort,
            planner.filters,
            self._limits,
            kind="keyset",
            range_of=range_on(dialect),
            per_page=request.per_page,
            cursor=request.cursor,
            check_cursor=signer.verify,
        )
        plan, values = planner.keyset(
            request.session, dialect, query.terms, query.conditions, source
        )
        cursors = _Cursors(signer, plan, self._mark(plan, query, request.bind), self._name)
        at = None if query.cursor is None else cursors.read(query.cursor)
        rows = plan.fetch(request.session, query.per_page, at, values=values)
        return KeysetPage(
            items=rows.items,
            per_page=query.per_page,
            has_next=rows.has_next,
            has_prev=rows.has_prev,
            next_cursor=cursors.make(rows.next),
            prev_cursor=cursors.make(rows.prev),
            _cursor=query.cursor,
            _last_cursor=lambda: cursors.last(rows),
            _links=request.links(),
            _respond=request.respond,
            _encode=plan.encode,
            _order=_order(planner, query.terms),
        )

    def _mark(self, plan: KeysetPlan, query: ListQuery[SortTerm, Condition], bind: object) -> str:
        """Return what a cursor belongs to."""
        # The same for every page of the order: it is long, and to read it costs.
        order = plan.marks.get(self._name)
        if order is None:
            order = fingerprint(self._name, plan.signature, self._planner.constants)
            plan.marks[self._name] = order
        if not query.conditions and bind is None:
            return order
        asked = tuple((one.op, _written(one)) for one in query.conditions)
        return fingerprint(order, asked, bind)

    def batches(
        self,
        session: Session,
        terms: tuple[SortTerm, ...],
        size: int,
        statement: GenerativeSelect | None = None,
    ) -> Iterator[list[Any]]:
        """Read the whole list, each batch from where the last one ended.

        Args:
            session: Runs one statement per batch.
            terms: The order, without a tie-breaker.
            size: Rows per batch.
            statement: In place of the list's own.

        Raises:
            PlanError: The statement cannot be paged rightly.
        """
        source = self._planner.source(statement)
        dialect = self._planner.check(session, source)
        plan, values = self._planner.keyset(session, dialect, terms, (), source)
        return _batches(plan, session, size, values)


def _batches(
    plan: KeysetPlan, session: Session, size: int, values: Mapping[str, Any]
) -> Iterator[list[Any]]:
    at: Keyset | None = None
    while True:
        rows = plan.fetch(session, size, at, values=values, neighbours=False)
        if rows.items:
            yield rows.items
        at = rows.next
        if at is None:
            return


def _order(planner: Planner, terms: tuple[SortTerm, ...]) -> Order:
    keys = planner.sort.entries if planner.sort is not None else {}
    return Order(keys, terms[0].name, terms[0].descending) if terms else Order(keys)


@dataclass(frozen=True)
class _Cursors:
    """Makes and reads the cursors of one order of one list."""

    signer: Signer
    plan: KeysetPlan
    mark: str
    name: str

    def read(self, token: str) -> Keyset:
        at = self.signer.loads(token, self.mark, len(self.plan.keys))
        if not self.plan.accepts(at):
            raise QueryError([mistake("cursor", "cursor_malformed", token)])
        return at

    def make(self, at: Keyset | None) -> str | None:
        if at is None:
            return None
        for key, value in zip(self.plan.keys, at.values, strict=False):
            if not key.fits(value):
                raise PlanError(
                    f"A value came back as {value.__class__.__name__}, which the type {key.kind}"
                    " is not sent as. Name the type the database has: type_coerce(expression,"
                    " Float), for example.",
                    listing=self.name,
                    key=key.term.name or "tiebreaker",
                )
        try:
            return self.signer.dumps(at, self.mark)
        except (TypeError, ValueError) as error:
            sizes = [len(str(value)) for value in at.values]
            longest = self.plan.keys[sizes.index(max(sizes))].term.name or "tiebreaker"
            raise PlanError(str(error), listing=self.name, key=longest) from None

    def last(self, rows: KeysetRows) -> str | None:
        if not (rows.items or rows.has_prev):
            return None
        return self.make(Keyset((), Direction.BEFORE))


def _written(condition: Condition) -> str:
    value = condition.value
    values = value if isinstance(value, list) else [value]
    # What a function of the application returns may have another repr() in every process.
    return repr(value) if all(isinstance(one, _STABLE) for one in values) else condition.text


def _check_bind(bind: object) -> None:
    if isinstance(bind, (tuple, list)):
        for one in bind:
            _check_bind(one)
    elif not isinstance(bind, _STABLE):
        raise TypeError(
            f"bind is a {type(bind).__name__}, whose text is not the same in every process. Use"
            " a key such as current_user.id, or a tuple of some."
        )
