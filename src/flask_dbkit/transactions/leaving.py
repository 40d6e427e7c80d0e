"""How a block ends: what is committed, what is undone, what is raised."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import SessionTransaction

from .committing import check_before_commit, commit
from .connections import restore
from .ending import roll_back, run_rollback_hooks
from .exceptions import OwnershipError, Rollback
from .failures import note_failure, unexpected
from .frames import Frame
from .hooks import Hook, run_logged
from .tree import ScopeTree

__all__ = ["leave"]


def leave(frame: Frame, error: BaseException | None) -> bool:
    """End one block.

    Args:
        frame: The block, normally the innermost.
        error: What left it, if anything did.

    Returns:
        Whether ``error`` is dealt with.

    Raises:
        OwnershipError: The block is not the innermost, or somebody else ended its transaction.
        UnexpectedRollback: A caught error had undone the work.
    """
    tree = frame.tree
    if tree.owner != threading.get_ident():
        tree.check_owner()
    frames = tree.frames
    if not frames or frames[-1] is not frame:
        return _leave_out_of_order(tree, frame, error)
    if error is not None or not tree.simple:
        _notice(tree, frame, error)
    elif frame.index:
        # Joined, and nothing has happened that the block around it would have to know.
        frames.pop()
        return False
    if frame.index == 0:
        return _leave_outermost(tree, frame, error)
    if frame.savepoint is not None:
        return _leave_savepoint(tree, frame, error)
    return _leave_joined(tree, frame, error)


def _notice(tree: ScopeTree, frame: Frame, error: BaseException | None) -> None:
    """Notice a ROLLBACK that no error of this scope explains, and what savepoints undid."""
    if (
        (error is not None or frame.savepoint is not None)
        and tree.frames[0].cause is None
        and any(work.rolled_back for work in tree.works.values())
    ):
        tree.ended_by("a ROLLBACK on its connection")
    if tree.undone:
        hooks, tree.undone = tree.undone, ()
        run_logged(hooks, "on_rollback", error if error is not None else Rollback())


def _leave_out_of_order(tree: ScopeTree, frame: Frame, error: BaseException | None) -> bool:
    if frame not in tree.frames:
        # An outer block was left before this one and took it along.
        if error is None:
            raise OwnershipError("This block was left after the block around it.")
        return False
    failure = OwnershipError(
        "Scopes were left in the wrong order: an inner block is still open, perhaps in a"
        " suspended generator. Everything was rolled back."
    )
    roll_back(tree, error or failure)
    run_rollback_hooks(tree, error or failure)
    if error is not None:
        return False
    raise failure


def _leave_joined(tree: ScopeTree, frame: Frame, error: BaseException | None) -> bool:
    boundary = frame.boundary
    tree.frames.pop()
    if error is None:
        if tree.foreign is None and boundary.cause is None:
            restore(tree, frame, tree.frames[-1])
    elif isinstance(error, Rollback):
        boundary.silent = True  # also when it is swallowed on its way
    elif frame.inside is not None and frame.inside.is_active:
        tree.own_causes.setdefault(frame.inside, error)
    else:
        boundary.blame(error)
    return False


def _leave_savepoint(tree: ScopeTree, frame: Frame, error: BaseException | None) -> bool:
    savepoint = frame.savepoint
    assert savepoint is not None
    failure: BaseException | None = error
    if error is None and tree.foreign is None and not frame.silent:
        if frame.cause is not None:
            failure = unexpected(frame.cause, "savepoint")
        else:
            failure = _release(tree, frame, savepoint)
            if failure is None:
                return False
    if error is None and tree.foreign is not None:
        failure = OwnershipError(tree.foreign_message())
    _undo_savepoint(tree, frame, savepoint, failure)
    if failure is None or (error is not None and isinstance(error, Rollback)):
        return True
    if error is not None:
        return False
    raise failure


def _release(tree: ScopeTree, frame: Frame, savepoint: SessionTransaction) -> BaseException | None:
    """Flush into the savepoint and release it; return what went wrong."""
    try:
        tree.session.flush()
        if frame.cause is not None:
            return unexpected(frame.cause, "savepoint")
        _quietly(tree, savepoint.commit)
    except BaseException as error:
        return error
    tree.frames.pop()
    restore(tree, frame, tree.frames[-1])
    return None


def _quietly(tree: ScopeTree, call: Callable[[], None]) -> None:
    """Call something of the session's that would look like a foreign end."""
    tree.ending = True
    try:
        call()
    finally:
        tree.ending = False


def _undo_savepoint(
    tree: ScopeTree, frame: Frame, savepoint: SessionTransaction, error: BaseException | None
) -> None:
    hooks = tree.drop_hooks(frame.hook_mark)
    if not tree.killed and tree.foreign is None:
        try:
            _quietly(tree, savepoint.rollback)
            tree.errors = [kept for kept in tree.errors if kept[0] < frame.index]
            restore(tree, frame, tree.frames[frame.index - 1])
        except Exception as failed:
            note_failure(error, failed)
            tree.frames[frame.index - 1].boundary.blame(failed)
    tree.frames.pop()
    run_logged(hooks, "on_rollback", error if error is not None else Rollback())


def _leave_outermost(tree: ScopeTree, frame: Frame, error: BaseException | None) -> bool:
    if error is not None:
        return _leave_with(tree, frame, error)
    failure: BaseException | None = None
    if tree.foreign is not None:
        failure = OwnershipError(tree.foreign_message())
    elif frame.silent:
        pass
    elif frame.cause is not None:
        failure = unexpected(frame.cause, "transaction")
    else:
        try:
            if tree.registered is not None:
                _run_before_commit(tree.registered.before_commit, tree, frame)
            tree.session.flush()
            check_before_commit(tree, frame)
        except BaseException as raised:
            failure = raised
        else:
            if not frame.silent:
                commit(tree)
                return False
    roll_back(tree, failure)
    run_rollback_hooks(tree, failure if failure is not None else Rollback())
    if failure is not None:
        raise failure
    return False


def _leave_with(tree: ScopeTree, frame: Frame, error: BaseException) -> bool:
    raised: BaseException = error
    if tree.foreign is not None and isinstance(error, InvalidRequestError):
        # SQLAlchemy's "closed transaction": a consequence, not what happened.
        raised = OwnershipError(tree.foreign_message())
        raised.__cause__ = error
    roll_back(tree, raised)
    run_rollback_hooks(tree, raised)
    if isinstance(error, Rollback):
        return True
    if raised is not error:
        raise raised
    return False


def _run_before_commit(hooks: list[Hook], tree: ScopeTree, frame: Frame) -> None:
    while hooks:
        hooks.pop(0)()
        tree.session.flush()
        if frame.cause is not None:
            raise unexpected(frame.cause, "transaction")
