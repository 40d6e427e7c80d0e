"""How a block ends: what is committed, what is undone, what is raised."""

from __future__ import annotations

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import SessionTransaction

from .blame import blame, blame_savepoint, ended_elsewhere, note_end
from .checks import check_marked, notice_loss
from .committing import check_before_commit, commit
from .connections import restore
from .ending import roll_back, run_rollback_hooks
from .exceptions import OwnershipError, Rollback, note_failure, unexpected
from .holders import check_owner
from .hooks import Hook, run_logged
from .state import Block, UnitOfWork

__all__ = ["leave", "leave_own"]


def leave(block: Block, error: BaseException | None) -> bool:
    """End one block.

    Args:
        block: The block, normally the innermost.
        error: What left it, if anything did.

    Returns:
        Whether ``error`` is dealt with.

    Raises:
        OwnershipError: It is another thread's or task's, the block is not the innermost, or
            somebody else ended its transaction.
        UnexpectedRollback: A caught error had undone the work.
    """
    if block in block.unit.blocks:
        check_owner(block.unit)
    return leave_own(block, error)


def leave_own(block: Block, error: BaseException | None) -> bool:
    """End one block that is known to be of this thread or task, as :func:`leave` does."""
    unit = block.unit
    blocks = unit.blocks
    if block not in blocks:
        return _leave_late(block, error)
    block.holder = None  # the frame knows the block in its turn
    if blocks[-1] is not block:
        return _leave_out_of_order(unit, error)
    if not unit.plain or error is not None:
        _notice(unit, block, error)
    elif block.index:
        # Joined, and nothing has happened that the block around it would have to know.
        blocks.pop()
        return False
    if block.index == 0:
        return _leave_outermost(unit, block, error)
    if block.savepoint is not None:
        return _leave_savepoint(unit, block, error)
    return _leave_joined(unit, block, error)


def _notice(unit: UnitOfWork, block: Block, error: BaseException | None) -> None:
    """Notice a ROLLBACK that no error of this scope explains, and what savepoints undid."""
    for transaction in unit.transactions.values():
        if transaction.marked:
            check_marked(unit, transaction)
        if error is not None:
            notice_loss(unit, transaction)
    if (
        (error is not None or block.savepoint is not None)
        and unit.blocks[0].cause is None
        and any(transaction.rolled_back for transaction in unit.transactions.values())
    ):
        note_end(unit, "a ROLLBACK on its connection")
    if unit.undone_hooks:
        hooks, unit.undone_hooks = unit.undone_hooks, []
        run_logged(hooks, "on_rollback", error if error is not None else Rollback())


def _leave_late(block: Block, error: BaseException | None) -> bool:
    """Leave a block whose unit of work is over."""
    unit, block.holder = block.unit, None
    if error is not None:
        return False
    if unit.ended_by is not None:
        raise ended_elsewhere(unit)
    raise OwnershipError("This block was left after the block around it.")


def _leave_out_of_order(unit: UnitOfWork, error: BaseException | None) -> bool:
    failure = OwnershipError(
        "Scopes were left in the wrong order: an inner block is still open, perhaps in a"
        " suspended generator. Everything was rolled back."
    )
    roll_back(unit, error or failure)
    run_rollback_hooks(unit, error or failure)
    if error is not None:
        return False
    raise failure


def _leave_joined(unit: UnitOfWork, block: Block, error: BaseException | None) -> bool:
    boundary = block.boundary
    unit.blocks.pop()
    if error is None:
        if unit.ended_by is None and boundary.cause is None:
            restore(unit, block, unit.blocks[-1])
    elif isinstance(error, Rollback):
        boundary.silent = True  # also when it is swallowed on its way
    elif block.inside is not None and block.inside.is_active:
        blame_savepoint(unit, block.inside, error)
    else:
        blame(boundary, error)
    return False


def _leave_savepoint(unit: UnitOfWork, block: Block, error: BaseException | None) -> bool:
    savepoint = block.savepoint
    assert savepoint is not None
    failure: BaseException | None = error
    if error is None and unit.ended_by is None and not block.silent:
        if block.cause is not None:
            failure = unexpected(block.cause, "savepoint")
        else:
            failure = _release(unit, block, savepoint)
            if failure is None:
                return False
    if error is None and unit.ended_by is not None:
        failure = ended_elsewhere(unit)
    _undo_savepoint(unit, block, savepoint, failure)
    if failure is None or (error is not None and isinstance(error, Rollback)):
        return True
    if error is not None:
        return False
    raise failure


def _release(unit: UnitOfWork, block: Block, savepoint: SessionTransaction) -> BaseException | None:
    """Flush into the savepoint and release it; return what went wrong."""
    try:
        unit.session.flush()
        if block.cause is not None:
            return unexpected(block.cause, "savepoint")
        with unit.ending_quietly(sealed=False):
            savepoint.commit()
    except BaseException as error:
        return error
    unit.blocks.pop()
    restore(unit, block, unit.blocks[-1])
    return None


def _undo_savepoint(
    unit: UnitOfWork, block: Block, savepoint: SessionTransaction, error: BaseException | None
) -> None:
    hooks = unit.drop_hooks(block.hook_mark)
    if not unit.killed and unit.ended_by is None:
        try:
            with unit.ending_quietly(sealed=True):
                savepoint.rollback()
            unit.errors = [kept for kept in unit.errors if kept[0] < block.index]
            restore(unit, block, unit.blocks[block.index - 1])
        except Exception as failed:
            note_failure(error, failed)
            blame(unit.blocks[block.index - 1].boundary, failed)
    unit.blocks.pop()
    run_logged(hooks, "on_rollback", error if error is not None else Rollback())


def _leave_outermost(unit: UnitOfWork, block: Block, error: BaseException | None) -> bool:
    if error is not None:
        return _leave_with(unit, block, error)
    failure: BaseException | None = None
    if unit.ended_by is not None:
        failure = ended_elsewhere(unit)
    elif block.silent:
        pass
    elif block.cause is not None:
        failure = unexpected(block.cause, "transaction")
    else:
        try:
            if unit.hooks is not None:
                _run_before_commit(unit.hooks.before_commit, unit, block)
            unit.session.flush()
            check_before_commit(unit, block)
        except BaseException as raised:
            failure = raised
        else:
            if not block.silent:
                commit(unit)
                return False
    roll_back(unit, failure)
    run_rollback_hooks(unit, failure if failure is not None else Rollback())
    if failure is not None:
        raise failure
    return False


def _leave_with(unit: UnitOfWork, block: Block, error: BaseException) -> bool:
    raised: BaseException = error
    if unit.ended_by is not None and isinstance(error, InvalidRequestError):
        # SQLAlchemy's "closed transaction": a consequence, not what happened.
        raised = ended_elsewhere(unit)
        raised.__cause__ = error
    roll_back(unit, raised)
    run_rollback_hooks(unit, raised)
    if isinstance(error, Rollback):
        return True
    if raised is not error:
        raise raised
    return False


def _run_before_commit(hooks: list[Hook], unit: UnitOfWork, block: Block) -> None:
    while hooks:
        hooks.pop(0)()
        unit.session.flush()
        if block.cause is not None:
            raise unexpected(block.cause, "transaction")
