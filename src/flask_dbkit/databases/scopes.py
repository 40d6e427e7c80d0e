"""What a scope asks of a database: how to begin, limits, the driver's state.

What an error of a driver means is known by :mod:`flask_dbkit.databases.errors`.
"""

from __future__ import annotations

import math
import re
import sqlite3
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Dialect

from ..transactions.options import Timeouts
from .errors import Faults, faults_for
from .sqlite.control import LOCK_TIMEOUT_OPTION, READ_ONLY_OPTION, control_of
from .statements import first_word

__all__ = ["INTERNAL", "DatabaseScopes", "Loss", "scopes_for"]

INTERNAL = {"dbkit_internal": True}
"""Execution options of the statements a scope sends itself, which its guards let pass."""

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
_RESTORE_KEY = "flask_dbkit.restore"


class Loss(Enum):
    """What the driver knows to have happened to the transaction of a connection."""

    GONE = "gone"
    FAILED = "failed"


class Effects(NamedTuple):
    """What a statement does to the transaction it is sent in.

    Attributes:
        commits: It commits everything before it, by itself.
        opens: The database must have a transaction open once it was sent.
    """

    commits: bool
    opens: bool


class DatabaseScopes:
    """The plain answers, for databases we know nothing of.

    Attributes:
        two_phase: Whether a prepared transaction can span several databases.
        can_turn_read_only: Whether the database can refuse writes from some point on.
        read_only_savepoint: Whether a savepoint can be made read-only.
        commits_implicitly: Whether some statements commit everything before them, and others
            leave no transaction open.
        faults: What the errors of its drivers mean.
    """

    two_phase = False
    can_turn_read_only = False
    read_only_savepoint = False
    commits_implicitly = False

    def __init__(self, dialect_name: str) -> None:
        self.faults: Faults = faults_for(dialect_name)

    def is_idle(self, raw: Any) -> bool:
        """Tell whether the driver is sure that a rollback would do nothing."""
        return False

    def effects(self, statement: str) -> Effects:
        """Tell what a statement that is no SELECT does, if :attr:`commits_implicitly`."""
        raise NotImplementedError

    def begin_options(
        self, *, read_only: bool, isolation: str | None, timeouts: Timeouts
    ) -> dict[str, Any]:
        """Return execution options for the connection, to be known before its BEGIN."""
        return {} if isolation is None else {"isolation_level": isolation}

    def begun(self, connection: Connection, *, read_only: bool) -> None:
        """Complete the beginning, once the transaction is open and before anything is sent."""

    def limit(self, connection: Connection, timeouts: Timeouts) -> None:
        """Put timeouts in force until the end of the transaction, or until the next call."""

    def set_read_only(self, connection: Connection, read_only: bool) -> None:
        """Make the rest of the transaction, or of the savepoint, read-only; or writable again."""

    def loss(self, raw: Any, *, wrote: bool) -> Loss | None:
        """Ask the driver whether its transaction is still the one that was begun: ``None``."""
        return None

    def ends_transaction(self, error: BaseException, connection: Connection) -> bool:
        """Tell whether the database has ended the whole transaction, savepoints included."""
        return self.faults.code(error) in self.faults.fatal


class SQLiteScopes(DatabaseScopes):
    """SQLite through the transaction control of :mod:`flask_dbkit.databases.sqlite`."""

    can_turn_read_only = True

    def is_idle(self, raw: Any) -> bool:
        return not raw.in_transaction

    def begin_options(
        self, *, read_only: bool, isolation: str | None, timeouts: Timeouts
    ) -> dict[str, Any]:
        # Every SQLite transaction is serializable, whatever less is asked for.
        # https://www.sqlite.org/isolation.html
        options: dict[str, Any] = {}
        if read_only:
            options[READ_ONLY_OPTION] = True
        if timeouts.lock_s is not None:
            options[LOCK_TIMEOUT_OPTION] = timeouts.lock_s
        return options

    def limit(self, connection: Connection, timeouts: Timeouts) -> None:
        control = control_of(connection)
        if control is not None:
            control.limit(lock_timeout_s=timeouts.lock_s, statement_timeout_s=timeouts.statement_s)

    def set_read_only(self, connection: Connection, read_only: bool) -> None:
        control = control_of(connection)
        if control is not None:
            control.set_read_only(connection.connection, read_only=read_only)

    def loss(self, raw: Any, *, wrote: bool) -> Loss | None:
        # A reader may have stepped aside on the one connection of an in-memory database; work
        # that was written has to be there.
        if not wrote or raw.in_transaction:
            return None
        return Loss.GONE

    def ends_transaction(self, error: BaseException, connection: Connection) -> bool:
        # On a full disk, an I/O error or no memory SQLite may roll back by itself.
        # https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction
        return (
            isinstance(error, sqlite3.Error)
            and control_of(connection) is not None
            and not connection.invalidated
            and not _raw(connection).in_transaction
        )


