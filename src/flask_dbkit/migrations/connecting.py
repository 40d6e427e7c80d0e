"""The connection that migrates one database: its limits, its transactions, its lock waits.

``ALTER TABLE`` waits until every transaction that uses the table has ended, and everybody who
comes later waits behind it, readers too: one forgotten transaction and a migration stop the
application. So such a statement waits a moment only, and the revision is tried again.

References:
    * https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
    * https://mariadb.com/kb/en/metadata-locking/
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, event

from ..databases import MYSQL, POSTGRESQL, Database, database_of
from ..databases.statements import Kind, classify_statement, first_word
from .on_mysql import MySQLServer
from .on_postgresql import PostgreSQLServer
from .on_sqlite import without_foreign_keys
from .server import Limits, Server, Waiting

__all__ = [
    "MigratingConnection",
    "invalid_indexes_query",
    "is_lock_timeout",
    "migrating_connection",
    "server_of",
]

_QUEUEING = frozenset({"ALTER", "CREATE", "DROP", "LOCK", "RENAME", "TRUNCATE", "REINDEX"})
_OF_SAVEPOINTS = frozenset({"SAVEPOINT", "RELEASE", "ROLLBACK"})
_SERVERS: dict[Database, Server] = {POSTGRESQL: PostgreSQLServer(), MYSQL: MySQLServer()}


@dataclass
class MigratingConnection:
    """A connection that migrates, and what it has sent.

    Attributes:
        connection: The connection.
        statements: What changed something since :meth:`start`, in order.
        permanent: How many of them were committed: a rollback does not undo them.
        is_external: Somebody else began its transaction, and will end it.
    """

    connection: Connection
    statements: list[str] = field(default_factory=list)
    permanent: int = 0
    is_external: bool = False

    def start(self) -> None:
        """Forget what was sent: a revision begins."""
        self.statements.clear()
        self.permanent = 0

    def note(self, statement: str) -> None:
        """Note a statement that was sent."""
        if classify_statement(statement) is Kind.WRITE:
            self.statements.append(statement)
            # In an autocommit_block() of Alembic's each one is committed by itself.
            options = self.connection.get_execution_options()
            if options.get("isolation_level") == "AUTOCOMMIT":
                self.permanent = len(self.statements)

    def note_commit(self, _connection: Connection) -> None:
        """Note that what was sent is committed."""
        self.permanent = len(self.statements)


@contextmanager
def migrating_connection(
    target: Engine | Connection, limits: Limits, *, writes: bool
) -> Iterator[MigratingConnection]:
    """Prepare a connection for revisions.

    Args:
        target: An engine, of which a connection is taken; or a connection, which is used as it
            is: inside a transaction nothing can be prepared, and a server's session settings
            are its owner's.
        limits: How long it may wait.
        writes: Whether revisions are applied, or only compared.
    """
    with ExitStack() as stack:
        owned = isinstance(target, Engine)
        connection: Connection = (
            stack.enter_context(target.connect()) if isinstance(target, Engine) else target
        )
        session = MigratingConnection(connection, is_external=connection.in_transaction())
        server = server_of(connection)
        if database_of(connection).rebuilds_tables:
            if not session.is_external:
                stack.enter_context(without_foreign_keys(connection, writes=writes))
        elif owned:
            stack.callback(_discard, connection)
            if server is not None:
                _lift_timeouts(server, connection, limits)
                patience = _Patience(server, session, limits)
                stack.enter_context(_listening(connection, patience))
        listeners: dict[str, Any] = {
            "after_cursor_execute": lambda _connection, _cursor, sql, *_: session.note(sql),
            "commit": session.note_commit,
        }
        for name, listener in listeners.items():
            event.listen(connection, name, listener)
            stack.callback(event.remove, connection, name, listener)
        yield session


def server_of(connection: Connection) -> Server | None:
    """Return what the server of a connection offers; ``None`` for a library, and if unknown."""
    return _SERVERS.get(database_of(connection))


def invalid_indexes_query(what: Connection | Dialect) -> str | None:
    """Return the query for indexes that were left half built; ``None`` where there are none."""
    server = _SERVERS.get(database_of(what))
    return None if server is None else server.invalid_indexes()


def is_lock_timeout(error: BaseException, connection: Connection) -> bool:
    """Tell whether a statement failed only because somebody else held a lock."""
    original = getattr(error, "orig", None) or error
    return database_of(connection).errors.meaning(original, None) == "retry"


def _discard(connection: Connection) -> None:
    """Close it for good: no setting of ours gets to the next user of a pooled connection."""
    if not connection.closed and not connection.invalidated:
        if connection.in_transaction():
            connection.rollback()
        connection.invalidate()


def _lift_timeouts(server: Server, connection: Connection, limits: Limits) -> None:
    """Take the limits that requests have off the session."""
    for statement in server.lift_timeouts(connection, limits.statement_timeout_s or 0):
        connection.exec_driver_sql(statement)
    connection.commit()


@contextmanager
def _listening(connection: Connection, patience: _Patience) -> Iterator[None]:
    event.listen(connection, "begin", patience.forget)
    event.listen(connection, "before_cursor_execute", patience.before)
    try:
        yield
    finally:
        event.remove(connection, "begin", patience.forget)
        event.remove(connection, "before_cursor_execute", patience.before)


class _Patience:
    """Sets how long the next statement waits for a lock: by what waits behind it."""

    def __init__(self, server: Server, session: MigratingConnection, limits: Limits) -> None:
        self._server = server
        self._session, self._limits = session, limits
        self._in_force: float | None = None
        self._since = time.monotonic()

    def forget(self, connection: Connection) -> None:
        """Set it anew: a rollback has undone it."""
        self._in_force = None

    def before(self, connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        """Set what fits the statement, unless it is in force."""
        word = first_word(statement)
        if word in _OF_SAVEPOINTS:
            # It waits for no lock, and a transaction that has failed takes nothing else. What was
            # set since the savepoint is undone by going back to it.
            if word == "ROLLBACK":
                self._in_force = None
            return
        wanted = self._seconds_for(statement)
        if wanted == self._in_force:
            return
        raw = connection.connection.dbapi_connection.cursor()  # type: ignore[union-attr]
        try:
            raw.execute(self._server.wait_for_locks(wanted))
        finally:
            raw.close()
        self._in_force = wanted

    def _seconds_for(self, statement: str) -> float:
        if first_word(statement) not in _QUEUEING:
            return self._limits.lock_timeout_s
        waited_s = time.monotonic() - self._since
        waiting = Waiting(statement, waited_s, has_applied=bool(self._session.statements))
        return self._server.seconds_for_table(waiting, self._limits)
