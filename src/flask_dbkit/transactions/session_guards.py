"""What lets a scope notice what happens to its session: listeners, and four methods.

They sit on one application's sessions, and do nothing but keep records while no scope is open.
Raising from the session's ``after_commit`` must never be done: it wedges the session.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from ..engines.routing import choose_by_tables
from .blame import check_intact, note_session_end, record_error
from .checks import (
    check_commit,
    check_commit_beside,
    check_flush,
    note_replacement,
    refuse_commit,
)
from .connections import connect, entered_savepoint, join, look_at_bind
from .exceptions import Rollback, note_failure, unexpected
from .holders import check_around, check_owner
from .hooks import Mark, run_logged
from .state import UnitOfWork, forget_transaction, open_units, record_of, start_transaction

__all__ = ["guard_sessions"]

_guarded_classes: WeakValueDictionary[type[Session], type[Session]] = WeakValueDictionary()
_GUARDED = "_dbkit_guarded"
"""Attribute of a session class whose sessions are all guarded."""


def guard_sessions(factory: scoped_session[Any] | Session) -> None:
    """Guard the sessions of a factory, or one session, once."""
    if isinstance(factory, Session):
        if not getattr(type(factory), _GUARDED, False):
            setattr(factory, "__class__", _guarded_class(type(factory)))
            _listen(factory)
        return
    made: Any = factory.session_factory
    # A sessionmaker has a class of its own, which is no other factory's.
    own_class: type[Session] = made.class_
    if _GUARDED not in own_class.__dict__:
        _guard_methods(own_class)
        _notice_replacement(own_class, factory.registry)
        _listen(made)


def _guarded_class(session_class: type[Session]) -> type[Session]:
    """Return the class of single sessions that are guarded, one for each of their own."""
    guarded = _guarded_classes.get(session_class)
    if guarded is None:
        guarded = type(session_class.__name__, (session_class,), {})
        _guard_methods(guarded)
        _guarded_classes[session_class] = guarded
    return guarded


def _listen(target: Any) -> None:
    event.listen(target, "after_begin", _after_begin)
    event.listen(target, "after_transaction_end", _after_transaction_end)
    event.listen(target, "after_soft_rollback", _after_soft_rollback)
    event.listen(target, "before_commit", _before_commit)
    event.listen(target, "before_flush", _before_flush)


def _guard_methods(session_class: type[Session]) -> None:
    """Put a look for an open scope before four methods of a class that only we know."""
    # SQLAlchemy itself never commits a scope's session through its commit().
    plain_commit, plain_begin, plain_connection = (
        session_class.commit,
        session_class.begin,
        session_class.connection,
    )
    get_bind = choose_by_tables(session_class.get_bind, _look_at_bind)
    plain_get_bind = choose_by_tables(session_class.get_bind, lambda session, bind: None)

    def commit(self: Session) -> None:
        unit = record_of(self).unit
        if unit is not None:
            refuse_commit(unit)
        plain_commit(self)

    def begin(self: Session, nested: bool = False) -> SessionTransaction:
        unit = record_of(self).unit if nested else None
        if unit is None or unit.ending:
            transaction = plain_begin(self, nested=nested)
            if nested:
                transaction.__class__ = Savepoint
            return transaction
        check_owner(unit)
        check_around(unit)
        transaction = plain_begin(self, nested=nested)
        _make_own(unit, transaction)
        return transaction

    def connection(
        self: Session,
        bind_arguments: Any = None,
        execution_options: Any = None,
    ) -> Connection:
        unit = record_of(self).unit
        if unit is not None and execution_options and not unit.ending:
            arguments = dict(bind_arguments or {})
            bind = arguments.pop("bind", None) or plain_get_bind(self, **arguments)
            bind_arguments = {**arguments, "bind": bind}
            check_intact(unit)
            execution_options = connect(unit, bind, execution_options)
        return plain_connection(self, bind_arguments, execution_options or None)

    setattr(session_class, "commit", commit)
    setattr(session_class, "begin", begin)
    setattr(session_class, "get_bind", get_bind)
    setattr(session_class, "connection", connection)
    setattr(session_class, _GUARDED, True)


def _notice_replacement(own_class: type[Session], registry: Any) -> None:
    """Notice a session that takes the place of one whose scope is open: it was not removed.

    Its work would be nobody's: the scope ends the session it was opened on.
    """
    plain_init = own_class.__init__

    def init(self: Session, *args: Any, **kwargs: Any) -> None:
        plain_init(self, *args, **kwargs)
        kept = getattr(registry, "registry", None)
        if isinstance(kept, dict):
            for unit in open_units.get():
                own = type(unit.session) is own_class
                if own and all(each is not unit.session for each in kept.values()):
                    note_replacement(unit)

    setattr(own_class, "__init__", init)


def _look_at_bind(session: Session, bind: Engine | Connection) -> None:
    unit = record_of(session).unit
    if unit is not None and not unit.plain:
        look_at_bind(unit, bind)


def _make_own(unit: UnitOfWork, transaction: SessionTransaction) -> None:
    # Here and not when it fails: "with" takes the class's __exit__ at its beginning.
    transaction.__class__ = OwnSavepoint
    assert isinstance(transaction, OwnSavepoint)
    transaction.dbkit_unit, transaction.dbkit_mark = unit, unit.hook_mark()
    unit.take_full_checks()


class Savepoint(SessionTransaction):
    """A savepoint whose rollback does not hide the error that it answers.

    MariaDB drops savepoints with the transaction of a deadlock's victim: that the savepoint does
    not exist is the consequence, and the deadlock is what has happened.
    """

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        except Exception as failed:
            if error is None or failed is error:
                raise
            note_failure(error, failed)


class OwnSavepoint(Savepoint):
    """A ``session.begin_nested()`` of the application's, inside a scope.

    SQLAlchemy ends such a block normally, and silently, after a swallowed flush error had
    undone what it held. This one raises. And with its work it drops its hooks.
    """

    dbkit_unit: UnitOfWork
    dbkit_mark: Mark

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cause = self.dbkit_unit.own_causes.get(self)
        try:
            super().__exit__(kind, error, traceback)
        finally:
            if error is not None or cause is not None:
                self._call_hooks(error or cause)
        if error is None and cause is not None:
            raise unexpected(cause, "savepoint")

    def rollback(self, *args: Any, **kwargs: Any) -> None:
        """Undo the savepoint, and drop the hooks that were registered in it."""
        with self.dbkit_unit.ending_quietly(sealed=True):
            super().rollback(*args, **kwargs)
        self._call_hooks(sys.exc_info()[1])

    def _call_hooks(self, error: BaseException | None) -> None:
        hooks = self.dbkit_unit.drop_hooks(self.dbkit_mark)
        run_logged(hooks, "on_rollback", error if error is not None else Rollback())


def _after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    record = record_of(session)
    if transaction.nested:
        if record.unit is not None:
            entered_savepoint(record.unit, transaction, connection)
        return
    begun = start_transaction(connection)
    record.transactions.append(begun)
    if record.unit is not None:
        join(record.unit, begun)


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    record = record_of(session)
    unit = record.unit
    # Not those of a flush, which are neither.
    if unit is not None and (transaction.nested or (transaction is unit.root and not unit.ending)):
        note_session_end(unit, transaction)
    if transaction.parent is None and record.transactions:
        for ended in record.transactions:
            forget_transaction(ended)
        record.transactions = []


def _after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    """Notice a flush that failed without the database: a stale version, a mapper's complaint."""
    unit = record_of(session).unit
    is_flush = previous.parent is not None and not previous.nested
    if unit is not None and is_flush and not unit.ending:
        error = sys.exc_info()[1]
        if error is not None:
            # A BEGIN that failed comes this way too, before there is any transaction to tell of it.
            record_error(unit, error, getattr(error, "orig", None) or error, None)


def _before_commit(session: Session) -> None:
    unit = record_of(session).unit
    if unit is None:
        for other in open_units.get():
            check_commit_beside(other, session)
    elif unit.own_causes or not unit.ending:
        check_commit(unit)


def _before_flush(session: Session, flush_context: Any, instances: Any) -> None:
    unit = record_of(session).unit
    if unit is not None:
        check_flush(unit)