class PostgreSQLScopes(DatabaseScopes):
    """PostgreSQL through psycopg 3 or psycopg2."""

    two_phase = True
    can_turn_read_only = True
    read_only_savepoint = True

    def begin_options(
        self, *, read_only: bool, isolation: str | None, timeouts: Timeouts
    ) -> dict[str, Any]:
        options = super().begin_options(read_only=read_only, isolation=isolation, timeouts=timeouts)
        if read_only:
            options["postgresql_readonly"] = True
        return options

    def is_idle(self, raw: Any) -> bool:
        return self.loss(raw, wrote=True) is Loss.GONE

    def limit(self, connection: Connection, timeouts: Timeouts) -> None:
        base = connection.info.setdefault(_RESTORE_KEY, {})
        calls = []
        for name, seconds in (
            ("lock_timeout", timeouts.lock_s),
            ("statement_timeout", timeouts.statement_s),
        ):
            if seconds is None and name not in base:
                continue
            if name not in base:
                asked = connection.exec_driver_sql(f"SHOW {name}", execution_options=INTERNAL)
                base[name] = asked.scalar_one()
            value = base[name] if seconds is None else f"{max(1, round(seconds * 1000))}ms"
            # A number of our own, or what the server said: nothing to escape.
            calls.append(f"set_config('{name}', '{value}', true)")
        if calls:
            connection.exec_driver_sql(
                "SELECT " + ", ".join(calls), execution_options=INTERNAL
            ).close()

    def set_read_only(self, connection: Connection, read_only: bool) -> None:
        # Undone by RELEASE and by ROLLBACK TO, so there is nothing to switch back.
        if read_only:
            connection.exec_driver_sql(
                "SET TRANSACTION READ ONLY", execution_options=INTERNAL
            ).close()

    def loss(self, raw: Any, *, wrote: bool) -> Loss | None:
        pgconn = getattr(raw, "pgconn", None)
        if pgconn is not None:
            status = int(pgconn.transaction_status)
        elif hasattr(raw, "get_transaction_status"):
            status = raw.get_transaction_status()
        else:
            return None
        # libpq's PGTransactionStatusType: IDLE 0, ACTIVE 1, INTRANS 2, INERROR 3
        # https://www.postgresql.org/docs/current/libpq-status.html
        return {0: Loss.GONE, 3: Loss.FAILED}.get(status)


class MySQLScopes(DatabaseScopes):
    """MySQL and MariaDB through PyMySQL or mysqlclient."""

    commits_implicitly = True

    _LOCK_WAIT_TIMEOUT = 1205
    _IN_TRANSACTION = 1  # SERVER_STATUS_IN_TRANS
    _ROWS = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD"})

    def effects(self, statement: str) -> Effects:
        # https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
        word = first_word(statement)
        if word == "SET":
            commits = _AUTOCOMMIT.search(statement) is not None
        else:
            commits = word in _COMMITTING and not _TEMPORARY.match(statement)
        # Others write to nothing that takes part in a transaction: DO, KILL, ANALYZE, ...
        return Effects(commits=commits, opens=word in self._ROWS)

    def begun(self, connection: Connection, *, read_only: bool) -> None:
        if read_only:
            connection.exec_driver_sql(
                "START TRANSACTION READ ONLY", execution_options=INTERNAL
            ).close()

    def limit(self, connection: Connection, timeouts: Timeouts) -> None:
        """Set session variables; the pool puts them back when the connection returns."""
        base = connection.info.setdefault(_RESTORE_KEY, {})
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

    def loss(self, raw: Any, *, wrote: bool) -> Loss | None:
        # Set by the first statement that touches a table, cleared by COMMIT, by ROLLBACK and
        # by DDL, which commits. Only after a write it is known to have been set.
        if not wrote or not isinstance(getattr(raw, "server_status", None), int):
            return None
        if not raw.server_status & self._IN_TRANSACTION:
            # PyMySQL does not take it from an answer with rows (INSERT ... RETURNING).
            raw.ping(reconnect=False)
        return None if raw.server_status & self._IN_TRANSACTION else Loss.GONE

    def ends_transaction(self, error: BaseException, connection: Connection) -> bool:
        code = self.faults.code(error)
        if code == self._LOCK_WAIT_TIMEOUT and not connection.invalidated:
            # With innodb_rollback_on_timeout the server drops the transaction, not the statement.
            return self.loss(_raw(connection), wrote=True) is Loss.GONE
        return code in self.faults.fatal


def _ms(timeouts: Timeouts) -> int:
    return max(1, round((timeouts.statement_s or 0) * 1000))


def _raw(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def restore_session(dbapi_connection: Any, record: Any) -> None:
    """Put session variables back as a connection returns to the pool."""
    base = record.info.pop(_RESTORE_KEY, None)
    if not base or dbapi_connection is None or hasattr(dbapi_connection, "info"):
        return  # PostgreSQL's were for the transaction only
    cursor = dbapi_connection.cursor()
    try:
        cursor.execute("SET " + ", ".join(f"SESSION {name} = {base[name]}" for name in base))
    finally:
        cursor.close()


_BY_NAME: dict[str, DatabaseScopes] = {
    "sqlite": SQLiteScopes("sqlite"),
    "postgresql": PostgreSQLScopes("postgresql"),
    "mysql": MySQLScopes("mysql"),
    "mariadb": MySQLScopes("mariadb"),
}
_OTHERS = DatabaseScopes("")


def scopes_for(dialect: Dialect) -> DatabaseScopes:
    """Return what a scope may ask of this dialect's database."""
    return _BY_NAME.get(dialect.name, _OTHERS)
