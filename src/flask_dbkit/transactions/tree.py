"""One scope tree: what is known of a transaction between its beginning and its end.

A *tree* is one transaction of one session. Its *frames* are the nested ``transaction()`` and
``savepoint()`` blocks. A frame is a *boundary* when work can be undone to it: the outermost
frame and every savepoint. What goes wrong is remembered at the boundary that contains it, so
that no block can end normally with its work gone.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Connection, Engine, NestedTransaction
from sqlalchemy.orm import Session, SessionTransaction

from ..databases import database_of
from .binds import watch_binds
from .exceptions import OwnershipError, TransactionError
from .frames import Frame
from .hooks import NO_HOOKS, Hook, Hooks, Mark
from .options import PLAIN, ScopeOptions, Surroundings
from .work import SessionMarks, Work

__all__ = ["ScopeTree"]

_ids = itertools.count(1)


class ScopeTree:
    """One transaction of one session, owned by its outermost scope.

    Args:
        session: Any session; nobody else may end its transaction until the tree is left.
        marks: The session's.
        root: The session's transaction.
        options: Of the outermost scope.
        surroundings: See :class:`Surroundings`.
        attempt: Counted by the retry loop.
    """

    __slots__ = (
        "_begun",
        "_errors",
        "_own_causes",
        "acquiring",
        "attempt",
        "begins_plainly",
        "ending",
        "foreign",
        "frames",
        "guards_orm_writes",
        "id",
        "killed",
        "marks",
        "options",
        "owner",
        "plain_twophase",
        "registered",
        "root",
        "session",
        "simple",
        "surroundings",
        "undone",
        "works",
    )

    acquiring: bool
    """It is connecting by itself."""
    begins_plainly: bool
    """It asks for no more than a way to begin, and leaves the connecting to the session."""
    ending: bool
    foreign: str | None
    """Who else ended the transaction."""
    frames: list[Frame]
    guards_orm_writes: bool
    killed: bool
    owner: int | None
    """The thread, ``None`` while the tree is lent."""
    registered: Hooks | None
    simple: bool
    """The short way through every check: it asks for no more than a transaction, no block inside
    asks for more, no savepoint was opened, and nothing went wrong."""
    undone: tuple[Hook, ...]
    """``on_rollback`` hooks of undone savepoints, to be called when the block ends."""
    works: dict[Engine, Work]
    # Most scopes need none of these, which are made when they are asked for.
    _begun: dict[SessionTransaction, list[NestedTransaction | None]] | None
    _errors: list[tuple[int, BaseException, BaseException]] | None
    _own_causes: dict[SessionTransaction | NestedTransaction, BaseException] | None

    def __init__(
        self,
        session: Session,
        marks: SessionMarks,
        root: SessionTransaction,
        options: ScopeOptions,
        surroundings: Surroundings,
        *,
        attempt: int,
    ) -> None:
        self.id = next(_ids)
        self.session = session
        self.marks = marks
        self.root = root
        self.options = options
        self.surroundings = surroundings
        self.attempt = attempt
        # Asked by its full name: gevent may put another function there after the import.
        self.owner = threading.get_ident()
        self.frames = []
        self.works = {}
        self.plain_twophase = twophase = session.twophase
        self.simple = self.begins_plainly = options is PLAIN and not twophase
        self.acquiring = self.ending = self.guards_orm_writes = self.killed = False
        self.foreign = self.registered = self._errors = self._own_causes = self._begun = None
        self.undone = ()

    @property
    def errors(self) -> list[tuple[int, BaseException, BaseException]]:
        """Index of the boundary, error and driver's error of each that is not undone yet."""
        if self._errors is None:
            self._errors = []
        return self._errors

    @errors.setter
    def errors(self, errors: list[tuple[int, BaseException, BaseException]]) -> None:
        self._errors = errors

    @property
    def own_causes(self) -> dict[SessionTransaction | NestedTransaction, BaseException]:
        """First errors inside savepoints of the application's: the session's, a connection's."""
        if self._own_causes is None:
            self._own_causes = {}
        return self._own_causes

    @property
    def begun(self) -> dict[SessionTransaction, list[NestedTransaction | None]]:
        """The savepoints of connections that each savepoint of the session has begun."""
        if self._begun is None:
            self._begun = {}
        return self._begun

    @property
    def hooks(self) -> Hooks:
        """The hooks of the tree, made when the first one is registered."""
        if self.registered is None:
            self.registered = Hooks()
        return self.registered

    def hook_mark(self) -> Mark:
        """Return how many hooks there are now."""
        return self.registered.mark() if self.registered is not None else NO_HOOKS

    def drop_hooks(self, mark: Mark) -> list[Hook]:
        """Drop the hooks of a savepoint; return those that its rollback calls."""
        return self.registered.take_since(mark) if self.registered is not None else []

    def complicate(self) -> None:
        """Leave the short way, for good."""
        if self.simple:
            self.simple = False
            watch_binds(self)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let the next thread that comes be the owner, for as long as this one waits for it."""
        mine, self.owner = self.owner, None
        try:
            yield
        finally:
            self.owner = mine

    def check_owner(self) -> None:
        """Refuse a caller from another thread or greenlet."""
        me = threading.get_ident()
        if self.owner is None:
            self.owner = me
        if self.owner != me:
            raise OwnershipError(
                "This transaction() scope belongs to another thread, and sessions must not be"
                " shared between threads. Push an application context of the thread's own:"
                " with app.app_context(): ..."
            )

    def check(self) -> None:
        """Refuse to go on after the transaction was lost."""
        if self.simple or self.ending:
            return
        if self.foreign is not None:
            raise OwnershipError(self.foreign_message())
        frames = self.frames
        if frames:
            cause = self._cause_in_force() if self.own_causes else frames[-1].boundary.cause
            if cause is not None:
                raise TransactionError(
                    "An earlier error has undone the work of this transaction, and nothing more"
                    " can be added to it. Let the error leave the block, or put what may fail"
                    f" into a savepoint(). The error was: {cause!r}"
                ) from cause

    def _cause_in_force(self) -> BaseException | None:
        boundary = self.frames[-1].boundary
        nested: SessionTransaction | None = self.session.get_nested_transaction()
        while nested is not None and nested is not boundary.savepoint:
            if nested in self.own_causes:
                return self.own_causes[nested]
            nested = nested.parent
        return boundary.cause

    def is_own(self, nested: SessionTransaction) -> bool:
        """Tell whether a savepoint of the session was opened by the application."""
        return not any(frame.savepoint is nested for frame in self.frames)

    def _container(
        self, connection: Connection | None
    ) -> Frame | SessionTransaction | NestedTransaction:
        """Return what an error that happens now is undone to."""
        nested = self.session.get_nested_transaction()
        if nested is not None and self.is_own(nested):
            return nested
        inner = connection.get_nested_transaction() if connection is not None else None
        if inner is not None and not any(inner in begun for begun in self.begun.values()):
            return inner
        return self.frames[-1].boundary if nested is not None else self.frames[0]

    def record(
        self,
        error: BaseException,
        original: BaseException,
        connection: Connection | None,
        *,
        lost: bool = False,
    ) -> None:
        """Remember a database error at the boundary that contains it.

        Args:
            error: As it is raised.
            original: The driver's own.
            connection: Where it happened, if it is known.
            lost: The connection is gone, and with it the transaction.
        """
        if not self.frames:
            return
        fatal = connection is not None and (
            lost
            or connection.invalidated
            or database_of(connection).scopes.ends_transaction(original, connection)
        )
        container = self.frames[0] if fatal else self._container(connection)
        if not isinstance(container, Frame):
            self.own_causes.setdefault(container, error)
            return
        boundary = container
        self.killed = self.killed or fatal
        self.errors.append((boundary.index, error, original))
        for frame in self.frames:
            if frame is boundary or (self.killed and frame.is_boundary):
                frame.blame(error)

    def ended_by(self, who: str) -> None:
        """Remember that somebody else ended the transaction."""
        if not self.ending:
            self.lost_to(who)

    def lost_to(self, who: str) -> None:
        """Remember who ended the transaction, also when the scope is about to end it."""
        self.complicate()
        if self.foreign is None:
            self.foreign = who

    def noticed_end(self, transaction: SessionTransaction) -> None:
        """Notice the end of a session transaction."""
        self.own_causes.pop(transaction, None)
        self.begun.pop(transaction, None)
        if self.ending:
            return
        if transaction is self.root:
            self.ended_by("session.rollback(), session.close() or db.session.remove()")
        elif any(frame.savepoint is transaction for frame in self.frames):
            self.ended_by("a rollback or release of its savepoint")

    def foreign_message(self) -> str:
        """Say who ended the transaction, and what to do instead."""
        return (
            f"The transaction of this scope was ended inside the block, by {self.foreign}. Nothing"
            " of the scope is committed. To undo work, raise Rollback, or call"
            " current_transaction().set_rollback_only()."
        )

    @property
    def first_error(self) -> BaseException | None:
        """The driver's first error that no savepoint contained, for the retry decision."""
        return self.errors[0][2] if self.errors else None

    def frame_behind(self, boundary: Frame | None) -> Frame:
        """Return the last block that is joined to a boundary, ``None`` being the outermost."""
        start = 0 if boundary is None else boundary.index
        joined = self.frames[start]
        for frame in self.frames[start + 1 :]:
            if frame.savepoint is not None:
                break
            joined = frame
        return joined

    @property
    def begin(self) -> str:
        """How it begins on SQLite."""
        return self.surroundings.begin_of(self.options)
