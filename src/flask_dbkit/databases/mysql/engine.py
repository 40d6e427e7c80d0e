"""MySQL and MariaDB: pool and timeout defaults, strict mode, UTC sessions.

References:
    * Strict mode: https://mariadb.com/kb/en/sql-mode/#strict-mode
    * ``max_statement_time``: https://mariadb.com/kb/en/aborting-statements/
    * ``max_execution_time``: https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import URL, Connection, Dialect, Engine

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

__all__ = ["MySQL"]

_DRIVERS = frozenset({"pymysql", "mysqldb"})
_STRICT = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_CONNECT: dict[str, Any] = {"connect_timeout": 5}
_READING = ("read_timeout", "write_timeout")
# https://mariadb.org/about/#maintenance-policy, https://www.mysql.com/support/eol-notice.html
_MARIADB_ENDS = {
    (10, 4): "2024-06-18",
    (10, 5): "2025-06-24",
    (10, 6): "2026-07-06",
    (10, 11): "2028-02-16",
    (11, 4): "2029-05-29",
    (11, 8): "2028-06-04",
}
_MYSQL_ENDS = {(5, 7): "2023-10-31", (8, 0): "2026-04-30", (8, 4): "2032-04-30"}
_LONGEST_LOCK_WAIT_S = 31_536_000  # a year is the most lock_wait_timeout takes
_SHOWN = (
    "time_zone",
    "sql_mode",
    "tx_isolation",
    "transaction_isolation",
    "character_set_connection",
    "innodb_lock_wait_timeout",
    "max_statement_time",
    "max_execution_time",
    "idle_transaction_timeout",
    "wait_timeout",
)


class MySQL(DatabaseSupport):
    """Defaults for MySQL and MariaDB through PyMySQL or mysqlclient."""

    def engine_options(self, url: URL, context: EngineContext) -> dict[str, Any]:
        """Return pool defaults, and the character set and connect timeout of the driver.

        ``pool_recycle`` stays Flask-SQLAlchemy's 7,200 s for ``mysql://``, below the server's
        ``wait_timeout`` of 28,800 s; the same is set for ``mariadb://``, which it does not
        know. A server that hangs up earlier is noticed by the ping.
        """
        ping_after_s = context.settings(ServerSettings).pool_ping_after_s
        options = pre_ping_options(context.given, ping_after_s)
        if context.given.get("pool") is None and url.get_backend_name() == "mariadb":
            options["pool_recycle"] = 7200
        if takes_queue_options(context.given):
            options["pool_timeout"] = 10
        if url.get_driver_name() in _DRIVERS:
            arguments = {"charset": "utf8mb4", **_CONNECT}
            options["connect_args"] = drop_url_arguments(arguments, url)
        return options

    def connect_limits(self, url: URL) -> dict[str, Any]:
        """Return the drivers' limit."""
        return _CONNECT if url.get_driver_name() in _DRIVERS else {}

    def limit_connecting(self, engine: Engine) -> None:
        """Let PyMySQL's limit hold for the handshake too."""
        if engine.dialect.driver == "pymysql":
            _limit_handshake(engine.dialect)
            event.listen(engine, "connect", _lift_handshake_limit)

    def install(self, engine: Engine, context: EngineContext) -> None:
        """Set time zone, strict mode and timeouts of each session, in one statement."""
        own = context.given_connect_args(engine.url)
        guard_connections(engine, context)
        run_on_every_connection(engine, lambda connection: _prepare(connection, own, context))
        self.limit_connecting(engine)  # behind it: what is sent there is limited too

    def connection_limit(self, connection: Connection) -> int | None:
        """Return ``max_connections``, or what this account may have of them."""
        limit, own = connection.execute(
            text("SELECT @@GLOBAL.max_connections, @@SESSION.max_user_connections")
        ).one()
        return min(int(limit), int(own) or int(limit))

    def connections_in_use(self, connection: Connection) -> int | None:
        """Count the threads that serve a client."""
        row = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Threads_connected'")).first()
        return None if row is None else int(row[1])

    def encoding(self, connection: Connection) -> str | None:
        """Ask for what tables of this database are made with."""
        return str(connection.scalar(text("SELECT @@character_set_database")))

    def end_of_life(self, connection: Connection) -> tuple[str, str | None]:
        """Look the series up; those with long support, and what is older."""
        is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        name, table = ("MariaDB", _MARIADB_ENDS) if is_mariadb else ("MySQL", _MYSQL_ENDS)
        major, minor = (connection.dialect.server_version_info or (0, 0))[:2]
        series = (int(major), int(minor))
        shown = ".".join(map(str, series))
        oldest = min(table)
        end = table[oldest] if series < oldest else table.get(series)
        return f"{name} {shown}", end

    def is_encrypted(self, connection: Connection) -> bool | None:
        """Ask for the cipher of this session."""
        row = connection.execute(text("SHOW SESSION STATUS LIKE 'Ssl_cipher'")).first()
        return None if row is None else bool(row[1])

    def only_read(self, engine: Engine, limit_s: float) -> None:
        """Say so to each session. PyMySQL gives up waiting for an answer, too."""

        @event.listens_for(engine, "connect")
        def connect(dbapi_connection: Any, record: Any) -> None:
            if hasattr(dbapi_connection, "_read_timeout"):
                dbapi_connection._read_timeout = limit_s  # noqa: SLF001 - else its constructor only
            cursor = dbapi_connection.cursor()
            try:
                cursor.execute("SET SESSION TRANSACTION READ ONLY")
            finally:
                cursor.close()

    def settings(self, connection: Connection) -> dict[str, str]:
        """Return the session variables in force that exist on this server."""
        names = ", ".join(f"'{name}'" for name in _SHOWN)
        rows = connection.execute(text(f"SHOW SESSION VARIABLES WHERE Variable_name IN ({names})"))
        return {str(name): str(value) for name, value in rows}


