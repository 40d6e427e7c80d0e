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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, bindparam, false, func, literal_column, or_, select, tuple_
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from .codecs import RAW, compared_key, is_read_as_sent, raw_key, type_name
from .cursor import Direction, Keyset, tie_depth
from .rows import Rows
from .sorting import SortTerm
from .statement import ListedStatement, criteria_for, without_locks

__all__ = ["Key", "KeysetPlan", "KeysetRows", "keys_for"]

_LIMIT = "dbkit_limit"
_VALUES = tuple(f"dbkit_k{place}" for place in range(64))
_GUARD_ONLY = frozenset({"mysql", "mariadb"})
_NULLS_LARGEST = frozenset({"postgresql", "oracle"})


@dataclass(frozen=True)
class Segment:
    """One index range of a page.

    Attributes:
        criterion: The rows in it.
        fixed: How many leading keys have one value in it.
    """

    criterion: ColumnElement[Any]
    fixed: int = 0


@dataclass(frozen=True)
class Key:
    """One key of a total order, ready for one database.

    Attributes:
        expression: For ORDER BY.
        term: Its direction and NULL placement.
        raw: What is read beside each row.
        compared: What is compared with a value.
        nullable: NULLs can come.
        nulls_first: Where they come, in the direction of the term.
        kind: The name of its type.
        identity: Its place in the primary key of the listed object, which tells its value as the
            database sent it. ``None`` if it has to be read beside the row.
    """

    expression: ColumnElement[Any]
    term: SortTerm
    raw: ColumnElement[Any]
    compared: ColumnElement[Any]
    nullable: bool
    nulls_first: bool
    kind: str
    identity: int | None = None

    def reversed(self) -> Key:
        """Return the key of the opposite order."""
        return replace(self, term=self.term.reversed(), nulls_first=not self.nulls_first)

    @property
    def signature(self) -> tuple[object, ...]:
        """What a cursor has to agree with."""
        return (self.term.name, self.term.descending, self.term.key.nulls, self.kind)

    def order(self) -> ColumnElement[Any]:
        """Return the element for ORDER BY."""
        return self.term.order(self.expression, nullable=self.nullable)

    def equals(self, value: BindParameter[Any] | None) -> ColumnElement[Any]:
        """Return the criterion for rows with this value."""
        return self.compared.is_(None) if value is None else self.compared == value

    def beyond(self, value: BindParameter[Any] | None) -> list[ColumnElement[Any]]:
        """Return the index ranges that come after a value, in order."""
        if value is None:
            return [self.compared.is_not(None)] if self.nulls_first else []
        further = self.compared < value if self.term.descending else self.compared > value
        if self.nullable and not self.nulls_first:
            return [further, self.compared.is_(None)]
        return [further]

    def segments_beyond(self, value: BindParameter[Any] | None) -> list[Segment]:
        """Return the same ranges, each telling whether the key has one value in it."""
        # Behind the first range only NULLs can come.
        return [Segment(one, min(place, 1)) for place, one in enumerate(self.beyond(value))]

    def guard(self, value: BindParameter[Any]) -> ColumnElement[Any]:
        """Return the one range that has the value and all that comes after it."""
        return self.compared <= value if self.term.descending else self.compared >= value


def keys_for(
    terms: Iterable[SortTerm],
    expressions: Iterable[ColumnElement[Any]],
    nullables: Iterable[bool],
    dialect: Dialect,
    identity: Sequence[ColumnElement[Any]] = (),
) -> tuple[Key, ...]:
    """Prepare the keys of an order for one database.

    Args:
        terms: The order.
        expressions: The key of each term, over the statement.
        nullables: Whether each can be NULL.
        dialect: The database.
        identity: The primary key of the listed objects, if the rows are such.

    Raises:
        PlanError: A key has a type that no cursor can carry.
    """
    keys = []
    for term, expression, nullable in zip(terms, expressions, nullables, strict=True):
        raw = raw_key(expression, dialect)
        if term.key.nulls is None:
            # NULL is more than everything on PostgreSQL, less than everything elsewhere.
            nulls_first = (dialect.name in _NULLS_LARGEST) is term.descending
        else:
            nulls_first = term.key.nulls == "first"
        compared = compared_key(expression, raw, dialect)
        kind = type_name(expression, dialect)
        same = (n for n, one in enumerate(identity) if one is expression or one.compare(expression))
        place = next(same, None) if is_read_as_sent(expression, dialect) else None
        keys.append(Key(expression, term, raw, compared, nullable, nulls_first, kind, place))
    return tuple(keys)


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
        dialect: The name of the database.
        marks: What its cursors belong to, per list. Kept by the caller.
    """

    listed: ListedStatement
    statement: Any
    keys: tuple[Key, ...]
    having: bool
    dialect: str
    marks: dict[str, str] = field(default_factory=dict)
    _segments: dict[tuple[object, ...], tuple[Any, ...]] = field(default_factory=dict)

    @cached_property
    def signature(self) -> tuple[object, ...]:
        """What a cursor of this order has to agree with."""
        family = "mysql" if self.dialect in _GUARD_ONLY else self.dialect
        return (family, *(key.signature for key in self.keys))

    @cached_property
    def _places(self) -> tuple[int | None, ...]:
        return tuple(key.identity for key in self.keys)

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
        columns = [key.raw.label(f"dbkit_key{n}") for n, key in enumerate(beside)]
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
        columns = [key.expression for key in keys] if inside else [one]
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
            None if value is None else bindparam(_VALUES[n], type_=RAW, required=True)
            for n, value in enumerate(at.values)
        ]
        plain = not any(key.nullable for key in keys) and all(v is not None for v in values)
        same_way = len({key.term.descending for key in keys}) == 1
        # SQLite uses the first column of a row value only, so not within a run of ties.
        rows = self.dialect == "postgresql" or (self.dialect == "sqlite" and not ties)
        if len(keys) > 1 and plain and same_way and rows:
            return [Segment(_row_value(keys, values, inclusive=inclusive))]
        if self.dialect in _GUARD_ONLY:
            ties = 0
        return _segments(keys, values, inclusive=inclusive, ties=ties)


def _row_value(
    keys: Sequence[Key], values: Sequence[BindParameter[Any] | None], *, inclusive: bool
) -> ColumnElement[Any]:
    left = tuple_(*(key.compared for key in keys))
    right = tuple_(*(value for value in values if value is not None))
    if keys[0].term.descending:
        return left <= right if inclusive else left < right
    return left >= right if inclusive else left > right


def _segments(
    keys: Sequence[Key],
    values: Sequence[BindParameter[Any] | None],
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
    keys: Sequence[Key], values: Sequence[BindParameter[Any] | None], *, inclusive: bool
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
