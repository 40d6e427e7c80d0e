"""Which block an opened scope is: the outermost of a new unit of work, one that joins, a savepoint.

An outermost scope takes the transaction of its session: a new one, the one that the session has
begun by itself, or that one begun again.
"""

from __future__ import annotations

import threading
from dataclasses import astuple
from types import FrameType

from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin

from ..databases import database_of
from ..databases.limits import Timeouts
from .blame import check_intact
from .checks import guard_orm_writes, pending
from .connections import join, put_in_force, set_before
from .ending import roll_back
from .exceptions import DurabilityError, OptionMismatch, OwnershipError
from .holders import check_around, check_owner, current_flow, holder_of, is_around, is_of_this_flow
from .options import PLAIN, ScopeDefaults, ScopeOptions
from .session_guards import guard_sessions
from .state import (
    Block,
    DatabaseTransaction,
    SessionRecord,
    UnitOfWork,
    open_units,
    record_of,
)

__all__ = ["hook_target", "is_in_scope", "open_scope", "stray_work"]


def open_scope(
    session: Session,
    options: ScopeOptions,
    defaults: ScopeDefaults,
    caller: FrameType | None = None,
    *,
    attempt: int = 1,
) -> Block:
    """Open a block: outermost, joined or a savepoint, as the session's state has it.

    Sends nothing, unless a joined block narrows what is in force.

    Args:
        session: Any session. With the kit it is the current application context's.
        options: Checked options.
        defaults: What the application says where the options do not.
        caller: The frame that enters the block; ``None`` where a function is called inside it.
        attempt: Which run of a replayed function this is.

    Raises:
        OwnershipError: The session, or another one in this context, is in somebody's hands.
        OptionMismatch: The options do not fit what is in force.
        DurabilityError: The scope is durable and not outermost.
    """
    record = record_of(session)
    unit = record.unit
    if unit is None:
        return _open_outermost(session, record, options, defaults, caller, attempt)
    check_owner(unit)
    if not unit.plain or caller is not unit.blocks[0].holder:
        check_around(unit, caller)
    if unit.ending:
        _check_can_be_added_to(unit)
    if unit.plain and options is PLAIN:
        block = Block(unit, len(unit.blocks), options)
        unit.blocks.append(block)
        return block
    return _open_inside(unit, options, caller)


def _open_outermost(  # noqa: PLR0917 - called for each scope, where keywords cost
    session: Session,
    record: SessionRecord,
    options: ScopeOptions,
    defaults: ScopeDefaults,
    caller: FrameType | None,
    attempt: int,
) -> Block:
    """Make the session's transaction a scope's. Nothing is sent yet."""
    if not record.guarded:
        guard_sessions(session)
        record.guarded = True
    around = open_units.get()
    if around:
        _check_units_around(around, options, defaults)
    own = session.get_transaction()
    root = _take_over(session, own, record, options, defaults) if own else session.begin()
    root.__enter__()
    flow, own_twophase = current_flow(), session.twophase
    plain = options is PLAIN and not own_twophase
    unit = UnitOfWork(
        session,
        record,
        root,
        options,
        defaults,
        attempt,
        flow,
        flow if isinstance(flow, int) else threading.get_ident(),
        plain,
        not plain,
        own_twophase,
    )
    record.unit = unit
    open_units.set((*around, unit) if around else (unit,))
    if not plain:
        if options.multi_bind == "two_phase":
            session.twophase = True
        if options.read_only:
            guard_orm_writes(unit)
    if record.transactions:
        _join_all(unit, record.transactions)
    block = Block(unit, 0, options, options.read_only, options.timeouts)
    if caller is not None:
        block.holder = holder_of(caller)
    unit.blocks.append(block)
    if unit.transactions and options.can_come_later:
        _limit_adopted(unit, block)
    return block


def _limit_adopted(unit: UnitOfWork, block: Block) -> None:
    """Put in force what was asked of a transaction that had begun before the scope."""
    try:
        for transaction in unit.transactions.values():
            if block.timeouts:
                transaction.database.limit(transaction.connection, block.timeouts)
            if block.refuses_writes:
                transaction.database.set_read_only(transaction.connection, True)
    except BaseException as error:
        roll_back(unit, error)
        raise


