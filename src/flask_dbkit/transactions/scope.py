"""One scope tree: from the outermost ``transaction()`` to its COMMIT or ROLLBACK.

A *tree* is one transaction of one session. Its *frames* are the nested ``transaction()`` and
``savepoint()`` blocks. A frame is a *boundary* when work can be undone to it: the outermost
frame and every savepoint. What goes wrong is remembered at the boundary that contains it, so
that no block can end normally with its work gone.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, NestedTransaction
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin
from sqlalchemy.sql.elements import (
    ReleaseSavepointClause,
    RollbackToSavepointClause,
    SavepointClause,
)
from sqlalchemy.util import immutabledict

from ..exceptions import (
    CommitOutcomeUnknown,
    DurabilityError,
    OptionMismatch,
    OwnershipError,
    PartialCommit,
    ReadOnlyViolation,
    Rollback,
    TransactionError,
    UnexpectedRollback,
)
from ..statements import Kind, first_word
from .databases import DriverState, scopes_for
from .guards import GUARDED, guard_engine, guard_sessions, open_work, orm_write_guard
from .hooks import Hook, Hooks, run_after_commit, run_logged
from .options import ScopeOptions, Timeouts
from .work import Work, marks_of, open_trees, own_checkout

__all__ = ["Frame", "ScopeTree", "Surroundings", "TransactionInfo", "open_scope"]

logger = logging.getLogger("flask_dbkit.transactions")

_SAVEPOINT_CLAUSES = (SavepointClause, ReleaseSavepointClause, RollbackToSavepointClause)
_ids = itertools.count(1)


@dataclass(frozen=True)
class Surroundings:
    """What the rim knows and a session does not.

    Attributes:
        key: Scopes with different keys know nothing of each other: the application.
        sqlite_begin: How a writing scope begins on SQLite.
        adopt: Take in stray work when the scope does not say.
        shared_memory: The default database is in memory, on one connection for all sessions.
        bind_names: Bind key by engine, for messages.
    """

    key: object = None
    sqlite_begin: str = "immediate"
    adopt: bool = False
    shared_memory: bool = False
    bind_names: Mapping[Engine, str | None] = field(default_factory=dict)


class OwnSavepoint(SessionTransaction):
    """A ``session.begin_nested()`` of the application's, inside a scope.

    SQLAlchemy ends such a block normally, and silently, after a swallowed flush error had
    undone what it held. This one raises.
    """

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tree = marks_of(self.session).tree
        cause = tree.own_causes.get(self) if tree is not None else None
        super().__exit__(kind, error, traceback)
        if error is None and cause is not None:
            raise _unexpected(cause, "savepoint")


class TransactionInfo:
    """What ``current_transaction()`` tells about one block.

    .. versionadded:: 0.1
    """

    __slots__ = ("_frame", "depth")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self.depth = frame.index + 1

    def __repr__(self) -> str:
        return f"<TransactionInfo {self.id}, depth {self.depth}, attempt {self.attempt}>"

    @property
    def id(self) -> int:
        """A number that no other transaction of this process has."""
        return self._frame.tree.id

    @property
    def attempt(self) -> int:
        """1 for the first run of a replayed function, then 2, 3, …."""
        return self._frame.tree.attempt

    @property
    def read_only(self) -> bool:
        """Whether writes are refused here."""
        return self._frame.read_only

    @property
    def isolation(self) -> str | None:
        """The level asked for, ``None`` when none was."""
        return self._frame.tree.options.isolation

    @property
    def rollback_only(self) -> bool:
        """Whether the end of the enclosing boundary will be a rollback."""
        boundary = self._frame.boundary
        return boundary.silent or boundary.cause is not None

    def set_rollback_only(self) -> None:
        """Make the enclosing boundary end with a silent rollback."""
        self._frame.boundary.silent = True


class Frame:
    """One block of a tree."""

    __slots__ = (
        "cause",
        "hook_mark",
        "index",
        "info",
        "inside",
        "options",
        "read_only",
        "savepoint",
        "silent",
        "timeouts",
        "tree",
    )

    def __init__(self, tree: ScopeTree, options: ScopeOptions) -> None:
        self.tree = tree
        self.index = len(tree.frames)
        self.options = options
        self.savepoint: SessionTransaction | None = None
        outer = tree.frames[-1] if tree.frames else None
        self.read_only: bool = options.read_only or (outer is not None and outer.read_only)
        self.timeouts: Timeouts = (
            options.timeouts if outer is None else _narrow(outer.timeouts, options)
        )
        self.cause: BaseException | None = None
        self.silent = False
        self.hook_mark = tree.hooks.mark()
        nested = tree.session.get_nested_transaction()
        self.inside = nested if nested is not None and tree.is_own(nested) else None
        self.info = TransactionInfo(self)

    @property
    def is_boundary(self) -> bool:
        """Whether work can be undone to the beginning of this block."""
        return self.index == 0 or self.savepoint is not None

    @property
    def boundary(self) -> Frame:
        """The frame that work of this one is undone to."""
        if self.index == 0 or self.savepoint is not None:
            return self
        frames = self.tree.frames
        if not frames:
            return self  # all of them are over
        index = min(self.index, len(frames) - 1)
        while index and frames[index].savepoint is None:
            index -= 1
        return frames[index]

    def leave(self, error: BaseException | None) -> bool:
        """End the block; tell whether ``error`` is dealt with."""
        return self.tree.leave(self, error)


class ScopeTree:
    """One transaction of one session, owned by its outermost scope.

    Args:
        session: Any session; only this module ends its transaction until the tree is left.
        options: Of the outermost scope.
        surroundings: See :class:`Surroundings`.
        attempt: Counted by the retry loop.
    """

    def __init__(
        self, session: Session, options: ScopeOptions, surroundings: Surroundings, attempt: int
    ) -> None:
        self.id = next(_ids)
        self.session = session
        self.options = options
        self.surroundings = surroundings
        self.attempt = attempt
        self.owner: int | None = threading.get_ident()
        self.frames: list[Frame] = []
        self.works: dict[Engine, Work] = {}
        self.hooks = Hooks()
        self.errors: list[tuple[int, BaseException, BaseException]] = []
        self.ending = False
        self.killed = False
        self.commits_sent = self.commits_done = 0
        self.foreign: str | None = None
        # First errors inside savepoints of the application's own, the session's or a connection's.
        self.own_causes: dict[SessionTransaction | NestedTransaction, BaseException] = {}
        self._begun: dict[SessionTransaction, list[NestedTransaction | None]] = {}
        self._acquiring = False
        self._guards_orm_writes = False
        self._plain_twophase = session.twophase
        self.root: SessionTransaction = self._take_root()
        self._enter()

    # -- entering -------------------------------------------------------------------------

    def _take_root(self) -> SessionTransaction:
        """Begin, adopt or restart the session's transaction. Nothing is sent yet."""
        session, options = self.session, self.options
        root = session.get_transaction()
        if root is None:
            return session.begin()
        if session.get_nested_transaction() is not None:
            raise OwnershipError(
                "The session is inside a begin_nested() block. Open transaction() around it."
            )
        if root.origin is not SessionTransactionOrigin.AUTOBEGIN:
            raise OwnershipError(
                "The session is inside somebody's session.begin() block, which will end its"
                " transaction. Use transaction() in its place."
            )
        works = marks_of(session).works
        stray = _stray_work(session, works)
        if stray is not None:
            self._adopt_stray(stray)
            return root
        on_sqlite = any(work.connection.dialect.name == "sqlite" for work in works)
        if works and (options.asks_for_anything or (on_sqlite and self._begin == "immediate")):
            # What was read stays attached but is read anew: a write computed from the old
            # snapshot would be the lost update this scope exists to prevent.
            root.close()
            session.expire_all()
            return session.begin()
        return root

    def _adopt_stray(self, stray: str) -> None:
        adopt = self.options.adopt
        if not (self.surroundings.adopt if adopt is None else adopt):
            raise OwnershipError(
                f"The session has uncommitted work from before this scope: {stray}. Commit it"
                " or roll it back first, move it into the scope, or pass adopt=True to make it"
                " part of the transaction."
            )
        if self.options.asks_for_anything:
            raise OptionMismatch(
                "adopt",
                True,
                None,
                "Work that was done before the scope cannot be given an isolation level, a begin"
                " mode, read_only, two_phase or a timeout afterwards. Leave those options out, or"
                " move the work into the scope.",
            )

    @property
    def _begin(self) -> str:
        if self.options.read_only:
            return "deferred"
        return self.options.begin or self.surroundings.sqlite_begin

    def _enter(self) -> None:
        session = self.session
        self.root.__enter__()
        marks = marks_of(session)
        marks.tree = self
        if self.options.multi_bind == "two_phase":
            session.twophase = True
        self._shadow_method(session, "commit", self._refuse_commit)
        self._shadow_method(session, "get_bind", self._bound(session.get_bind))
        self._shadow_method(session, "begin", self._watched(session.begin))
        open_trees.set((*open_trees.get(), self))
        if self.options.read_only:
            self._guard_orm_writes()
        try:
            for work in marks.works:
                self.join(work)
        except BaseException as error:
            self._roll_back(error)
            raise

    def _guard_orm_writes(self) -> None:
        # Only here: the event costs every ORM statement of a session some microseconds.
        if not self._guards_orm_writes:
            self._guards_orm_writes = True
            event.listen(self.session, "do_orm_execute", orm_write_guard)

    def _shadow_method(self, target: Any, name: str, method: Callable[..., Any]) -> None:
        # On the instance: nobody else's session is touched, and SQLAlchemy itself never
        # commits a scope's session through this method.
        target.__dict__[name] = method

    def _refuse_commit(self) -> None:
        raise OwnershipError(
            "session.commit() inside a transaction() scope: the scope commits at its end. Nothing"
            " was changed; leave the commit out."
        )

    def _bound(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def get_bind(*args: Any, **kwargs: Any) -> Engine | Connection:
            self.check()
            bind: Engine | Connection = plain(*args, **kwargs)
            if isinstance(bind, Engine) and bind not in self.works and not self._acquiring:
                self._acquire(bind)
            return bind

        return get_bind

    def _watched(self, plain: Callable[..., SessionTransaction]) -> Callable[..., Any]:
        def begin(nested: bool = False) -> SessionTransaction:
            transaction = plain(nested=nested)
            if nested and not self.ending:
                # Here and not when it fails: "with" takes the class's __exit__ at its beginning.
                transaction.__class__ = OwnSavepoint
            return transaction

        return begin

    def _acquire(self, engine: Engine) -> None:
        """Begin on a database at its first use, the way this scope asks for."""
        guard_engine(engine)
        database = scopes_for(engine.dialect)
        if self.session.twophase and not database.two_phase:
            raise OptionMismatch(
                "multi_bind",
                "two_phase",
                None,
                f"{engine.dialect.name} cannot prepare a transaction over several databases. Use"
                " multi_bind='best_effort', or write to one database.",
            )
        options = database.begin_options(
            begin=self._begin,
            read_only=self.options.read_only,
            isolation=self.options.isolation,
            timeouts=self._frame_behind(None).timeouts,
        )
        # By the root: inside a savepoint SQLAlchemy 2.0 would apply the options a second time,
        # to the savepoint, and refuse them.
        self._acquiring = True
        try:
            self.root.connection(None, bind=engine, execution_options=immutabledict(options))
        finally:
            self._acquiring = False

    def join(self, work: Work) -> None:
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
        work.tree = self
        own_checkout(work)
        self.works[connection.engine] = work
        self._shadow_method(connection, "commit", self._refuse_connection_commit)
        self._shadow_method(connection, "rollback", self._noticed(connection.rollback))
        if not self.frames:
            # An adopted transaction: it has no options, and nothing is sent to it.
            return
        scopes_for(connection.dialect).begun(connection, read_only=self.options.read_only)
        self._put_in_force(self._frame_behind(None), connection)

    def entered_savepoint(self, savepoint: SessionTransaction, connection: Connection) -> None:
        """Put in force what a savepoint's block asked for, now that SAVEPOINT was sent."""
        self._begun.setdefault(savepoint, []).append(connection.get_nested_transaction())
        frame = next((frame for frame in self.frames if frame.savepoint is savepoint), None)
        if frame is not None:
            self._put_in_force(self._frame_behind(frame), connection)

    def _frame_behind(self, boundary: Frame | None) -> Frame:
        """Return the last block that is joined to a boundary, ``None`` being the outermost."""
        start = 0 if boundary is None else boundary.index
        joined = self.frames[start]
        for frame in self.frames[start + 1 :]:
            if frame.savepoint is not None:
                break
            joined = frame
        return joined

    def _put_in_force(self, frame: Frame, connection: Connection) -> None:
        database = scopes_for(connection.dialect)
        outer = self.frames[frame.index - 1] if frame.index else None
        if frame.timeouts and (outer is None or outer.timeouts != frame.timeouts):
            database.limit(connection, frame.timeouts)
        if frame.read_only and not self.options.read_only:
            database.set_read_only(connection, True)

    def _refuse_connection_commit(self) -> None:
        raise OwnershipError(
            "connection.commit() inside a transaction() scope: the scope commits at its end."
            " Nothing was changed; leave the commit out."
        )

    def _noticed(self, plain: Callable[[], None]) -> Callable[[], None]:
        def rollback() -> None:
            self.ended_by("connection.rollback()")
            plain()

        return rollback

    def nest(self, options: ScopeOptions) -> Frame:
        """Open a block inside the tree: join it, or open a savepoint."""
        self.check_owner()
        if options.durable:
            raise DurabilityError
        self.check()
        outer = self.frames[-1]
        if not options.inherits:
            self._check_nested(options, outer)
        frame = Frame(self, options)
        narrows = frame.read_only and not outer.read_only
        databases = [scopes_for(work.connection.dialect) for work in self.works.values()]
        if narrows:
            self._guard_orm_writes()
        by_savepoint = not databases or any(known.read_only_savepoint for known in databases)
        if options.savepoint or (narrows and by_savepoint):
            # What is pending belongs to the outer block, and so does an error in it.
            self.session.flush()
            frame.savepoint = Session.begin(self.session, nested=True)
        self.frames.append(frame)
        if frame.savepoint is None and (frame.timeouts != outer.timeouts or narrows):
            for work in list(self.works.values()):
                self._put_in_force(frame, work.connection)
        return frame

    def _check_nested(self, options: ScopeOptions, outer: Frame) -> None:
        if options.independent:
            raise OwnershipError(
                "independent=True needs a session of its own, and this one has a scope open. Push"
                " a new application context: with app.app_context(): ..."
            )
        if outer.read_only and not options.read_only:
            raise OptionMismatch("read_only", False, True)
        in_force = self.options
        for name, given, present in (
            ("isolation", options.isolation, in_force.isolation),
            ("begin", options.begin, self._begin),
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

    def _restore(self, frame: Frame, outer: Frame) -> None:
        """Put in force again what was before a block that ended well."""
        for work in self.works.values():
            if work.connection.closed or work.connection.invalidated:
                continue
            database = scopes_for(work.connection.dialect)
            if frame.read_only and not outer.read_only:
                database.set_read_only(work.connection, False)
            if frame.timeouts != outer.timeouts:
                database.limit(work.connection, outer.timeouts)

    # -- what the guards report -----------------------------------------------------------

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
        if self.owner is None:
            self.owner = threading.get_ident()
        if self.owner != threading.get_ident():
            raise OwnershipError(
                "This transaction() scope belongs to another thread, and sessions must not be"
                " shared between threads. Push an application context of the thread's own:"
                " with app.app_context(): ..."
            )

    def check(self) -> None:
        """Refuse to go on after the transaction was lost."""
        if self.ending:
            return
        if self.foreign is not None:
            raise OwnershipError(self._foreign_message())
        if self.frames:
            cause = self._cause_in_force()
            if cause is not None:
                raise TransactionError(
                    "An earlier error has undone the work of this transaction, and nothing more"
                    " can be added to it. Let the error leave the block, or put what may fail"
                    f" into a savepoint(). The error was: {cause!r}"
                ) from cause

    def _cause_in_force(self) -> BaseException | None:
        boundary = self.frames[-1].boundary
        if self.own_causes:
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
        if inner is not None and not any(inner in begun for begun in self._begun.values()):
            return inner
        return self.frames[-1].boundary if nested is not None else self.frames[0]

    def check_statement(self, kind: Kind, statement: str, context: Any, work: Work) -> None:
        """Look at a statement before it is sent."""
        compiled = getattr(context, "compiled", None)
        clause = compiled.statement if compiled is not None else None
        if isinstance(clause, _SAVEPOINT_CLAUSES):
            if isinstance(clause, ReleaseSavepointClause):
                self._released(work.connection.get_nested_transaction())
            return
        if self.ending or context.execution_options.get("dbkit_internal"):
            return
        connection = work.connection
        self._check_still_open(work)
        self.check()
        if kind is Kind.SAVEPOINT or kind is Kind.CONTROL:
            raise OwnershipError(
                f"{first_word(statement)} as text inside a transaction() scope: the"
                " scope begins and ends the transaction. Nothing was sent. Use savepoint() for a"
                " savepoint."
            )
        database = scopes_for(connection.dialect)
        if kind is not Kind.READ:
            if database.commits_by_itself(statement):
                raise OwnershipError(
                    f"{first_word(statement)} inside a transaction() scope: on"
                    f" {connection.dialect.name} it commits everything before it, and the scope"
                    " could not keep its word. Nothing was sent. Run it outside the scope."
                )
            work.surely_open = work.surely_open or database.writes_rows(statement)
        self._send_savepoint(connection)
        by_database = self.options.read_only or database.can_turn_read_only
        if kind is Kind.WRITE and not by_database and self.frames and self.frames[-1].read_only:
            self._refuse_write("A statement that writes")

    def _check_still_open(self, work: Work) -> None:
        """Notice a ROLLBACK or COMMIT that went past SQLAlchemy's session, or past SQLAlchemy."""
        if work.rolled_back:
            self.ended_by("a ROLLBACK on its connection")
        if work.executed and not work.connection.invalidated:
            state = scopes_for(work.connection.dialect).state(
                work.connection, wrote=work.surely_open
            )
            if state is DriverState.GONE:
                self.ended_by("a statement that SQLAlchemy did not see")

    def _send_savepoint(self, connection: Connection) -> None:
        """Send the SAVEPOINT of the block, for a statement that does not come by the session."""
        nested = self.session.get_nested_transaction()
        if nested is not None and len(self._begun.get(nested, ())) < len(self.works):
            self.session.connection(bind_arguments={"bind": connection.engine})

    def _released(self, inner: NestedTransaction | None) -> None:
        # On every database as on PostgreSQL, where it could not be released.
        cause = self.own_causes.pop(inner, None) if inner is not None else None
        if cause is not None and self.frames:
            boundary = self.frames[-1].boundary
            boundary.cause = boundary.cause or cause

    def check_last(self, work: Work) -> None:
        """Look a last time, when COMMIT is about to be sent on one connection."""
        if not self.ending:
            self.ended_by("a COMMIT on its connection")
            raise OwnershipError(
                "This connection's transaction belongs to a transaction() scope, which commits at"
                " its end. The work was rolled back; leave the COMMIT out."
            )
        # A before_commit listener of the application's runs after every other check.
        if self.frames and self.frames[0].cause is not None:
            raise _unexpected(self.frames[0].cause, "transaction")
        self._check_driver(work)

    def check_flush(self) -> None:
        """Look at a flush before it begins."""
        self.check()
        if self.frames and self.frames[-1].read_only and _pending(self.session):
            self._refuse_write("A flush of new, changed or deleted objects")

    def check_orm_write(self) -> None:
        """Look at an ORM-enabled INSERT, UPDATE or DELETE before it is sent."""
        if self.frames and self.frames[-1].read_only:
            self._refuse_write("An INSERT, UPDATE or DELETE")

    def _refuse_write(self, what: str) -> None:
        violation = ReadOnlyViolation(
            f"{what} in a scope with read_only=True. Nothing was sent. Take read_only out, or"
            " move the write out of the scope."
        )
        boundary = self.frames[-1].boundary
        boundary.cause = boundary.cause or violation
        raise violation

    def check_commit_beside(self, session: Session) -> None:
        """Refuse the COMMIT of the session that took this one's place after ``remove()``."""
        mine = self.owner in (threading.get_ident(), None) and type(session) is type(self.session)
        if mine and self.foreign is not None and not self.ending:
            raise OwnershipError(self._foreign_message())

    def check_commit(self) -> None:
        """Refuse a COMMIT of the whole transaction that is not ours, and a lost savepoint's."""
        nested = self.session.get_nested_transaction()
        if nested is None:
            if not self.ending:
                self._refuse_commit()
        elif nested in self.own_causes:
            raise _unexpected(self.own_causes[nested], "savepoint")

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
            or scopes_for(connection.dialect).ends_transaction(original, connection)
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
                frame.cause = frame.cause or error

    def ended_by(self, who: str) -> None:
        """Remember that somebody else ended the transaction."""
        if not self.ending and self.foreign is None:
            self.foreign = who

    def noticed_end(self, transaction: SessionTransaction) -> None:
        """Notice the end of a session transaction."""
        self.own_causes.pop(transaction, None)
        self._begun.pop(transaction, None)
        if self.ending:
            return
        if transaction is self.root:
            self.ended_by("session.rollback(), session.close() or db.session.remove()")
        elif any(frame.savepoint is transaction for frame in self.frames):
            self.ended_by("a rollback or release of its savepoint")

    def _foreign_message(self) -> str:
        return (
            f"The transaction of this scope was ended inside the block, by {self.foreign}. Nothing"
            " of the scope is committed. To undo work, raise Rollback, or call"
            " current_transaction().set_rollback_only()."
        )

    @property
    def first_error(self) -> BaseException | None:
        """The driver's first error that no savepoint contained, for the retry decision."""
        return self.errors[0][2] if self.errors else None

    # -- leaving --------------------------------------------------------------------------

    def leave(self, frame: Frame, error: BaseException | None) -> bool:
        """End one block. See rules in the module's docstring."""
        self.check_owner()
        if frame not in self.frames:
            # An outer block was left before this one and took it along.
            if error is None:
                raise OwnershipError("This block was left after the block around it.")
            return False
        if self.frames[-1] is not frame:
            return self._leave_out_of_order(error)
        if frame.index == 0:
            return self._leave_outermost(frame, error)
        if frame.savepoint is not None:
            return self._leave_savepoint(frame, error)
        return self._leave_joined(frame, error)

    def _leave_out_of_order(self, error: BaseException | None) -> bool:
        failure = OwnershipError(
            "Scopes were left in the wrong order: an inner block is still open, perhaps in a"
            " suspended generator. Everything was rolled back."
        )
        self._roll_back(error or failure)
        self._run_rollback_hooks(error or failure)
        if error is not None:
            return False
        raise failure

    def _leave_joined(self, frame: Frame, error: BaseException | None) -> bool:
        boundary = frame.boundary
        self.frames.pop()
        if error is not None:
            if isinstance(error, Rollback):
                boundary.silent = True  # also when it is swallowed on its way
            elif frame.inside is not None and frame.inside.is_active:
                self.own_causes.setdefault(frame.inside, error)
            else:
                boundary.cause = boundary.cause or error
            return False
        if self.foreign is None and boundary.cause is None:
            self._restore(frame, self.frames[-1])
        return False

    def _leave_savepoint(self, frame: Frame, error: BaseException | None) -> bool:
        savepoint = frame.savepoint
        assert savepoint is not None
        failure: BaseException | None = error
        if error is None and self.foreign is None and not frame.silent:
            if frame.cause is not None:
                failure = _unexpected(frame.cause, "savepoint")
            else:
                failure = self._release(frame, savepoint)
                if failure is None:
                    return False
        if error is None and self.foreign is not None:
            failure = OwnershipError(self._foreign_message())
        self._undo_savepoint(frame, savepoint, failure)
        if failure is None or (error is not None and isinstance(error, Rollback)):
            return True
        if error is not None:
            return False
        raise failure

    def _release(self, frame: Frame, savepoint: SessionTransaction) -> BaseException | None:
        """Flush into the savepoint and release it; return what went wrong."""
        try:
            self.session.flush()
            if frame.cause is not None:
                return _unexpected(frame.cause, "savepoint")
            self._quietly(savepoint.commit)
        except BaseException as error:
            return error
        self.frames.pop()
        self._restore(frame, self.frames[-1])
        return None

    def _quietly(self, call: Callable[[], None]) -> None:
        """Call something of the session's that would look like a foreign end."""
        self.ending = True
        try:
            call()
        finally:
            self.ending = False

    def _undo_savepoint(
        self, frame: Frame, savepoint: SessionTransaction, error: BaseException | None
    ) -> None:
        hooks = self.hooks.take_since(frame.hook_mark)
        if not self.killed and self.foreign is None:
            try:
                self._quietly(savepoint.rollback)
                self.errors = [kept for kept in self.errors if kept[0] < frame.index]
                self._restore(frame, self.frames[frame.index - 1])
            except Exception as failed:
                _note(error, failed)
                outer = self.frames[frame.index - 1].boundary
                outer.cause = outer.cause or failed
        self.frames.pop()
        run_logged(hooks, "on_rollback", error if error is not None else Rollback())

    def _leave_outermost(self, frame: Frame, error: BaseException | None) -> bool:
        if error is not None:
            return self._leave_with(frame, error)
        failure: BaseException | None = None
        if self.foreign is not None:
            failure = OwnershipError(self._foreign_message())
        elif frame.silent:
            pass
        elif frame.cause is not None:
            failure = _unexpected(frame.cause, "transaction")
        else:
            try:
                self._run_before_commit(frame)
                self.session.flush()
                self._check_before_commit(frame)
            except BaseException as raised:
                failure = raised
            else:
                if not frame.silent:
                    self._commit()
                    return False
        self._roll_back(failure)
        self._run_rollback_hooks(failure if failure is not None else Rollback())
        if failure is not None:
            raise failure
        return False

    def _leave_with(self, frame: Frame, error: BaseException) -> bool:
        raised: BaseException = error
        if self.foreign is not None and isinstance(error, InvalidRequestError):
            # SQLAlchemy's "closed transaction": a consequence, not what happened.
            raised = OwnershipError(self._foreign_message())
            raised.__cause__ = error
        self._roll_back(raised)
        self._run_rollback_hooks(raised)
        if isinstance(error, Rollback):
            return True
        if raised is not error:
            raise raised
        return False

    def _run_before_commit(self, frame: Frame) -> None:
        hooks = self.hooks.before_commit
        while hooks:
            hooks.pop(0)()
            self.session.flush()
            if frame.cause is not None:
                raise _unexpected(frame.cause, "transaction")

    def _check_before_commit(self, frame: Frame) -> None:
        """Look once more whether COMMIT will save what the block did."""
        if self.foreign is not None:
            raise OwnershipError(self._foreign_message())
        if frame.cause is not None or not self.session.is_active:
            raise _unexpected(frame.cause, "transaction")
        for work in self.works.values():
            if work.executed or work.rolled_back:
                self._check_driver(work)
        written = [work for work in self.works.values() if work.first_write is not None]
        if len(written) > 1 and (self.options.multi_bind or "raise") == "raise":
            names = ", ".join(repr(self._name(work) or "default") for work in written)
            raise TransactionError(
                f"This scope wrote to several databases: {names}. Committing them one after"
                " another can save some and lose others, so nothing was committed. Say"
                " multi_bind='two_phase' (PostgreSQL) or multi_bind='best_effort'."
            )

    def _check_driver(self, work: Work) -> None:
        connection = work.connection
        if connection.closed or connection.invalidated or work.rolled_back:
            self.foreign = self.foreign or "a ROLLBACK on its connection, or the connection's loss"
            raise OwnershipError(self._foreign_message())
        if not work.executed:
            return
        state = scopes_for(connection.dialect).state(connection, wrote=work.surely_open)
        if state is DriverState.FAILED:
            raise UnexpectedRollback(
                "The database reports that this transaction has failed: its COMMIT would save"
                " nothing. A statement sent around SQLAlchemy must have raised."
            )
        if state is DriverState.GONE:
            self.foreign = self.foreign or "a statement that SQLAlchemy did not see"
            raise OwnershipError(self._foreign_message())

    def _name(self, work: Work) -> str | None:
        return self.surroundings.bind_names.get(work.connection.engine)

    def _commit(self) -> None:
        self.ending = True
        exits = False
        before = len(self.errors)
        try:
            if self.options.read_only:
                # A rollback of nothing: unlike a commit it leaves the objects loaded.
                self.root.close()
            elif self.options.multi_bind == "best_effort" and len(self.works) > 1:
                self._commit_in_order()
            exits = True
            self.root.__exit__(None, None, None)
        except BaseException as error:
            if not exits:
                # Or the session would think for ever that it is inside a with block.
                with suppress(Exception):
                    self.root.__exit__(type(error), error, error.__traceback__)
            self._detach(error)
            self._commit_failed(error, [original for _, original, _ in self.errors[before:]])
        self._detach(None)
        try:
            run_after_commit(self.hooks.on_commit)
        finally:
            run_logged(self.hooks.after_end, "after_end", "committed")

    def _commit_failed(self, error: BaseException, recorded: list[BaseException]) -> None:
        if isinstance(error, PartialCommit):
            run_logged(self.hooks.after_end, "after_end", "unknown")
            raise error
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            run_logged(self.hooks.after_end, "after_end", "unknown")
            raise CommitOutcomeUnknown(
                "The connection was lost while COMMIT was on its way: the work may be saved or"
                " not. Look for it before doing it again."
            ) from error
        # With two-phase commit the error that escapes is a consequence of the first one.
        first = recorded[0] if recorded and self._plain_error(error) else error
        self._run_rollback_hooks(first)
        raise first

    def _plain_error(self, error: BaseException) -> bool:
        return self.options.multi_bind == "two_phase" and isinstance(error, Exception)

    def _commit_in_order(self) -> None:
        committed: list[str | None] = []
        order = list(self.surroundings.bind_names)
        works = sorted(self.works.items(), key=lambda item: _position(order, item[0]))
        for _, work in works:
            transaction = work.connection.get_transaction()
            try:
                if transaction is not None:
                    transaction.commit()
            except DBAPIError as error:
                if not committed:
                    raise
                raise PartialCommit(committed, self._name(work)) from error
            committed.append(self._name(work))
        self.root.close()
        if self.session.expire_on_commit:
            self.session.expire_all()

    def _roll_back(self, error: BaseException | None) -> None:
        self.ending = True
        try:
            marker: BaseException = error if error is not None else Rollback()
            if self.foreign is not None:
                # Not rolled back again: SQLAlchemy would warn that it is not there any more.
                self.root.close()
            self.root.__exit__(type(marker), marker, marker.__traceback__)
        except Exception as failed:
            _note(error, failed)
        finally:
            self._detach(error)

    def _detach(self, error: BaseException | None) -> None:
        """Give the session back to itself."""
        session = self.session
        for name in ("commit", "get_bind", "begin"):
            session.__dict__.pop(name, None)
        if self._guards_orm_writes:
            event.remove(session, "do_orm_execute", orm_write_guard)
            self._guards_orm_writes = False
        session.twophase = self._plain_twophase
        for work in self.works.values():
            work.tree = None
            for name in ("commit", "rollback"):
                work.connection.__dict__.pop(name, None)
        marks = marks_of(session)
        marks.tree = None
        self.frames.clear()
        open_trees.set(tuple(tree for tree in open_trees.get() if tree is not self))
        if session.get_transaction() is self.root:
            # A COMMIT that failed leaves the session half way; nothing of it may stay.
            try:
                self.root.close()
            except Exception as failed:
                _note(error, failed)

    def _run_rollback_hooks(self, error: BaseException) -> None:
        run_logged(self.hooks.on_rollback, "on_rollback", error)
        run_logged(self.hooks.after_end, "after_end", "rolled_back")


def open_scope(
    session: Session, options: ScopeOptions, surroundings: Surroundings, *, attempt: int = 1
) -> Frame:
    """Open a block: outermost, joined or a savepoint, as the session's state has it.

    Sends nothing, unless a joined block narrows what is in force.

    Args:
        session: Any session. With the kit it is the current application context's.
        options: Checked options.
        surroundings: What is known about the application.
        attempt: Which run of a replayed function this is.

    Raises:
        OwnershipError: The session, or another one in this context, is in somebody's hands.
        OptionMismatch: The options do not fit what is in force.
        DurabilityError: The scope is durable and not outermost.
    """
    guard_sessions_of(session)
    tree = marks_of(session).tree
    if tree is not None:
        return tree.nest(options)
    _check_other_trees(session, options, surroundings)
    tree = ScopeTree(session, options, surroundings, attempt)
    frame = Frame(tree, options)
    tree.frames.append(frame)
    return frame


def guard_sessions_of(session: Session) -> None:
    """Attach the session listeners, unless the session's factory has them already."""
    if not getattr(type(session), GUARDED, False):
        guard_sessions(session)


def _check_other_trees(session: Session, options: ScopeOptions, surroundings: Surroundings) -> None:
    me = threading.get_ident()
    for tree in open_trees.get():
        if tree.surroundings.key != surroundings.key or tree.owner not in (me, None):
            continue
        if not tree.frames:
            continue  # over since; a context that was copied meanwhile still has it
        if not options.independent or surroundings.shared_memory:
            raise OwnershipError(
                "Another transaction() scope of this application is open around this one, on"
                " another session (a nested application context, or db.session.remove() inside"
                " the block). Open the scope in one place, or pass independent=True for a"
                " transaction of its own, which SQLite in memory cannot have."
            )
        if not options.read_only and any(
            work.connection.dialect.name == "sqlite" and not tree.options.read_only
            for work in tree.works.values()
        ):
            raise OwnershipError(
                "independent=True on SQLite: the scope around this one holds the one write lock,"
                " and would wait for this one to finish, for ever. Open this one before or after."
            )


def _narrow(outer: Timeouts, options: ScopeOptions) -> Timeouts:
    given = options.timeouts
    return Timeouts(
        outer.lock_s if given.lock_s is None else given.lock_s,
        outer.statement_s if given.statement_s is None else given.statement_s,
    )


def _position(order: list[Engine], engine: Engine) -> int:
    return order.index(engine) if engine in order else len(order)


def _pending(session: Session) -> list[object]:
    changed = [item for item in session.dirty if session.is_modified(item)]
    return [*session.new, *changed, *session.deleted]


def _stray_work(session: Session, works: list[Work]) -> str | None:
    pending = _pending(session)
    if pending:
        names = ", ".join(repr(item) for item in pending[:3])
        return f"{names}{' and more' if len(pending) > 3 else ''}, not flushed"
    written = open_work(works)
    return f"{written!r}" if written is not None else None


def _unexpected(cause: BaseException | None, what: str) -> UnexpectedRollback:
    error = UnexpectedRollback(
        f"This {what} cannot be committed: an error inside it was caught, but it had undone the"
        f" work already. Nothing was saved. The error was: {cause!r}"
    )
    error.__cause__ = cause
    return error


def _note(error: BaseException | None, failed: BaseException) -> None:
    """Keep an error that happened while undoing: beside the first one, never in its place."""
    logger.warning("While rolling back: %r", failed)
    if error is not None:
        error.add_note(f"While rolling back, this happened too: {failed!r}")


def hook_target(session: Session) -> ScopeTree | None:
    """Return the tree that hooks registered now belong to.

    Raises:
        OwnershipError: The tree belongs to another thread.
    """
    tree = marks_of(session).tree
    if tree is not None:
        tree.check_owner()
    return tree


def run_now(hook: Hook) -> None:
    """Run an ``on_commit`` hook outside any scope."""
    try:
        hook()
    except Exception:
        if not hook.robust:
            raise
        logger.exception("The on_commit hook %s failed.", hook.name)
