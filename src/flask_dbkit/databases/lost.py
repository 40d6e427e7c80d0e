"""Connections that are of no use any more, and are given up although they are open.

SQLAlchemy drops a connection whose driver says that it is closed. Some are open and useless:

* A node of a cluster that refuses every statement: another one may not.
* A server that was turned into a standby, or read-only, in a switchover that left its connections
  open: it refuses every write, for as long as the pool keeps them. New ones would reach the server
  that took over.

Here such an error counts as a lost connection: the pool connects anew. The answer to the request
stays what it is.
"""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext

from . import database_of, errors_of

__all__ = ["drop_useless_connections", "expect_no_writes"]

_OPENED = "flask_dbkit.opened"
_PAUSE_S = 1.0

_not_written: WeakSet[Engine] = WeakSet()


def expect_no_writes(engine: Engine) -> None:
    """Note that a bind is read-only on purpose: a refused write does not empty its pool."""
    _not_written.add(engine)


def drop_useless_connections(engine: Engine) -> None:
    """Let one engine count it as a lost connection when the server can do nothing for us.

    To be called before other listeners that ask whether the connection was lost.
    """
    emptied = 0.0

    @event.listens_for(engine, "handle_error")
    def handle_error(context: ExceptionContext) -> None:
        nonlocal emptied
        codes = errors_of(context.original_exception)
        if codes is None or context.is_disconnect:
            return
        if context.connection is None:
            context.is_disconnect = codes.is_disconnect(context.original_exception)
        elif codes.ends_connection(context.original_exception):
            context.is_disconnect = True
        elif context.statement is not None and _has_turned(context.connection, context):
            now = time.monotonic()
            paused = now - emptied < _PAUSE_S
            opened: float = context.connection.connection.info.get(_OPENED, 0.0)
            if paused and opened > emptied:
                return  # connecting anew was tried just now, and did not help
            context.is_disconnect = True
            if paused:
                context.invalidate_pool_on_disconnect = False
            else:
                emptied = now

    if not database_of(engine).is_embedded:

        @event.listens_for(engine, "connect")
        def connect(dbapi_connection: Any, record: Any) -> None:
            record.info[_OPENED] = time.monotonic()


def _has_turned(connection: Connection, context: ExceptionContext) -> bool:
    if connection.engine in _not_written or connection.closed or connection.invalidated:
        return False
    scopes = database_of(connection).scopes
    return scopes.has_turned_read_only(connection, context.original_exception)
