"""What a scope asks before a statement, a flush or a COMMIT goes out, and what it refuses."""

from __future__ import annotations

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
from .blame import blame, check_intact, ended_elsewhere, note_end
from .exceptions import OwnershipError, ReadOnlyViolation, UnexpectedRollback, unexpected
from .holders import check_owner, is_of_this_flow
from .state import DatabaseTransaction, UnitOfWork, record_of

__all__ = [
    "check_commit",
    "check_commit_beside",
    "check_connection",
    "check_driver",
    "check_flush",
    "check_last",
    "check_marked",
    "check_prepare",
    "check_statement",
    "guard_orm_writes",
    "is_rollback_to",
    "note_replacement",
    "notice_loss",
    "orm_write_guard",
    "pending",
    "refuse_commit",
]

UNSEEN = "a statement that SQLAlchemy did not see"
_MARK = "dbkit_mark"
_SAVEPOINT_CLAUSES = (SavepointClause, ReleaseSavepointClause, RollbackToSavepointClause)


def check_statement(
    unit: UnitOfWork,
    kind: Kind,
    statement: str,
    context: Any,
    transaction: DatabaseTransaction,
) -> None:
    """Look at a statement before it is sent."""
    if transaction.marked:
        check_marked(unit, transaction)
    if kind is SAVEPOINT and _sent_by_sqlalchemy(unit, context, transaction):
        return
    if unit.sealed or context.execution_options.get("dbkit_internal"):
        return
    reads = unit.blocks and unit.blocks[-1].refuses_writes
    transaction.could_write = transaction.could_write or not reads
    if unit.ending:
        if kind is not READ:  # a flush of the COMMIT's own, or a listener's
            _check_change(kind, statement, transaction)
        return
    if transaction.executed or transaction.rolled_back:
        _check_still_open(unit, transaction)
    check_owner(unit)
    if not unit.plain:
        _check_fully(unit, kind, transaction)
    if kind is not READ:
        _check_change(kind, statement, transaction)
        if kind is WRITE and transaction.database.may_commit_inside(statement):
            _mark(unit, transaction)
    if not unit.plain:
        nested = unit.session.get_nested_transaction()
        if nested is not None:
            _send_savepoint(unit, nested, transaction.connection)


def is_rollback_to(context: Any) -> bool:
    """Tell whether a statement is SQLAlchemy's ROLLBACK TO SAVEPOINT."""
    compiled = context.compiled
    return compiled is not None and isinstance(compiled.statement, RollbackToSavepointClause)


def _check_fully(unit: UnitOfWork, kind: Kind, transaction: DatabaseTransaction) -> None:
    check_intact(unit)
    if kind is WRITE and not (unit.options.read_only or transaction.database.can_turn_read_only):
        _check_write(unit, "A statement that writes")


def _mark(unit: UnitOfWork, transaction: DatabaseTransaction) -> None:
    """Set a savepoint before a statement that may commit inside, which would drop it."""
    unit.take_full_checks()
    transaction.raw.cursor().execute(f"SAVEPOINT {_MARK}")
    transaction.marked = True


def check_marked(unit: UnitOfWork, transaction: DatabaseTransaction) -> None:
    """Notice a COMMIT inside a statement: it has dropped the savepoint that stood before it."""
    transaction.marked = False
    if unit.killed or unit.ended_by is not None or transaction.checkout.dbapi_connection is None:
        return
    try:
        transaction.raw.cursor().execute(f"RELEASE SAVEPOINT {_MARK}")
    except Exception:
        note_end(unit, "a COMMIT inside a statement", may_be_saved=True)


def _sent_by_sqlalchemy(unit: UnitOfWork, context: Any, transaction: DatabaseTransaction) -> bool:
    compiled = context.compiled
    if compiled is None or not isinstance(compiled.statement, _SAVEPOINT_CLAUSES):
        return False
    clause = compiled.statement
    if isinstance(clause, SavepointClause):
        unit.take_full_checks()
        _flush_before_savepoint(unit.session)
        transaction.hook_marks[clause.ident] = unit.hook_mark()
    elif isinstance(clause, ReleaseSavepointClause):
        _released(unit, transaction.connection.get_nested_transaction())
    elif clause.ident in transaction.hook_marks:
        # Of a savepoint that the session knows of they are gone already.
        unit.undone_hooks += unit.drop_hooks(transaction.hook_marks[clause.ident])
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


