"""The COMMIT of a scope, over one database or several, and how it may fail."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from .checks import check_connection, check_driver
from .ending import detach, give_up, run_rollback_hooks
from .exceptions import CommitOutcomeUnknown, OwnershipError, PartialCommit, TransactionError
from .failures import unexpected
from .frames import Frame
from .hooks import run_after_commit, run_logged
from .options import PLAIN
from .tree import ScopeTree
from .work import Work

__all__ = ["check_before_commit", "commit"]


def check_before_commit(tree: ScopeTree, frame: Frame) -> None:
    """Look once more whether COMMIT will save what the block did."""
    if not tree.simple:
        if tree.foreign is not None:
            raise OwnershipError(tree.foreign_message())
        if frame.cause is not None or not tree.session.is_active:
            raise unexpected(frame.cause, "transaction")
    works = tree.works.values()
    for work in works:
        check_connection(tree, work)
    # Of one database the driver is asked when COMMIT is about to be sent.
    if len(works) > 1 or tree.options.read_only:
        for work in works:
            if work.executed:
                check_driver(tree, work)
    if len(works) > 1:
        _check_several(tree)


def _check_several(tree: ScopeTree) -> None:
    written = [work for work in tree.works.values() if work.first_write is not None]
    if len(written) > 1 and (tree.options.multi_bind or "raise") == "raise":
        names = ", ".join(repr(_name(tree, work) or "default") for work in written)
        raise TransactionError(
            f"This scope wrote to several databases: {names}. Committing them one after"
            " another can save some and lose others, so nothing was committed. Say"
            " multi_bind='two_phase' (PostgreSQL) or multi_bind='best_effort'."
        )


def _name(tree: ScopeTree, work: Work) -> str | None:
    return tree.surroundings.bind_names.get(work.connection.engine)


def commit(tree: ScopeTree) -> None:
    """Commit, give the session back, and run what was to follow."""
    tree.ending = True
    exits = tree.options is PLAIN
    before = 0 if tree.simple else len(tree.errors)
    try:
        if not exits:
            _commit_by_hand(tree)
            exits = True
        tree.root.__exit__(None, None, None)
    except BaseException as error:
        if not exits:
            # Or the session would think for ever that it is inside a with block.
            with suppress(Exception):
                tree.root.__exit__(type(error), error, error.__traceback__)
        works = tree.works.values()
        committed = bool(works) and all(work.committed for work in works)
        give_up(tree, error)
        if not committed:
            _commit_failed(tree, error, [original for _, original, _ in tree.errors[before:]])
        # A listener of the application's, after the COMMIT: it has undone nothing.
        error.add_note("The transaction was committed before this error.")
        _committed(tree)
        raise
    detach(tree)
    if tree.registered is not None:
        _committed(tree)


def _commit_by_hand(tree: ScopeTree) -> None:
    """Do what the session's own end would do otherwise."""
    if tree.options.read_only:
        # A rollback of nothing: unlike a commit it leaves the objects loaded.
        tree.root.close()
    elif tree.options.multi_bind == "best_effort" and len(tree.works) > 1:
        _commit_in_order(tree)


def _committed(tree: ScopeTree) -> None:
    hooks = tree.hooks
    try:
        run_after_commit(hooks.on_commit)
    finally:
        run_logged(hooks.after_end, "after_end", "committed")


def _commit_failed(tree: ScopeTree, error: BaseException, recorded: list[BaseException]) -> None:
    if isinstance(error, PartialCommit):
        run_logged(tree.hooks.after_end, "after_end", "unknown")
        raise error
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        run_logged(tree.hooks.after_end, "after_end", "unknown")
        raise CommitOutcomeUnknown(
            "The connection was lost while COMMIT was on its way: the work may be saved or"
            " not. Look for it before doing it again."
        ) from error
    # With two-phase commit the error that escapes is a consequence of the first one.
    first = recorded[0] if recorded and _plain_error(tree, error) else error
    run_rollback_hooks(tree, first)
    raise first


def _plain_error(tree: ScopeTree, error: BaseException) -> bool:
    return tree.options.multi_bind == "two_phase" and isinstance(error, Exception)


def _commit_in_order(tree: ScopeTree) -> None:
    committed: list[str | None] = []
    order = list(tree.surroundings.bind_names)
    works = sorted(tree.works.items(), key=lambda item: _position(order, item[0]))
    for _, work in works:
        transaction = work.connection.get_transaction()
        try:
            if transaction is not None:
                transaction.commit()
        except DBAPIError as error:
            if not committed:
                raise
            raise PartialCommit(committed, _name(tree, work)) from error
        committed.append(_name(tree, work))
    tree.root.close()
    if tree.session.expire_on_commit:
        tree.session.expire_all()


def _position(order: list[Engine], engine: Engine) -> int:
    return order.index(engine) if engine in order else len(order)
