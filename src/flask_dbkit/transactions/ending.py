"""What is done at every end of a tree: roll back, give the session back, tell the hooks."""

from __future__ import annotations

from sqlalchemy import event

from ..exceptions import Rollback
from .checks import orm_write_guard
from .failures import note_failure
from .hooks import run_logged
from .tree import ScopeTree
from .work import marks_of, open_trees

__all__ = ["detach", "roll_back", "run_rollback_hooks"]


def roll_back(tree: ScopeTree, error: BaseException | None) -> None:
    """Undo everything; what fails on the way is kept beside ``error``."""
    tree.ending = True
    try:
        marker: BaseException = error if error is not None else Rollback()
        if tree.foreign is not None:
            # Not rolled back again: SQLAlchemy would warn that it is not there any more.
            tree.root.close()
        tree.root.__exit__(type(marker), marker, marker.__traceback__)
    except Exception as failed:
        note_failure(error, failed)
    finally:
        detach(tree, error)


def detach(tree: ScopeTree, error: BaseException | None) -> None:
    """Give the session back to itself."""
    session = tree.session
    for name in ("commit", "get_bind", "begin"):
        session.__dict__.pop(name, None)
    if tree.guards_orm_writes:
        event.remove(session, "do_orm_execute", orm_write_guard)
        tree.guards_orm_writes = False
    session.twophase = tree.plain_twophase
    for work in tree.works.values():
        work.tree = None
        for name in ("commit", "rollback"):
            work.connection.__dict__.pop(name, None)
    marks = marks_of(session)
    marks.tree = None
    tree.frames.clear()
    open_trees.set(tuple(other for other in open_trees.get() if other is not tree))
    if session.get_transaction() is tree.root:
        # A COMMIT that failed leaves the session half way; nothing of it may stay.
        try:
            tree.root.close()
        except Exception as failed:
            note_failure(error, failed)


def run_rollback_hooks(tree: ScopeTree, error: BaseException) -> None:
    """Tell the hooks of a rollback, and of the end."""
    run_logged(tree.hooks.on_rollback, "on_rollback", error)
    run_logged(tree.hooks.after_end, "after_end", "rolled_back")
