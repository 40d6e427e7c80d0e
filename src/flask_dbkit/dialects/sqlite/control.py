"""Transactions that are what they say: BEGIN sent by us, and a safe way from reading to writing.

Left alone, Python's ``sqlite3`` sends BEGIN only before the first INSERT, UPDATE or DELETE. So
a SELECT and the UPDATE computed from it are not one transaction, and updates are lost without
an error; a SAVEPOINT before any write commits when it is released. Sending a plain BEGIN cures
that and brings another illness: a transaction that has read and then writes fails at once when
anybody else wrote in between, whatever the busy timeout.

Here a transaction begins *deferred*, and keeps a list of its reads. At its first write it is
upgraded:

1. Nothing was read: it begins again as IMMEDIATE, which waits its turn.
2. The snapshot is still the newest: it takes the write lock where it stands.
3. Somebody wrote in between: its reads are repeated on the old snapshot and, after BEGIN
   IMMEDIATE, on the new one. If they give the same rows nothing it knew has changed, and the
   write goes on. If not, the database's own busy error is raised. No update is ever lost.

A transaction that announces its writes (:data:`BEGIN_OPTION`) begins IMMEDIATE and needs none of this.

References:
    * https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#serializable-isolation-savepoints-transactional-ddl
    * https://www.sqlite.org/lang_transaction.html
    * https://www.sqlite.org/rescode.html#busy_snapshot
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.pool import StaticPool

from ...statements import Kind, classify
from .gate import WriterGate

__all__ = [
    "BEGIN_OPTION",
    "INFO_KEY",
    "LOCK_TIMEOUT_OPTION",
    "READ_ONLY_OPTION",
    "TransactionControl",
    "control_factory",
    "control_of",
    "install_control",
]

BEGIN_OPTION = "dbkit_sqlite_begin"
"""Execution option of a connection: ``"immediate"`` or ``"deferred"``."""

READ_ONLY_OPTION = "dbkit_sqlite_read_only"
"""Execution option of a connection: its next transaction cannot write."""

LOCK_TIMEOUT_OPTION = "dbkit_sqlite_lock_timeout_s"
"""Execution option of a connection: seconds its next transaction waits for locks."""

_OPTIONS = frozenset({BEGIN_OPTION, READ_ONLY_OPTION, LOCK_TIMEOUT_OPTION})
_NO_OPTIONS: Mapping[str, Any] = {}

INFO_KEY = "flask_dbkit.sqlite"
"""Where a pooled connection keeps its :class:`TransactionControl`."""
_MAX_READS = 256  # a transaction that read more often is not repeated
_MAX_ROWS = 100_000
_PROGRESS_STEPS = 1000  # virtual machine steps between two looks at the clock

# Takes the write lock where there is one to take, and changes nothing: an incremental vacuum
# of at most one page, which only a database made with auto_vacuum=INCREMENTAL has to give.
# https://www.sqlite.org/pragma.html#pragma_incremental_vacuum
_TAKE_WRITE_LOCK = "PRAGMA incremental_vacuum(1)"


class Mode(Enum):
    """Where the transaction of a connection stands."""

    NONE = "none"
    DEFERRED = "deferred"
    WRITING = "writing"
    DISPLACED = "displaced"
    AUTOCOMMIT = "autocommit"


class _Transaction:
    """One transaction: how far it is, what it read, and its open savepoints."""

    __slots__ = (
        "checkout",
        "digests",
        "mode",
        "read_only",
        "reads",
        "savepoints",
        "stale",
        "thread",
    )

    def __init__(self, mode: Mode, fairy: object) -> None:
        self.mode = mode
        self.checkout = weakref.ref(fairy)
        self.reads: list[tuple[str, Any]] | None = []
        self.savepoints: list[str] = []
        self.stale = False
        self.read_only = False
        self.digests: list[bytes] | None = None
        self.thread = threading.get_ident()

    def note_read(self, statement: str, parameters: Any) -> None:
        if self.reads is not None:
            self.reads.append((statement, parameters))
            if len(self.reads) > _MAX_READS:
                self.reads = None

    def note_savepoint(self, statement: str) -> None:
        """Keep the stack of savepoint names as SQLite does.

        https://www.sqlite.org/lang_savepoint.html
        """
        words = statement.replace(";", " ").split()
        name = words[-1].strip("\"'`[]")
        verb = words[0].upper()
        if verb == "SAVEPOINT":
            self.savepoints.append(name)
        elif name in self.savepoints:
            last = len(self.savepoints) - 1 - self.savepoints[::-1].index(name)
            del self.savepoints[last + (verb == "ROLLBACK") :]


class _TooMuchToRepeat(Exception):
    """The reads of a transaction are too many to be compared."""


class TransactionControl:
    """The transaction of one SQLite connection, and the gate it may hold."""

    def __init__(
        self, raw: sqlite3.Connection, gate: WriterGate | None, busy_timeout_s: Callable[[], float]
    ) -> None:
        self.raw = raw
        self._gate = gate
        self._busy_timeout_s = busy_timeout_s
        self._holds_gate = False
        self._transaction: _Transaction | None = None
        self._lock_timeout_s: float | None = None
        self._plain_busy_timeout_ms: int | None = None
        self._statement_timeout_s: float | None = None
        self._deadline = 0.0
        self._read_only = False
        self.next_mode = Mode.DEFERRED
        self.announced: WeakKeyDictionary[Any, Mapping[str, Any]] = WeakKeyDictionary()
        """Per checkout that was given any of our execution options, all of its options."""

    # -- what a scope asks for ------------------------------------------------------------

    def prepare(self, options: Mapping[str, Any], wants_write: Callable[[], bool]) -> None:
        """Say how the next transaction begins. What is set here ends with it.

        Args:
            options: Execution options, ours among them.
            wants_write: Asked if they do not name a mode.
        """
        begin = options.get(BEGIN_OPTION)
        to_write = wants_write() if begin is None else begin == "immediate"
        self.next_mode = Mode.WRITING if to_write else Mode.DEFERRED
        lock_timeout_s = options.get(LOCK_TIMEOUT_OPTION)
        if lock_timeout_s is not None:
            self.limit(lock_timeout_s=lock_timeout_s, statement_timeout_s=None)
        if options.get(READ_ONLY_OPTION, False):
            self.set_read_only(None, True)

    def limit(self, *, lock_timeout_s: float | None, statement_timeout_s: float | None) -> None:
        """Set the timeouts in force from here on; ``None`` is the connection's own."""
        if lock_timeout_s != self._lock_timeout_s:
            if self._plain_busy_timeout_ms is None:
                self._plain_busy_timeout_ms = self._busy_timeout_ms()
            self._lock_timeout_s = lock_timeout_s
            wanted = (
                self._plain_busy_timeout_ms
                if lock_timeout_s is None
                else max(0, round(lock_timeout_s * 1000))
            )
            self.raw.execute(f"PRAGMA busy_timeout = {wanted}")
        if statement_timeout_s != self._statement_timeout_s:
            self._statement_timeout_s = statement_timeout_s
            handler = None if statement_timeout_s is None else self._is_overdue
            self.raw.set_progress_handler(handler, _PROGRESS_STEPS)

    def set_read_only(self, fairy: object, read_only: bool) -> None:
        """Let the database refuse every write from here on, or no longer.

        Args:
            fairy: Whose transaction; ``None`` for the one that begins next.
            read_only: Refuse, or allow again.

        https://www.sqlite.org/pragma.html#pragma_query_only
        """
        if read_only != self._read_only:
            self._read_only = read_only
            self.raw.execute(f"PRAGMA query_only = {int(read_only)}")

    def _is_overdue(self) -> bool:
        return time.monotonic() > self._deadline

    def _busy_timeout_ms(self) -> int:
        return int(self.raw.execute("PRAGMA busy_timeout").fetchone()[0])

    def _patience_s(self) -> float:
        return self._busy_timeout_s() if self._lock_timeout_s is None else self._lock_timeout_s

    def _is_limited(self) -> bool:
        return (
            self._read_only
            or self._lock_timeout_s is not None
            or self._statement_timeout_s is not None
        )

    def _lift_limits(self) -> None:
        """Leave nothing to the next user of the pooled connection."""
        self.set_read_only(None, False)
        self.limit(lock_timeout_s=None, statement_timeout_s=None)

    # -- what the engine asks for ---------------------------------------------------------

    def begin(self, fairy: object) -> None:
        """Send BEGIN in the mode asked for."""
        if self.raw.in_transaction:
            # Somebody else's listener, or the driver's own autocommit=False mode, was first.
            self._transaction = _Transaction(Mode.DEFERRED, fairy)
            if self.next_mode is Mode.WRITING:
                self._upgrade(self._transaction)
            return
        self._transaction = _Transaction(self.next_mode, fairy)
        if self.next_mode is Mode.WRITING:
            try:
                self._begin_immediate()
            except BaseException:
                self._transaction = None
                raise
        else:
            self.raw.execute("BEGIN")

    def autocommit(self) -> None:
        """Stand aside: the connection is in the driver's autocommit mode."""
        self._transaction = None

    def before_statement(self, fairy: object, statement: str, parameters: Any) -> None:
        """Note a read, or upgrade the transaction before its first write."""
        if self._statement_timeout_s is not None:
            self._deadline = time.monotonic() + self._statement_timeout_s
        transaction = self._transaction
        if transaction is not None and transaction.mode is Mode.DEFERRED and not self._read_only:
            self._advance(transaction, statement, parameters)

    def end(self, fairy: object) -> None:
        """Forget the transaction if it is over, and let the next writer in."""
        if not _in_transaction(self.raw):
            self._transaction = None
            self.release_gate()
            if self._is_limited():
                self._lift_limits()

    def owns(self, fairy: object) -> bool:
        """Tell whether a COMMIT or ROLLBACK by this checkout may reach the database."""
        return True

    def release_gate(self) -> None:
        """Give the gate back if it is held; safe to repeat."""
        if self._holds_gate:
            self._holds_gate = False
            assert self._gate is not None
            self._gate.release()

    __del__ = release_gate

    # -- the upgrade ----------------------------------------------------------------------

    def _advance(self, transaction: _Transaction, statement: str, parameters: Any) -> None:
        kind = classify(statement)
        if kind is Kind.READ:
            transaction.note_read(statement, parameters)
        elif kind is Kind.SAVEPOINT:
            transaction.note_savepoint(statement)
        elif kind is Kind.WRITE:
            self._upgrade(transaction)

    def _upgrade(self, transaction: _Transaction) -> None:
        if transaction.stale:
            raise busy_snapshot()
        if transaction.digests is not None:
            self._restart(transaction, transaction.digests)
        elif transaction.reads == []:
            self._restart(transaction, [])
        elif not self._upgrade_in_place():
            try:
                digests = self._digests(transaction)
            except _TooMuchToRepeat:
                self.release_gate()
                raise busy_snapshot() from None
            self._restart(transaction, digests)
        transaction.mode = Mode.WRITING
        transaction.reads = None
        transaction.digests = None

    def _upgrade_in_place(self) -> bool:
        """Take the write lock within the open snapshot; tell whether that worked.

        Waiting here would be useless, and in rollback-journal mode a deadlock: the writer
        ahead cannot commit while this snapshot is held, or makes it stale by committing.
        """
        if not self._try_gate():
            return False
        try:
            self.raw.execute(_TAKE_WRITE_LOCK).close()
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                self.release_gate()
                raise
            return False
        return True

    def _restart(self, transaction: _Transaction, digests: list[bytes]) -> None:
        """Begin again as IMMEDIATE, and make sure that the reads would say the same."""
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")
        try:
            self._begin_immediate()
            if digests and self._digests(transaction) != digests:
                raise busy_snapshot()
        except BaseException:
            # SQLAlchemy still counts on a transaction: without one the next statement would
            # commit by itself. Leave a new one open that can read and never write.
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")
            self.release_gate()
            transaction.stale = True
            self._begin_deferred(transaction)
            raise
        for name in transaction.savepoints:
            self.raw.execute(f'SAVEPOINT "{name}"')

    def _begin_deferred(self, transaction: _Transaction) -> None:
        self.raw.execute("BEGIN")
        for name in transaction.savepoints:
            self.raw.execute(f'SAVEPOINT "{name}"')

    def _begin_immediate(self) -> None:
        in_time = self._take_gate()
        try:
            if in_time:
                self.raw.execute("BEGIN IMMEDIATE")
            else:
                self._begin_immediate_now()
        except BaseException:
            self.release_gate()
            raise

    def _begin_immediate_now(self) -> None:
        """Try once: the busy timeout was spent in front of the gate."""
        before = self._busy_timeout_ms()
        self.raw.execute("PRAGMA busy_timeout = 0")
        try:
            self.raw.execute("BEGIN IMMEDIATE")
        finally:
            self.raw.execute(f"PRAGMA busy_timeout = {before}")

    def _take_gate(self) -> bool:
        if self._gate is None or self._holds_gate:
            return True
        self._holds_gate = self._gate.acquire(self._patience_s())
        return self._holds_gate

    def _try_gate(self) -> bool:
        if self._gate is None or self._holds_gate:
            return True
        self._holds_gate = self._gate.try_acquire()
        return self._holds_gate

    def _digests(self, transaction: _Transaction) -> list[bytes]:
        """Repeat every read and return one digest per result."""
        if transaction.reads is None:
            raise _TooMuchToRepeat
        budget = _MAX_ROWS
        digests = []
        for statement, parameters in transaction.reads:
            digest = hashlib.blake2b(digest_size=16)
            try:
                cursor = self.raw.execute(statement, parameters or ())
                while rows := cursor.fetchmany(500):
                    budget -= len(rows)
                    if budget < 0:
                        raise _TooMuchToRepeat
                    digest.update(repr(rows).encode("utf-8", "surrogatepass"))
            except sqlite3.Error as error:
                digest.update(repr(error).encode())
            digests.append(digest.digest())
        return digests


