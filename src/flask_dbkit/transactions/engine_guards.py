"""The listeners on an engine that let a scope notice what happens on its connections.

They sit on one application's engines, and do nothing but keep records while no scope is open. Each
statement comes by :mod:`flask_dbkit.databases.execution`. Raising from the engine's ``commit``
event must never be done: it returns the connection to the pool in transaction, and the next
request commits what leaked.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine, ExceptionContext
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState, reset_commit

from ..databases import database_of
from ..databases.execution import Execution, Order, Watcher, watch
from ..databases.lost import drop_useless_connections
from ..databases.scopes import DatabaseScopes
from ..databases.statements import READ, WRITE, goes_beyond_reading
from ..exceptions import DBKitError
from .blame import name_error, record_error
from .checks import check_last, check_prepare, check_statement, is_rollback_to
from .state import TRANSACTION, DatabaseTransaction, transaction_of, transaction_of_checkout

__all__ = ["GUARDED", "guard_engine"]

logger = logging.getLogger("flask_dbkit.transactions")

_told: set[str] = set()
_MOST_TOLD = 100
_RESETTING = "flask_dbkit.resetting"
GUARDED = "_dbkit_guarded"
"""Attribute of a dialect object whose engine has the listeners."""


_REFUSALS = (DBKitError, UnboundExecutionError)
"""Raised before anything is sent: nothing is lost with them."""


def guard_engine(engine: Engine) -> None:
    """Attach the listeners to one engine, once."""
    if GUARDED in engine.dialect.__dict__:
        return
    setattr(engine.dialect, GUARDED, True)
    watch(engine, _FlagGuard() if database_of(engine).scopes.commits_implicitly else _ScopeGuard())
    drop_useless_connections(engine)
    event.listen(engine, "handle_error", _handle_error)
    database = database_of(engine).scopes
    database.install(engine)
    event.listen(engine, "checkin", partial(_checkin, database))
    _guard_endings(engine.dialect)
    if getattr(engine.pool, "_reset_on_return", None) is reset_commit:
        event.listen(engine, "reset", _note_reset)


class _ScopeGuard(Watcher):
    """Let the scope of a connection look at each statement, and refuse it."""

    order = Order.SCOPE

    def before(self, execution: Execution) -> bool | None:
        transaction: DatabaseTransaction | None = execution.connection.__dict__.get(TRANSACTION)
        if transaction is None:
            return None
        if transaction.savepoints_gone and is_rollback_to(execution.context):
            return True  # it would only fail, and hide the error that has dropped the savepoint
        kind, statement, context = execution.kind, execution.statement, execution.context
        if transaction.unit is not None:
            check_statement(transaction.unit, kind, statement, context, transaction)
        else:
            if kind is READ and context.compiled is not None:
                _look_for_lock(context.compiled.statement, statement)
            if transaction.beyond_reads is None and goes_beyond_reading(statement):
                transaction.beyond_reads = statement[:120]
        transaction.executed = True
        if kind is WRITE and transaction.first_write is None:
            transaction.first_write = statement[:120]
        return None

    def failed(self, execution: Execution, error: BaseException) -> None:
        # Here and not from SQLAlchemy, which tells of it only after the application's listeners:
        # one that puts another error in its place would hide it from the scope.
        transaction = transaction_of(execution.connection)
        if transaction is None or not isinstance(error, Exception) or isinstance(error, _REFUSALS):
            return
        database = transaction.database
        if database.errors_drop_savepoints:
            ended = database.ends_transaction(error, execution.connection)
            transaction.savepoints_gone = transaction.savepoints_gone or ended
        if transaction.unit is not None:
            record_error(transaction.unit, error, error, execution.connection)


class _FlagGuard(_ScopeGuard):
    """Note when the database says that a transaction is open, where a write need not open one."""

    def after(self, execution: Execution) -> None:
        transaction = transaction_of(execution.connection)
        if (
            transaction is None
            or transaction.unit is None
            or transaction.surely_open
            or execution.kind is not WRITE
        ):
            return
        database = transaction.database
        if database.effects(execution.statement).opens:
            transaction.surely_open = database.has_opened(transaction.raw, execution.cursor)


def _look_for_lock(clause: Any, statement: str) -> None:
    """Tell of a locking read that no scope is around, once per statement.

    Its lock lasts until whoever comes next commits or rolls back. And SQLite has no such
    clause: a scope that begins IMMEDIATE is what takes its place.
    """
    lock = getattr(clause, "_for_update_arg", None)
    if lock is None or lock.read or statement in _told or len(_told) >= _MOST_TOLD:
        return
    _told.add(statement)
    logger.warning(
        "A locking read (with_for_update) outside any transaction() scope: it is not said when"
        " the lock ends. Put it into a scope. The statement begins: %s",
        statement[:120],
    )


def _handle_error(error: ExceptionContext) -> None:
    if isinstance(error.original_exception, _REFUSALS):
        return  # a refusal of our own: nothing was sent, and nothing is lost
    transaction = transaction_of(error.connection) if error.connection is not None else None
    unit = transaction.unit if transaction is not None else None
    if transaction is None or unit is None:
        return
    raised = error.sqlalchemy_exception or error.original_exception
    if error.is_disconnect or not name_error(unit, error.original_exception, raised):
        record_error(
            unit,
            raised,
            error.original_exception,
            transaction.connection,
            # The connection itself is told only after this.
            lost=error.is_disconnect,
        )


def _guard_endings(dialect: Dialect) -> None:
    """Watch COMMIT and ROLLBACK of scopes' transactions, on this one dialect object."""
    plain_commit, plain_rollback = dialect.do_commit, dialect.do_rollback

    def do_commit(checkout: Any) -> None:
        transaction = transaction_of_checkout(checkout)
        unit = transaction.unit if transaction is not None else None
        if transaction is None or unit is None:
            plain_commit(checkout)
            return
        if checkout.info.pop(_RESETTING, False):
            # Left to the pool, it would save what the scope has not.
            over = transaction.rolled_back or transaction.committed
            if not (over and transaction.database.is_idle(transaction.raw)):
                plain_rollback(checkout)
            return
        try:
            check_last(unit, transaction)
        except BaseException:
            # Roll back first: an error here would otherwise leave the connection in
            # transaction, and its next user would commit these rows.
            plain_rollback(checkout)
            raise
        transaction.commit_sent = transaction.ends_by_sqlalchemy = True
        plain_commit(checkout)
        transaction.committed = True

    def do_rollback(checkout: Any) -> None:
        transaction = transaction_of_checkout(checkout)
        if transaction is not None:
            transaction.rolled_back = transaction.ends_by_sqlalchemy = True
            if transaction.committed and transaction.database.is_idle(transaction.raw):
                return  # the pool's reset, when nothing was sent since COMMIT
        plain_rollback(checkout)

    plain_prepare = dialect.do_prepare_twophase

    def do_prepare_twophase(connection: Connection, xid: Any) -> None:
        transaction = transaction_of(connection)
        if transaction is not None and transaction.unit is not None:
            check_prepare(transaction.unit)
        plain_prepare(connection, xid)

    setattr(dialect, "do_commit", do_commit)
    setattr(dialect, "do_rollback", do_rollback)
    setattr(dialect, "do_prepare_twophase", do_prepare_twophase)


def _note_reset(
    dbapi_connection: Any, record: ConnectionPoolEntry, reset_state: PoolResetState
) -> None:
    """Tell the COMMIT of ``pool_reset_on_return="commit"`` from one by the application."""
    record.info[_RESETTING] = True


def _checkin(database: DatabaseScopes, dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info.pop(_RESETTING, None)
    try:
        database.restore(dbapi_connection, record)
    except Exception as error:
        # Whatever the driver says: a connection whose settings cannot be put back must not
        # be used by anybody else.
        record.invalidate(error)
