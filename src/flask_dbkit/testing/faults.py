"""Faults of a database, on purpose: a connection that is lost, a pool that gives nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from sqlalchemy.engine import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool

from ..databases import MYSQL, POSTGRESQL, SQLITE, database_of
from ..databases.execution import Execution, Order, Watcher, watch
from . import on_mysql, on_sqlite
from .on_postgresql import databases as on_postgresql

__all__ = ["BrokenConnection", "FrozenPool"]

_LOST: dict[object, Callable[[Any], BaseException]] = {
    SQLITE: on_sqlite.lost_connection,
    POSTGRESQL: on_postgresql.lost_connection,
    MYSQL: on_mysql.lost_connection,
}


class _Fault:
    """A fault that is there from the moment it is made, until its block or its test ends."""

    def end(self) -> None:
        """Let everything work again."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class BrokenConnection(_Fault):
    """The next statement finds its connection lost; the one after it, on a new one, works.

    Args:
        engine: Whose connection.
    """

    def __init__(self, engine: Engine) -> None:
        self._breaking = _Breaking.of(engine)
        self._breaking.is_armed = True

    def end(self) -> None:
        """Lose nothing, if nothing was sent."""
        self._breaking.is_armed = False


class _Breaking(Watcher):
    order = Order.CONTROL

    def __init__(self, engine: Engine) -> None:
        self._dialect = engine.dialect
        self._error = _LOST[database_of(engine)]
        self.is_armed = False

    @classmethod
    def of(cls, engine: Engine) -> _Breaking:
        """Return the one of an engine, which watches from then on."""
        known: _Breaking | None = engine.dialect.__dict__.get("_dbkit_breaking")
        if known is None:
            known = cls(engine)
            setattr(engine.dialect, "_dbkit_breaking", known)
            watch(engine, known)
        return known

    def before(self, execution: Execution) -> bool | None:
        if self.is_armed:
            self.is_armed = False
            raw: Any = execution.connection.connection.dbapi_connection
            raw.close()  # of a test's connection, what it has not committed is lost as well
            raise self._error(self._dialect.loaded_dbapi)
        return None


class FrozenPool(_Fault):
    """Nobody gets a connection: it is as if all of them were taken, and the waiting were over.

    Args:
        engine: Whose pool.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self._pool = engine, engine.pool
        creator: Any = self._refuse
        engine.pool = NullPool(creator, dialect=engine.dialect)

    def _refuse(self) -> None:
        raise PoolTimeout("QueuePool limit of size 5 overflow 10 reached, connection timed out")

    def end(self) -> None:
        """Give connections again."""
        self._engine.pool = self._pool