def _check_can_be_added_to(unit: UnitOfWork) -> None:
    """Refuse what a listener opens too late, while the transaction is ending.

    What comes before the last flush of a COMMIT is still saved.
    """
    innermost = unit.session.get_nested_transaction() or unit.root
    if unit.sealed or not innermost.is_active:
        raise OwnershipError(
            "The transaction() scope of this session is ending, and a scope that is opened now,"
            " by a listener, would save nothing. Nothing was done. Register what is to follow with"
            " on_commit() inside the scope: it runs afterwards, in a transaction of its own."
        )


def _open_inside(unit: UnitOfWork, options: ScopeOptions, caller: FrameType | None) -> Block:
    """Open a block that joins the unit, or a savepoint of it."""
    if options.durable:
        raise DurabilityError
    check_intact(unit)
    outer = unit.blocks[-1]
    if not options.inherits:
        _check_fits(unit, options, outer)
    narrows = options.read_only and not outer.refuses_writes
    block = Block(
        unit,
        len(unit.blocks),
        options,
        options.read_only or outer.refuses_writes,
        _narrow(outer.timeouts, options.timeouts),
    )
    nested = unit.session.get_nested_transaction()
    if nested is not None and unit.is_own(nested):
        block.inside = nested
    if block.timeouts:
        unit.connects = True
        unit.take_full_checks()
    if narrows:
        unit.take_full_checks()
        guard_orm_writes(unit)
    if options.savepoint or (narrows and _by_savepoint(unit)):
        # What is pending belongs to the outer block, and so does an error in it.
        unit.session.flush()
        block.hook_mark = unit.hook_mark()
        unit.take_full_checks()
        block.savepoint = Session.begin(unit.session, nested=True)
        if caller is not None:
            block.holder = holder_of(caller)
    unit.blocks.append(block)
    if block.savepoint is None and (narrows or block.timeouts != outer.timeouts):
        try:
            for transaction in list(unit.transactions.values()):
                put_in_force(unit, block, transaction.connection)
        except BaseException:
            unit.blocks.remove(block)  # its with block was never entered, and will not be left
            raise
    return block


def _narrow(outer: Timeouts, given: Timeouts) -> Timeouts:
    """Return the limits in force in a block: its own, where it has any."""
    if not given:
        return outer
    pairs = zip(astuple(given), astuple(outer), strict=True)
    return Timeouts(*(around if own is None else own for own, around in pairs))


def _by_savepoint(unit: UnitOfWork) -> bool:
    """Tell whether a savepoint makes a block read-only, as far as databases are known yet."""
    databases = [transaction.database for transaction in unit.transactions.values()]
    return not databases or any(database.read_only_savepoint for database in databases)


def _check_fits(unit: UnitOfWork, options: ScopeOptions, outer: Block) -> None:
    if outer.refuses_writes and not options.read_only:
        raise OptionMismatch("read_only", False, True)
    if options is PLAIN:
        return
    if options.independent:
        raise OwnershipError(
            "independent=True needs a session of its own, and this one has a scope open. Push"
            " a new application context: with app.app_context(): ..."
        )
    in_force = unit.options
    for name, given, present in (
        ("isolation", options.isolation, in_force.isolation),
        ("begin", options.begin, unit.begin),
        ("multi_bind", options.multi_bind, in_force.multi_bind or "raise"),
    ):
        if given is not None and given != present:
            raise OptionMismatch(name, given, present)
    for name, seconds, most in (
        ("lock_timeout", options.timeouts.lock_s, outer.timeouts.lock_s),
        ("statement_timeout", options.timeouts.statement_s, outer.timeouts.statement_s),
    ):
        if seconds is not None and most is not None and seconds > most:
            raise OptionMismatch(name, seconds, most)


