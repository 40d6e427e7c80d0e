"""Nothing that a test opened outlives it.

From Python 3.13 on a SQLite connection that is thrown away open warns when it is collected.
That is at any later moment, so the warning hits another test than the one that left it. What
is more, the kept traceback of that warning keeps alive whatever the code was doing just then.
So every engine a test made is disposed of at its end, and what is open after that is told
with the name of the test.

References:
    https://docs.python.org/3/library/sqlite3.html#sqlite3.Connection
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import Dialect, Engine

_TESTS = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Opened:
    """One SQLite connection.

    Attributes:
        connection: Kept alive, so that it is not closed by chance.
        dialect: That of the engine it was opened for, ``None`` for one opened by hand.
        place: The line of the tests that opened it, or of whoever did if none of them.
    """

    connection: sqlite3.Connection
    dialect: object
    place: str


@dataclass
class Watch:
    """What was made since the watch began."""

    engines: list[Engine] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)

    def close(self) -> list[str]:
        """Dispose of the engines; describe every connection that is open nevertheless."""
        _wait_for_health()
        for engine in self.engines:
            engine.dispose()
        mine = {engine.dialect for engine in self.engines}
        left = [
            each
            for each in self.opened
            if (each.dialect is None or each.dialect in mine) and _is_open(each.connection)
        ]
        for each in left:
            each.connection.close()
        return [
            f"a SQLite connection {'by hand' if each.dialect is None else 'of an engine'},"
            f" opened at {each.place}"
            for each in left
        ]


def _wait_for_health() -> None:
    """Let the health checks that a probe has begun in the background come to their end."""
    for thread in threading.enumerate():
        if thread.name.startswith(("dbkit-health", "dbkit-quick-check")):  # the watchdog stays
            thread.join(10)


_watches: list[Watch] = []


@contextmanager
def watch() -> Iterator[Watch]:
    """Notice the engines and SQLite connections that are made inside the block."""
    made = Watch()
    _watches.append(made)
    try:
        yield made
    finally:
        _watches.remove(made)


def install() -> None:
    """Start noticing. Audit hooks stay until the process ends: call this once."""
    sys.addaudithook(_notice_connection)
    Dialect.engine_created = classmethod(_notice_engine)  # type: ignore[assignment]


def _notice_engine(dialect: type[Dialect], engine: Engine) -> None:
    # create_engine() calls this documented hook of the dialect, which no dialect overrides.
    # https://docs.sqlalchemy.org/en/21/core/internals.html
    if _watches:
        _watches[-1].engines.append(engine)


def _notice_connection(event: str, arguments: tuple[Any, ...]) -> None:
    # Called for everything that is audited, every import and every file: answer quickly.
    # https://docs.python.org/3/library/audit_events.html
    if event == "sqlite3.connect/handle" and _watches:
        _watches[-1].opened.append(Opened(arguments[0], *_origin(sys._getframe(1))))


def _origin(frame: FrameType | None) -> tuple[object, str]:
    """Find the engine's dialect and the line of the tests among the callers."""
    dialect, nearest = None, ""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if dialect is None and module == "sqlalchemy.engine.create":
            dialect = frame.f_locals.get("dialect")
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        nearest = nearest or place
        if place.startswith(_TESTS):
            return dialect, place
        frame = frame.f_back
    return dialect, nearest


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        _ = connection.total_changes
    except sqlite3.ProgrammingError as error:
        # Otherwise it is open, and belongs to another thread.
        return "closed" not in str(error)
    return True