class SharedTransactionControl(TransactionControl):
    """The one connection of an in-memory database, which every session of the process shares.

    Flask-SQLAlchemy gives ``sqlite://`` a ``StaticPool``: two application contexts, or two
    threads, work on the same connection. Each checkout has its own transaction here, but the
    connection can hold one at a time:

    * A transaction that has only read steps aside for another one; its reads are compared
      before it writes later.
    * While one has written, sessions of the same thread may read with it, uncommitted rows
      included, but not write; sessions of other threads wait for its end.
    """

    def __init__(
        self, raw: sqlite3.Connection, gate: WriterGate | None, busy_timeout_s: Callable[[], float]
    ) -> None:
        super().__init__(raw, None, busy_timeout_s)
        self._changed = threading.Condition(threading.RLock())
        self._transactions: dict[int, _Transaction] = {}
        self._owner: int | None = None
        self._next_read_only = False

    def begin(self, fairy: object) -> None:
        with self._changed:
            transaction = _Transaction(Mode.DISPLACED, fairy)
            transaction.read_only, self._next_read_only = self._next_read_only, False
            self._transactions[id(fairy)] = transaction
            if self.next_mode is Mode.WRITING:
                try:
                    self._enter(id(fairy), transaction, to_write=True)
                    self._upgrade(transaction)
                except BaseException:
                    del self._transactions[id(fairy)]
                    raise

    def before_statement(self, fairy: object, statement: str, parameters: Any) -> None:
        with self._changed:
            transaction = self._transactions.get(id(fairy))
            if transaction is None:
                return
            kind = classify(statement)
            if transaction.read_only and kind is Kind.WRITE:
                raise read_only_transaction()
            if self._statement_timeout_s is not None:
                self._deadline = time.monotonic() + self._statement_timeout_s
            if transaction.mode is Mode.WRITING:
                return
            if self._enter(id(fairy), transaction, to_write=kind is Kind.WRITE):
                self._advance(transaction, statement, parameters)
            elif kind is Kind.READ:
                transaction.note_read(statement, parameters)

    def owns(self, fairy: object) -> bool:
        return self._owner == id(fairy) or self._active_owner() is None

    def end(self, fairy: object) -> None:
        with self._changed:
            if self._owner == id(fairy) and _in_transaction(self.raw):
                return
            self._transactions.pop(id(fairy), None)
            if self._owner == id(fairy):
                self._owner = None
                if self._is_limited():
                    self._lift_limits()
            self._changed.notify_all()

    def autocommit(self) -> None:
        pass

    def set_read_only(self, fairy: object, read_only: bool) -> None:
        # The pragma would bind every session on this connection.
        if fairy is None:
            self._next_read_only = read_only
        elif (transaction := self._transactions.get(id(fairy))) is not None:
            transaction.read_only = read_only

    def _enter(self, key: int, transaction: _Transaction, *, to_write: bool) -> bool:
        """Make ``key`` the owner of the connection; False: it reads as a guest of the owner."""
        if self._owner == key:
            return True
        deadline = time.monotonic() + self._patience_s()
        while (owner := self._active_owner()) is not None and owner.mode is Mode.WRITING:
            if owner.thread == threading.get_ident():
                if to_write:
                    raise shared_connection_busy()
                return False
            if not self._changed.wait(deadline - time.monotonic()):
                raise shared_connection_busy()
        if owner is not None:
            self._displace(owner)
        if not self.raw.in_transaction:
            self._begin_deferred(transaction)
        self._owner = key
        transaction.mode = Mode.DEFERRED
        return True

    def _active_owner(self) -> _Transaction | None:
        if self._owner is None:
            return None
        owner = self._transactions.get(self._owner)
        if owner is not None and owner.checkout() is None:
            # Collected without being closed: what it had not committed goes with it.
            del self._transactions[self._owner]
            self._owner = owner = None
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")
        return owner

    def _displace(self, owner: _Transaction) -> None:
        """End the owner's transaction, which only read, and remember what it had seen."""
        if owner.digests is None:
            try:
                owner.digests = self._digests(owner)
            except _TooMuchToRepeat:
                owner.stale = True
        owner.mode = Mode.DISPLACED
        self._owner = None
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")