def _check_change(kind: Kind, statement: str, transaction: DatabaseTransaction) -> None:
    if kind is SAVEPOINT or kind is CONTROL:
        raise OwnershipError(
            f"Transaction control as text, {statement.strip()[:40]!r}, inside a transaction()"
            " scope: the scope begins and ends the transaction. Nothing was sent. Use savepoint()"
            " for a savepoint."
        )
    if not transaction.database.commits_implicitly:
        transaction.surely_open = True
        return
    if transaction.database.effects(statement).commits:
        raise OwnershipError(
            f"{first_word(statement)} inside a transaction() scope: on"
            f" {transaction.connection.dialect.name} it commits everything before it, and the scope"
            " could not keep its word. Nothing was sent. Run it outside the scope."
        )


def _check_still_open(unit: UnitOfWork, transaction: DatabaseTransaction) -> None:
    """Notice a ROLLBACK or COMMIT that went past SQLAlchemy's session, or past SQLAlchemy."""
    if transaction.rolled_back:
        note_end(unit, "a ROLLBACK on its connection")
    notice_loss(unit, transaction)


def notice_loss(unit: UnitOfWork, transaction: DatabaseTransaction) -> None:
    """Notice that the transaction is gone, which no error of the database's explains."""
    if (
        not transaction.executed
        or transaction.rolled_back
        or unit.killed
        or transaction.checkout.dbapi_connection is None
    ):
        return
    loss = transaction.database.loss(transaction.raw, wrote=transaction.surely_open)
    if loss is not None and loss is Loss.GONE:
        note_end(unit, UNSEEN, may_be_saved=True)


def _send_savepoint(unit: UnitOfWork, nested: SessionTransaction, connection: Connection) -> None:
    """Send the SAVEPOINT of the block, for a statement that does not come by the session."""
    if len(unit.begun.get(nested, ())) < len(unit.transactions):
        unit.session.connection(bind_arguments={"bind": connection.engine})


def _released(unit: UnitOfWork, inner: NestedTransaction | None) -> None:
    # On every database as on PostgreSQL, where it could not be released.
    cause = unit.own_causes.pop(inner, None) if inner is not None else None
    if cause is not None and unit.blocks:
        blame(unit.blocks[-1].boundary, cause)


def check_last(unit: UnitOfWork, transaction: DatabaseTransaction) -> None:
    """Look a last time, when COMMIT is about to be sent on one connection."""
    if not unit.ending:
        note_end(unit, "a COMMIT on its connection")
        raise OwnershipError(
            "This connection's transaction belongs to a transaction() scope, which commits at"
            " its end. The work was rolled back; leave the COMMIT out."
        )
    # A before_commit listener of the application's runs after every other check.
    if unit.blocks and unit.blocks[0].cause is not None:
        raise unexpected(unit.blocks[0].cause, "transaction")
    if transaction.rolled_back:
        check_connection(unit, transaction)
    if transaction.marked:
        check_marked(unit, transaction)
        if unit.ended_by is not None:
            raise ended_elsewhere(unit)
    if transaction.executed:
        check_driver(unit, transaction)


def check_prepare(unit: UnitOfWork) -> None:
    """Look whether anything was added since the last flush, when a database is about to prepare.

    That is what a listener of ``prepare_twophase`` has done, and it would not be saved.
    """
    if pending(unit.session):
        raise OwnershipError(
            "A listener has added or changed objects while this scope was ending, after its last"
            " flush: they would not be saved. Everything was rolled back. Do it in a before_commit"
            " listener, or with on_commit() afterwards."
        )


