"""A connection of the driver's that runs no script while a scope owns its transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from ...exceptions import DBKitError

__all__ = ["GuardedConnection", "guard_scripts"]


# Looked up once: super() costs each COMMIT half a microsecond.
_commit, _rollback = sqlite3.Connection.commit, sqlite3.Connection.rollback


class GuardedCursor(sqlite3.Cursor):
    """A cursor whose scripts are those of its connection."""

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        """Run several statements, unless a scope is open."""
        refuse_script(self.connection)
        return super().executescript(sql_script)


class GuardedConnection(sqlite3.Connection):
    """Python's own, but for ``executescript()``, which commits before it begins.

    Attributes:
        scopes: How many scopes own a transaction on it: in memory they may share it.
        refusal: What is raised in their name.

    References:
        https://docs.python.org/3/library/sqlite3.html#sqlite3.Cursor.executescript
    """

    scopes = 0
    refusal: type[DBKitError] = DBKitError

    ended: Callable[[str], None] | None = None
    """Told when the driver's own ``commit()`` or ``rollback()`` is called."""

    def commit(self) -> None:
        """Commit, and tell the scope."""
        if self.ended is not None:
            self.ended("commit")
        _commit(self)

    def rollback(self) -> None:
        """Roll back, and tell the scope."""
        if self.ended is not None:
            self.ended("rollback")
        _rollback(self)

    def cursor(self, factory: Callable[..., Any] = GuardedCursor) -> Any:  # type: ignore[override]
        """Return a cursor, of ours unless another kind is asked for."""
        return super().cursor(factory)

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        """Run several statements, unless a scope is open."""
        refuse_script(self)
        return super().executescript(sql_script)


def refuse_script(connection: sqlite3.Connection) -> None:
    """Refuse what would commit the work of a scope.

    Raises:
        DBKitError: A scope is open on this connection.
    """
    if isinstance(connection, GuardedConnection) and connection.scopes:
        raise connection.refusal(
            "executescript() inside a transaction() scope: it commits everything before it, and"
            " the scope could not keep its word. Nothing was sent. Run it outside the scope."
        )


def guard_scripts(engine: Engine) -> None:
    """Let the connections of one engine be of our kind, unless it asks for another."""

    @event.listens_for(engine, "do_connect")
    def do_connect(dialect: Any, record: Any, args: list[Any], options: dict[str, Any]) -> None:
        if dialect.driver == "pysqlite":
            options.setdefault("factory", GuardedConnection)
