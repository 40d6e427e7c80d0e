"""Windows: what is counted between a beginning and an end, and what was found in it.

A window is a request, a job, a command, or a block. Windows nest: a statement counts in every
window that is open where it runs. They are kept in a context variable, so threads and tasks do not
see each other's.

Cost comes first here: a statement is noted in a few microseconds, and everything that somebody may
ask for later (texts without values, fingerprints, sentences) is made when it is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..databases.execution import PEER_BATCH, Execution
from ..databases.statements import READ, WRITE
from ..errors.words import mask_literals
from ..support.calls import explained_methods
from .call_sites import Place, place_of_call
from .orm_loads import Load, is_chunk, load_of

__all__ = [
    "QueryStats",
    "Repeat",
    "Statement",
    "Window",
    "enter",
    "fingerprint",
    "innermost",
    "leave",
    "opened",
    "opened_windows",
    "when_looking",
]

_MOST_KEPT = 10_000  # statements of one window; what counts goes on
_LISTED = 4  # values behind IN; more of them were collected by somebody, and sent at once


@explained_methods()
@dataclass(frozen=True)
class Statement:
    """One execution of a statement.

    Attributes:
        sql: Without literals.
        time_ms: Until the driver had answered.
        rows: As far as the driver tells at once.
        call_site: The line of the application, as ``file:line``; ``None`` if it was not looked for.
        bind: The name of the database.
        fingerprint: Twelve hexadecimal digits that are the same for the same SQL.

    .. versionadded:: 0.1
    """

    sql: str
    time_ms: float
    rows: int
    call_site: str | None
    bind: str
    fingerprint: str


@explained_methods()
@dataclass(frozen=True)
class Repeat:
    """The same statement from the same place, again and again.

    Attributes:
        count: How often.
        sql: Without literals.
        call_site: The line of the application, as ``file:line``.
        relationship: What was loaded one by one, such as ``User.posts``.
        fix: What to write instead.

    .. versionadded:: 0.1
    """

    count: int
    sql: str
    call_site: str | None
    relationship: str | None
    fix: str


def fingerprint(sql: str) -> str:
    """Return twelve hexadecimal digits that are the same for the same SQL."""
    return hashlib.sha256(mask_literals(sql).encode("utf-8", "replace")).hexdigest()[:12]


def _first() -> int:
    return 1


attempt_now: Callable[[], int] = _first
"""Tells which attempt of a transaction is under way here; the rim puts its own in place."""


_looking: list[bool] = []
_when_looking: list[Callable[[], object]] = []


def when_looking(function: Callable[[], object]) -> None:
    """Call a function when a window of this process first looks for repeats, or now if one did.

    What tells repeats from a flush of several rows costs every flush: an application that only
    counts goes without.
    """
    if _looking:
        function()
    else:
        _when_looking.append(function)


def _look_from_now_on() -> None:
    _looking.append(True)
    while _when_looking:
        _when_looking.pop()()


class _Kept(NamedTuple):
    sql: str
    time_s: float
    rows: int
    place: Place | None
    bind: str

    def told(self) -> Statement:
        site = f"{self.place[0]}:{self.place[1]}" if self.place is not None else None
        return Statement(
            mask_literals(self.sql),
            round(self.time_s * 1000, 3),
            self.rows,
            site,
            self.bind,
            fingerprint(self.sql),
        )


class _Seen:
    """One text of a window: how often, and from where since it was seen twice."""

    __slots__ = ("count", "first_is_free", "flush", "in_flush", "load", "places")

    def __init__(self, load: Load | None) -> None:
        self.count = 1
        self.load = load
        self.places: dict[object, int] | None = None
        self.first_is_free = True
        self.flush = 0
        self.in_flush = 0


@explained_methods()
class QueryStats:
    """What was counted in one window.

    Attributes:
        queries: Executions of a cursor: an ``executemany`` is one, and so is one that failed.
        writes: Those that write.
        rows: As far as the driver tells at once.
        checkouts: Connections taken out of a pool.
        peer_batches: Batches of peer loading.

    .. versionadded:: 0.1
    """

    __slots__ = (
        "_kept",
        "_slowest",
        "_time_s",
        "_window",
        "checkouts",
        "peer_batches",
        "queries",
        "rows",
        "writes",
    )

    def __init__(self, window: Window) -> None:
        self.queries = self.writes = self.rows = self.checkouts = self.peer_batches = 0
        self._time_s = 0.0
        self._slowest: _Kept | None = None
        self._kept: list[_Kept] = []
        self._window = window

    @property
    def time_ms(self) -> float:
        """Milliseconds in the drivers, all statements together."""
        return round(self._time_s * 1000, 3)

    @property
    def slowest(self) -> Statement | None:
        """The one that took longest."""
        return self._slowest.told() if self._slowest is not None else None

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Each of them, in ``record_queries()`` blocks, in debug mode and in tests."""
        return tuple(each.told() for each in self._kept)

    @property
    def repeats(self) -> tuple[Repeat, ...]:
        """The statements that were sent again and again from one place."""
        return tuple(self._window.repeats())

    def __repr__(self) -> str:
        return f"<QueryStats {self.queries} queries, {self.time_ms} ms>"


