"""What a scope asks before a statement, a flush or a COMMIT goes out, and what it refuses."""

from __future__ import annotations

import threading
from typing import Any, NoReturn

from sqlalchemy import event
from sqlalchemy.engine import Connection, NestedTransaction
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.sql.elements import (
    ReleaseSavepointClause,
    RollbackToSavepointClause,
    SavepointClause,
)

from ..exceptions import OwnershipError, ReadOnlyViolation, UnexpectedRollback
from ..statements import Kind, first_word
from .databases import DriverState, scopes_for
from .failures import unexpected
from .tree import ScopeTree
from .work import Work, marks_of

__all__ = [
    "check_commit",
    "check_commit_beside",
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
    compiled = getattr(context, "compiled", None)
    clause = compiled.statement if compiled is not None else None
    if isinstance(clause, _SAVEPOINT_CLAUSES):
        if isinstance(clause, ReleaseSavepointClause):
            _released(tree, work.connection.get_nested_transaction())
        return
    if tree.ending or context.execution_options.get("dbkit_internal"):
        return
    connection = work.connection
    _check_still_open(tree, work)
    tree.check()
    if kind is Kind.SAVEPOINT or kind is Kind.CONTROL:
        raise OwnershipError(
            f"{first_word(statement)} as text inside a transaction() scope: the"
            " scope begins and ends the transaction. Nothing was sent. Use savepoint() for a"
            " savepoint."
        )
    database = scopes_for(connection.dialect)
    if kind is not Kind.READ:
        if database.commits_by_itself(statement):
            raise OwnershipError(
                f"{first_word(statement)} inside a transaction() scope: on"
                f" {connection.dialect.name} it commits everything before it, and the scope"
                " could not keep its word. Nothing was sent. Run it outside the scope."
            )
        work.surely_open = work.surely_open or database.writes_rows(statement)
    _send_savepoint(tree, connection)
    by_database = tree.options.read_only or database.can_turn_read_only
    if kind is Kind.WRITE and not by_database and tree.frames and tree.frames[-1].read_only:
        _refuse_write(tree, "A statement that writes")


def _check_still_open(tree: ScopeTree, work: Work) -> None:
    """Notice a ROLLBACK or COMMIT that went past SQLAlchemy's session, or past SQLAlchemy."""
    if work.rolled_back:
        tree.ended_by("a ROLLBACK on its connection")
    if work.executed and not work.connection.invalidated:
        state = scopes_for(work.connection.dialect).state(work.connection, wrote=work.surely_open)
        if state is DriverState.GONE:
            tree.ended_by("a statement that SQLAlchemy did not see")


def _send_savepoint(tree: ScopeTree, connection: Connection) -> None:
    """Send the SAVEPOINT of the block, for a statement that does not come by the session."""
    nested = tree.session.get_nested_transaction()
    if nested is not None and len(tree.begun.get(nested, ())) < len(tree.works):
        tree.session.connection(bind_arguments={"bind": connection.engine})


def _released(tree: ScopeTree, inner: NestedTransaction | None) -> None:
    # On every database as on PostgreSQL, where it could not be released.
    cause = tree.own_causes.pop(inner, None) if inner is not None else None
    if cause is not None and tree.frames:
        boundary = tree.frames[-1].boundary
        boundary.cause = boundary.cause or cause


def check_last(tree: ScopeTree, work: Work) -> None:
    """Look a last time, when COMMIT is about to be sent on one connection."""
    if not tree.ending:
        tree.ended_by("a COMMIT on its connection")
        raise OwnershipError(
            "This connection's transaction belongs to a transaction() scope, which commits at"
            " its end. The work was rolled back; leave the COMMIT out."
        )
    # A before_commit listener of the application's runs after every other check.
    if tree.frames and tree.frames[0].cause is not None:
        raise unexpected(tree.frames[0].cause, "transaction")
    check_driver(tree, work)


def check_driver(tree: ScopeTree, work: Work) -> None:
    """Ask the driver whether the transaction is still there."""
    connection = work.connection
    if connection.closed or connection.invalidated or work.rolled_back:
        tree.foreign = tree.foreign or "a ROLLBACK on its connection, or the connection's loss"
        raise OwnershipError(tree.foreign_message())
    if not work.executed:
        return
    state = scopes_for(connection.dialect).state(connection, wrote=work.surely_open)
    if state is DriverState.FAILED:
        raise UnexpectedRollback(
            "The database reports that this transaction has failed: its COMMIT would save"
            " nothing. A statement sent around SQLAlchemy must have raised."
        )
    if state is DriverState.GONE:
        tree.foreign = tree.foreign or "a statement that SQLAlchemy did not see"
        raise OwnershipError(tree.foreign_message())


def check_flush(tree: ScopeTree) -> None:
    """Look at a flush before it begins."""
    tree.check()
    if tree.frames and tree.frames[-1].read_only and pending(tree.session):
        _refuse_write(tree, "A flush of new, changed or deleted objects")


def check_orm_write(tree: ScopeTree) -> None:
    """Look at an ORM-enabled INSERT, UPDATE or DELETE before it is sent."""
    if tree.frames and tree.frames[-1].read_only:
        _refuse_write(tree, "An INSERT, UPDATE or DELETE")


def guard_orm_writes(tree: ScopeTree) -> None:
    """Look at the session's ORM-enabled writes from here on."""
    # Only here: the event costs every ORM statement of a session some microseconds.
    if not tree.guards_orm_writes:
        tree.guards_orm_writes = True
        event.listen(tree.session, "do_orm_execute", orm_write_guard)


def _refuse_write(tree: ScopeTree, what: str) -> NoReturn:
    violation = ReadOnlyViolation(
        f"{what} in a scope with read_only=True. Nothing was sent. Take read_only out, or"
        " move the write out of the scope."
    )
    boundary = tree.frames[-1].boundary
    boundary.cause = boundary.cause or violation
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
        check_orm_write(tree)