def busy_snapshot() -> sqlite3.OperationalError:
    """Build the error SQLite gives for a write on an old snapshot."""
    error = sqlite3.OperationalError(
        "database is locked: rows that this transaction had read were changed by another one"
        " before its first write. Roll back and try again, or begin it for writing."
    )
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
    error.sqlite_errorname = "SQLITE_BUSY_SNAPSHOT"
    return error


def shared_connection_busy() -> sqlite3.OperationalError:
    """Build the error for a write beside another session's writes on the one connection."""
    error = sqlite3.OperationalError(
        "database is locked: this in-memory database has one connection, and another session"
        " has uncommitted writes on it. Commit those first, or use a file for the database."
    )
    error.sqlite_errorcode = sqlite3.SQLITE_LOCKED
    error.sqlite_errorname = "SQLITE_LOCKED"
    return error


def read_only_transaction() -> sqlite3.OperationalError:
    """Build the error SQLite gives for a write under ``PRAGMA query_only``."""
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY
    error.sqlite_errorname = "SQLITE_READONLY"
    return error


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _in_transaction(raw: sqlite3.Connection) -> bool:
    try:
        return raw.in_transaction
    except sqlite3.ProgrammingError:  # closed
        return False


def control_factory(
    engine: Engine, gate: WriterGate | None, *, busy_timeout_s: Callable[[], float]
) -> Callable[[sqlite3.Connection], TransactionControl]:
    """Return what makes the control of one new connection.

    Args:
        engine: Its pool tells whether sessions share one connection.
        gate: Shared by every engine of the same file; ``None`` for none.
        busy_timeout_s: Seconds to wait for the gate.
    """
    shared = isinstance(engine.pool, StaticPool)
    control_class = SharedTransactionControl if shared else TransactionControl
    return lambda raw: control_class(raw, gate, busy_timeout_s)


