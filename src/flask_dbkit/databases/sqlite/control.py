"""Transactions that are what they say: BEGIN sent by us, and a safe way from reading to writing.

Left alone, Python's ``sqlite3`` sends BEGIN only before the first INSERT, UPDATE or DELETE. So
a SELECT and the UPDATE computed from it are not one transaction, and updates are lost without
an error; a SAVEPOINT before any write commits when it is released. Sending a plain BEGIN cures
that and brings another illness: a transaction that has read and then writes fails at once when
anybody else wrote in between, whatever the busy timeout.

Here a transaction begins *deferred*, and keeps a list of its reads. At its first write it is
upgraded:

1. Nothing was read: it waits its turn and takes the write lock.
2. The snapshot is still the newest: it takes the write lock where it stands.
3. Somebody wrote in between: its reads are repeated on the old snapshot and, after BEGIN
   IMMEDIATE, on the new one. If they give the same rows nothing it knew has changed, and the
   write goes on. If not, the database's own busy error is raised. No update is ever lost.

A transaction that announces its writes (:data:`BEGIN_OPTION`) begins IMMEDIATE and needs none
of this. What is read on the driver's own connection, past SQLAlchemy, is not known here.

References:
    * https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#serializable-isolation-savepoints-transactional-ddl
    * https://www.sqlite.org/lang_transaction.html
    * https://www.sqlite.org/rescode.html#busy_snapshot
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from ..execution import Execution
from ..statements import READ, SAVEPOINT, WRITE
from .gate import WriterGate
from .transaction import (
    Mode,
    TooMuchToRepeat,
    Transaction,
    busy_snapshot,
    digest_reads,
    inherited_connection,
    rolled_back,
    waits_for_itself,
)

__all__ = [
    "BEGIN_OPTION",
    "INFO_KEY",
    "LOCK_TIMEOUT_OPTION",
    "NO_OPTIONS",
    "OPTIONS",
    "READ_ONLY_OPTION",
    "Plain",
    "TransactionControl",
    "control_of",
    "leave_connections_to_parent",
]

BEGIN_OPTION = "dbkit_sqlite_begin"
"""Execution option of a connection: ``"immediate"`` or ``"deferred"``."""

READ_ONLY_OPTION = "dbkit_sqlite_read_only"
"""Execution option of a connection: its next transaction cannot write."""

LOCK_TIMEOUT_OPTION = "dbkit_sqlite_lock_timeout_s"
"""Execution option of a connection: seconds its next transaction waits for locks."""


OPTIONS = frozenset({BEGIN_OPTION, READ_ONLY_OPTION, LOCK_TIMEOUT_OPTION})
NO_OPTIONS: Mapping[str, Any] = {}

INFO_KEY = "flask_dbkit.sqlite"
"""Where a pooled connection keeps its :class:`TransactionControl`."""

_PROGRESS_STEPS = 1000  # virtual machine steps between two looks at the clock

# Takes the write lock where there is one to take, and changes nothing: an incremental vacuum
# of at most one page, which only a database made with auto_vacuum=INCREMENTAL has to give.
# https://www.sqlite.org/pragma.html#pragma_incremental_vacuum
_TAKE_WRITE_LOCK = "PRAGMA incremental_vacuum(1)"

Plain = Callable[[Any], None]
"""A method of SQLAlchemy's dialect that commits or rolls back a pooled connection."""


