"""PostgreSQL: settings that end with the transaction, and the status that libpq keeps."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.pool import ConnectionPoolEntry

from ..limits import Timeouts
from ..scopes import INTERNAL, RESTORE_KEY, DatabaseScopes, Loss
from .errors import PostgreSQLErrors

__all__ = ["PostgreSQLScopes"]


class PostgreSQLScopes(DatabaseScopes):
    """PostgreSQL through psycopg 3 or psycopg2."""

    two_phase = True
    can_turn_read_only = True
    read_only_savepoint = True
    errors = PostgreSQLErrors()

    def begin_options(
        self, *, read_only: bool, isolation: str | None, timeouts: Timeouts
    ) -> dict[str, Any]:
        """Return execution options for the connection, to be known before its BEGIN."""
        options = super().begin_options(read_only=read_only, isolation=isolation, timeouts=timeouts)
        if read_only:
            options["postgresql_readonly"] = True
        return options

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

    def restore(self, dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        """Forget what was noted; the settings themselves ended with the transaction."""
        record.info.pop(RESTORE_KEY, None)
