"""What is done at every end of a scope: roll back, give the session back, tell the hooks."""

from __future__ import annotations

import logging

from sqlalchemy import event

from ..databases import database_of
from .blame import ended_elsewhere, note_end
from .checks import orm_write_guard
from .connections import part
from .exceptions import Rollback, note_failure
from .hooks import run_logged
from .state import UnitOfWork, open_units

__all__ = ["abandon", "detach", "give_up", "roll_back", "run_rollback_hooks"]

logger = logging.getLogger("flask_dbkit.transactions")


def roll_back(unit: UnitOfWork, error: BaseException | None) -> None:
    """Undo everything; what fails on the way is kept beside ``error``."""
    unit.ending = unit.sealed = True
    try:
        marker: BaseException = error if error is not None else Rollback()
        if unit.may_be_saved:
            _give_away_no_connection(unit)
        if unit.ended_by is not None:
            # Not rolled back again: SQLAlchemy would warn that it is not there any more.
            unit.root.close()
        unit.root.__exit__(type(marker), marker, marker.__traceback__)
    except Exception as failed:
        note_failure(error, failed)
    finally:
        give_up(unit, error)


def _give_away_no_connection(unit: UnitOfWork) -> None:
    """Close connections to servers: whoever ended the transaction may have changed more."""
    for transaction in unit.transactions.values():
        connection = transaction.connection
        embedded = database_of(connection).is_embedded  # in memory it is the database itself
        if not (embedded or connection.closed or connection.invalidated):
            connection.invalidate()


def abandon(unit: UnitOfWork, why: str) -> None:
    """End a unit of work that nobody is left to end: it is rolled back, with a line in the log.

    Args:
        unit: Whatever is left of it later, such as the end of a generator, does nothing.
        why: What has ended it, for a block that turns out to be still running.
    """
    logger.warning(
        "A transaction() scope was entered and never left: it is rolled back at %s. Open scopes"
        " in a with statement, and read to its end, or close, the generator that has one.",
        why,
    )
    note_end(unit, why)
    error = ended_elsewhere(unit)
    roll_back(unit, error)
    run_rollback_hooks(unit, error)


def detach(unit: UnitOfWork) -> None:
    """Give the session back to itself."""
    session = unit.session
    session.twophase = unit.own_twophase
    if unit.guards_orm_writes:
        event.remove(session, "do_orm_execute", orm_write_guard)
        unit.guards_orm_writes = False
    unit.record.unit = None
    unit.blocks.clear()
    if unit.transactions:
        part(unit)
    units = open_units.get()
    open_units.set(tuple(other for other in units if other is not unit) if len(units) > 1 else ())


def give_up(unit: UnitOfWork, error: BaseException | None) -> None:
    """Give the session back after a failure: it may be left half way, and nothing may stay."""
    detach(unit)
    if unit.session.get_transaction() is unit.root:
        try:
            unit.root.close()
        except Exception as failed:
            note_failure(error, failed)


def run_rollback_hooks(unit: UnitOfWork, error: BaseException) -> None:
    """Tell the hooks of a rollback, and of the end."""
    hooks = unit.hooks
    if hooks is not None and unit.may_be_saved:
        run_logged(hooks.after_end, "after_end", "unknown")
    elif hooks is not None:
        try:
            run_logged(hooks.on_rollback, "on_rollback", error)
        finally:
            run_logged(hooks.after_end, "after_end", "rolled_back")
