"""How the connections of a scope begin, and what is in force on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.util import immutabledict

from ..exceptions import OptionMismatch, OwnershipError
from .databases import scopes_for
from .engine_guards import guard_engine
from .frames import Frame
from .tree import ScopeTree
from .work import Work, own_checkout, shadow

__all__ = ["acquire", "entered_savepoint", "join", "put_in_force", "restore"]


def acquire(tree: ScopeTree, engine: Engine) -> None:
    """Begin on a database at its first use, the way this scope asks for."""
    guard_engine(engine)
    database = scopes_for(engine.dialect)
    if tree.session.twophase and not database.two_phase:
        raise OptionMismatch(
            "multi_bind",
            "two_phase",
            None,
            f"{engine.dialect.name} cannot prepare a transaction over several databases. Use"
            " multi_bind='best_effort', or write to one database.",
        )
    options = database.begin_options(
        begin=tree.begin,
        read_only=tree.options.read_only,
        isolation=tree.options.isolation,
        timeouts=tree.frame_behind(None).timeouts,
    )
    # By the root: inside a savepoint SQLAlchemy 2.0 would apply the options a second time,
    # to the savepoint, and refuse them.
    tree.acquiring = True
    try:
        tree.root.connection(None, bind=engine, execution_options=immutabledict(options))
    finally:
        tree.acquiring = False


def join(tree: ScopeTree, work: Work) -> None:
    """Take a transaction that the session has begun into the tree."""
    connection = work.connection
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.detect_autocommit_setting(raw):
        raise OptionMismatch(
            "isolation",
            "a transaction",
            "AUTOCOMMIT",
            "This engine is in AUTOCOMMIT mode, where every statement commits by itself and"
            " a rollback would undo nothing. Take isolation_level='AUTOCOMMIT' out of its"
            " options, and set it on single connections.",
        )
    work.tree = tree
    own_checkout(work)
    tree.works[connection.engine] = work
    shadow(connection, "commit", _refuse_commit)
    shadow(connection, "rollback", _noticed(tree, connection.rollback))
    if not tree.frames:
        # An adopted transaction: it has no options, and nothing is sent to it.
        return
    scopes_for(connection.dialect).begun(connection, read_only=tree.options.read_only)
    put_in_force(tree, tree.frame_behind(None), connection)


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
    database = scopes_for(connection.dialect)
    outer = tree.frames[frame.index - 1] if frame.index else None
    if frame.timeouts and (outer is None or outer.timeouts != frame.timeouts):
        database.limit(connection, frame.timeouts)
    if frame.read_only and not tree.options.read_only:
        database.set_read_only(connection, True)


def restore(tree: ScopeTree, frame: Frame, outer: Frame) -> None:
    """Put in force again what was before a block that ended well."""
    for work in tree.works.values():
        if work.connection.closed or work.connection.invalidated:
            continue
        database = scopes_for(work.connection.dialect)
        if frame.read_only and not outer.read_only:
            database.set_read_only(work.connection, False)
        if frame.timeouts != outer.timeouts:
            database.limit(work.connection, outer.timeouts)


def _refuse_commit() -> None:
    raise OwnershipError(
        "connection.commit() inside a transaction() scope: the scope commits at its end."
        " Nothing was changed; leave the commit out."
    )


def _noticed(tree: ScopeTree, plain: Callable[[], None]) -> Callable[[], None]:
    def rollback() -> None:
        tree.ended_by("connection.rollback()")
        plain()

    return rollback
