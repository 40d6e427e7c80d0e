"""How an outermost scope takes the transaction of its session, and watches over the session."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin

from ..exceptions import OptionMismatch, OwnershipError
from .checks import guard_orm_writes, pending, refuse_commit
from .connections import acquire, join
from .ending import roll_back
from .failures import unexpected
from .options import ScopeOptions, Surroundings
from .tree import ScopeTree
from .work import Work, marks_of, open_trees, shadow

__all__ = ["begin_tree", "stray_work"]


class OwnSavepoint(SessionTransaction):
    """A ``session.begin_nested()`` of the application's, inside a scope.

    SQLAlchemy ends such a block normally, and silently, after a swallowed flush error had
    undone what it held. This one raises.
    """

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tree = marks_of(self.session).tree
        cause = tree.own_causes.get(self) if tree is not None else None
        super().__exit__(kind, error, traceback)
        if error is None and cause is not None:
            raise unexpected(cause, "savepoint")


def begin_tree(
    session: Session, options: ScopeOptions, surroundings: Surroundings, attempt: int
) -> ScopeTree:
    """Make the session's transaction a scope's. Nothing is sent yet.

    Args:
        session: Without an open scope.
        options: Of the outermost scope.
        surroundings: What is known about the application.
        attempt: Counted by the retry loop.

    Raises:
        OwnershipError: The transaction is somebody else's, or has work from before the scope.
        OptionMismatch: The options come too late for it.
    """
    root = _take_root(session, options, surroundings)
    tree = ScopeTree(session, root, options, surroundings, attempt)
    _enter(tree)
    return tree


def _take_root(
    session: Session, options: ScopeOptions, surroundings: Surroundings
) -> SessionTransaction:
    """Begin, adopt or restart the session's transaction."""
    root = session.get_transaction()
    if root is None:
        return session.begin()
    if session.get_nested_transaction() is not None:
        raise OwnershipError(
            "The session is inside a begin_nested() block. Open transaction() around it."
        )
    if root.origin is not SessionTransactionOrigin.AUTOBEGIN:
        raise OwnershipError(
            "The session is inside somebody's session.begin() block, which will end its"
            " transaction. Use transaction() in its place."
        )
    works = marks_of(session).works
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


def _enter(tree: ScopeTree) -> None:
    session = tree.session
    tree.root.__enter__()
    marks = marks_of(session)
    marks.tree = tree
    if tree.options.multi_bind == "two_phase":
        session.twophase = True
    shadow(session, "commit", lambda: refuse_commit(tree))
    shadow(session, "get_bind", _bound(tree, session.get_bind))
    shadow(session, "begin", _watched(tree, session.begin))
    open_trees.set((*open_trees.get(), tree))
    if tree.options.read_only:
        guard_orm_writes(tree)
    try:
        for work in marks.works:
            join(tree, work)
    except BaseException as error:
        roll_back(tree, error)
        raise


def _bound(tree: ScopeTree, plain: Callable[..., Any]) -> Callable[..., Any]:
    def get_bind(*args: Any, **kwargs: Any) -> Engine | Connection:
        tree.check()
        bind: Engine | Connection = plain(*args, **kwargs)
        if isinstance(bind, Engine) and bind not in tree.works and not tree.acquiring:
            acquire(tree, bind)
        return bind

    return get_bind


def _watched(tree: ScopeTree, plain: Callable[..., SessionTransaction]) -> Callable[..., Any]:
    def begin(nested: bool = False) -> SessionTransaction:
        transaction = plain(nested=nested)
        if nested and not tree.ending:
            # Here and not when it fails: "with" takes the class's __exit__ at its beginning.
            transaction.__class__ = OwnSavepoint
        return transaction

    return begin


def stray_work(session: Session, works: list[Work]) -> str | None:
    """Return the uncommitted work of a session, in words for an error."""
    waiting = pending(session)
    if waiting:
        names = ", ".join(repr(item) for item in waiting[:3])
        return f"{names}{' and more' if len(waiting) > 3 else ''}, not flushed"
    written = next((work.first_write for work in works if work.first_write is not None), None)
    return f"{written!r}" if written is not None else None