def install_control(engine: Engine, *, wants_write: Callable[[], bool]) -> None:
    """Take transaction control of those connections of one engine that carry a control.

    Args:
        engine: Only it is touched: its events, and those methods of its own dialect object
            that take execution options and that begin and end a transaction. SQLAlchemy
            offers an event before COMMIT, but none after it, when the gate may be opened.
            Its "begin" event would do, but one listener of that kind makes SQLAlchemy
            prepare every other kind for every statement: a tenth of a small transaction.
        wants_write: Asked at each BEGIN without an option of its own.
    """

    @event.listens_for(engine, "do_execute")
    @event.listens_for(engine, "do_executemany")
    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        connection = context.root_connection.connection
        control: TransactionControl | None = connection.info.get(INFO_KEY)
        if control is not None:
            control.before_statement(connection, statement, parameters)

    @event.listens_for(engine, "do_execute_no_params")
    def execute_no_params(cursor: Any, statement: str, context: Any) -> None:
        execute(cursor, statement, (), context)

    def lose(dbapi_connection: Any, record: Any, *_: Any) -> None:
        control = record.info.get(INFO_KEY)
        if control is not None:
            control.release_gate()

    event.listen(engine, "close", lose)
    event.listen(engine, "invalidate", lose)
    _wrap_options(engine)
    _wrap_transactions(engine.dialect, wants_write)


