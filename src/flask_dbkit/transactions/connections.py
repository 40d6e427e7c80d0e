"""How the connections of a scope begin, and what is in force on them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.util import immutabledict

from ..databases import database_of
from ..databases.limits import Timeouts
from ..databases.scopes import DatabaseScopes
from ..databases.sqlite.scripts import GuardedConnection
from .blame import check_intact, note_end
from .engine_guards import GUARDED, guard_engine
from .exceptions import OptionMismatch, OwnershipError
from .state import TRANSACTION, Block, DatabaseTransaction, UnitOfWork, open_units

_DRIVER_ENDS = ("commit", "rollback")

__all__ = [
    "asked_begin",
    "connect",
    "entered_savepoint",
    "join",
    "look_at_bind",
    "part",
    "put_in_force",
    "restore",
    "set_before",
]


def asked_begin() -> str | None:
    """Return how the transaction that begins now is to begin on SQLite, if a scope's does."""
    for unit in open_units.get():
        # What tells it from one that is begun beside the scope: SQLAlchemy's session is busy
        # with connecting.
        if unit.blocks and unit.ended_by is None and not unit.root.is_active:
            return unit.begin
    return None


def join(unit: UnitOfWork, transaction: DatabaseTransaction) -> None:
    """Take a transaction that the session has begun into the unit."""
    connection = transaction.connection
    checkout: Any = connection.connection
    raw: Any = checkout.dbapi_connection
    dialect = connection.dialect
    if GUARDED not in dialect.__dict__:
        guard_engine(connection.engine)
    if dialect.detect_autocommit_setting(raw):
        raise OptionMismatch(
            "isolation",
            "a transaction",
            "AUTOCOMMIT",
            "This engine is in AUTOCOMMIT mode, where every statement commits by itself and"
            " a rollback would undo nothing. Take isolation_level='AUTOCOMMIT' out of its"
            " options, and set it on single connections.",
        )
    unit.transactions[connection.engine] = transaction
    transaction.unit, transaction.checkout, transaction.raw = unit, checkout, raw
    checkout.__dict__[TRANSACTION] = transaction
    if isinstance(raw, GuardedConnection):
        raw.scopes += 1
        raw.refusal = OwnershipError
        raw.ended = lambda name: _ended_by_driver(unit, transaction, name)
    elif hasattr(raw, "__dict__"):  # psycopg2's has none
        for name in _DRIVER_ENDS:
            raw.__dict__[name] = partial(_end_by_driver, unit, transaction, raw, name)
    methods: dict[str, Any] = connection.__dict__
    methods["commit"] = _refuse_commit
    methods["rollback"] = lambda: _roll_back_noticed(unit, connection)
    if unit.plain or not unit.blocks:
        return  # it has no options, and is sent nothing; nor has one that was adopted
    transaction.could_write = not unit.blocks[-1].refuses_writes
    if unit.options.read_only:
        transaction.database.begun(connection, read_only=True)
    put_in_force(unit, unit.last_joined(unit.blocks[0]), connection)


def set_before(transaction: DatabaseTransaction) -> str | None:
    """Return what a transaction was given before a scope, which ends with it, in words."""
    if transaction.beyond_reads is not None:
        return repr(transaction.beyond_reads)
    own = options_of(transaction.connection)
    return f"execution_options={own!r}" if own else None


def options_of(connection: Connection) -> dict[str, Any]:
    """Return the execution options that a connection has beyond those of its engine."""
    of_engine = connection.engine.get_execution_options()
    return {
        name: value
        for name, value in connection.get_execution_options().items()
        if of_engine.get(name) != value
    }


