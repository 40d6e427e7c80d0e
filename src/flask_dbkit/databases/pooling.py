"""The connections of a pool to a server: asked whether they live only after a rest, and let go.

A round trip at each checkout costs a tenth of a short request, and answers a question that the
last answer has answered: a server that spoke half a second ago has hardly gone since. So a
connection is pinged only when it has been idle for some time, or when its server has said
something meanwhile, be it its end. One that is lost within that time without a word is an error
of the request that draws it, which may be tried again; it empties the pool.

And a connection that is lost when there is nothing to be saved costs nobody an answer: the
database rolls back by itself what is not committed.

References:
    * https://docs.sqlalchemy.org/en/20/core/pooling.html#disconnect-handling-pessimistic
    * The same rule elsewhere, ``aliveBypassWindowMs``:
      https://github.com/brettwooldridge/HikariCP/blob/dev/src/main/java/com/zaxxer/hikari/pool/HikariPool.java
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import Dialect, Engine

from .sockets import is_quiet

__all__ = ["let_go_of_lost_connections", "ping_after_idle", "pre_ping_options"]

logger = logging.getLogger("flask_dbkit.connections")

_PINGED = "_dbkit_ping"
"""Attribute of a dialect object whose pings are spared."""


def pre_ping_options(given: Mapping[str, Any], ping_after_s: float | None) -> dict[str, Any]:
    """Return the engine option that lets SQLAlchemy ask for a ping at each checkout, or not.

    Args:
        given: The application's own options: what they say of the ping stands.
        ping_after_s: ``None`` for no pings at all.
    """
    return {} if given.get("pool") is not None else {"pool_pre_ping": ping_after_s is not None}


def ping_after_idle(engine: Engine, given: Mapping[str, Any], ping_after_s: float | None) -> None:
    """Leave out the pings of connections that have been used a moment ago.

    Args:
        engine: Its pool asks ``Dialect.do_ping`` at each checkout.
        given: The application's own options. If they say anything of the ping, it is theirs.
        ping_after_s: Seconds of idleness; ``None`` or 0 leave everything as it is.
    """
    dialect = engine.dialect
    if not ping_after_s or given.get("pool_pre_ping") is not None or _PINGED in dialect.__dict__:
        return
    setattr(dialect, _PINGED, True)
    plain = dialect.do_ping
    answered: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    def do_ping(dbapi_connection: Any) -> bool:
        # The clock on the wall, as SQLAlchemy's own pool_recycle: the other one stands still
        # while the machine sleeps.
        at = answered.get(dbapi_connection, 0.0)
        recent = 0 <= time.time() - at < ping_after_s and at > _lost_at(dialect)
        if recent and is_quiet(dbapi_connection):
            return True
        return plain(dbapi_connection)

    @event.listens_for(engine, "checkin")
    def checkin(dbapi_connection: Any, record: Any) -> None:
        if dbapi_connection is not None:
            answered[dbapi_connection] = time.time()

    setattr(dialect, "do_ping", do_ping)


_LOST_AT = "_dbkit_lost_at"


def _lost_at(dialect: Dialect) -> float:
    at: float = dialect.__dict__.get(_LOST_AT, 0.0)
    return at


def let_go_of_lost_connections(engine: Engine) -> None:
    """Let a ROLLBACK on a lost connection be one: the database has done it already.

    SQLAlchemy raises the driver's error, at the end of a request past every handler: an answer
    that was ready is thrown away for nothing. Only an error that is a lost connection is taken
    for it, and never one of a COMMIT.
    """
    dialect = engine.dialect
    plain = dialect.do_rollback

    def do_rollback(checkout: Any) -> None:
        try:
            plain(checkout)
        except dialect.loaded_dbapi.Error as error:
            raw = getattr(checkout, "dbapi_connection", None)
            if raw is None or not dialect.is_disconnect(error, raw, None):
                raise
            # Others of the pool may be gone too: none goes without a ping.
            setattr(dialect, _LOST_AT, time.time())
            logger.warning(
                "A connection to the database was lost before its ROLLBACK (%s). Nothing is"
                " lost with it: what was not committed is rolled back by the server.",
                type(error).__name__,
            )
            checkout.invalidate(error)

    setattr(dialect, "do_rollback", do_rollback)