def _check_units_around(
    units: tuple[UnitOfWork, ...], options: ScopeOptions, defaults: ScopeDefaults
) -> None:
    for unit in units:
        if unit.defaults.key != defaults.key or not is_of_this_flow(unit):
            continue
        if not unit.blocks:
            continue  # over since; a context that was copied meanwhile still has it
        around = is_around(unit.blocks[0])
        if (around and not options.independent) or defaults.shared_memory:
            raise OwnershipError(
                "Another transaction() scope of this application is open around this one, on"
                " another session (a nested application context, or db.session.remove() inside"
                " the block). Open the scope in one place, or pass independent=True for a"
                " transaction of its own, which SQLite in memory cannot have."
            )
        if not options.read_only and _holds_write_lock(unit):
            holder = "the scope around this one" if around else "a suspended generator's scope"
            raise OwnershipError(
                f"On SQLite {holder} holds the one write lock, and would wait for this one to"
                " finish, for ever, independent=True or not. Open this one before or after."
            )


def _holds_write_lock(unit: UnitOfWork) -> bool:
    """Tell whether nobody else can write before the unit is over."""
    return not unit.options.read_only and any(
        database_of(each.connection).has_one_writer for each in unit.transactions.values()
    )


def _take_over(
    session: Session,
    root: SessionTransaction,
    record: SessionRecord,
    options: ScopeOptions,
    defaults: ScopeDefaults,
) -> SessionTransaction:
    """Adopt or restart the transaction that the session has open.

    Raises:
        OwnershipError: The transaction is somebody else's, or has work from before the scope.
        OptionMismatch: The options come too late for it.
    """
    if session.get_nested_transaction() is not None:
        raise OwnershipError(
            "The session is inside a begin_nested() block. Open transaction() around it."
        )
    if root.origin is not SessionTransactionOrigin.AUTOBEGIN:
        raise OwnershipError(
            "The session is inside somebody's session.begin() block, which will end its"
            " transaction. Use transaction() in its place."
        )
    begun = record.transactions
    stray = stray_work(session, begun)
    if stray is not None:
        _adopt(stray, options, defaults)
        return root
    one_writer = any(database_of(each.connection).has_one_writer for each in begun)
    if begun and (
        options.asks_for_anything or (one_writer and defaults.begin_of(options) == "immediate")
    ):
        lost = next((what for each in begun if (what := set_before(each)) is not None), None)
        if lost is not None:
            _check_can_be_kept(lost, options, begun)
            return root
        # What was read stays attached but is read anew: a write computed from the old
        # snapshot would be the lost update this scope exists to prevent.
        root.close()
        session.expire_all()
        return session.begin()
    return root


def _check_can_be_kept(lost: str, options: ScopeOptions, begun: list[DatabaseTransaction]) -> None:
    """Refuse options that need a new transaction, where that would lose what was set for this one.

    Raises:
        OptionMismatch: Names what would be lost.
    """
    later = all(each.database.takes_options_later for each in begun)
    if not options.asks_for_anything or (later and options.can_come_later):
        return
    option, given = options.first_asked
    raise OptionMismatch(
        option,
        given,
        None,
        f"{option}={given!r} needs a transaction that begins anew, and the session has one that was"
        f" given more than reads before this scope: {lost}. It would be lost. Do that inside the"
        " scope, or open the scope around it, or leave the option out.",
    )


def _adopt(stray: str, options: ScopeOptions, defaults: ScopeDefaults) -> None:
    adopt = options.adopt
    if not (defaults.adopt if adopt is None else adopt):
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


def _join_all(unit: UnitOfWork, begun: list[DatabaseTransaction]) -> None:
    try:
        for transaction in begun:
            join(unit, transaction)
    except BaseException as error:
        roll_back(unit, error)
        raise


def stray_work(session: Session, begun: list[DatabaseTransaction]) -> str | None:
    """Return the uncommitted work of a session, in words for an error."""
    waiting = pending(session)
    if waiting:
        names = ", ".join(repr(item) for item in waiting[:3])
        return f"{names}{' and more' if len(waiting) > 3 else ''}, not flushed"
    written = next((each.first_write for each in begun if each.first_write is not None), None)
    return f"{written!r}" if written is not None else None


def is_in_scope(session: Session) -> bool:
    """Tell whether a scope is open on a session, whoever opened it."""
    return record_of(session).unit is not None


def hook_target(session: Session) -> UnitOfWork | None:
    """Return the unit of work that hooks registered now belong to.

    Raises:
        OwnershipError: It belongs to another thread or task, or to a suspended generator.
    """
    unit = record_of(session).unit
    if unit is not None:
        check_owner(unit)
        check_around(unit)
    return unit
