"""The listeners on a session factory that let a scope notice what happens to its session.

They sit on one application's sessions, and do nothing but keep marks while no scope is open.
Raising from the session's ``after_commit`` must never be done: it wedges the session.
"""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from .checks import check_commit, check_commit_beside, check_flush
from .connections import entered_savepoint, join
from .work import forget_work, marks_of, open_trees, start_work

__all__ = ["GUARDED", "guard_sessions"]

_guarded_sessions: WeakSet[Any] = WeakSet()
GUARDED = "_dbkit_guarded"
"""Attribute of a session class whose sessions all have the listeners."""


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
    elif tree.own_causes or not tree.ending:
        check_commit(tree)


def _before_flush(session: Session, flush_context: Any, instances: Any) -> None:
    tree = marks_of(session).tree
    if tree is not None:
        check_flush(tree)