def check_connection(unit: UnitOfWork, transaction: DatabaseTransaction) -> None:
    """Look whether the connection is still the one of the transaction."""
    # One that was closed has sent its ROLLBACK, one that was invalidated has no driver's.
    lost = transaction.rolled_back or transaction.checkout.dbapi_connection is None
    if lost and (transaction.executed or transaction.rolled_back):
        note_end(unit, "a ROLLBACK on its connection, or the connection's loss")
        raise ended_elsewhere(unit)


def check_driver(unit: UnitOfWork, transaction: DatabaseTransaction) -> None:
    """Ask the driver whether the transaction is still there."""
    loss = transaction.database.loss(transaction.raw, wrote=transaction.surely_open)
    if loss is None:
        return
    if loss is Loss.FAILED:
        raise UnexpectedRollback(
            "The database reports that this transaction has failed: its COMMIT would save"
            " nothing. A statement sent around SQLAlchemy must have raised."
        )
    note_end(unit, UNSEEN, may_be_saved=True)
    raise ended_elsewhere(unit)


def check_flush(unit: UnitOfWork) -> None:
    """Look at a flush before it begins."""
    check_owner(unit)
    check_intact(unit)
    if unit.blocks and unit.blocks[-1].refuses_writes and pending(unit.session):
        _refuse_write(unit, "A flush of new, changed or deleted objects")


def _check_write(unit: UnitOfWork, what: str) -> None:
    """Look at a write before it is sent."""
    if unit.blocks and unit.blocks[-1].refuses_writes:
        _refuse_write(unit, what)


def guard_orm_writes(unit: UnitOfWork) -> None:
    """Look at the session's ORM-enabled writes from here on."""
    # Only here: the event costs every ORM statement of a session some microseconds.
    if not unit.guards_orm_writes:
        unit.guards_orm_writes = True
        unit.take_full_checks()
        event.listen(unit.session, "do_orm_execute", orm_write_guard)


def _refuse_write(unit: UnitOfWork, what: str) -> NoReturn:
    violation = ReadOnlyViolation(
        f"{what} in a scope with read_only=True. Nothing was sent. Take read_only out, or"
        " move the write out of the scope."
    )
    blame(unit.blocks[-1].boundary, violation)
    raise violation


def refuse_commit(unit: UnitOfWork) -> NoReturn:
    """Refuse ``session.commit()``."""
    raise OwnershipError(
        "session.commit() inside a transaction() scope: the scope commits at its end. Nothing"
        " was changed; leave the commit out."
    )


def check_commit(unit: UnitOfWork) -> None:
    """Refuse a COMMIT of the whole transaction that is not ours, and a lost savepoint's."""
    nested = unit.session.get_nested_transaction()
    if nested is None:
        if not unit.ending:
            refuse_commit(unit)
    elif nested in unit.own_causes:
        raise unexpected(unit.own_causes[nested], "savepoint")


def note_replacement(unit: UnitOfWork) -> None:
    """Notice that another session stands where that of an open scope stood."""
    if is_of_this_flow(unit) and unit.blocks and not unit.ending:
        note_end(unit, "db.session.registry.clear()")


def check_commit_beside(unit: UnitOfWork, session: Session) -> None:
    """Refuse the COMMIT of the session that took this one's place after ``remove()``."""
    mine = is_of_this_flow(unit) and type(session) is type(unit.session)
    if mine and unit.ended_by is not None and not unit.ending:
        raise ended_elsewhere(unit)


def pending(session: Session) -> list[object]:
    """Return what a flush would write."""
    changed = [item for item in session.dirty if session.is_modified(item)]
    return [*session.new, *changed, *session.deleted]


def orm_write_guard(state: ORMExecuteState) -> None:
    """Refuse ORM-enabled INSERT, UPDATE and DELETE in a read-only scope, before any SQL."""
    unit = record_of(state.session).unit
    if unit is not None and state.is_orm_statement and getattr(state.statement, "is_dml", False):
        _check_write(unit, "An INSERT, UPDATE or DELETE")