def _limit_handshake(dialect: Dialect) -> None:
    """Let PyMySQL's ``connect_timeout`` hold for all that is said until a connection is ready.

    Its own meaning is the TCP part only: a server that takes the connection and says nothing
    would be waited for without end.
    https://pymysql.readthedocs.io/en/latest/modules/connections.html
    """
    plain = dialect.connect

    def connect(*arguments: Any, **named: Any) -> Any:
        limit_s = named.get("connect_timeout") or None
        own = {name: named.get(name) for name in _READING}
        if limit_s is None:
            return plain(*arguments, **named)
        limited = {name: min(own_s or limit_s, limit_s) for name, own_s in own.items()}
        connection: Any = plain(*arguments, **{**named, **limited})
        connection.dbkit_after_handshake = own
        return connection

    setattr(dialect, "connect", connect)


def _lift_handshake_limit(dbapi_connection: Any, record: Any) -> None:
    """Give statements the time that the application's own settings leave them."""
    own = dbapi_connection.__dict__.pop("dbkit_after_handshake", None)
    for name, seconds in (own or {}).items():
        # PyMySQL takes them in its constructor only, and looks at them before each packet.
        setattr(dbapi_connection, f"_{name}", seconds)


def _prepare(dbapi_connection: Any, own: Mapping[str, Any], context: EngineContext) -> None:
    _read_datetimes_fast(dbapi_connection)
    cursor = dbapi_connection.cursor()
    try:
        cursor.execute("SELECT VERSION(), @@SESSION.sql_mode")
        version, mode = cursor.fetchone()
        assignments = _session_settings(str(version), str(mode), own, context)
        if assignments:
            cursor.execute("SET " + ", ".join(f"SESSION {item}" for item in assignments))
    finally:
        cursor.close()


def _read_datetimes_fast(dbapi_connection: Any) -> None:
    """Let PyMySQL read datetimes in C, which takes a twentieth of its regular expression.

    A decoder of the application's own stays, and so does what PyMySQL makes of a zero date.
    https://pymysql.readthedocs.io/en/latest/modules/connections.html
    """
    decoders = getattr(dbapi_connection, "decoders", None)
    if decoders is None:
        return  # another driver

    from pymysql.constants import FIELD_TYPE  # noqa: PLC0415 - only if used
    from pymysql.converters import convert_datetime  # noqa: PLC0415

    def read(text: Any) -> Any:
        try:
            return datetime.fromisoformat(text)
        except (TypeError, ValueError):
            return convert_datetime(text)

    for kind in (FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP):
        if decoders.get(kind) is convert_datetime:
            decoders[kind] = read


def _session_settings(
    version: str, mode: str, own: Mapping[str, Any], context: EngineContext
) -> list[str]:
    """Return ``name = value`` for each session variable to set.

    Values are numbers or words of this module and of the server: nothing to escape.
    """
    config = context.settings(ServerSettings)
    init_command = str(own.get("init_command", "")).lower()
    mariadb = "mariadb" in version.lower()
    assignments = []
    if "time_zone" not in init_command:
        # Only TIMESTAMP columns and NOW() look at it; both shall mean UTC like everything else.
        assignments.append("time_zone = '+00:00'")
    if "sql_mode" not in own and "sql_mode" not in init_command:
        # Without it a value that is too long or out of range is cut and stored.
        modes = dict.fromkeys([*filter(None, mode.split(",")), *_STRICT.split(",")])
        assignments.append(f"sql_mode = '{','.join(modes)}'")
    if config.statement_timeout_ms is not None:
        if mariadb:
            assignments.append(f"max_statement_time = {config.statement_timeout_ms / 1000}")
        else:
            # MySQL applies it to SELECT only.
            assignments.append(f"max_execution_time = {config.statement_timeout_ms}")
    if config.lock_timeout_ms is not None:
        seconds = math.ceil(config.lock_timeout_ms / 1000) or _LONGEST_LOCK_WAIT_S
        assignments.append(f"innodb_lock_wait_timeout = {seconds}")
        assignments.append(f"lock_wait_timeout = {seconds}")
    if config.idle_in_transaction_timeout_ms is not None and mariadb:
        seconds = math.ceil(config.idle_in_transaction_timeout_ms / 1000)
        assignments.append(f"idle_transaction_timeout = {seconds}")
    return assignments