class Window:
    """One window that is open, or was.

    Args:
        kind: ``request``, ``job`` or ``block``.
        keep: Whether every statement is kept.
        threshold: So many repeats are a finding; ``None`` looks for none.
    """

    __slots__ = (
        "_seen",
        "allowed",
        "finished",
        "flush",
        "judged",
        "keep",
        "kind",
        "stats",
        "threshold",
    )

    def __init__(self, kind: str, *, keep: bool, threshold: int | None) -> None:
        self.kind, self.keep, self.threshold = kind, keep, threshold
        if threshold is not None and not _looking:
            _look_from_now_on()
        self.stats = QueryStats(self)
        self.flush = 0
        self.allowed = 0
        self.finished = self.judged = False
        self._seen: dict[str, _Seen] = {}

    def note(self, execution: Execution, time_s: float, rows: int, bind: str) -> None:
        """Count one statement."""
        sql, kind = execution.statement, execution.kind
        stats = self.stats
        stats.queries += 1
        stats._time_s += time_s  # noqa: SLF001 - one module
        if rows > 0:
            stats.rows += rows
        place = None
        if kind is WRITE:
            stats.writes += 1
            if self.threshold is not None:
                place = self._look(execution)
        elif kind is READ:
            if PEER_BATCH in execution.context.execution_options:
                stats.peer_batches += 1
            elif self.threshold is not None:
                place = self._look(execution)
        slowest = stats._slowest  # noqa: SLF001
        if self.keep:
            if place is None:
                place, _ = place_of_call()
            kept = _Kept(sql, time_s, rows, place, bind)
            if len(stats._kept) < _MOST_KEPT:  # noqa: SLF001
                stats._kept.append(kept)  # noqa: SLF001
            if slowest is None or time_s > slowest.time_s:
                stats._slowest = kept  # noqa: SLF001
        elif slowest is None or time_s > slowest.time_s:
            stats._slowest = _Kept(sql, time_s, rows, place, bind)  # noqa: SLF001

    def _look(self, execution: Execution) -> Place | None:
        sql = execution.statement
        if self.allowed or execution.many or is_chunk(execution):
            return None
        seen = self._seen.get(sql)
        if seen is None:
            seen = self._seen[sql] = _Seen(load_of(execution))
            seen.flush, seen.in_flush = self.flush, 1
            return None
        seen.count += 1
        if self.flush:
            if seen.flush == self.flush:
                # A flush of several rows is sent at once, whatever the driver makes of it.
                seen.in_flush += 1
                self._forget_row(seen)
                return None
            seen.flush, seen.in_flush = self.flush, 1
        place, key = place_of_call()
        if key is None or (" IN (" in sql and len(execution.parameters or ()) > _LISTED):
            return place
        if seen.places is None:
            seen.places = {}
        # The first time nobody looked where it came from: from the same place as the second.
        start = 1 if not seen.places and seen.first_is_free else 0
        # Attempts of a transaction that is played again are no loop.
        counted = (*key, attempt_now())
        seen.places[counted] = seen.places.get(counted, start) + 1
        return place

    @staticmethod
    def _forget_row(seen: _Seen) -> None:
        if seen.in_flush == 2:
            if seen.places:
                last = next(reversed(seen.places))
                seen.places[last] -= 1
            else:
                seen.first_is_free = False

    def repeats(self) -> Iterator[Repeat]:
        """Yield what was sent again and again, the most frequent first."""
        if self.threshold is None:
            return
        found = [
            (count, sql, key, seen.load)
            for sql, seen in self._seen.items()
            for key, count in (seen.places or {}).items()
            if count >= self.threshold
        ]
        for count, sql, key, load in sorted(found, key=lambda each: -each[0]):
            place: Any = key
            relationship, fix = load or (None, _fix(sql))
            yield Repeat(count, mask_literals(sql), f"{place[0]}:{place[1]}", relationship, fix)


def _fix(sql: str) -> str:
    word = sql.lstrip().partition(" ")[0].upper()
    if word == "INSERT":
        return "Add the objects with session.add_all() and flush once, or give insert() a list."
    if word in ("UPDATE", "DELETE"):
        return f"Send one {word} for all of them, or change the objects and flush once."
    return "Ask once before the loop, for all keys together: select(...).where(column.in_(keys))."


_open: ContextVar[tuple[Window, ...]] = ContextVar("flask_dbkit_windows", default=())
opened_windows = _open.get
"""Return the windows that are open here, the outermost first."""


def innermost() -> Window | None:
    """Return the innermost window that is open here."""
    windows = _open.get()
    return windows[-1] if windows else None


def enter(window: Window) -> None:
    """Open a window: in the blocks that are open around it, and in no other request or job."""
    around = [each for each in _open.get() if each.kind == "block" and not each.finished]
    _open.set((*around, window))


def leave(window: Window) -> None:
    """Take a window out of those that are open here; it may be entered again."""
    _open.set(tuple(each for each in _open.get() if each is not window))


@contextmanager
def opened(window: Window) -> Iterator[Window]:
    """Open a window for a block, inside whatever is open."""
    token = _open.set((*_open.get(), window))
    try:
        yield window
    finally:
        window.finished = True
        try:
            _open.reset(token)
        except ValueError:  # it was opened in another context, as a generator's may be
            leave(window)
