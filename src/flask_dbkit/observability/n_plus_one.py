"""What is said of repeats and budgets, and who asked for silence."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ..exceptions import DBKitError
from .windows import QueryStats, Repeat, opened_windows

__all__ = [
    "NPlusOneError",
    "QueryBudgetExceeded",
    "allowed",
    "excess",
    "log_repeats",
]

logger = logging.getLogger("flask_dbkit.n_plus_one")


class NPlusOneError(DBKitError):
    """A request sent the same statement again and again from one place.

    Attributes:
        repeats: The findings, each a :class:`Repeat`.

    .. versionadded:: 0.1
    """

    def __init__(self, repeats: Iterable[Repeat]) -> None:
        self.repeats = tuple(repeats)
        super().__init__("\n".join(describe(each) for each in self.repeats))


class QueryBudgetExceeded(DBKitError):
    """More statements, or more time in the database, than a budget allows.

    Attributes:
        queries: What was sent.
        time_ms: What it took.
        allowed_queries: The budget; ``None`` for no limit.
        allowed_ms: The same for the time.

    .. versionadded:: 0.1
    """

    def __init__(self, stats: QueryStats, queries: int | None, ms: float | None) -> None:
        self.queries, self.time_ms = stats.queries, stats.time_ms
        self.allowed_queries, self.allowed_ms = queries, ms
        said = []
        if queries is not None and stats.queries > queries:
            said.append(f"{stats.queries} queries, the budget is {queries}")
        if ms is not None and stats.time_ms > ms:
            said.append(f"{stats.time_ms:g} ms in the database, the budget is {ms:g} ms")
        repeats = [describe(each) for each in stats.repeats]
        super().__init__("\n".join([" and ".join(said) + ".", *repeats]))


def describe(repeat: Repeat) -> str:
    """Say a finding in one line: what, how often, from where, and what to write instead."""
    what = repeat.relationship or repeat.sql[:200]
    return f"{what} was asked for {repeat.count} times at {repeat.call_site}. {repeat.fix}"


def log_repeats(repeats: Iterable[Repeat], where: str | None) -> None:
    """Log findings, each on a line of its own.

    Args:
        repeats: The findings.
        where: The route of the request, or what else it was; ``None`` if there is no route.
    """
    for each in repeats:
        logger.warning(
            "N+1 in %s: %s",
            where or "a request",
            describe(each),
            extra={"count": each.count, "call_site": each.call_site, "route": where},
        )


def excess(stats: QueryStats, queries: int | None, ms: float | None) -> QueryBudgetExceeded | None:
    """Return what is to be said of a budget; ``None`` if it was kept."""
    too_many = queries is not None and stats.queries > queries
    too_long = ms is not None and stats.time_ms > ms
    return QueryBudgetExceeded(stats, queries, ms) if too_many or too_long else None


@contextmanager
def allowed() -> Iterator[None]:
    """Find nothing inside the block; statements are counted as ever."""
    windows = opened_windows()
    for each in windows:
        each.allowed += 1
    try:
        yield
    finally:
        for each in windows:
            each.allowed -= 1