def _wrap_options(engine: Engine) -> None:
    """Pass our execution options of a connection on to its control, as they are given."""
    dialect = engine.dialect
    plain_connection, plain_engine = (
        dialect.set_connection_execution_options,
        dialect.set_engine_execution_options,
    )

    def announce(connection: Connection) -> None:
        control = control_of(connection)
        if control is not None:
            control.announced[connection.connection] = connection.get_execution_options()

    def set_connection_execution_options(connection: Connection, opts: Mapping[str, Any]) -> None:
        plain_connection(connection, opts)
        if not _OPTIONS.isdisjoint(opts):
            announce(connection)

    def set_engine_execution_options(engine: Engine, opts: Mapping[str, Any]) -> None:
        plain_engine(engine, opts)
        if not _OPTIONS.isdisjoint(opts):
            event.listen(engine, "engine_connect", announce)

    for method in (set_connection_execution_options, set_engine_execution_options):
        setattr(dialect, method.__name__, method)
    if not _OPTIONS.isdisjoint(engine.get_execution_options()):
        event.listen(engine, "engine_connect", announce)


def _wrap_transactions(dialect: Dialect, wants_write: Callable[[], bool]) -> None:
    """Replace begin, commit and rollback of this one dialect object, which one engine owns."""
    plain_begin, plain_commit, plain_rollback = (
        dialect.do_begin,
        dialect.do_commit,
        dialect.do_rollback,
    )

    def do_begin(connection: Any) -> None:
        control = control_of(connection)
        if control is None:
            plain_begin(connection)
            return
        control.prepare(control.announced.get(connection, _NO_OPTIONS), wants_write)
        if dialect.detect_autocommit_setting(control.raw):  # type: ignore[arg-type]
            control.autocommit()
        else:
            control.begin(connection)

    def do_commit(connection: Any) -> None:
        control = control_of(connection)
        if control is None:
            plain_commit(connection)
            return
        if control.owns(connection):
            plain_commit(connection)
        control.end(connection)

    def do_rollback(connection: Any) -> None:
        control = control_of(connection)
        if control is None:
            plain_rollback(connection)
            return
        try:
            if control.owns(connection):
                plain_rollback(connection)
        finally:
            control.end(connection)

    for method in (do_begin, do_commit, do_rollback):
        setattr(dialect, method.__name__, method)


def control_of(connection: Any) -> TransactionControl | None:
    """Return the control of a ``Connection`` or of a pooled connection, if it has one."""
    try:
        control: TransactionControl | None = connection.info.get(INFO_KEY)
    except NotImplementedError:
        # While SQLAlchemy reads the server version, its connection is a stand-in without one.
        return None
    return control
