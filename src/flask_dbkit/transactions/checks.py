"""What a scope asks before a statement, a flush or a COMMIT goes out, and what it refuses."""

from __future__ import annotations

import threading
from typing import Any, NoReturn

from sqlalchemy import event
from sqlalchemy.engine import Connection, NestedTransaction
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction
from sqlalchemy.sql.elements import (
    ReleaseSavepointClause,
    RollbackToSavepointClause,
    SavepointClause,
)

from ..databases.scopes import Loss
from ..databases.statements import CONTROL, READ, SAVEPOINT, WRITE, Kind, first_word
from .exceptions import OwnershipError, ReadOnlyViolation, UnexpectedRollback
from .failures import unexpected
from .tree import ScopeTree
from .work import Work, marks_of

__all__ = [
    "check_commit",
    "check_commit_beside",
    "check_connection",
    "check_driver",
    "check_flush",
    "check_last",
    "check_statement",
    "guard_orm_writes",
    "orm_write_guard",
    "pending",
    "refuse_commit",
]

_SAVEPOINT_CLAUSES = (SavepointClause, ReleaseSavepointClause, RollbackToSavepointClause)


def check_statement(tree: ScopeTree, kind: Kind, statement: str, context: Any, work: Work) -> None:
    """Look at a statement before it is sent."""
    if kind is SAVEPOINT and _sent_by_sqlalchemy(tree, context, work):
        return
    if tree.ending or (not tree.simple and context.execution_options.get("dbkit_internal")):
        return
    if work.executed or work.rolled_back:
        _check_still_open(tree, work)
    if tree.simple:
        if kind is not READ:
            _check_change(kind, statement, work)
        return
    tree.check()
    if kind is WRITE and not (tree.options.read_only or work.database.can_turn_read_only):
        _check_write(tree, "A statement that writes")
    if kind is not READ:
        _check_change(kind, statement, work)
    nested = tree.session.get_nested_transaction()
    if nested is not None:
        _send_savepoint(tree, nested, work.connection)


def _sent_by_sqlalchemy(tree: ScopeTree, context: Any, work: Work) -> bool:
    compiled = context.compiled
    if compiled is None or not isinstance(compiled.statement, _SAVEPOINT_CLAUSES):
        return False
    clause = compiled.statement
    if isinstance(clause, SavepointClause):
        tree.complicate()
        _flush_before_savepoint(tree.session)
        if work.hook_marks is None:
            work.hook_marks = {}
        work.hook_marks[clause.ident] = tree.hook_mark()
    elif isinstance(clause, ReleaseSavepointClause):
        _released(tree, work.connection.get_nested_transaction())
    elif work.hook_marks is not None and clause.ident in work.hook_marks:
        # Of a savepoint that the session knows of they are gone already.
        tree.undone += tuple(tree.drop_hooks(work.hook_marks[clause.ident]))
    return True


def _flush_before_savepoint(session: Session) -> None:
    """Keep what is pending out of a savepoint of a connection, as out of the session's own.

    Written inside it, and undone with it, it would be missing without an error: the session
    takes it for saved.
    """
    nested = session.get_nested_transaction()
    by_session = nested is not None and not nested.is_active  # it is connecting
    if not by_session and not getattr(session, "_flushing", False):
        session.flush()


def _check_change(kind: Kind, statement: str, work: Work) -> None:
    if kind is SAVEPOINT or kind is CONTROL:
        raise OwnershipError(
            f"Transaction control as text, {statement.strip()[:40]!r}, inside a transaction()"
            " scope: the scope begins and ends the transaction. Nothing was sent. Use savepoint()"
            " for a savepoint."
        )
    if not work.database.commits_implicitly:
        work.surely_open = True
        return
    commits, opens = work.database.effects(statement)
    if commits:
        raise OwnershipError(
            f"{first_word(statement)} inside a transaction() scope: on"
            f" {work.connection.dialect.name} it commits everything before it, and the scope"
            " could not keep its word. Nothing was sent. Run it outside the scope."
        )
    if opens:
        work.surely_open = True


def _check_still_open(tree: ScopeTree, work: Work) -> None:
    """Notice a ROLLBACK or COMMIT that went past SQLAlchemy's session, or past SQLAlchemy."""
    if work.rolled_back:
        tree.ended_by("a ROLLBACK on its connection")
    if work.checkout.dbapi_connection is not None:
        loss = work.database.loss(work.raw, wrote=work.surely_open)
        if loss is not None and loss is Loss.GONE:
            tree.ended_by("a statement that SQLAlchemy did not see")


def _send_savepoint(tree: ScopeTree, nested: SessionTransaction, connection: Connection) -> None:
    """Send the SAVEPOINT of the block, for a statement that does not come by the session."""
    if len(tree.begun.get(nested, ())) < len(tree.works):
        tree.session.connection(bind_arguments={"bind": connection.engine})


