"""What is known of a scope while it is open: data, and what can be read off it.

A *unit of work* is one transaction of one session. Its *blocks* are the nested ``transaction()``
and ``savepoint()`` blocks. A block is a *boundary* when work can be undone to it: the outermost
block and every savepoint. A *database transaction* is what one connection does for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from sqlalchemy.engine import Connection, Engine, NestedTransaction
from sqlalchemy.orm import Session, SessionTransaction

from ..databases import database_of
from ..databases.limits import NO_TIMEOUTS, Timeouts
from ..databases.scopes import DatabaseScopes
from .hooks import NO_HOOKS, Hook, Hooks, Mark
from .options import ScopeDefaults, ScopeOptions

__all__ = [
    "TRANSACTION",
    "Block",
    "DatabaseTransaction",
    "RecordedError",
    "SessionRecord",
    "TransactionInfo",
    "UnitOfWork",
    "forget_transaction",
    "open_units",
    "record_of",
    "start_transaction",
    "transaction_of",
    "transaction_of_checkout",
]

open_units: ContextVar[tuple[UnitOfWork, ...]] = ContextVar("flask_dbkit_open_units", default=())
"""The units of work that are open in this logical context, outermost first."""

TRANSACTION = "_dbkit_transaction"
"""Attribute of connections, SQLAlchemy's and the pool's: what they do for a scope."""
_RECORD = "flask_dbkit.transactions"
_ids = itertools.count(1)


@dataclass(slots=True, eq=False, init=False)
class DatabaseTransaction:
    """One transaction on one connection.

    Attributes:
        connection: The SQLAlchemy connection that began it.
        database: What can be asked of its database.
        checkout: Its pooled connection, while a scope owns it.
        raw: The driver's connection, while a scope owns it.
        unit: The unit of work it belongs to, if any.
        commit_sent: Its COMMIT is on the way, or was.
        committed: Its COMMIT went well.
        beyond_reads: The beginning of the first statement from before a scope that may have left
            more to the transaction than what was read: a setting, a lock.
        executed: Whether any statement was sent.
        first_write: The beginning of the first statement that writes.
        hook_marks: How many hooks there were when each savepoint was sent.
        rolled_back: A ROLLBACK was sent, by whomever.
        savepoints_gone: The database has dropped them with its transaction.
        surely_open: The database has opened its transaction: it said so, or a row was written.
        ends_by_sqlalchemy: SQLAlchemy is sending its COMMIT or ROLLBACK.
        marked: A savepoint stands before a statement that may have committed inside.
        could_write: It did not begin in a block that refuses writes, or a statement was sent
            outside such blocks.
    """

    connection: Connection
    database: DatabaseScopes
    checkout: Any
    raw: Any
    unit: UnitOfWork | None
    commit_sent: bool
    committed: bool
    beyond_reads: str | None
    executed: bool
    first_write: str | None
    hook_marks: dict[str, Mark]
    rolled_back: bool
    savepoints_gone: bool
    surely_open: bool
    ends_by_sqlalchemy: bool
    marked: bool
    could_write: bool

    def __init__(self, connection: Connection, database: DatabaseScopes) -> None:
        # By hand: what a dataclass would write takes half as long again, of each transaction.
        self.connection, self.database = connection, database
        self.checkout = self.raw = self.unit = self.beyond_reads = self.first_write = None
        self.commit_sent = self.committed = self.executed = self.rolled_back = False
        self.savepoints_gone = self.surely_open = self.ends_by_sqlalchemy = self.marked = False
        self.hook_marks = {}
        self.could_write = True


@dataclass(slots=True, eq=False)
class SessionRecord:
    """What is known about the open transaction of one session.

    Attributes:
        guarded: It is known that a scope notices what happens to the session.
        transactions: One per connection it has begun.
        unit: The open unit of work, if any.
    """

    guarded: bool = False
    transactions: list[DatabaseTransaction] = field(default_factory=list)
    unit: UnitOfWork | None = None


class TransactionInfo:
    """What ``current_transaction()`` tells about one block.

    .. versionadded:: 0.1
    """

    # Always a Block: two objects that knew each other would be left to the garbage collector,
    # and with them all that the transaction had to do with.
    __slots__ = ()

    def __repr__(self) -> str:
        return f"<TransactionInfo {self.id}, depth {self.depth}, attempt {self.attempt}>"

    @property
    def id(self) -> int:
        """A number that no other transaction of this process has."""
        return _block(self).unit.id

    @property
    def depth(self) -> int:
        """1 for the outermost block, one more for each block inside it."""
        return _block(self).index + 1

    @property
    def attempt(self) -> int:
        """1 for the first run of a replayed function, then 2, 3, …."""
        return _block(self).unit.attempt

    @property
    def read_only(self) -> bool:
        """Whether writes are refused here."""
        return _block(self).refuses_writes

    @property
    def isolation(self) -> str | None:
        """The level asked for, ``None`` when none was."""
        return _block(self).unit.options.isolation

    @property
    def rollback_only(self) -> bool:
        """Whether the end of the enclosing boundary will be a rollback."""
        boundary = _block(self).boundary
        return boundary.silent or boundary.cause is not None

    def set_rollback_only(self) -> None:
        """Make the enclosing boundary end with a silent rollback."""
        _block(self).boundary.silent = True


def _block(info: TransactionInfo) -> Block:
    assert isinstance(info, Block)
    return info


@dataclass(slots=True, eq=False, repr=False)
class Block(TransactionInfo):
    """One block of a unit of work.

    Attributes:
        unit: The unit of work.
        index: 0 for the outermost block.
        options: What the block asks for.
        refuses_writes: It is read-only, or a block around it is.
        timeouts: In force in it.
        savepoint: Its own, if it opened one.
        inside: The application's own savepoint that the block was opened in.
        cause: The first error that undid work of this boundary.
        silent: The boundary is to be rolled back without an error.
        hook_mark: How many hooks there were before a savepoint.
        same_scope: The block that the same scope object has open around this one.
        holder: The frame of the code it is opened for, of a boundary; ``None`` for a function
            that runs inside it.
    """

    unit: UnitOfWork
    index: int
    options: ScopeOptions
    refuses_writes: bool = False
    timeouts: Timeouts = NO_TIMEOUTS
    savepoint: SessionTransaction | None = None
    inside: SessionTransaction | None = None
    cause: BaseException | None = None
    silent: bool = False
    hook_mark: Mark = NO_HOOKS
    same_scope: Block | None = None
    holder: FrameType | None = None

    @property
    def is_boundary(self) -> bool:
        """Whether work can be undone to the beginning of this block."""
        return self.index == 0 or self.savepoint is not None

    @property
    def boundary(self) -> Block:
        """The block that work of this one is undone to."""
        if self.is_boundary:
            return self
        blocks = self.unit.blocks
        if not blocks:
            return self  # all of them are over
        index = min(self.index, len(blocks) - 1)
        while not blocks[index].is_boundary:
            index -= 1
        return blocks[index]


RecordedError = tuple[int, BaseException, BaseException]
"""The boundary that contained an error, the error as SQLAlchemy raised it, the driver's own."""


