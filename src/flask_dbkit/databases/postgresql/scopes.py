"""PostgreSQL: settings that end with the transaction, and the status that libpq keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from ..deadlines import limit_silence
from ..limits import Timeouts
from ..scopes import INTERNAL, RESTORE_KEY, DatabaseScopes, Loss, raw_of
from .errors import PostgreSQLErrors

__all__ = ["PostgreSQLScopes"]

_OPTIONS = frozenset({"isolation_level", "postgresql_readonly", "postgresql_deferrable"})
# psycopg 3's name of a flag, or psycopg2's.
_FLAGS = ("autocommit", "isolation_level", "read_only", "readonly", "deferrable")
_FLAGS_KEY = "flask_dbkit.flags"
_READERS = frozenset({"read-only", "standby", "prefer-standby"})


class PostgreSQLScopes(DatabaseScopes):
    """PostgreSQL through psycopg 3 or psycopg2."""

    two_phase = True
    can_turn_read_only = True
    read_only_savepoint = True
    takes_options_later = True
    keeps_options = True
    errors = PostgreSQLErrors()
    _READ_ONLY = "25006"  # read_only_sql_transaction

    def begin_options(
        self, *, read_only: bool, isolation: str | None, timeouts: Timeouts
    ) -> dict[str, Any]:
        """Return execution options for the connection, to be known before its BEGIN."""
        options = super().begin_options(read_only=read_only, isolation=isolation, timeouts=timeouts)
        if read_only:
            options["postgresql_readonly"] = True
        return options

    def install(self, engine: Engine) -> None:
        """Note the driver's flags before execution options change them."""
        dialect = engine.dialect
        plain = dialect.set_connection_execution_options

        def set_connection_execution_options(
            connection: Connection, opts: Mapping[str, Any]
        ) -> None:
            if not _OPTIONS.isdisjoint(opts):
                raw = raw_of(connection)
                flags = {name: getattr(raw, name) for name in _FLAGS if hasattr(raw, name)}
                connection.info.setdefault(_FLAGS_KEY, flags)
            plain(connection, opts)

        setattr(dialect, "set_connection_execution_options", set_connection_execution_options)

    def is_idle(self, raw: Any) -> bool:
        """Tell whether the driver is sure that a rollback would do nothing."""
        return self.loss(raw, wrote=True) is Loss.GONE

    def limit(self, connection: Connection, timeouts: Timeouts) -> None:
        """Put timeouts in force until the end of the transaction, or until the next call."""
        base = connection.info.setdefault(RESTORE_KEY, {})
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
        limit_silence(connection, timeouts.statement_s)

    def set_read_only(self, connection: Connection, read_only: bool) -> None:
        """Make the rest of the transaction read-only; or writable again."""
        # Undone by RELEASE and by ROLLBACK TO, so there is nothing to switch back.
        if read_only:
            connection.exec_driver_sql(
                "SET TRANSACTION READ ONLY", execution_options=INTERNAL
            ).close()

    def loss(self, raw: Any, *, wrote: bool) -> Loss | None:
        """Ask the driver whether its transaction is still the one that was begun: ``None``."""
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

    def has_turned_read_only(self, connection: Connection, error: BaseException) -> bool:
        """Tell it by what the server reports of itself, without a question.

        From version 14 on it reports both settings whenever they change.
        https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
        """
        raw = raw_of(connection)
        if self.errors.code(error) != self._READ_ONLY or _asked_to_read(raw):
            return False
        names = ("in_hot_standby", "default_transaction_read_only")
        told = [_reported(raw, name) for name in names]
        return "on" in told or told == [None, None]

    def restore(self, dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        """Set the driver's flags as they were; all else ended with the transaction.

        SQLAlchemy resets them to ``False`` and to a level by name, and then the driver says so at
        each BEGIN: a hot standby refuses ``BEGIN READ WRITE``.
        """
        record.info.pop(RESTORE_KEY, None)
        flags: dict[str, Any] = record.info.pop(_FLAGS_KEY, {})
        if dbapi_connection is not None:
            for name, value in flags.items():
                if getattr(dbapi_connection, name) != value:
                    setattr(dbapi_connection, name, value)


def _asked_to_read(raw: Any) -> bool:
    """Tell whether the transaction, or the connection itself, was asked for as read-only."""
    # psycopg 3 calls the flag read_only, psycopg2 readonly.
    if getattr(raw, "read_only", None) or getattr(raw, "readonly", None):
        return True
    info = getattr(raw, "info", None)
    given: Any = getattr(info, "get_parameters", None) or getattr(raw, "get_dsn_parameters", dict)
    asked = given()
    wants = str(asked.get("target_session_attrs", ""))
    return wants in _READERS or "default_transaction_read_only" in str(asked.get("options", ""))


def _reported(raw: Any, name: str) -> str | None:
    parameter_status: Any = getattr(getattr(raw, "info", None), "parameter_status", None)
    return None if parameter_status is None else parameter_status(name)
