"""Keyset pages: the rows after a keyset, in the form each database reads from an index.

Three facts decide the form. Row values are best on PostgreSQL and SQLite, but MySQL and MariaDB
walk the whole index for them. A plain ``a < x OR (a = x AND b < y)`` is no index range on
PostgreSQL and SQLite; with the guard ``a <= x AND (…)`` it is. And where many rows share the
leading key, or it is NULL, one predicate fails somewhere, but several statements with one index
range each never do: these are *segments*, run in order until the page is full.

References:
    SQLite: https://www.sqlite.org/rowvalue.html#scrolling_window_queries
    MariaDB: https://mariadb.com/docs/server/ha-and-performance/optimization-and-tuning/query-optimizations/row-constructor-optimization
    PostgreSQL: https://www.postgresql.org/docs/current/functions-comparisons.html#ROW-WISE-COMPARISON
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Select,
    and_,
    bindparam,
    false,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from ..databases import database_of
from .cursor import Direction, Keyset, fingerprint, tie_depth
from .database import ListDatabase
from .encoding import EncodeAll, encoder_of
from .keys import Key, Segment
from .plans import Plans
from .probing import database_for
from .rows import Rows
from .statement import ListedStatement, criteria_for, without_locks
from .statement.expressions import is_aggregate, own_parts

__all__ = ["KeysetPlan", "KeysetRows"]

_LIMIT = "dbkit_limit"
_VALUES = tuple(f"dbkit_k{place}" for place in range(64))
# By the keys of SQLAlchemy's own cache: to compile an order costs more than to read a page of it.
_texts: Plans[object, str] = Plans()


class KeysetRows(NamedTuple):
    """What one keyset page read.

    Attributes:
        items: The rows of the page, in the order of the list.
        has_next: A row follows the last one.
        has_prev: A row precedes the first one.
        next: Where the next page begins, if there is one.
        prev: Where the previous page begins, if there is one.
    """

    items: list[Any]
    has_next: bool
    has_prev: bool
    next: Keyset | None
    prev: Keyset | None


@dataclass
class KeysetPlan:
    """A statement with its order, whose pages differ in bound values only.

    Attributes:
        listed: What is known about the statement.
        statement: With its criteria, without an order.
        keys: The total order.
        having: Criteria on keys go into HAVING.
        dialect: The database.
        marks: What its cursors belong to, per list. Kept by the caller.
    """

    listed: ListedStatement
    statement: Any
    keys: tuple[Key, ...]
    having: bool
    dialect: Dialect
    marks: dict[str, str] = field(default_factory=dict)
    _segments: dict[tuple[object, ...], tuple[Any, ...]] = field(default_factory=dict)

    @cached_property
    def _database(self) -> ListDatabase:
        return database_for(self.dialect)

    @cached_property
    def signature(self) -> tuple[object, ...]:
        """What a cursor of this order has to agree with: what it compiles to, and its types."""
        keys = tuple(key.signature for key in self.keys)
        return (database_of(self.dialect).name, fingerprint(self._text()), keys)

    def _text(self) -> str:
        keys = [key.form.read.label(f"dbkit_key{place}") for place, key in enumerate(self.keys)]
        asked = without_locks(self.statement)
        if not self.listed.distinct or self.listed.whole:
            asked = asked.with_only_columns(*keys, maintain_column_froms=True)
        asked = asked.order_by(*(key.order() for key in self.keys))
        form = asked._generate_cache_key()  # noqa: SLF001 - no public one
        known = None if form is None else (self.dialect.name, form.key)
        found = None if known is None else _texts.get(known)
        if found is None:
            found = str(asked.compile(dialect=self.dialect))
            if known is not None:
                _texts.keep(known, found)
        return found

    def accepts(self, at: Keyset) -> bool:
        """Tell whether a place can be one of this order.

        Args:
            at: A place that somebody sent back.
        """
        if not at.values:
            return at.direction is Direction.BEFORE
        pairs = zip(self.keys, at.values, strict=True)
        return at.ties < len(self.keys) and all(key.fits(value) for key, value in pairs)

    @cached_property
    def _places(self) -> tuple[int | None, ...]:
        return tuple(key.identity for key in self.keys)

    @cached_property
    def encode(self) -> EncodeAll:
        """What turns rows into what JSON has."""
        return encoder_of(self.listed)

    def fetch(
        self,
        session: Session,
        limit: int,
        at: Keyset | None = None,
        *,
        values: Mapping[str, Any] | None = None,
        neighbours: bool = True,
    ) -> KeysetRows:
        """Read one page.

        Sends one ``SELECT … LIMIT limit + 1``, and a second one only where a run of NULLs or of
        equal leading keys ends. The extra row tells whether a page follows; a scalar subquery of
        the same statement tells whether one precedes. Never sends ``OFFSET`` or ``count(*)``.

        Args:
            session: Runs the statements. Never committed or rolled back here.
            limit: Rows per page, at least 1.
            at: Where the page begins. ``None`` is the start of the order.
            values: Bound values of the statement's own criteria.
            neighbours: Look for the page before, too.
        """
        bound: dict[str, Any] = dict(values or {})
        placed = at is not None and bool(at.values)
        if at is not None:
            for place, value in enumerate(at.values):
                if value is not None:
                    bound[_VALUES[place]] = value
        probing = neighbours and placed
        behind: bool | None = None
        rows = Rows(self.listed, self._places)
        for statement in self._statements(at, probing=probing):
            bound[_LIMIT] = limit + 1 - len(rows.items)
            last = rows.read(session, statement, bound)
            if last is not None and probing:
                behind = last is not False
            if len(rows.items) > limit:
                break
        if probing and behind is None:
            behind = self._look_behind(session, at, bound)
        return self._page(rows, limit, at, behind=bool(behind))

    def _page(self, rows: Rows, limit: int, at: Keyset | None, *, behind: bool) -> KeysetRows:
        backward = at is not None and at.direction.backward
        ahead = len(rows.items) > limit
        ties = tie_depth(rows.key(0), rows.key(limit)) if ahead else 0
        items = rows.items[:limit]
        if backward:
            items.reverse()
        has_next, has_prev = (behind, ahead) if backward else (ahead, behind)
        following = preceding = None
        if items:
            first, last = (len(items) - 1, 0) if backward else (0, len(items) - 1)
            if has_next:
                following = Keyset(rows.key(last), Direction.AFTER, ties)
            if has_prev:
                preceding = Keyset(rows.key(first), Direction.BEFORE, ties)
        elif at is not None:
            # The rows that were here are gone. The way back includes the place itself.
            following = Keyset(at.values, Direction.FROM) if has_next else None
            preceding = Keyset(at.values, Direction.UP_TO) if has_prev else None
        return KeysetRows(items, has_next, has_prev, following, preceding)

    def _statements(self, at: Keyset | None, *, probing: bool) -> tuple[Any, ...]:
        if at is None:
            form: tuple[object, ...] = (None, probing)
        else:
            nulls = tuple([value is None for value in at.values])
            form = (at.direction, nulls, at.ties, probing)
        found = self._segments.get(form)
        if found is None:
            found = self._segments[form] = self._build(at, probing=probing)
        return found

    def _build(self, at: Keyset | None, *, probing: bool) -> tuple[Any, ...]:
        backward = at is not None and at.direction.backward
        keys = [key.reversed() for key in self.keys] if backward else list(self.keys)
        beside = (key for key in self.keys if key.identity is None)
        columns = [key.form.read.label(f"dbkit_key{n}") for n, key in enumerate(beside)]
        if probing:
            assert at is not None
            columns.append(self._probe(at).label("dbkit_behind"))
        base = self.statement.add_columns(*columns)
        limit: BindParameter[Any] = bindparam(_LIMIT, type_=None, required=True)
        if at is None or not at.values:
            return (base.order_by(*(key.order() for key in keys)).limit(limit),)
        segments = self._after(keys, at, inclusive=at.direction.inclusive, ties=at.ties)
        return tuple(self._segment(base, one, keys).limit(limit) for one in segments)

    def _segment(self, statement: Any, segment: Segment, keys: Sequence[Key]) -> Any:
        criterion = segment.criterion
        narrowed = statement.having(criterion) if self.having else statement.where(criterion)
        # A key that has one value orders nothing. MariaDB does not see it of "x IS NULL", and
        # sorts all of these rows.
        return narrowed.order_by(*(key.order() for key in keys[segment.fixed :]))

    def _probe(self, at: Keyset) -> ColumnElement[Any]:
        """Return a scalar that is NULL if no row lies on the other side of the keyset.

        An ordered LIMIT 1 and not EXISTS: PostgreSQL drops the order inside EXISTS, and reads
        from the wrong end until something matches.
        """
        other = not at.direction.backward
        keys = [key.reversed() for key in self.keys] if other else list(self.keys)
        segments = self._after(keys, at, inclusive=not at.direction.inclusive, ties=at.ties)
        one: ColumnElement[Any] = literal_column("1")
        # PostgreSQL wants the keys of a DISTINCT order among the columns. MariaDB takes a column
        # in HAVING that is not among them for one of the outer statement.
        inside = self.listed.distinct or self.having
        columns = [key.form.ordered for key in keys] if inside else [one]
        if self.having:
            columns += _columns_in(columns)
        rows = without_locks(self.statement)
        bare: Select[Any] = rows.with_only_columns(*columns, maintain_column_froms=True)
        found = []
        for segment in segments:
            nearest = self._segment(bare, segment, keys).limit(one).correlate(None)
            if inside:
                nearest = select(one).select_from(nearest.subquery())
            found.append(nearest.scalar_subquery())
        # COALESCE stops at the first that is there.
        return func.coalesce(*found) if len(found) > 1 else found[0]

    def _look_behind(self, session: Session, at: Keyset | None, bound: Mapping[str, Any]) -> bool:
        assert at is not None
        nulls = tuple(value is None for value in at.values)
        form = ("probe", at.direction, nulls, at.ties)
        if form not in self._segments:
            self._segments[form] = (criteria_for(select(self._probe(at)), self.statement),)
        # A value that no part of the statement uses would be refused by nobody, but LIMIT's
        # belongs to the page.
        return session.execute(self._segments[form][0], dict(bound)).scalar() is not None

    def _after(
        self, keys: Sequence[Key], at: Keyset, *, inclusive: bool, ties: int
    ) -> list[Segment]:
        """Return the criteria for the rows after a keyset, one index range each, in order."""
        values = [
            None if value is None else key.bound(_VALUES[n])
            for n, (key, value) in enumerate(zip(keys, at.values, strict=True))
        ]
        plain = not any(key.nullable for key in keys) and all(v is not None for v in values)
        same_way = len({key.term.descending for key in keys}) == 1
        known = database_of(self.dialect)
        # A row value of which only the first column is looked up is no range within ties.
        rows = known.row_values_use_index and not (ties and known.row_values_use_first_column)
        if len(keys) > 1 and plain and same_way and rows:
            return [Segment(_row_value(keys, values, inclusive=inclusive))]
        if self._database.reads_guards_in_ties:
            ties = 0
        return _segments(keys, values, inclusive=inclusive, ties=ties)


def _columns_in(expressions: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """Return the columns that computed keys are made of, each once."""
    found: list[ColumnElement[Any]] = []
    for expression in expressions:
        if not isinstance(expression, Column) and not is_aggregate(expression):
            for part in own_parts(expression):
                if isinstance(part, Column) and not any(part is other for other in found):
                    found.append(part)
    return found


def _row_value(
    keys: Sequence[Key], values: Sequence[ColumnElement[Any] | None], *, inclusive: bool
) -> ColumnElement[Any]:
    left = tuple_(*(key.form.compared for key in keys))
    right = tuple_(*(value for value in values if value is not None))
    if keys[0].term.descending:
        return left <= right if inclusive else left < right
    return left >= right if inclusive else left > right


def _segments(
    keys: Sequence[Key],
    values: Sequence[ColumnElement[Any] | None],
    *,
    inclusive: bool,
    ties: int,
) -> list[Segment]:
    key, value = keys[0], values[0]
    if len(keys) == 1:
        if value is None:
            same = [Segment(key.equals(None))] if inclusive else []
            return same + key.segments_beyond(None)
        first, *others = key.segments_beyond(value)
        return [Segment(key.guard(value)) if inclusive else first, *others]
    if value is None or ties > 0:
        inner = (
            _segments(keys[1:], values[1:], inclusive=inclusive, ties=ties - 1)
            if ties > 0
            else [Segment(_expanded(keys[1:], values[1:], inclusive=inclusive))]
        )
        within = [Segment(and_(key.equals(value), one.criterion), one.fixed + 1) for one in inner]
        return [*within, *key.segments_beyond(value)]
    rest = _expanded(keys[1:], values[1:], inclusive=inclusive)
    further, *others = key.segments_beyond(value)
    guarded = and_(key.guard(value), or_(further.criterion, and_(key.equals(value), rest)))
    # The last key stays in every order, so none is empty.
    return [Segment(guarded), *others]


def _expanded(
    keys: Sequence[Key], values: Sequence[ColumnElement[Any] | None], *, inclusive: bool
) -> ColumnElement[Any]:
    """Return one criterion for the rows after a keyset, NULLs included."""
    key, value = keys[0], values[0]
    ranges = key.beyond(value)
    if len(keys) == 1:
        if inclusive and value is not None:
            ranges[0] = key.guard(value)
        elif inclusive:
            ranges = [key.equals(None), *ranges]
        # Nothing comes after NULL where NULLs come last.
        return or_(*ranges) if ranges else false()
    rest = _expanded(keys[1:], values[1:], inclusive=inclusive)
    same = and_(key.equals(value), rest)
    if value is not None and len(ranges) == 1:
        return and_(key.guard(value), or_(ranges[0], same))
    return or_(*ranges, same)