@dataclass(slots=True, eq=False, init=False)
class UnitOfWork:
    """One transaction of one session, owned by its outermost scope.

    Attributes:
        session: Nobody else may end its transaction until the unit is left.
        record: The session's.
        root: The session's transaction.
        options: Of the outermost scope.
        defaults: What the application says where the scope does not.
        attempt: Counted by the retry loop.
        owner: The task or thread that opened it, see :func:`.holders.current_flow`.
        thread: Its thread.
        plain: It asks for no more than a transaction, no block inside asks for more, no
            savepoint was opened, and nothing went wrong. Joining such a unit and leaving it
            again is a short way, taken in :func:`.opening.open_scope` and
            :func:`.leaving.leave` and asked about nowhere else.
        connects: It connects by itself, to begin as its options say; else the session does.
        own_twophase: What ``session.twophase`` was before.
        id: A number that no other unit of this process has.
        blocks: The open ones, outermost first.
        transactions: By engine.
        hooks: Made when the first one is registered.
        undone_hooks: ``on_rollback`` hooks of undone savepoints, to be called when the block
            ends.
        begun: The savepoints of connections that each savepoint of the session has begun.
        errors: Those that are not undone yet.
        own_causes: First errors inside savepoints of the application's: the session's, a
            connection's.
        troubled: There is, or was, a cause somewhere.
        ended_by: Who else ended the transaction.
        may_be_saved: Nobody knows whether that was a COMMIT.
        killed: The database has ended the transaction, savepoints included.
        connecting: It is connecting by itself.
        ending: The scope is ending it, or a savepoint of it.
        sealed: It is being rolled back, or its COMMIT is on the way: what is added now would be
            lost.
        guards_orm_writes: ORM-enabled writes are looked at.
        lent: Its thread waits for another one, which may use it meanwhile.
        borrower: The task or thread that uses it while its own waits.
    """

    session: Session
    record: SessionRecord
    root: SessionTransaction
    options: ScopeOptions
    defaults: ScopeDefaults
    attempt: int
    owner: object
    thread: int
    plain: bool
    connects: bool
    own_twophase: bool
    id: int
    blocks: list[Block]
    transactions: dict[Engine, DatabaseTransaction]
    hooks: Hooks | None
    undone_hooks: list[Hook]
    begun: dict[SessionTransaction, list[NestedTransaction | None]]
    errors: list[RecordedError]
    own_causes: dict[SessionTransaction | NestedTransaction, BaseException]
    troubled: bool
    ended_by: str | None
    may_be_saved: bool
    killed: bool
    connecting: bool
    ending: bool
    sealed: bool
    guards_orm_writes: bool
    lent: bool
    borrower: object

    def __init__(  # noqa: PLR0917 - made for each scope, where keywords cost
        self,
        session: Session,
        record: SessionRecord,
        root: SessionTransaction,
        options: ScopeOptions,
        defaults: ScopeDefaults,
        attempt: int,
        owner: object,
        thread: int,
        plain: bool,
        connects: bool,
        own_twophase: bool,
    ) -> None:
        # By hand, as above.
        self.session, self.record, self.root = session, record, root
        self.options, self.defaults, self.attempt = options, defaults, attempt
        self.owner, self.thread = owner, thread
        self.plain, self.connects, self.own_twophase = plain, connects, own_twophase
        self.id = next(_ids)
        self.blocks = []
        self.transactions = {}
        self.undone_hooks = []
        self.begun = {}
        self.errors = []
        self.own_causes = {}
        self.hooks = self.ended_by = self.borrower = None
        self.troubled = self.may_be_saved = self.killed = self.connecting = False
        self.ending = self.sealed = self.guards_orm_writes = self.lent = False

    def take_full_checks(self) -> None:
        """Leave the short way, for good."""
        self.plain = False

    @contextmanager
    def ending_quietly(self, *, sealed: bool) -> Iterator[None]:
        """Let what happens to the session inside not look like a foreign end."""
        before = self.ending, self.sealed
        self.ending, self.sealed = True, sealed or self.sealed
        try:
            yield
        finally:
            self.ending, self.sealed = before

    def make_hooks(self) -> Hooks:
        """Return the hooks, made now if there were none."""
        if self.hooks is None:
            self.hooks = Hooks()
        return self.hooks

    def hook_mark(self) -> Mark:
        """Return how many hooks there are now."""
        return self.hooks.mark() if self.hooks is not None else NO_HOOKS

    def drop_hooks(self, mark: Mark) -> list[Hook]:
        """Drop the hooks of a savepoint; return those that its rollback calls."""
        return self.hooks.take_since(mark) if self.hooks is not None else []

    def is_own(self, nested: SessionTransaction) -> bool:
        """Tell whether a savepoint of the session was opened by the application."""
        return not any(block.savepoint is nested for block in self.blocks)

    def last_joined(self, boundary: Block) -> Block:
        """Return the last block that is joined to a boundary."""
        joined = boundary
        for block in self.blocks[boundary.index + 1 :]:
            if block.savepoint is not None:
                break
            joined = block
        return joined

    @property
    def begin(self) -> str:
        """How it begins on SQLite."""
        return self.defaults.begin_of(self.options)


