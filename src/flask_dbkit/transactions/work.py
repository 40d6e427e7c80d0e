"""What one database transaction has done so far, and for whom."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from ..databases import database_of
from .hooks import Mark

if TYPE_CHECKING:
    from .tree import ScopeTree

__all__ = [
    "WORK",
    "SessionMarks",
    "Work",
    "forget_work",
    "marks_of",
    "open_trees",
    "start_work",
    "work_of",
    "work_of_checkout",
]

open_trees: ContextVar[tuple[ScopeTree, ...]] = ContextVar("flask_dbkit_open_trees", default=())
"""The scope trees that are open in this logical context, outermost first."""

WORK = "_dbkit_work"
"""Attribute of connections, SQLAlchemy's and the pool's: what they do for a scope."""
_MARKS = "flask_dbkit.transactions"


class Work:
    """One transaction on one connection.

    Attributes:
        checkout: Its pooled connection, while a scope owns it.
        committed: Its COMMIT went well.
        connection: The SQLAlchemy connection that began it.
        database: What can be asked of its database.
        executed: Whether any statement was sent.
        first_write: The beginning of the first statement that writes.
        hook_marks: How many hooks there were when each savepoint was sent.
        raw: The driver's connection, while a scope owns it.
        rolled_back: A ROLLBACK was sent, by whomever.
        surely_open: The database must have opened its transaction: it said so, or a row was
            written.
        tree: The scope it belongs to, if any.
    """

    __slots__ = (
        "checkout",
        "committed",
        "connection",
        "database",
        "executed",
        "first_write",
        "hook_marks",
        "raw",
        "rolled_back",
        "surely_open",
        "tree",
    )

    def __init__(self, connection: Connection) -> None:
        self.checkout: Any = None
        self.raw: Any = None
        self.committed = False
        self.connection = connection
        self.database = database_of(connection).scopes
        self.executed = False
        self.first_write: str | None = None
        self.hook_marks: dict[str, Mark] | None = None
        self.rolled_back = False
        self.surely_open = False
        self.tree: ScopeTree | None = None


class SessionMarks:
    """What is known about the open transaction of one session.

    Attributes:
        guarded: It is known that a scope notices what happens to the session.
        works: One per connection it has begun.
        tree: The open scope, if any.
    """

    __slots__ = ("guarded", "tree", "works")

    def __init__(self) -> None:
        self.guarded = False
        self.works: list[Work] = []
        self.tree: ScopeTree | None = None


def start_work(connection: Connection) -> Work:
    """Note that a connection begins a transaction."""
    # Kept on the Connection itself: its .info belongs to the pooled connection, which all
    # sessions of an in-memory database share.
    work = Work(connection)
    connection.__dict__[WORK] = work
    return work


def forget_work(work: Work) -> None:
    """Part a connection from its work, whose transaction is over."""
    # Each knowing the other, they would be left to the garbage collector.
    if work.connection.__dict__.get(WORK) is work:
        del work.connection.__dict__[WORK]


def work_of(connection: Connection) -> Work | None:
    """Return the work of a connection's transaction, ``None`` if it never began one."""
    work: Work | None = connection.__dict__.get(WORK)
    return work


def work_of_checkout(checkout: Any) -> Work | None:
    """Return the work that a pooled connection does for a scope."""
    try:
        work: Work | None = checkout.__dict__.get(WORK)
    except AttributeError:
        # SQLAlchemy's stand-in for a pooled connection at the very first connect.
        return None
    return work


def marks_of(session: Session) -> SessionMarks:
    """Return the marks of a session, made at the first call."""
    info: dict[Any, Any] = session.info
    marks: SessionMarks | None = info.get(_MARKS)
    if marks is None:
        marks = info[_MARKS] = SessionMarks()
    return marks
