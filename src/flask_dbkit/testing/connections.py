"""The connections that an application gets inside a test: the driver's, as far as it can tell."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any, Self

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from .exceptions import NeedsRealTransactions
from .world import Transaction, World

__all__ = ["TestPool"]

_SWALLOWED = frozenset({"isolation_level", "read_only", "readonly", "deferrable"})
_SENDING = frozenset({"execute", "executemany", "executescript", "callproc", "copy", "stream"})
_TWO_PHASE = frozenset({"tpc_begin", "tpc_prepare", "tpc_recover"})


class TestPool(NullPool):
    """A pool that hands out as many connections as are asked for, all on the one of the test."""

    __test__ = False  # pytest collects by name

    def __init__(self, engine: Engine, world: World) -> None:
        creator: Any = lambda: TestConnection(world)  # noqa: E731 - by its type it is no creator
        super().__init__(creator, dialect=engine.dialect)
        # What a scope has set on the connection of the test must not outlive the scope.
        event.listen(self, "checkin", world.database.scopes.restore)

    def recreate(self) -> TestPool:
        """Return itself: the connection of the test outlives ``engine.dispose()``."""
        return self

    def dispose(self) -> None:
        """Close nothing."""


class _Stand:
    """Something that stands for an object of the driver's, and passes on what it does not know."""

    _own = frozenset({"_real"})

    def __init__(self, real: Any) -> None:
        object.__setattr__(self, "_real", real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._own:
            object.__setattr__(self, name, value)
        else:
            setattr(self._real, name, value)


class TestConnection(_Stand):
    """One connection of the application: a transaction of its own in the world of the test."""

    __test__ = False
    _own = frozenset({"_real", "_world", "_transaction"})

    def __init__(self, world: World) -> None:
        super().__init__(world.raw)
        self._world = world
        self._transaction = Transaction(_taken_at())
        world.taken.append(self._transaction)

    def __getattr__(self, name: str) -> Any:
        if name in _TWO_PHASE:
            raise NeedsRealTransactions("A prepared transaction outlives its connection.")
        if name in _SENDING:
            return getattr(self.cursor(), name)
        if name == "autocommit" and callable(getattr(self._real, name, None)):
            return _refuse_autocommit
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "autocommit":
            _refuse_autocommit(value)
        elif name in _SWALLOWED:
            # A transaction is under way; only SQLite has no level but this one for AUTOCOMMIT.
            if value is None and isinstance(self._real, sqlite3.Connection):
                _refuse_autocommit(True)
        else:
            super().__setattr__(name, value)

    def cursor(self, *args: Any, **kwargs: Any) -> TestCursor:
        """Open a cursor."""
        return TestCursor(self, self._real.cursor(*args, **kwargs), self._world, self._transaction)

    def begin(self) -> None:
        """Begin a transaction, as PyMySQL's connection can."""

    def commit(self) -> None:
        """Commit, within the test."""
        with self._world.lock:
            self._world.commit(self._transaction)

    def rollback(self) -> None:
        """Undo what this connection has done since it last ended a transaction."""
        with self._world.lock:
            self._world.roll_back(self._transaction)

    def close(self) -> None:
        """Give the connection back; an open transaction is undone."""
        self.rollback()
        if self._transaction in self._world.taken:
            self._world.taken.remove(self._transaction)

    def set_isolation_level(self, level: Any) -> None:
        """Leave the level as it is, as psycopg2 calls it; it cannot change in the middle."""
        _refuse_autocommit(level == 0)

    def set_session(self, autocommit: bool = False, **_: Any) -> None:
        """Leave the session as it is, as psycopg2 calls it."""
        _refuse_autocommit(autocommit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()


class TestCursor(_Stand):
    """A cursor that lets the world of the test see each statement first."""

    __test__ = False
    _own = frozenset({"_real", "_connection", "_world", "_transaction"})

    def __init__(
        self, connection: TestConnection, real: Any, world: World, transaction: Transaction
    ) -> None:
        super().__init__(real)
        self._connection = connection
        self._world = world
        self._transaction = transaction

    @property
    def connection(self) -> TestConnection:
        """The connection it was opened on."""
        return self._connection

    def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a statement."""
        with self._world.lock:
            if self._world.before(self._transaction, statement):
                return self._answer(self._real.execute(statement, *args, **kwargs))
        return self

    def executemany(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a statement with many parameters."""
        with self._world.lock:
            if self._world.before(self._transaction, statement):
                return self._answer(self._real.executemany(statement, *args, **kwargs))
        return self

    def _answer(self, returned: Any) -> Any:
        # The cursor itself, or with PyMySQL the number of rows, which SQLAlchemy reads.
        return self if returned is self._real or returned is None else returned

    def executescript(self, script: str) -> Any:
        """Send statements one by one: the driver of SQLite would commit first."""
        statement = ""
        for piece in script.split(";"):
            statement += f"{piece};"
            if sqlite3.complete_statement(statement) and statement.strip("; \n\t"):
                self.execute(statement)
                statement = ""
        return self

    def __getattr__(self, name: str) -> Any:
        if name in _SENDING or name.startswith("copy_"):
            self._world.before(self._transaction, object())
        return super().__getattr__(name)

    def __iter__(self) -> Any:
        return iter(self._real)

    def __next__(self) -> Any:
        return next(self._real)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()


def _refuse_autocommit(asked: Any) -> None:
    if asked:
        raise NeedsRealTransactions("AUTOCOMMIT was asked for: each statement would be committed.")


def _taken_at() -> str:
    """Name the line of the application, or of the test, that takes a connection."""
    frame = sys._getframe(1)  # noqa: SLF001 - documented, for all its name
    while frame.f_back is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if not name.startswith(("sqlalchemy.", "flask_dbkit.", "flask_sqlalchemy.", "flask.")):
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
