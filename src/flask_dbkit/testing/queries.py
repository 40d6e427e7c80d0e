"""Statements counted in a test, and listed with their lines when there are too many."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType

from sqlalchemy.engine import Engine

from ..databases.execution import Execution, Order, Watcher, watch
from ..databases.statements import CONTROL, SAVEPOINT

__all__ = ["Sent", "WrongQueries", "counted"]

_REPEATED = 5
"""So many times the same statement from one line is a lazy load in a loop."""
_LIBRARIES = ("sqlalchemy", "flask_dbkit", "flask_sqlalchemy", "flask", "werkzeug", "jinja2")

_lists: ContextVar[tuple[list[Sent], ...]] = ContextVar("flask_dbkit.queries", default=())


@dataclass(frozen=True)
class Sent:
    """One statement.

    Attributes:
        sql: As it was sent, without values.
        line: ``file:line`` of the code that sent it.
    """

    sql: str
    line: str


class WrongQueries(AssertionError):
    """A test sent another number of statements than it says."""


class _Counting(Watcher):
    """Notes each statement for every block around it: BEGIN and savepoints are none."""

    order = Order.STATISTICS

    def before(self, execution: Execution) -> bool | None:
        lists = _lists.get()
        if not lists or execution.kind in (CONTROL, SAVEPOINT):
            return None
        if not execution.context.execution_options.get("dbkit_internal"):
            sent = Sent(" ".join(execution.statement.split()), _line())
            for each in lists:
                each.append(sent)
        return None


_COUNTING = _Counting()
_WATCHED = "_dbkit_counted"


@contextmanager
def counted(
    engines: Iterable[Engine],
    *,
    exact: int | None = None,
    most: int | None = None,
    match: str | None = None,
    no_n_plus_one: bool = False,
) -> Iterator[list[Sent]]:
    """Count the statements of a block.

    Args:
        engines: Where they are sent.
        exact: So many, not one more or less.
        most: So many at most.
        match: A regular expression that chooses which statements count.
        no_n_plus_one: No statement is sent five times or more from one line.

    Yields:
        The statements, as they come.

    Raises:
        WrongQueries: At the end; it lists them with their lines.
    """
    for engine in engines:
        if not getattr(engine.dialect, _WATCHED, False):
            setattr(engine.dialect, _WATCHED, True)
            watch(engine, _COUNTING)
    found: list[Sent] = []
    token = _lists.set((*_lists.get(), found))
    try:
        yield found
    finally:
        _lists.reset(token)
    chosen = [sent for sent in found if match is None or re.search(match, sent.sql)]
    _compare(chosen, exact, most)
    if no_n_plus_one:
        _find_repeats(chosen)


def _compare(sent: list[Sent], exact: int | None, most: int | None) -> None:
    wanted = None
    if exact is not None and len(sent) != exact:
        wanted = f"exactly {exact}"
    elif most is not None and len(sent) > most:
        wanted = f"at most {most}"
    if wanted is not None:
        raise WrongQueries(
            f"{len(sent)} statements were sent, and {wanted} expected:\n{_listed(sent)}"
        )


def _find_repeats(sent: list[Sent]) -> None:
    repeats = [(count, each) for each, count in Counter(sent).items() if count >= _REPEATED]
    if repeats:
        lines = "\n".join(f"  {count} times at {each.line}: {each.sql}" for count, each in repeats)
        raise WrongQueries(
            "The same statement was sent again and again from one line. Load the rows at once,"
            f" for example with selectinload():\n{lines}"
        )


def _listed(sent: list[Sent]) -> str:
    return "\n".join(f"  {index}. {each.line}: {each.sql}" for index, each in enumerate(sent, 1))


def _line() -> str:
    """Name the line of the application, or of the test, that sends something."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented, for all its name
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _LIBRARIES and module != "contextlib":
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"
