"""How an outermost scope takes the transaction of its session, and watches over the session."""

from __future__ import annotations

from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin

from .binds import watch_binds
from .checks import guard_orm_writes, pending
from .connections import join
from .ending import roll_back
from .exceptions import OptionMismatch, OwnershipError
from .frames import Frame
from .options import ScopeOptions, Surroundings
from .tree import ScopeTree
from .work import SessionMarks, Work, open_trees

__all__ = ["begin_tree", "stray_work"]


def begin_tree(
    session: Session,
    marks: SessionMarks,
    options: ScopeOptions,
    surroundings: Surroundings,
    *,
    attempt: int,
    outer: tuple[ScopeTree, ...],
) -> Frame:
    """Make the session's transaction a scope's. Nothing is sent yet.

    Args:
        session: Without an open scope.
        marks: The session's.
        options: Of the outermost scope.
        surroundings: What is known about the application.
        attempt: Counted by the retry loop.
        outer: The trees that are open around it.

    Returns:
        The outermost block.

    Raises:
        OwnershipError: The transaction is somebody else's, or has work from before the scope.
        OptionMismatch: The options come too late for it.
    """
    root = session.get_transaction()
    if root is None:
        root = session.begin()
    else:
        root = _take_over(session, root, marks, options, surroundings)
    root.__enter__()
    tree = ScopeTree(session, marks, root, options, surroundings, attempt=attempt)
    marks.tree = tree
    open_trees.set((*outer, tree) if outer else (tree,))
    if not tree.simple:
        watch_binds(tree)
        if options.multi_bind == "two_phase":
            session.twophase = True
        if options.read_only:
            guard_orm_writes(tree)
    if marks.works:
        _join_all(tree, marks.works)
    frame = Frame(tree, options)
    tree.frames.append(frame)
    return frame


def _take_over(
    session: Session,
    root: SessionTransaction,
    marks: SessionMarks,
    options: ScopeOptions,
    surroundings: Surroundings,
) -> SessionTransaction:
    """Adopt or restart the transaction that the session has open."""
    if session.get_nested_transaction() is not None:
        raise OwnershipError(
            "The session is inside a begin_nested() block. Open transaction() around it."
        )
    if root.origin is not SessionTransactionOrigin.AUTOBEGIN:
        raise OwnershipError(
            "The session is inside somebody's session.begin() block, which will end its"
            " transaction. Use transaction() in its place."
        )
    works = marks.works
    stray = stray_work(session, works)
    if stray is not None:
        _adopt(stray, options, surroundings)
        return root
    on_sqlite = any(work.connection.dialect.name == "sqlite" for work in works)
    if works and (
        options.asks_for_anything or (on_sqlite and surroundings.begin_of(options) == "immediate")
    ):
        # What was read stays attached but is read anew: a write computed from the old
        # snapshot would be the lost update this scope exists to prevent.
        root.close()
        session.expire_all()
        return session.begin()
    return root


def _adopt(stray: str, options: ScopeOptions, surroundings: Surroundings) -> None:
    adopt = options.adopt
    if not (surroundings.adopt if adopt is None else adopt):
        raise OwnershipError(
            f"The session has uncommitted work from before this scope: {stray}. Commit it"
            " or roll it back first, move it into the scope, or pass adopt=True to make it"
            " part of the transaction."
        )
    if options.asks_for_anything:
        raise OptionMismatch(
            "adopt",
            True,
            None,
            "Work that was done before the scope cannot be given an isolation level, a begin"
            " mode, read_only, two_phase or a timeout afterwards. Leave those options out, or"
            " move the work into the scope.",
        )


def _join_all(tree: ScopeTree, works: list[Work]) -> None:
    try:
        for work in works:
            join(tree, work)
    except BaseException as error:
        roll_back(tree, error)
        raise


def stray_work(session: Session, works: list[Work]) -> str | None:
    """Return the uncommitted work of a session, in words for an error."""
    waiting = pending(session)
    if waiting:
        names = ", ".join(repr(item) for item in waiting[:3])
        return f"{names}{' and more' if len(waiting) > 3 else ''}, not flushed"
    written = next((work.first_write for work in works if work.first_write is not None), None)
    return f"{written!r}" if written is not None else None
