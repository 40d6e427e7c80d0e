"""MySQL and MariaDB: session variables, statements that commit by themselves, the status flag."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from ..deadlines import answer_in_time, limit_silence
from ..limits import Timeouts
from ..scopes import INTERNAL, READ_ONLY_KEY, RESTORE_KEY, DatabaseScopes, Effects, Loss, raw_of
from ..statements import first_word
from .errors import MySQLErrors
from .handshake import recognise_broken_handshakes

__all__ = ["MySQLScopes"]

_LEVEL_KEY = "flask_dbkit.isolation_level"
_COMMITTING = frozenset(
    {
        "ALTER",
        "ANALYZE",
        "CHECK",
        "CREATE",
        "DROP",
        "FLUSH",
        "GRANT",
        "INSTALL",
        "LOCK",
        "OPTIMIZE",
        "RENAME",
        "REPAIR",
        "REVOKE",
        "TRUNCATE",
        "UNINSTALL",
        "UNLOCK",
    }
)
_AUTOCOMMIT = re.compile(r"\bautocommit\s*:?=", re.IGNORECASE)
_TEMPORARY = re.compile(r"\s*(?:CREATE|DROP)\s+(?:OR\s+REPLACE\s+)?TEMPORARY\s", re.IGNORECASE)


class MySQLScopes(DatabaseScopes):
    """MySQL and MariaDB through PyMySQL or mysqlclient."""

    commits_implicitly = True
    errors_drop_savepoints = True
    keeps_options = True
    errors = MySQLErrors()

    _LOCK_WAIT_TIMEOUT = 1205
    _READ_ONLY_SERVER = frozenset({1290, 1836})  # --read-only; read-only mode
    _IN_TRANSACTION = 1  # SERVER_STATUS_IN_TRANS
    _ROWS = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD"})

    def install(self, engine: Engine) -> None:
        """Note a session's isolation level before execution options change it.

        SQLAlchemy resets it to that of the very first connection, before any listener of the
        application's set another.
        """
        recognise_broken_handshakes(engine)
        dialect = engine.dialect
        plain = dialect.set_connection_execution_options

        def set_connection_execution_options(
            connection: Connection, opts: Mapping[str, Any]
        ) -> None:
            if "isolation_level" in opts and _LEVEL_KEY not in connection.info:
                level = dialect.get_isolation_level(raw_of(connection))
                if level != dialect.default_isolation_level:
                    connection.info[_LEVEL_KEY] = level
            plain(connection, opts)

        setattr(dialect, "set_connection_execution_options", set_connection_execution_options)

    def effects(self, statement: str) -> Effects:
        """Tell what a statement that is no SELECT does."""
        # https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
        word = first_word(statement)
        if word == "SET":
            commits = _AUTOCOMMIT.search(statement) is not None
        else:
            commits = word in _COMMITTING and not _TEMPORARY.match(statement)
        # Others write to nothing that takes part in a transaction: DO, KILL, ANALYZE, ...
        return Effects(commits=commits, opens=word in self._ROWS)

    def has_opened(self, raw: Any, cursor: Any) -> bool:
        """Read the server's flag. It stays off for tables that take part in no transaction."""
        if not isinstance(getattr(raw, "server_status", None), int):
            return True
        if not raw.server_status & self._IN_TRANSACTION and cursor.description is not None:
            # PyMySQL does not take it from an answer with rows (INSERT ... RETURNING).
            raw.ping(reconnect=False)
        return bool(raw.server_status & self._IN_TRANSACTION)

    def may_commit_inside(self, statement: str) -> bool:
        """Tell it of procedures, and of what was prepared; functions and triggers cannot."""
        return first_word(statement) in {"CALL", "EXECUTE"}

    def begun(self, connection: Connection, *, read_only: bool) -> None:
        """Complete the beginning, once the transaction is open and before anything is sent."""
        if read_only:
            connection.info[READ_ONLY_KEY] = True
            connection.exec_driver_sql(
                "START TRANSACTION READ ONLY", execution_options=INTERNAL
            ).close()

    def limit(self, connection: Connection, timeouts: Timeouts) -> None:
        """Set session variables; the pool puts them back when the connection returns."""
        base = connection.info.setdefault(RESTORE_KEY, {})
        mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
        wanted: dict[str, float | int | None] = {
            # Whole seconds are all it takes.
            "innodb_lock_wait_timeout": timeouts.lock_s and max(1, math.ceil(timeouts.lock_s)),
            "max_statement_time" if mariadb else "max_execution_time": (
                timeouts.statement_s and (timeouts.statement_s if mariadb else _ms(timeouts))
            ),
        }
        assignments = []
        for name, value in wanted.items():
            if value is None and name not in base:
                continue
            if name not in base:
                asked = connection.exec_driver_sql(
                    f"SELECT @@SESSION.{name}", execution_options=INTERNAL
                )
                base[name] = asked.scalar_one()
            assignments.append(f"SESSION {name} = {base[name] if value is None else value}")
        if assignments:
            connection.exec_driver_sql(
                "SET " + ", ".join(assignments), execution_options=INTERNAL
            ).close()
        limit_silence(connection, timeouts.statement_s)

    def loss(self, raw: Any, *, wrote: bool) -> Loss | None:
        """Ask the driver whether its transaction is still the one that was begun: ``None``."""
        # Set by the first statement that touches a table of an engine with transactions, cleared
        # by COMMIT, by ROLLBACK and by DDL, which commits. Only what was set can be lost.
        if not wrote or not isinstance(getattr(raw, "server_status", None), int):
            return None
        if not raw.server_status & self._IN_TRANSACTION:
            # PyMySQL does not take it from an answer with rows (INSERT ... RETURNING).
            with answer_in_time(raw):
                raw.ping(reconnect=False)
        return None if raw.server_status & self._IN_TRANSACTION else Loss.GONE

    def ends_transaction(self, error: BaseException, connection: Connection) -> bool:
        """Tell whether the database has ended the whole transaction, savepoints included."""
        code = self.errors.code(error)
        if code == self._LOCK_WAIT_TIMEOUT and not connection.invalidated:
            # With innodb_rollback_on_timeout the server drops the transaction, not the statement.
            return self.loss(raw_of(connection), wrote=True) is Loss.GONE
        return code in self.errors.fatal

    def has_turned_read_only(self, connection: Connection, error: BaseException) -> bool:
        """Tell it by the server's own option; a READ ONLY transaction has another number."""
        turned = self.errors.code(error) in self._READ_ONLY_SERVER
        said = turned and self.errors.meaning(error, "") == "readonly"
        return said and READ_ONLY_KEY not in connection.info

    def restore(self, dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        """Put the session variables back."""
        record.info.pop(READ_ONLY_KEY, None)
        base = record.info.pop(RESTORE_KEY, None)
        level = record.info.pop(_LEVEL_KEY, None)
        if dbapi_connection is None or not (base or level):
            return
        cursor = dbapi_connection.cursor()
        try:
            with answer_in_time(dbapi_connection):
                if base:
                    assignments = ", ".join(f"SESSION {name} = {base[name]}" for name in base)
                    cursor.execute(f"SET {assignments}")
                if level:
                    cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
        finally:
            cursor.close()


def _ms(timeouts: Timeouts) -> int:
    return max(1, round((timeouts.statement_s or 0) * 1000))
