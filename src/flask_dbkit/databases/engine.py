"""What every database module offers, and the plain one for databases we do not tune."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import QueuePool

from ..settings import Settings, settings_in
from .deadlines import answer_in_time, guard_silence
from .pooling import let_go_of_lost_connections, ping_after_idle
from .settings import ServerSettings

__all__ = [
    "DatabaseSupport",
    "EngineContext",
    "drop_url_arguments",
    "guard_connections",
    "run_on_every_connection",
    "takes_queue_options",
]


S = TypeVar("S", bound=Settings)

logger = logging.getLogger("flask_dbkit")


def _never() -> bool:
    return False


def _nothing_asked() -> None:
    """Leave the way to begin to others."""


@dataclass(frozen=True)
class EngineContext:
    """What a database module is told about the engine it prepares.

    Attributes:
        bind_key: ``None`` for the default database.
        app_name: Shown by the server's list of sessions.
        config: The application's settings.
        given: The engine options the application set itself; none of them is overruled.
        asked_begin: Asked at each BEGIN on SQLite: does a transaction scope want it
            ``"immediate"`` or ``"deferred"``? An execution option would say the same, but to
            set one copies and compares those of the connection, which costs a tenth of a small
            transaction.
        wants_write: Asked at each BEGIN: does the caller announce writes? The extension
            answers from the request method, so that nothing here knows Flask.
        late: The engine was there before, and may have been used.
        by_default: Nobody configured its URL: it is the development file.
    """

    bind_key: str | None
    app_name: str
    config: Settings
    given: Mapping[str, Any] = field(default_factory=dict)
    asked_begin: Callable[[], str | None] = _nothing_asked
    wants_write: Callable[[], bool] = _never
    late: bool = False
    by_default: bool = False

    def settings(self, kind: type[S]) -> S:
        """Return the application's settings of one kind of database."""
        return cast("S", self.config)

    def given_connect_args(self, url: URL) -> dict[str, Any]:
        """Return the application's own driver arguments: ``connect_args`` and the URL's query."""
        return {**url.query, **(self.given.get("connect_args") or {})}


class DatabaseSupport:
    """Engine options and listeners for one database; this base class changes nothing.

    The instances hold no state: everything per engine lives in the listeners.
    """

    def engine_options(self, url: URL, context: EngineContext) -> dict[str, Any]:
        """Return the defaults for ``create_engine``, to be merged below the application's.

        Args:
            url: The completed database URL.
            context: The bind, its settings and the application's own options.
        """
        return {}

    def install(self, engine: Engine, context: EngineContext) -> None:
        """Attach listeners to this one engine. Sends nothing and opens nothing.

        For a database we do not know, say once what is off there.
        """
        keys = {setting.key for setting in settings_in(ServerSettings)}
        ignored = sorted(keys & context.config.given)
        logger.info(
            "%s: Flask-DBKit does not know the dialect %r. Off there: %sdefaults of pool and"
            " session, backups. Refused there: read_only, lock_timeout and statement_timeout of a"
            " scope, upsert(), and retry where the driver is not known either.",
            "The default database" if context.bind_key is None else f"Bind {context.bind_key!r}",
            engine.dialect.name,
            "".join(f"{key}, " for key in ignored),
        )

    def connect_limits(self, url: URL) -> dict[str, Any]:
        """Return driver arguments that end a connect which takes too long."""
        return {}

    def limit_connecting(self, engine: Engine) -> None:
        """Let the driver's limit hold until a connection of this engine is ready."""

    def file_of(self, url: URL) -> str | None:
        """Return the file that a URL names, ``None`` for a server and for memory."""
        return None

    def network_file_system(self, url: URL) -> str | None:
        """Return the kind of the network file system that a URL's file is on, if it is on one."""
        return None

    def connection_limit(self, connection: Connection) -> int | None:
        """Return how many connections the server takes; ``None`` if there is no such limit."""
        return None

    def connections_in_use(self, connection: Connection) -> int | None:
        """Return how many connections the server has; ``None`` if it does not tell."""
        return None

    def is_behind_pooler(self, connection: Connection) -> bool:
        """Tell whether a pooler answered the connect, in the place of the server."""
        return False

    def encoding(self, connection: Connection) -> str | None:
        """Return the encoding of texts in this database; ``None`` if there is no choice."""
        return None

    def end_of_life(self, connection: Connection) -> tuple[str, str | None]:
        """Return the version as people write it, and the day it ended or will end, if known."""
        return "", None

    def is_encrypted(self, connection: Connection) -> bool | None:
        """Tell whether this connection is encrypted; ``None`` if the server does not tell."""
        return None

    def reading_url(self, url: URL) -> URL:
        """Return the URL by which a database can be read and not be written to."""
        return url

    def only_read(self, engine: Engine, limit_s: float) -> None:
        """Let the transactions of an engine read only, each statement for so long.

        Args:
            engine: It has not connected yet.
            limit_s: Seconds.
        """

    def settings(self, connection: Connection) -> dict[str, str]:
        """Return the effective session settings, for ``flask dbkit info``."""
        return {}


def takes_queue_options(given: Mapping[str, Any]) -> bool:
    """Tell whether ``pool_size`` and its like can be set beside the application's options.

    ``create_engine`` refuses queue options for any other pool class, and every pool option
    when the application built the pool itself.
    """
    poolclass = given.get("poolclass", QueuePool)
    return given.get("pool") is None and (
        poolclass is None or (isinstance(poolclass, type) and issubclass(poolclass, QueuePool))
    )


def drop_url_arguments(arguments: dict[str, Any], url: URL) -> dict[str, Any]:
    """Leave out what the URL's query says already: SQLAlchemy lets ``connect_args`` win."""
    return {name: value for name, value in arguments.items() if name not in url.query}


def guard_connections(engine: Engine, context: EngineContext) -> None:
    """Attach what becomes of a server's connections: silence, pings, and lost ones."""
    settings = context.settings(ServerSettings)
    if settings.statement_timeout_ms:
        guard_silence(engine, settings.statement_timeout_ms / 1000)
    ping_after_idle(engine, context.given, settings.pool_ping_after_s)
    let_go_of_lost_connections(engine)


def run_on_every_connection(engine: Engine, prepare: Callable[[Any], None]) -> None:
    """Call ``prepare(dbapi_connection)`` on each new connection of ``engine``.

    Anything the calls opened is committed, so that a connection enters the pool idle.
    """

    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, record: Any) -> None:
        with answer_in_time(dbapi_connection, engine):
            prepare(dbapi_connection)
            dbapi_connection.commit()