def connect(
    unit: UnitOfWork, engine: Engine | Connection, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Take execution options for a connection of the scope's.

    Returns:
        Those that are left for the session to give.

    Raises:
        OptionMismatch: The connection has others, in which its work is done already.
    """
    if not isinstance(engine, Engine):
        return given
    transaction = unit.transactions.get(engine)
    if transaction is None:
        if not unit.connects:
            return given
        _begin_with_options(unit, engine, given)
        return {}
    in_force = transaction.connection.get_execution_options()
    for name, value in given.items():
        if in_force.get(name) != value:
            raise OptionMismatch(
                name,
                value,
                in_force.get(name),
                f"session.connection(execution_options=...) asks for {name}={value!r}, but the"
                " connection of this scope is in use without it. Ask before the first statement.",
            )
    return {}


def look_at_bind(unit: UnitOfWork, bind: Engine | Connection) -> None:
    """Look at a database that the session has chosen, before it is used.

    A scope that asks for no more than a transaction leaves the connecting to the session.
    """
    check_intact(unit)
    if unit.connects and isinstance(bind, Engine) and bind not in unit.transactions:
        _begin_with_options(unit, bind)


def _begin_with_options(
    unit: UnitOfWork, engine: Engine, given: Mapping[str, Any] = immutabledict()
) -> None:
    if unit.connecting:
        return
    database = database_of(engine).scopes
    if unit.session.twophase and not database.two_phase:
        raise OptionMismatch(
            "multi_bind",
            "two_phase",
            None,
            f"{engine.dialect.name} cannot prepare a transaction over several databases. Use"
            " multi_bind='best_effort', or write to one database.",
        )
    timeouts = unit.last_joined(unit.blocks[0]).timeouts
    _check_means(database, engine, timeouts, refuses_writes=unit.options.read_only)
    options = database.begin_options(
        read_only=unit.options.read_only,
        isolation=unit.options.isolation,
        timeouts=timeouts,
    )
    for name, value in options.items():
        if given.get(name, value) != value:
            raise OptionMismatch(name, given[name], value)
    # By the root: inside a savepoint SQLAlchemy 2.0 would apply the options a second time,
    # to the savepoint, and refuse them.
    unit.connecting = True
    try:
        unit.root.connection(
            None, bind=engine, execution_options=immutabledict({**given, **options})
        )
    finally:
        unit.connecting = False


def _check_means(
    database: DatabaseScopes, engine: Engine, timeouts: Timeouts, *, refuses_writes: bool
) -> None:
    """Refuse an option that a database we do not know would drop without a word."""
    if database.keeps_options:
        return
    asked = {
        "read_only": refuses_writes or None,
        "lock_timeout": timeouts.lock_s,
        "statement_timeout": timeouts.statement_s,
    }
    for option, given in asked.items():
        if given is not None:
            raise OptionMismatch(
                option,
                given,
                None,
                f"{option}={given!r} has no effect on {engine.dialect.name}, which Flask-DBKit"
                " does not know. Leave it out there, and set it on the server.",
            )


def part(unit: UnitOfWork) -> None:
    """Part the connections from the unit, whose transactions are over."""
    for transaction in unit.transactions.values():
        transaction.checkout.__dict__.pop(TRANSACTION, None)
        raw = transaction.raw
        if isinstance(raw, GuardedConnection):
            raw.scopes -= 1
            raw.ended = None
        elif hasattr(raw, "__dict__"):
            for name in _DRIVER_ENDS:
                raw.__dict__.pop(name, None)
        transaction.unit = transaction.checkout = transaction.raw = None
        methods: dict[str, Any] = transaction.connection.__dict__
        methods.pop("commit", None)
        methods.pop("rollback", None)


def entered_savepoint(
    unit: UnitOfWork, savepoint: SessionTransaction, connection: Connection
) -> None:
    """Put in force what a savepoint's block asked for, now that SAVEPOINT was sent."""
    unit.begun.setdefault(savepoint, []).append(connection.get_nested_transaction())
    block = next((block for block in unit.blocks if block.savepoint is savepoint), None)
    if block is not None:
        put_in_force(unit, unit.last_joined(block), connection)


def put_in_force(unit: UnitOfWork, block: Block, connection: Connection) -> None:
    """Put in force what a block asks for beyond the one around it."""
    if not block.timeouts and not block.refuses_writes:
        return
    database = database_of(connection).scopes
    _check_means(database, connection.engine, block.timeouts, refuses_writes=block.refuses_writes)
    outer = unit.blocks[block.index - 1] if block.index else None
    if block.timeouts and (outer is None or outer.timeouts != block.timeouts):
        database.limit(connection, block.timeouts)
    if block.refuses_writes and not unit.options.read_only:
        database.set_read_only(connection, True)


def restore(unit: UnitOfWork, block: Block, outer: Block) -> None:
    """Put in force again what was before a block that ended well."""
    if block.timeouts == outer.timeouts and block.refuses_writes is outer.refuses_writes:
        return
    for transaction in unit.transactions.values():
        if transaction.connection.closed or transaction.connection.invalidated:
            continue
        database = transaction.database
        if block.refuses_writes and not outer.refuses_writes:
            database.set_read_only(transaction.connection, False)
        if block.timeouts != outer.timeouts:
            database.limit(transaction.connection, outer.timeouts)


def _ended_by_driver(unit: UnitOfWork, transaction: DatabaseTransaction, name: str) -> None:
    """Notice a call of the driver's own method, behind which another transaction may begin."""
    if not (transaction.ends_by_sqlalchemy or unit.ending):
        note_end(unit, f"the driver's own {name}()", may_be_saved=name == "commit")


def _end_by_driver(unit: UnitOfWork, transaction: DatabaseTransaction, raw: Any, name: str) -> None:
    _ended_by_driver(unit, transaction, name)
    getattr(type(raw), name)(raw)


def _roll_back_noticed(unit: UnitOfWork, connection: Connection) -> None:
    # Here and not when ROLLBACK is sent: that one may be the answer to an error.
    if not unit.ending:
        note_end(unit, "connection.rollback()")
    type(connection).rollback(connection)


def _refuse_commit() -> None:
    raise OwnershipError(
        "connection.commit() inside a transaction() scope: the scope commits at its end."
        " Nothing was changed; leave the commit out."
    )
