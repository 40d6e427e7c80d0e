"""The listeners that let a scope notice what happens to its transaction.

They sit on one application's engines and session factory, and do nothing but keep marks while
no scope is open. Of SQLAlchemy's engine events only those of the dialect are used: one listener
of the other kind makes every statement prepare for all of them, which costs a tenth of a small
transaction. And two events must never be used for this: raising from the engine's ``commit``
event returns the connection to the pool in transaction, and the next request commits what
leaked; raising from the session's ``after_commit`` wedges the session.
"""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine, ExceptionContext
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, scoped_session
from sqlalchemy.pool import ConnectionPoolEntry

from ..exceptions import DBKitError
from ..statements import Kind, classify
from .databases import restore_session
from .work import Work, marks_of, open_trees, start_work, work_of, work_of_checkout

__all__ = ["GUARDED", "guard_engine", "guard_sessions", "open_work", "orm_write_guard"]

_guarded_engines: WeakSet[Engine] = WeakSet()
_guarded_sessions: WeakSet[Any] = WeakSet()
GUARDED = "_dbkit_guarded"
"""Attribute of a session class whose sessions all have the listeners."""


def guard_engine(engine: Engine) -> None:
    """Attach the listeners to one engine, once."""
    if engine in _guarded_engines:
        return
    _guarded_engines.add(engine)
    for name in ("do_execute", "do_executemany"):
        # First in line: a statement that is refused must not make SQLite take its write lock.
        event.listen(engine, name, _before_statement, insert=True)
    event.listen(engine, "do_execute_no_params", _before_plain_statement, insert=True)
    event.listen(engine, "handle_error", _handle_error)
    event.listen(engine, "checkin", _checkin)
    _guard_endings(engine.dialect)


def guard_sessions(factory: scoped_session[Any] | Session) -> None:
    """Attach the listeners to a session factory, or to one session, once."""
    target: Any = factory if isinstance(factory, Session) else factory.session_factory
    if target in _guarded_sessions:
        return
    _guarded_sessions.add(target)
    if not isinstance(target, Session):
        # Its sessions are not to be given the listeners a second time, one by one.
        setattr(getattr(target, "class_", target), GUARDED, True)
    event.listen(target, "after_begin", _after_begin)
    event.listen(target, "after_transaction_end", _after_transaction_end)
    event.listen(target, "after_soft_rollback", _after_soft_rollback)
    event.listen(target, "before_commit", _before_commit)
    event.listen(target, "before_flush", _before_flush)


def _before_statement(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
    connection: Connection = context.root_connection
    work = work_of(connection)
    if work is None:
        return
    kind = classify(statement)
    if work.tree is not None:
        work.tree.check_statement(kind, statement, context, work)
    work.executed = True
    if kind is Kind.WRITE and work.first_write is None:
        work.first_write = statement[:120]


def _before_plain_statement(cursor: Any, statement: str, context: Any) -> None:
    _before_statement(cursor, statement, (), context)


def _handle_error(error: ExceptionContext) -> None:
    if isinstance(error.original_exception, DBKitError):
        return  # a refusal of our own: nothing was sent, and nothing is lost
    work = work_of(error.connection) if error.connection is not None else None
    if work is not None and work.tree is not None:
        work.tree.record(
            error.sqlalchemy_exception or error.original_exception,
            error.original_exception,
            work.connection,
            # The connection itself is told only after this.
            lost=error.is_disconnect,
        )


def _guard_endings(dialect: Dialect) -> None:
    """Watch COMMIT and ROLLBACK of scopes' transactions, on this one dialect object."""
    plain_commit, plain_rollback = dialect.do_commit, dialect.do_rollback

    def do_commit(checkout: Any) -> None:
        work = work_of_checkout(checkout)
        tree = work.tree if work is not None else None
        if work is None or tree is None:
            plain_commit(checkout)
            return
        try:
            tree.check_last(work)
        except BaseException:
            # Roll back first: an error here would otherwise leave the connection in
            # transaction, and its next user would commit these rows.
            plain_rollback(checkout)
            raise
        tree.commits_sent += 1
        plain_commit(checkout)
        tree.commits_done += 1

    def do_rollback(checkout: Any) -> None:
        work = work_of_checkout(checkout)
        if work is not None:
            work.rolled_back = True
        plain_rollback(checkout)

    setattr(dialect, "do_commit", do_commit)
    setattr(dialect, "do_rollback", do_rollback)


def _checkin(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
    try:
        restore_session(dbapi_connection, record)
    except Exception as error:
        # Whatever the driver says: a connection whose settings cannot be put back must not
        # be used by anybody else.
        record.invalidate(error)


def _after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    marks = marks_of(session)
    if transaction.nested:
        if marks.tree is not None:
            marks.tree.entered_savepoint(transaction, connection)
        return
    work = start_work(connection)
    marks.works.append(work)
    if marks.tree is not None:
        marks.tree.join(work)


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    marks = marks_of(session)
    if marks.tree is not None:
        marks.tree.noticed_end(transaction)
    if transaction.parent is None:
        marks.works = []


def _after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    """Notice a flush that failed without the database: a stale version, a mapper's complaint."""
    tree = marks_of(session).tree
    is_flush = previous.parent is not None and not previous.nested
    if tree is not None and is_flush and not tree.ending:
        error = sys.exc_info()[1]
        if error is not None:
            # A BEGIN that failed comes this way too, before there is any work to tell of it.
            tree.record(error, getattr(error, "orig", None) or error, None)


def _before_commit(session: Session) -> None:
    tree = marks_of(session).tree
    if tree is not None:
        tree.check_commit()
    else:
        for other in open_trees.get():
            other.check_commit_beside(session)


def _before_flush(session: Session, flush_context: Any, instances: Any) -> None:
    tree = marks_of(session).tree
    if tree is not None:
        tree.check_flush()


def open_work(works: list[Work]) -> str | None:
    """Return the first write among transactions, in words for an error."""
    return next((work.first_write for work in works if work.first_write is not None), None)


def orm_write_guard(state: ORMExecuteState) -> None:
    """Refuse ORM-enabled INSERT, UPDATE and DELETE in a read-only scope, before any SQL."""
    tree = marks_of(state.session).tree
    if tree is not None and state.is_orm_statement and not state.is_select:
        tree.check_orm_write()