def start_transaction(connection: Connection) -> DatabaseTransaction:
    """Note that a connection begins a transaction."""
    # Kept on the Connection itself: its .info belongs to the pooled connection, which all
    # sessions of an in-memory database share.
    started = DatabaseTransaction(connection, database_of(connection.dialect).scopes)
    connection.__dict__[TRANSACTION] = started
    return started


def forget_transaction(ended: DatabaseTransaction) -> None:
    """Part a connection from its transaction, which is over."""
    # Each knowing the other, they would be left to the garbage collector.
    if ended.connection.__dict__.get(TRANSACTION) is ended:
        del ended.connection.__dict__[TRANSACTION]


def transaction_of(connection: Connection) -> DatabaseTransaction | None:
    """Return a connection's transaction, ``None`` if it never began one."""
    found: DatabaseTransaction | None = connection.__dict__.get(TRANSACTION)
    return found


def transaction_of_checkout(checkout: Any) -> DatabaseTransaction | None:
    """Return the transaction that a pooled connection does for a scope."""
    try:
        found: DatabaseTransaction | None = checkout.__dict__.get(TRANSACTION)
    except AttributeError:
        # SQLAlchemy's stand-in for a pooled connection at the very first connect.
        return None
    return found


def record_of(session: Session) -> SessionRecord:
    """Return the record of a session, made at the first call."""
    info: dict[Any, Any] = session.info
    record: SessionRecord | None = info.get(_RECORD)
    if record is None:
        record = info[_RECORD] = SessionRecord()
    return record