class TransactionControl:
    """The transaction of one SQLite connection, and the gate it may hold.

    Args:
        raw: The driver's connection.
        gate: Shared by every engine of the same file; ``None`` for none.
        busy_timeout_s: Seconds to wait for the gate.

    Attributes:
        path: The real path of the file, ``None`` in memory.
        waits_for_readers: It has no write-ahead log.
    """

    def __init__(
        self, raw: sqlite3.Connection, gate: WriterGate | None, busy_timeout_s: Callable[[], float]
    ) -> None:
        self.raw = raw
        self._gate = gate
        self._busy_timeout_s = busy_timeout_s
        self.path: str | None = None
        self.waits_for_readers = False
        self._holds_gate = False
        self._transaction: Transaction | None = None
        self._inherited = False
        self._lock_timeout_s: float | None = None
        self._plain_busy_timeout_ms: int | None = None
        self._statement_timeout_s: float | None = None
        self._deadline = 0.0
        self._read_only = False
        self.announced: WeakKeyDictionary[Any, Mapping[str, Any]] = WeakKeyDictionary()
        """Per checkout that was given any of our execution options, all of its options."""
        _controls.add(self)

    # -- what a scope asks for ------------------------------------------------------------

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

    def set_read_only(self, checkout: object, *, read_only: bool) -> None:
        """Let the database refuse every write from here on, or no longer.

        Args:
            checkout: Whose transaction it is.
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
        self.set_read_only(None, read_only=False)
        self.limit(lock_timeout_s=None, statement_timeout_s=None)

    # -- what the engine asks for ---------------------------------------------------------

    def begin(self, checkout: object, asked: str | None, wants_write: Callable[[], bool]) -> None:
        """Send BEGIN in the mode that is asked for.

        Args:
            checkout: The pooled connection.
            asked: ``"immediate"`` or ``"deferred"``, before the execution options.
            wants_write: Asked if nothing else names a mode.
        """
        if self._inherited:
            raise inherited_connection()
        options = self.announced.get(checkout, NO_OPTIONS)
        to_write = self._prepare(options, asked, wants_write)
        if options.get(READ_ONLY_OPTION, False):
            self.set_read_only(checkout, read_only=True)
        self._transaction = transaction = Transaction(Mode.DEFERRED, checkout)
        try:
            if self.raw.in_transaction:
                # A listener of the application, or the driver's autocommit=False mode, was first.
                if to_write:
                    self._upgrade(transaction)
            elif to_write:
                self._lock("BEGIN IMMEDIATE")
                transaction.start_writing()
            else:
                self.raw.execute("BEGIN")
        except BaseException:
            self._transaction = None
            raise

    def _prepare(
        self, options: Mapping[str, Any], asked: str | None, wants_write: Callable[[], bool]
    ) -> bool:
        """Set what ends with the next transaction, and tell whether it announces writes."""
        lock_timeout_s = options.get(LOCK_TIMEOUT_OPTION)
        if lock_timeout_s is not None:
            self.limit(lock_timeout_s=lock_timeout_s, statement_timeout_s=None)
        begin = asked or options.get(BEGIN_OPTION)
        return wants_write() if begin is None else begin == "immediate"

    def begin_autocommit(self, checkout: object) -> None:
        """Stand aside: every statement is a transaction of its own."""
        self._transaction = None

    def is_autocommit(self, checkout: object) -> bool:
        """Tell whether the connection is in the driver's autocommit mode."""
        # One of the application's own listeners may have switched the driver's BEGIN off and
        # sent one itself, as SQLAlchemy's recipe does. That is no autocommit.
        return self.raw.isolation_level is None and not self.raw.in_transaction

    def before(self, execution: Execution) -> bool | None:
        """Note a read, or upgrade the transaction before its first write.

        Args:
            execution: The statement that is about to be sent.

        Returns:
            ``True`` if it is not to be sent.
        """
        if self._statement_timeout_s is not None:
            self._deadline = time.monotonic() + self._statement_timeout_s
        transaction = self._transaction
        if transaction is not None:
            if transaction.lost is not None:
                raise rolled_back(transaction.lost)
            if transaction.mode is Mode.DEFERRED and not self._read_only:
                self._advance(transaction, execution)
        elif self._inherited:
            raise inherited_connection()
        return None

    def after(self) -> None:
        """Note that a statement which went past :meth:`before` was sent, or has failed."""

    def after_error(self, checkout: object, error: BaseException) -> None:
        """Note that the database has rolled the transaction back, as it may on some errors.

        The driver would go on in a new transaction, and half of the work would be committed.
        https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction
        """
        transaction = self._transaction
        if transaction is not None and not _in_transaction(self.raw):
            transaction.lost = transaction.lost or error

    def commit(self, checkout: object, plain: Plain) -> None:
        """Commit, and let the next writer in. A failed COMMIT leaves the transaction open."""
        if self._inherited:
            raise inherited_connection()
        transaction = self._transaction
        if transaction is not None and transaction.lost is not None:
            raise rolled_back(transaction.lost)
        # Without a write-ahead log COMMIT waits for all who read. Of this thread nobody can end.
        writes = transaction is not None and transaction.mode is Mode.WRITING
        if writes and self.waits_for_readers and self._others_here(lambda each: each.reads != []):
            raise waits_for_itself(self.path, reading=True)
        self._send(checkout, plain, "COMMIT")
        self._end()

    def rollback(self, checkout: object, plain: Plain) -> None:
        """Roll back, and let the next writer in."""
        if self._inherited:
            self._transaction = None
            return
        try:
            self._send(checkout, plain, "ROLLBACK")
        finally:
            self._end()

    def _send(self, checkout: object, plain: Plain, statement: str) -> None:
        # With autocommit=True the driver's commit() and rollback() do nothing, not even to a
        # transaction that was begun with BEGIN.
        # https://docs.python.org/3/library/sqlite3.html#sqlite3.Connection.autocommit
        if getattr(self.raw, "autocommit", None) is True and self.raw.in_transaction:
            self.raw.execute(statement)
        else:
            plain(checkout)

    def _end(self) -> None:
        self._transaction = None
        self.release_gate()
        if self._is_limited():
            self._lift_limits()

    def release_gate(self) -> None:
        """Give the gate back if it is held; safe to repeat."""
        if self._holds_gate:
            self._holds_gate = False
            assert self._gate is not None
            self._gate.release()

    __del__ = release_gate

    def discard(self) -> None:
        """End what is open before the connection closes, and let the next writer in.

        A connection thrown away in the middle, by Ctrl-C in a statement, say, stays open in
        SQLite for as long as anybody keeps one of its cursors, and so would its write lock.
        https://www.sqlite.org/c3ref/close.html
        """
        if not self._inherited and _in_transaction(self.raw):
            with contextlib.suppress(sqlite3.Error):
                self.raw.rollback()
        self.release_gate()

    def leave_to_parent(self) -> None:
        """In a forked child: never speak on this connection again, and never close it."""
        self._inherited = True
        self._holds_gate = False
        self._transaction = None
        _make_immortal(self.raw)

    # -- the upgrade ----------------------------------------------------------------------

    def _advance(self, transaction: Transaction, execution: Execution) -> None:
        kind = execution.kind
        if kind is READ:
            transaction.note_read(execution.statement, execution.parameters)
        elif kind is SAVEPOINT:
            transaction.note_savepoint(execution.statement)
        elif kind is WRITE:
            self._upgrade(transaction)

    def _upgrade(self, transaction: Transaction) -> None:
        if transaction.stale:
            raise busy_snapshot()
        if transaction.reads == []:
            # Nothing can be out of date. Beginning anew would do as well, but would undo what
            # was written on the driver's own connection.
            self._lock(_TAKE_WRITE_LOCK)
        elif not self._upgrade_in_place():
            try:
                digests = digest_reads(self.raw, transaction.reads)
            except TooMuchToRepeat:
                self.release_gate()
                raise busy_snapshot() from None
            self._restart(transaction, digests)
        transaction.start_writing()

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

    def _restart(self, transaction: Transaction, digests: list[bytes]) -> None:
        """Begin again as IMMEDIATE, and make sure that the reads would say the same."""
        self.raw.execute("ROLLBACK")
        try:
            self._lock("BEGIN IMMEDIATE")
            self._compare(transaction, digests)
        except BaseException:
            # SQLAlchemy still counts on a transaction: without one the next statement would
            # commit by itself. Leave a new one open that can read and never write.
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")
            self.release_gate()
            transaction.stale = True
            self._begin_deferred(transaction)
            raise
        self._open_savepoints(transaction)

    def _compare(self, transaction: Transaction, digests: list[bytes]) -> None:
        try:
            same = digest_reads(self.raw, transaction.reads) == digests
        except TooMuchToRepeat:
            same = False
        if not same:
            raise busy_snapshot()

    def _begin_deferred(self, transaction: Transaction) -> None:
        self.raw.execute("BEGIN")
        self._open_savepoints(transaction)

    def _open_savepoints(self, transaction: Transaction) -> None:
        for name in transaction.savepoints:
            self.raw.execute(f'SAVEPOINT "{name}"')

    def _lock(self, statement: str) -> None:
        """Wait for the turn to write, and take SQLite's lock with ``statement``."""
        in_time = self._take_gate()
        try:
            if in_time:
                self.raw.execute(statement).close()
            else:
                self._try_once(statement)
        except BaseException:
            self.release_gate()
            raise

    def _try_once(self, statement: str) -> None:
        """Send ``statement`` without waiting: the patience was spent in front of the gate."""
        before = self._busy_timeout_ms()
        self.raw.execute("PRAGMA busy_timeout = 0")
        try:
            self.raw.execute(statement).close()
        finally:
            self.raw.execute(f"PRAGMA busy_timeout = {before}")

    def _take_gate(self) -> bool:
        if self._holds_gate:
            return True
        if self._gate is None:
            if self._others_here(lambda other: other.mode is Mode.WRITING):
                raise waits_for_itself(self.path)
            return True
        if self._gate.is_held_here():
            raise waits_for_itself(self.path)
        self._holds_gate = self._gate.acquire(self._patience_s())
        return self._holds_gate

    def _others_here(self, is_in_the_way: Callable[[Transaction], bool]) -> bool:
        """Tell whether a transaction of this thread, on this file, is in the way of this one."""
        own, found = threading.get_ident(), False
        for other in list(_controls) if self.path is not None else ():
            transaction = other._transaction  # noqa: SLF001 - one class
            if other is not self and other.path == self.path and transaction is not None:
                found = found or (transaction.thread == own and is_in_the_way(transaction))
        return found

    def _try_gate(self) -> bool:
        if self._gate is None or self._holds_gate:
            return True
        self._holds_gate = self._gate.try_acquire()
        return self._holds_gate


_controls: WeakSet[TransactionControl] = WeakSet()


def control_of(connection: Any) -> TransactionControl | None:
    """Return the control of a ``Connection`` or of a pooled connection, if it has one."""
    try:
        control: TransactionControl | None = connection.info.get(INFO_KEY)
    except NotImplementedError:
        # While SQLAlchemy reads the server version, its connection is a stand-in without one.
        return None
    return control


def leave_connections_to_parent() -> None:
    """Disown every SQLite connection; called in a forked child.

    Using or closing one there, if only by exiting, tampers with the memory that SQLite shares
    between processes: a transaction that the parent has open comes out damaged.
    https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
    """
    for control in list(_controls):
        control.leave_to_parent()


def _make_immortal(connection: sqlite3.Connection) -> None:
    # A list would keep it until the interpreter ends, and then close it.
    try:
        import ctypes  # noqa: PLC0415 - only a child needs it
    except ImportError:  # pragma: no cover - not every Python has it
        return
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _in_transaction(raw: sqlite3.Connection) -> bool:
    try:
        return raw.in_transaction
    except sqlite3.ProgrammingError:  # closed
        return False