def _released(tree: ScopeTree, inner: NestedTransaction | None) -> None:
    # On every database as on PostgreSQL, where it could not be released.
    cause = tree.own_causes.pop(inner, None) if inner is not None else None
    if cause is not None and tree.frames:
        tree.frames[-1].boundary.blame(cause)


def check_last(tree: ScopeTree, work: Work) -> None:
    """Look a last time, when COMMIT is about to be sent on one connection."""
    if not tree.ending:
        tree.ended_by("a COMMIT on its connection")
        raise OwnershipError(
            "This connection's transaction belongs to a transaction() scope, which commits at"
            " its end. The work was rolled back; leave the COMMIT out."
        )
    # A before_commit listener of the application's runs after every other check.
    if not tree.simple and tree.frames and tree.frames[0].cause is not None:
        raise unexpected(tree.frames[0].cause, "transaction")
    if work.rolled_back:
        check_connection(tree, work)
    if work.executed:
        check_driver(tree, work)


def check_connection(tree: ScopeTree, work: Work) -> None:
    """Look whether the connection is still the one of the transaction."""
    # One that was closed has sent its ROLLBACK, one that was invalidated has no driver's.
    lost = work.rolled_back or work.checkout.dbapi_connection is None
    if lost and (work.executed or work.rolled_back):
        tree.lost_to("a ROLLBACK on its connection, or the connection's loss")
        raise OwnershipError(tree.foreign_message())


def check_driver(tree: ScopeTree, work: Work) -> None:
    """Ask the driver whether the transaction is still there."""
    loss = work.database.loss(work.raw, wrote=work.surely_open)
    if loss is None:
        return
    if loss is Loss.FAILED:
        raise UnexpectedRollback(
            "The database reports that this transaction has failed: its COMMIT would save"
            " nothing. A statement sent around SQLAlchemy must have raised."
        )
    tree.lost_to("a statement that SQLAlchemy did not see")
    raise OwnershipError(tree.foreign_message())


def check_flush(tree: ScopeTree) -> None:
    """Look at a flush before it begins."""
    tree.check()
    if tree.frames and tree.frames[-1].refuses_writes and pending(tree.session):
        _refuse_write(tree, "A flush of new, changed or deleted objects")


def _check_write(tree: ScopeTree, what: str) -> None:
    """Look at a write before it is sent."""
    if tree.frames and tree.frames[-1].refuses_writes:
        _refuse_write(tree, what)


def guard_orm_writes(tree: ScopeTree) -> None:
    """Look at the session's ORM-enabled writes from here on."""
    # Only here: the event costs every ORM statement of a session some microseconds.
    if not tree.guards_orm_writes:
        tree.guards_orm_writes = True
        tree.complicate()
        event.listen(tree.session, "do_orm_execute", orm_write_guard)


def _refuse_write(tree: ScopeTree, what: str) -> NoReturn:
    violation = ReadOnlyViolation(
        f"{what} in a scope with read_only=True. Nothing was sent. Take read_only out, or"
        " move the write out of the scope."
    )
    tree.frames[-1].boundary.blame(violation)
    raise violation


def refuse_commit(tree: ScopeTree) -> NoReturn:
    """Refuse ``session.commit()``."""
    raise OwnershipError(
        "session.commit() inside a transaction() scope: the scope commits at its end. Nothing"
        " was changed; leave the commit out."
    )


def check_commit(tree: ScopeTree) -> None:
    """Refuse a COMMIT of the whole transaction that is not ours, and a lost savepoint's."""
    nested = tree.session.get_nested_transaction()
    if nested is None:
        if not tree.ending:
            refuse_commit(tree)
    elif nested in tree.own_causes:
        raise unexpected(tree.own_causes[nested], "savepoint")


def check_commit_beside(tree: ScopeTree, session: Session) -> None:
    """Refuse the COMMIT of the session that took this one's place after ``remove()``."""
    mine = tree.owner in (threading.get_ident(), None) and type(session) is type(tree.session)
    if mine and tree.foreign is not None and not tree.ending:
        raise OwnershipError(tree.foreign_message())


def pending(session: Session) -> list[object]:
    """Return what a flush would write."""
    changed = [item for item in session.dirty if session.is_modified(item)]
    return [*session.new, *changed, *session.deleted]


def orm_write_guard(state: ORMExecuteState) -> None:
    """Refuse ORM-enabled INSERT, UPDATE and DELETE in a read-only scope, before any SQL."""
    tree = marks_of(state.session).tree
    if tree is not None and state.is_orm_statement and not state.is_select:
        _check_write(tree, "An INSERT, UPDATE or DELETE")
