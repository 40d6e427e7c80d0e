"""What lets a scope notice what happens to its session: listeners, and two methods.

They sit on one application's sessions, and do nothing but keep marks while no scope is open.
Raising from the session's ``after_commit`` must never be done: it wedges the session.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from .checks import check_commit, check_commit_beside, check_flush, refuse_commit
from .connections import entered_savepoint, join
from .exceptions import Rollback
from .failures import unexpected
from .hooks import Mark, run_logged
from .tree import ScopeTree
from .work import forget_work, marks_of, open_trees, start_work

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
    """Put a look for an open scope before two methods of a class that only we know."""
    # SQLAlchemy itself never commits a scope's session through its commit().
    plain_commit, plain_begin = session_class.commit, session_class.begin

    def commit(self: Session) -> None:
        tree = marks_of(self).tree
        if tree is not None:
            refuse_commit(tree)
        plain_commit(self)

    def begin(self: Session, nested: bool = False) -> SessionTransaction:
        transaction = plain_begin(self, nested=nested)
        tree = marks_of(self).tree if nested else None
        if tree is not None and not tree.ending:
            _make_own(tree, transaction)
        return transaction

    setattr(session_class, "commit", commit)
    setattr(session_class, "begin", begin)
    setattr(session_class, _GUARDED, True)


def _make_own(tree: ScopeTree, transaction: SessionTransaction) -> None:
    # Here and not when it fails: "with" takes the class's __exit__ at its beginning.
    transaction.__class__ = OwnSavepoint
    assert isinstance(transaction, OwnSavepoint)
    transaction.dbkit_tree, transaction.dbkit_mark = tree, tree.hook_mark()
    tree.complicate()


class OwnSavepoint(SessionTransaction):
    """A ``session.begin_nested()`` of the application's, inside a scope.

    SQLAlchemy ends such a block normally, and silently, after a swallowed flush error had
    undone what it held. This one raises. And with its work it drops its hooks.
    """

    dbkit_tree: ScopeTree
    dbkit_mark: Mark

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cause = self.dbkit_tree.own_causes.get(self)
        try:
            super().__exit__(kind, error, traceback)
        finally:
            if error is not None or cause is not None:
                self._call_hooks(error or cause)
        if error is None and cause is not None:
            raise unexpected(cause, "savepoint")

    def rollback(self, *args: Any, **kwargs: Any) -> None:
        """Undo the savepoint, and drop the hooks that were registered in it."""
        super().rollback(*args, **kwargs)
        self._call_hooks(sys.exc_info()[1])

    def _call_hooks(self, error: BaseException | None) -> None:
        hooks = self.dbkit_tree.drop_hooks(self.dbkit_mark)
        run_logged(hooks, "on_rollback", error if error is not None else Rollback())


def _after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    marks = marks_of(session)
    if transaction.nested:
        if marks.tree is not None:
            entered_savepoint(marks.tree, transaction, connection)
        return
    work = start_work(connection)
    marks.works.append(work)
    if marks.tree is not None:
        join(marks.tree, work)


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    marks = marks_of(session)
    tree = marks.tree
    # Not those of a flush, which are neither.
    if tree is not None and (transaction.nested or (transaction is tree.root and not tree.ending)):
        tree.noticed_end(transaction)
    if transaction.parent is None and marks.works:
        for work in marks.works:
            forget_work(work)
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
    if tree is None:
        for other in open_trees.get():
            check_commit_beside(other, session)
    elif not (tree.ending and tree.simple):
        check_commit(tree)


def _before_flush(session: Session, flush_context: Any, instances: Any) -> None:
    tree = marks_of(session).tree
    if tree is not None and not tree.simple:
        check_flush(tree)
