"""PostgreSQL: pool and timeout defaults, session settings, and poolers.

References:
    * Connection parameters: https://www.postgresql.org/docs/current/libpq-connect.html
    * Timeouts: https://www.postgresql.org/docs/current/runtime-config-client.html
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import URL, Connection, Engine

from ..engine import (
    DatabaseSupport,
    EngineContext,
    drop_url_arguments,
    guard_connections,
    run_on_every_connection,
    takes_queue_options,
)
from ..pooling import pre_ping_options
from ..settings import ServerSettings

__all__ = ["PostgreSQL"]

_LIBPQ_DRIVERS = frozenset({"psycopg", "psycopg2", "psycopg2cffi"})
_CONNECT: dict[str, Any] = {"connect_timeout": 5}
_SHOWN = (
    "TimeZone",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "default_transaction_isolation",
    "application_name",
)
# https://www.postgresql.org/support/versioning/
_END_OF_LIFE = {
    12: "2024-11-21",
    13: "2025-11-13",
    14: "2026-11-12",
    15: "2027-11-11",
    16: "2028-11-09",
    17: "2029-11-08",
    18: "2030-11-14",
}
_NAME_LIMIT = 63  # bytes; the server cuts longer names (NAMEDATALEN - 1)


class PostgreSQL(DatabaseSupport):
    """Defaults for PostgreSQL through psycopg 3, psycopg2, or any other driver."""

    def engine_options(self, url: URL, context: EngineContext) -> dict[str, Any]:
        """Return pool defaults, and connection parameters where the driver is libpq's.

        A dead connection is found before it is used, not by the request that draws it: with
        every backend killed, 0 of 10 requests failed with the ping and several without.
        """
        ping_after_s = context.settings(ServerSettings).pool_ping_after_s
        options = pre_ping_options(context.given, ping_after_s)
        if context.given.get("pool") is None:
            options["pool_recycle"] = 1800
        if takes_queue_options(context.given):
            # The default of 30 s outlives the patience of every proxy and of most people: a
            # request that waits this long for a connection had better say so.
            options["pool_timeout"] = 10
        driver = url.get_driver_name()
        if driver in _LIBPQ_DRIVERS:
            options["connect_args"] = drop_url_arguments(_libpq_arguments(driver, context), url)
        return options

    def connect_limits(self, url: URL) -> dict[str, Any]:
        """Return libpq's limit, which holds until a connection is ready."""
        return _CONNECT if url.get_driver_name() in _LIBPQ_DRIVERS else {}

    def install(self, engine: Engine, context: EngineContext) -> None:
        """Set the time zone and the timeouts of each session, or of each transaction.

        Behind a pooler in transaction mode a ``SET`` outlives its client and is seen by the
        next one, so there everything is set with ``SET LOCAL`` semantics after BEGIN.
        """
        settings = context.settings(ServerSettings)
        guard_connections(engine, context)
        values = _session_settings(engine.url, context)
        if not values:
            return
        local = settings.pooler is not None
        calls = ", ".join(
            f"set_config('{name}', '{value}', {'true' if local else 'false'})"
            for name, value in values.items()
        )
        # Names come from this module and values are numbers or 'UTC': nothing to escape.
        statement = f"SELECT {calls}"
        if local:
            _run_after_begin(engine, statement)
        else:
            run_on_every_connection(engine, lambda connection: _run(connection, statement))

    def connection_limit(self, connection: Connection) -> int | None:
        """Return what is left of ``max_connections`` for those that are no superusers."""
        reserved = "coalesce(current_setting('reserved_connections', true)::int, 0)"
        return _whole(
            connection,
            "SELECT current_setting('max_connections')::int"
            f" - current_setting('superuser_reserved_connections')::int - {reserved}",
        )

    def connections_in_use(self, connection: Connection) -> int | None:
        """Count the sessions of all databases."""
        return _whole(
            connection,
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
        )

    def is_behind_pooler(self, connection: Connection) -> bool:
        """Compare the backend that the connect told with the one that answers.

        A pooler makes up the key by which a statement can be cancelled, and the number of the
        backend is a part of it.
        https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
        """
        raw: Any = connection.connection.dbapi_connection
        told = getattr(getattr(raw, "info", None), "backend_pid", None)
        return told is not None and told != connection.scalar(text("SELECT pg_backend_pid()"))

    def encoding(self, connection: Connection) -> str | None:
        """Ask for the server's side."""
        return str(connection.scalar(text("SHOW server_encoding")))

    def end_of_life(self, connection: Connection) -> tuple[str, str | None]:
        """Look the major version up."""
        major = int((connection.dialect.server_version_info or (0,))[0])
        return f"PostgreSQL {major}", _END_OF_LIFE.get(major) or (
            "2023-11-09" if major < 12 else None
        )

    def is_encrypted(self, connection: Connection) -> bool | None:
        """Ask for this session."""
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(connection.scalar(text(query)))

    def only_read(self, engine: Engine, limit_s: float) -> None:
        """Say so to each transaction: what is said to a session outlives it behind a pooler."""
        statement = (
            "SELECT set_config('transaction_read_only', 'on', true),"
            f" set_config('statement_timeout', '{limit_s * 1000:.0f}', true)"
        )
        _run_after_begin(engine, statement)

    def settings(self, connection: Connection) -> dict[str, str]:
        """Return time zone, timeouts, isolation level and application name in force."""
        return {name: str(connection.scalar(text(f"SHOW {name}"))) for name in _SHOWN}


def _libpq_arguments(driver: str, context: EngineContext) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        **_CONNECT,
        # Find a vanished peer while idle …
        "keepalives": 1,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        # … and while data is in flight, which keep-alives do not cover. Milliseconds.
        "tcp_user_timeout": 10_000,
        "application_name": _cut(context.app_name),
    }
    if driver == "psycopg" and context.settings(ServerSettings).pooler is not None:
        # Prepared statements live in one server session; the pooler hands out others.
        # https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
        arguments["prepare_threshold"] = None
    return arguments


def _whole(connection: Connection, query: str) -> int:
    return int(connection.scalar(text(query)) or 0)


def _cut(name: str) -> str:
    return name.encode("ascii", "replace")[:_NAME_LIMIT].decode("ascii")


def _session_settings(url: URL, context: EngineContext) -> dict[str, str]:
    config = context.settings(ServerSettings)
    own = str(context.given_connect_args(url).get("options", "")).lower()
    wanted = {
        "TimeZone": None if "timezone" in own else "UTC",
        "statement_timeout": config.statement_timeout_ms,
        "lock_timeout": config.lock_timeout_ms,
        "idle_in_transaction_session_timeout": config.idle_in_transaction_timeout_ms,
    }
    return {name: str(value) for name, value in wanted.items() if value is not None}


def _run(dbapi_connection: Any, statement: str) -> None:
    cursor = dbapi_connection.cursor()
    try:
        cursor.execute(statement)
    finally:
        cursor.close()


def _run_after_begin(engine: Engine, statement: str) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        dbapi_connection: Any = connection.connection.dbapi_connection
        if not engine.dialect.detect_autocommit_setting(dbapi_connection):
            connection.exec_driver_sql(statement).close()
