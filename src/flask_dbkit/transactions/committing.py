"""The COMMIT of a scope, over one database or several, and how it may fail."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from ..databases import errors_for
from .blame import ended_elsewhere
from .checks import check_connection, check_driver
from .ending import detach, give_up, run_rollback_hooks
from .exceptions import CommitOutcomeUnknown, PartialCommit, TransactionError, unexpected
from .hooks import Hooks, run_after_commit, run_logged
from .options import PLAIN
from .state import Block, DatabaseTransaction, UnitOfWork

__all__ = ["check_before_commit", "commit"]


def check_before_commit(unit: UnitOfWork, block: Block) -> None:
    """Look once more whether COMMIT will save what the block did."""
    if unit.ended_by is not None:
        raise ended_elsewhere(unit)
    if block.cause is not None or not unit.session.is_active:
        raise unexpected(block.cause, "transaction")
    transactions = unit.transactions.values()
    for transaction in transactions:
        check_connection(unit, transaction)
    # Of one database the driver is asked when COMMIT is about to be sent.
    if len(transactions) > 1 or unit.options.read_only:
        for transaction in transactions:
            if transaction.executed:
                check_driver(unit, transaction)
    if len(transactions) > 1:
        _check_several(unit)


def _check_several(unit: UnitOfWork) -> None:
    written = [each for each in unit.transactions.values() if each.first_write is not None]
    if len(written) > 1 and (unit.options.multi_bind or "raise") == "raise":
        names = ", ".join(repr(_name(unit, each) or "default") for each in written)
        raise TransactionError(
            f"This scope wrote to several databases: {names}. Committing them one after"
            " another can save some and lose others, so nothing was committed. Say"
            " multi_bind='two_phase' (PostgreSQL) or multi_bind='best_effort'."
        )


def _name(unit: UnitOfWork, transaction: DatabaseTransaction) -> str | None:
    return unit.defaults.bind_names.get(transaction.connection.engine)


def commit(unit: UnitOfWork) -> None:
    """Commit, give the session back, and run what was to follow."""
    unit.ending = True
    by_hand = True
    before = len(unit.errors)
    try:
        if unit.options is not PLAIN:
            _commit_by_hand(unit)
        by_hand = False
        unit.root.__exit__(None, None, None)
    except BaseException as error:
        if by_hand:
            # Or the session would think for ever that it is inside a with block.
            with suppress(Exception):
                unit.root.__exit__(type(error), error, error.__traceback__)
        transactions = unit.transactions.values()
        committed = bool(transactions) and all(each.committed for each in transactions)
        give_up(unit, error)
        if not committed:
            _commit_failed(unit, error, [original for _, original, _ in unit.errors[before:]])
        # A listener of the application's, after the COMMIT: it has undone nothing.
        error.add_note("The transaction was committed before this error.")
        _committed(unit.make_hooks())
        raise
    detach(unit)
    if unit.hooks is not None:
        _committed(unit.hooks)


def _commit_by_hand(unit: UnitOfWork) -> None:
    """Do what the session's own end would do otherwise."""
    if unit.options.read_only:
        # A rollback of nothing: unlike a commit it leaves the objects loaded.
        unit.sealed = True
        unit.root.close()
    elif unit.options.multi_bind == "best_effort" and len(unit.transactions) > 1:
        unit.sealed = True
        _commit_in_order(unit)


def _committed(hooks: Hooks) -> None:
    try:
        run_after_commit(hooks.on_commit)
    finally:
        run_logged(hooks.after_end, "after_end", "committed")


def _commit_failed(unit: UnitOfWork, error: BaseException, recorded: list[BaseException]) -> None:
    hooks = unit.make_hooks()
    if isinstance(error, PartialCommit):
        run_logged(hooks.after_end, "after_end", "unknown")
        raise error
    if isinstance(error, DBAPIError) and _may_be_committed(unit, error):
        run_logged(hooks.after_end, "after_end", "unknown")
        raise CommitOutcomeUnknown(
            "COMMIT was sent, and no answer came that says how it ended: the work may be saved"
            " or not. Look for it before doing it again."
        ) from error
    # With two-phase commit the error that escapes is a consequence of the first one.
    first = recorded[0] if recorded and _plain_error(unit, error) else error
    run_rollback_hooks(unit, first)
    raise first


def _may_be_committed(unit: UnitOfWork, error: DBAPIError) -> bool:
    """Tell whether the answer to COMMIT does not prove that it was rolled back."""
    begun = unit.transactions.values()
    by_parts = unit.own_twophase or unit.options.multi_bind == "two_phase"
    if not (by_parts or any(each.commit_sent and not each.committed for each in begun)):
        return False  # it failed before COMMIT was sent
    if not any(each.could_write for each in begun):
        return False  # what was sent could only read: there was nothing to be saved
    return _proves_nothing(error, begun)


def _proves_nothing(error: DBAPIError, begun: Iterable[DatabaseTransaction]) -> bool:
    """Tell whether an answer to COMMIT leaves open what has become of it."""
    original = error.orig
    return error.connection_invalidated or (
        original is not None
        and any(errors_for(each.connection).leaves_commit_open(original) for each in begun)
    )


def _plain_error(unit: UnitOfWork, error: BaseException) -> bool:
    return unit.options.multi_bind == "two_phase" and isinstance(error, Exception)


def _commit_in_order(unit: UnitOfWork) -> None:
    committed: list[str | None] = []
    order = list(unit.defaults.bind_names)
    pairs = sorted(unit.transactions.items(), key=lambda item: _position(order, item[0]))
    for _, each in pairs:
        transaction = each.connection.get_transaction()
        try:
            if transaction is not None:
                transaction.commit()
        except DBAPIError as error:
            if not committed:
                raise
            unknown = each.commit_sent and _proves_nothing(error, [each])
            raise PartialCommit(committed, _name(unit, each), unknown=unknown) from error
        committed.append(_name(unit, each))
    unit.root.close()
    if unit.session.expire_on_commit:
        unit.session.expire_all()


def _position(order: list[Engine], engine: Engine) -> int:
    return order.index(engine) if engine in order else len(order)
