"""Where SQLAlchemy asks for transaction control: the events and methods of one engine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine, ExceptionContext
from sqlalchemy.pool import StaticPool

from ..engine import EngineContext
from ..execution import Execution, Order, Watcher, watch
from .control import INFO_KEY, OPTIONS, TransactionControl, control_of
from .gate import WriterGate
from .memory import SharedTransactionControl

__all__ = ["control_factory", "install_control"]


def control_factory(
    engine: Engine, gate: WriterGate | None, *, busy_timeout_s: Callable[[], float]
) -> Callable[[sqlite3.Connection], TransactionControl]:
    """Return what makes the control of one new connection.

    Args:
        engine: Its pool tells whether sessions share one connection.
        gate: Shared by every engine of the same file; ``None`` for none.
        busy_timeout_s: Seconds to wait for the gate.
    """
    shared = isinstance(engine.pool, StaticPool)
    control_class = SharedTransactionControl if shared else TransactionControl
    return lambda raw: control_class(raw, gate, busy_timeout_s)


def install_control(engine: Engine, context: EngineContext) -> None:
    """Take transaction control of those connections of one engine that carry a control.

    Args:
        engine: Only it is touched: its events, and those methods of its own dialect object
            that take execution options, begin and end a transaction, and send a statement.
            SQLAlchemy offers events before COMMIT, but none that follows in any case, when the
            gate may be opened. Its "begin" event would do, but
            one listener of that kind makes SQLAlchemy prepare every other kind for every
            statement: a tenth of a small transaction.
        context: Says whom to ask at each BEGIN.
    """

    @event.listens_for(engine, "handle_error")
    def handle_error(context: ExceptionContext) -> None:
        connection = context.connection
        if connection is not None and not connection.closed and not connection.invalidated:
            control = control_of(connection)
            if control is not None:
                control.after_error(connection.connection, context.original_exception)

    def lose(dbapi_connection: Any, record: Any, *_: Any) -> None:
        control = record.info.get(INFO_KEY)
        if control is not None:
            control.discard()

    event.listen(engine, "close", lose)
    event.listen(engine, "invalidate", lose)
    _wrap_options(engine)
    _wrap_transactions(engine.dialect, context)
    shared = isinstance(engine.pool, StaticPool)
    watch(engine, _ControlOfSharedStatements() if shared else _ControlOfStatements())


def _wrap_options(engine: Engine) -> None:
    """Pass the execution options of a connection on to its control, as they are given."""
    dialect = engine.dialect
    plain_connection, plain_engine = (
        dialect.set_connection_execution_options,
        dialect.set_engine_execution_options,
    )

    def announce(connection: Connection) -> None:
        control = control_of(connection)
        if control is not None:
            control.announced[connection.connection] = connection.get_execution_options()

    def set_connection_execution_options(connection: Connection, opts: Mapping[str, Any]) -> None:
        _allow_isolation(connection, opts)
        plain_connection(connection, opts)
        if not OPTIONS.isdisjoint(opts):
            announce(connection)

    def set_engine_execution_options(engine: Engine, opts: Mapping[str, Any]) -> None:
        if "isolation_level" in opts:
            # Before SQLAlchemy's own listener, which sets the level.
            event.listen(engine, "engine_connect", lambda each: _allow_isolation(each, opts))
        plain_engine(engine, opts)
        if not OPTIONS.isdisjoint(opts):
            event.listen(engine, "engine_connect", announce)

    for method in (set_connection_execution_options, set_engine_execution_options):
        setattr(dialect, method.__name__, method)
    if not OPTIONS.isdisjoint(engine.get_execution_options()):
        event.listen(engine, "engine_connect", announce)


def _allow_isolation(connection: Connection, opts: Mapping[str, Any]) -> None:
    if "isolation_level" in opts:
        control = control_of(connection)
        if isinstance(control, SharedTransactionControl):
            control.set_isolation(connection.connection, str(opts["isolation_level"]))


def _wrap_transactions(dialect: Dialect, context: EngineContext) -> None:
    """Replace begin, commit and rollback of this one dialect object, which one engine owns."""
    plain_begin, plain_commit, plain_rollback = (
        dialect.do_begin,
        dialect.do_commit,
        dialect.do_rollback,
    )

    asked_begin, wants_write = context.asked_begin, context.wants_write

    def do_begin(connection: Any) -> None:
        control = control_of(connection)
        if control is None:
            plain_begin(connection)
        elif control.is_autocommit(connection):
            control.begin_autocommit(connection)
        else:
            control.begin(connection, asked_begin(), wants_write)

    def do_commit(connection: Any) -> None:
        control = control_of(connection)
        if control is None:
            plain_commit(connection)
        else:
            control.commit(connection, plain_commit)

    def do_rollback(connection: Any) -> None:
        control = control_of(connection)
        if control is None:
            plain_rollback(connection)
        else:
            control.rollback(connection, plain_rollback)

    for method in (do_begin, do_commit, do_rollback):
        setattr(dialect, method.__name__, method)


class _ControlOfStatements(Watcher):
    """Let the control of a connection see each statement before it is sent."""

    order = Order.CONTROL

    def before(self, execution: Execution) -> bool | None:
        control: TransactionControl | None = execution.connection.connection.info.get(INFO_KEY)
        return None if control is None else control.before(execution)


class _ControlOfSharedStatements(_ControlOfStatements):
    """The same where a control holds the connection while the statement runs."""

    def before(self, execution: Execution) -> bool | None:
        control: TransactionControl | None = execution.connection.connection.info.get(INFO_KEY)
        if control is None:
            return None
        if control.before(execution):
            return True
        execution.keep(self, control)
        return None

    def after(self, execution: Execution) -> None:
        control = execution.kept(self)
        if control is not None:
            control.after()

    def failed(self, execution: Execution, error: BaseException) -> None:
        self.after(execution)
