"""The connection that migrates one database: its limits, its transactions, its lock waits.

``ALTER TABLE`` waits until every transaction that uses the table has ended, and everybody who
comes later waits behind it, readers too: one forgotten transaction and a migration stop the
application. So such a statement waits a moment only, and the revision is tried again.

References:
    * https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
    * https://mariadb.com/kb/en/metadata-locking/
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, event

from ..databases import database_of
from ..databases.statements import Kind, classify_statement, first_word
from .on_sqlite import without_foreign_keys

__all__ = ["Limits", "MigratingConnection", "is_lock_timeout", "migrating_connection"]

_QUEUEING = frozenset({"ALTER", "CREATE", "DROP", "LOCK", "RENAME", "TRUNCATE", "REINDEX"})
_CONCURRENTLY = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """How long a migration may wait, and work. Seconds.

    Attributes:
        wait_s: For another upgrade to end; and, over all tries, for the locks of one revision.
        lock_timeout_s: One statement for a row that somebody else changes.
        queue_s: One statement for a whole table, which makes readers wait behind it. MariaDB
            and MySQL count whole seconds: there it is 0 for half of ``wait_s``, then 1.
        statement_timeout_s: One statement in all; ``None`` is no limit, whatever the
            application has set for its requests.
    """

    wait_s: float = 30.0
    lock_timeout_s: float = 5.0
    queue_s: float = 0.2
    statement_timeout_s: float | None = None


@dataclass
class MigratingConnection:
    """A connection that migrates, and what it has sent.

    Attributes:
        connection: The connection.
        statements: What changed something since :meth:`start`, in order.
        is_external: Somebody else began its transaction, and will end it.
    """

    connection: Connection
    statements: list[str] = field(default_factory=list)
    is_external: bool = False

    def start(self) -> None:
        """Forget what was sent: a revision begins."""
        self.statements.clear()


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
        if connection.dialect.name == "sqlite":
            if not session.is_external:
                stack.enter_context(without_foreign_keys(connection, writes=writes))
        elif owned:
            stack.callback(_discard, connection)
            _lift_timeouts(connection, limits)
            stack.enter_context(_listening(connection, _Patience(connection, session, limits)))
        recorder = _Recorder(session.statements)
        event.listen(connection, "after_cursor_execute", recorder)
        stack.callback(event.remove, connection, "after_cursor_execute", recorder)
        yield session


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


class _Recorder:
    def __init__(self, statements: list[str]) -> None:
        self._statements = statements

    def __call__(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if classify_statement(statement) is Kind.WRITE:
            self._statements.append(statement)


def _lift_timeouts(connection: Connection, limits: Limits) -> None:
    """Take the limits that requests have off the session."""
    seconds = limits.statement_timeout_s or 0
    if connection.dialect.name == "postgresql":
        settings = [
            f"statement_timeout = {math.ceil(seconds * 1000)}",
            "idle_in_transaction_session_timeout = 0",
        ]
    elif connection.dialect.name in ("mysql", "mariadb"):
        if getattr(connection.dialect, "is_mariadb", False):
            settings = [f"SESSION max_statement_time = {seconds}"]
        else:
            settings = [f"SESSION max_execution_time = {math.ceil(seconds * 1000)}"]
    else:
        return
    for setting in settings:
        connection.exec_driver_sql(f"SET {setting}")
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

    def __init__(
        self, connection: Connection, session: MigratingConnection, limits: Limits
    ) -> None:
        self._postgresql = connection.dialect.name == "postgresql"
        self._session, self._limits = session, limits
        self._in_force: float | None = None
        self._since = time.monotonic()

    def forget(self, connection: Connection) -> None:
        """Set it anew: a rollback has undone it."""
        self._in_force = None

    def before(self, connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        """Set what fits the statement, unless it is in force."""
        wanted = self._seconds_for(statement)
        if wanted == self._in_force:
            return
        raw = connection.connection.dbapi_connection.cursor()  # type: ignore[union-attr]
        try:
            if self._postgresql:
                raw.execute(f"SET lock_timeout = {math.ceil(wanted * 1000)}")
            else:
                seconds = math.ceil(wanted)
                raw.execute(
                    f"SET SESSION lock_wait_timeout = {seconds},"
                    f" SESSION innodb_lock_wait_timeout = {max(1, seconds)}"
                )
        finally:
            raw.close()
        self._in_force = wanted

    def _seconds_for(self, statement: str) -> float:
        if first_word(statement) not in _QUEUEING:
            return self._limits.lock_timeout_s
        if self._postgresql:
            # It makes nobody wait, and would leave an invalid index behind: 0 is for ever.
            # https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
            return 0 if _CONCURRENTLY.search(statement) else self._limits.queue_s
        # What was applied cannot be rolled back, so the revision cannot be tried again.
        if self._session.statements:
            return self._limits.wait_s
        # It counts whole seconds, which are too long for readers. Not waiting at all may find the
        # table in use each time, so that is no longer tried when half of the time is over.
        # https://mariadb.com/kb/en/server-system-variables/#lock_wait_timeout
        patient = time.monotonic() - self._since > self._limits.wait_s / 2
        return self._limits.queue_s if patient else 0
