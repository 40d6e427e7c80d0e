"""How the connections of a scope begin, and what is in force on them."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.orm import SessionTransaction

from ..databases import database_of
from ..databases.limits import NO_TIMEOUTS
from ..databases.sqlite.scripts import GuardedConnection
from .engine_guards import GUARDED, guard_engine
from .exceptions import OptionMismatch, OwnershipError
from .frames import Frame
from .tree import ScopeTree
from .work import WORK, Work, open_trees

__all__ = [
    "asked_begin",
    "entered_savepoint",
    "join",
    "part",
    "put_in_force",
    "restore",
]


def asked_begin() -> str | None:
    """Return how the transaction that begins now is to begin on SQLite, if a scope's does."""
    for tree in open_trees.get():
        # What tells it from one that is begun beside the scope: SQLAlchemy's session is busy
        # with connecting.
        if tree.frames and not tree.root.is_active:
            return tree.begin
    return None


def join(tree: ScopeTree, work: Work) -> None:
    """Take a transaction that the session has begun into the tree."""
    connection = work.connection
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
    tree.works[connection.engine] = work
    work.tree, work.checkout, work.raw = tree, checkout, raw
    checkout.__dict__[WORK] = work
    if isinstance(raw, GuardedConnection):
        raw.scopes += 1
        raw.refusal = OwnershipError
    methods: dict[str, Any] = connection.__dict__
    methods["commit"] = _refuse_commit
    methods["rollback"] = partial(_roll_back_noticed, tree, connection)
    if tree.simple or not tree.frames:
        # An adopted transaction has no options either, and is sent nothing.
        return
    if tree.options.read_only:
        work.database.begun(connection, read_only=True)
    put_in_force(tree, tree.frame_behind(None), connection)


def part(tree: ScopeTree) -> None:
    """Part the connections from the tree, whose transactions are over."""
    for work in tree.works.values():
        work.checkout.__dict__.pop(WORK, None)
        if isinstance(work.raw, GuardedConnection):
            work.raw.scopes -= 1
        work.tree = work.checkout = work.raw = None
        methods: dict[str, Any] = work.connection.__dict__
        methods.pop("commit", None)
        methods.pop("rollback", None)


def entered_savepoint(
    tree: ScopeTree, savepoint: SessionTransaction, connection: Connection
) -> None:
    """Put in force what a savepoint's block asked for, now that SAVEPOINT was sent."""
    tree.begun.setdefault(savepoint, []).append(connection.get_nested_transaction())
    frame = next((frame for frame in tree.frames if frame.savepoint is savepoint), None)
    if frame is not None:
        put_in_force(tree, tree.frame_behind(frame), connection)


def put_in_force(tree: ScopeTree, frame: Frame, connection: Connection) -> None:
    """Put in force what a block asks for beyond the one around it."""
    if frame.timeouts is NO_TIMEOUTS and not frame.refuses_writes:
        return
    database = database_of(connection).scopes
    outer = tree.frames[frame.index - 1] if frame.index else None
    if frame.timeouts and (outer is None or outer.timeouts != frame.timeouts):
        database.limit(connection, frame.timeouts)
    if frame.refuses_writes and not tree.options.read_only:
        database.set_read_only(connection, True)


def restore(tree: ScopeTree, frame: Frame, outer: Frame) -> None:
    """Put in force again what was before a block that ended well."""
    if frame.timeouts is outer.timeouts and frame.refuses_writes is outer.refuses_writes:
        return
    for work in tree.works.values():
        if work.connection.closed or work.connection.invalidated:
            continue
        database = work.database
        if frame.refuses_writes and not outer.refuses_writes:
            database.set_read_only(work.connection, False)
        if frame.timeouts != outer.timeouts:
            database.limit(work.connection, outer.timeouts)


def _roll_back_noticed(tree: ScopeTree, connection: Connection) -> None:
    # Here and not when ROLLBACK is sent: that one may be the answer to an error.
    tree.ended_by("connection.rollback()")
    type(connection).rollback(connection)


def _refuse_commit() -> None:
    raise OwnershipError(
        "connection.commit() inside a transaction() scope: the scope commits at its end."
        " Nothing was changed; leave the commit out."
    )
