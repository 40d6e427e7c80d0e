"""What is done at every end of a tree: roll back, give the session back, tell the hooks."""

from __future__ import annotations

from sqlalchemy import event

from .checks import orm_write_guard
from .connections import part
from .exceptions import Rollback
from .failures import note_failure
from .hooks import run_logged
from .tree import ScopeTree
from .work import open_trees

__all__ = ["detach", "give_up", "roll_back", "run_rollback_hooks"]


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
        give_up(tree, error)


def detach(tree: ScopeTree) -> None:
    """Give the session back to itself."""
    session = tree.session
    if not tree.simple:
        session.__dict__.pop("get_bind", None)
        session.twophase = tree.plain_twophase
        if tree.guards_orm_writes:
            event.remove(session, "do_orm_execute", orm_write_guard)
            tree.guards_orm_writes = False
    tree.marks.tree = None
    tree.frames.clear()
    if tree.works:
        part(tree)
    trees = open_trees.get()
    if len(trees) == 1:
        open_trees.set(())
    else:
        open_trees.set(tuple(other for other in trees if other is not tree))


def give_up(tree: ScopeTree, error: BaseException | None) -> None:
    """Give the session back after a failure: it may be left half way, and nothing may stay."""
    detach(tree)
    if tree.session.get_transaction() is tree.root:
        try:
            tree.root.close()
        except Exception as failed:
            note_failure(error, failed)


def run_rollback_hooks(tree: ScopeTree, error: BaseException) -> None:
    """Tell the hooks of a rollback, and of the end."""
    hooks = tree.registered
    if hooks is not None:
        run_logged(hooks.on_rollback, "on_rollback", error)
        run_logged(hooks.after_end, "after_end", "rolled_back")
