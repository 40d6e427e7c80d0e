"""Which error undoes what, and who else ended a transaction.

What goes wrong is remembered at the boundary that contains it, so that no block can end normally
with its work gone.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection, NestedTransaction
from sqlalchemy.orm import SessionTransaction

from ..databases import database_of
from .exceptions import OwnershipError, TransactionError
from .state import Block, UnitOfWork

__all__ = [
    "blame",
    "blame_savepoint",
    "check_intact",
    "ended_elsewhere",
    "name_error",
    "note_end",
    "note_session_end",
    "record_error",
]


def blame(block: Block, error: BaseException) -> None:
    """Remember the first error that undid work of a boundary."""
    unit = block.unit
    unit.take_full_checks()
    unit.troubled = True
    if block.cause is None:
        block.cause = error


def blame_savepoint(
    unit: UnitOfWork, savepoint: SessionTransaction | NestedTransaction, error: BaseException
) -> None:
    """Remember the first error inside a savepoint of the application's own."""
    unit.take_full_checks()
    unit.troubled = True
    unit.own_causes.setdefault(savepoint, error)


def record_error(
    unit: UnitOfWork,
    error: BaseException,
    original: BaseException,
    connection: Connection | None,
    *,
    lost: bool = False,
) -> None:
    """Remember a database error at the boundary that contains it.

    Args:
        unit: The unit of work it happened in.
        error: As it is raised.
        original: The driver's own.
        connection: Where it happened, if it is known.
        lost: The connection is gone, and with it the transaction.
    """
    if not unit.blocks:
        return
    fatal = connection is not None and (
        lost
        or connection.invalidated
        or database_of(connection).scopes.ends_transaction(original, connection)
    )
    container = unit.blocks[0] if fatal else _container(unit, connection)
    if not isinstance(container, Block):
        blame_savepoint(unit, container, error)
        return
    unit.killed = unit.killed or fatal
    unit.errors.append((container.index, error, original))
    for block in unit.blocks:
        if block is container or (unit.killed and block.is_boundary):
            blame(block, error)


def name_error(unit: UnitOfWork, original: BaseException, raised: BaseException) -> bool:
    """Remember an error of the driver's as SQLAlchemy raises it.

    Returns:
        Whether it was remembered before.
    """
    known = any(each is original for _, each, _ in unit.errors)
    unit.errors = [
        (index, raised if error is original else error, first)
        for index, error, first in unit.errors
    ]
    for block in unit.blocks:
        if block.cause is original:
            block.cause = raised
    for savepoint, cause in unit.own_causes.items():
        if cause is original:
            unit.own_causes[savepoint] = raised
            known = True
    return known


def _container(
    unit: UnitOfWork, connection: Connection | None
) -> Block | SessionTransaction | NestedTransaction:
    """Return what an error that happens now is undone to."""
    nested = unit.session.get_nested_transaction()
    if nested is not None and unit.is_own(nested):
        return nested
    inner = connection.get_nested_transaction() if connection is not None else None
    if inner is not None and not any(inner in begun for begun in unit.begun.values()):
        return inner
    return unit.blocks[-1].boundary if nested is not None else unit.blocks[0]


def check_intact(unit: UnitOfWork) -> None:
    """Refuse to go on after the transaction was lost.

    Raises:
        OwnershipError: Somebody else ended it.
        TransactionError: An error has undone its work.
    """
    if unit.ending:
        return
    if unit.ended_by is not None:
        raise ended_elsewhere(unit)
    if not unit.troubled or not unit.blocks:
        return
    cause = _cause_in_force(unit)
    if cause is not None:
        raise TransactionError(
            "An earlier error has undone the work of this transaction, and nothing more"
            " can be added to it. Let the error leave the block, or put what may fail"
            f" into a savepoint(). The error was: {cause!r}"
        ) from cause


def _cause_in_force(unit: UnitOfWork) -> BaseException | None:
    boundary = unit.blocks[-1].boundary
    nested: SessionTransaction | None = unit.session.get_nested_transaction()
    while nested is not None and nested is not boundary.savepoint:
        if nested in unit.own_causes:
            return unit.own_causes[nested]
        nested = nested.parent
    return boundary.cause


def note_end(unit: UnitOfWork, who: str, *, may_be_saved: bool = False) -> None:
    """Remember who else ended the transaction, the first one who did.

    Args:
        unit: Its unit of work.
        who: In words.
        may_be_saved: It may have been a COMMIT.
    """
    unit.take_full_checks()
    if unit.ended_by is None:
        unit.ended_by, unit.may_be_saved = who, may_be_saved


def note_session_end(unit: UnitOfWork, transaction: SessionTransaction) -> None:
    """Notice the end of a session transaction."""
    unit.own_causes.pop(transaction, None)
    unit.begun.pop(transaction, None)
    if unit.ending:
        return
    if transaction is unit.root:
        note_end(unit, "session.rollback(), session.close() or db.session.remove()")
    elif any(block.savepoint is transaction for block in unit.blocks):
        note_end(unit, "a rollback or release of its savepoint")


_MAY_BE_SAVED = (
    "What was done before that may be saved or not, what came after it was rolled back. Look for it"
    " before doing it again."
)


def ended_elsewhere(unit: UnitOfWork) -> OwnershipError:
    """Say who ended the transaction, and what to do instead."""
    outcome = _MAY_BE_SAVED if unit.may_be_saved else "It was rolled back."
    return OwnershipError(
        f"The transaction of this scope was ended inside the block, by {unit.ended_by}."
        f" {outcome} To undo work, raise Rollback, or call"
        " current_transaction().set_rollback_only()."
    )
