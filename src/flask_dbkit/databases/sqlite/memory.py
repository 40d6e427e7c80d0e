"""Transactions on the one connection of an in-memory database."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from ..execution import Execution
from ..statements import Kind
from .control import NO_OPTIONS, READ_ONLY_OPTION, Plain, TransactionControl
from .gate import WriterGate
from .transaction import (
    Mode,
    TooMuchToRepeat,
    Transaction,
    busy_snapshot,
    digest_reads,
    inherited_connection,
    read_only_transaction,
    rolled_back,
    shared_connection_busy,
)

__all__ = ["SharedTransactionControl"]

_LOOK_AGAIN_S = 0.05  # a transaction that was thrown away wakes nobody


class _Nobody:
    """A checkout that is gone."""


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
        self._transactions: WeakKeyDictionary[Any, Transaction] = WeakKeyDictionary()
        self._owner: Transaction | None = None
        # The driver's switch is one for all, so remember who asked for it.
        self._always_autocommit = raw.isolation_level is None
        self._autocommitting: WeakSet[Any] = WeakSet()

    # -- what the engine asks for ---------------------------------------------------------

    def begin(self, checkout: object, asked: str | None, wants_write: Callable[[], bool]) -> None:
        """Note that a transaction begins; BEGIN is sent when it first uses the connection."""
        with self._changed:
            options = self.announced.get(checkout, NO_OPTIONS)
            to_write = self._prepare(options, asked, wants_write)
            transaction = Transaction(Mode.DISPLACED, checkout)
            transaction.read_only = options.get(READ_ONLY_OPTION, False)
            self._transactions[checkout] = transaction
            if to_write:
                try:
                    self._enter(transaction, to_write=True)
                    self._upgrade(transaction)
                except BaseException:
                    del self._transactions[checkout]
                    raise

    def begin_autocommit(self, checkout: object) -> None:
        """Stand aside: a checkout without a transaction is in autocommit mode."""

    def is_autocommit(self, checkout: object) -> bool:
        """Tell whether this checkout, and not another one, asked for autocommit mode."""
        return self._always_autocommit or checkout in self._autocommitting

    def set_isolation(self, checkout: object, level: str) -> None:
        """Note who asks for AUTOCOMMIT, and allow it only when nothing is uncommitted.

        The driver switches to it by a COMMIT, which would hit the work of another session.
        https://docs.python.org/3/library/sqlite3.html#sqlite3.Connection.isolation_level
        """
        with self._changed:
            if level.upper() != "AUTOCOMMIT":
                self._autocommitting.discard(checkout)
                return
            self._make_way(to_write=True)
            self._autocommitting.add(checkout)

    def before(self, execution: Execution) -> bool | None:
        """Take the connection over if that is allowed, and keep it until the statement is sent.

        The driver may give one prepared statement to two threads.
        """
        self._changed.acquire()
        try:
            if self._statement_timeout_s is not None:
                self._deadline = time.monotonic() + self._statement_timeout_s
            transaction = self._transactions.get(execution.connection.connection)
            if transaction is None:
                self._prepare_autocommit(execution.kind)
            elif not self._prepare_statement(transaction, execution):
                self._changed.release()
                return True
        except BaseException:
            self._changed.release()
            raise
        return None

    def after(self) -> None:
        """Let the next statement in."""
        self._changed.release()

    def _prepare_autocommit(self, kind: Kind) -> None:
        alone = self._make_way(to_write=kind is not Kind.READ)
        if alone and kind is Kind.WRITE:
            self._remember_reads()
        if alone and not self.raw.in_transaction:
            # Another session that was returned to the pool has reset it.
            self.raw.isolation_level = None

    def _prepare_statement(self, transaction: Transaction, execution: Execution) -> bool:
        """Tell whether the statement has to be sent."""
        kind = execution.kind
        if transaction.lost is not None:
            raise rolled_back(transaction.lost)
        if transaction.read_only and kind is Kind.WRITE:
            raise read_only_transaction()
        if transaction.mode is Mode.WRITING:
            return True
        if self._enter(transaction, to_write=kind in (Kind.WRITE, Kind.CONTROL)):
            self._advance(transaction, execution)
            return True
        # A guest's savepoints hold nothing, and must not touch the owner's.
        if kind is Kind.SAVEPOINT:
            transaction.note_savepoint(execution.statement)
            return False
        if kind is Kind.READ:
            transaction.note_read(execution.statement, execution.parameters)
            self._remember(transaction)
        return True

    def after_error(self, checkout: object, error: BaseException) -> None:
        """Note that the database has rolled the owner's transaction back."""
        with self._changed:
            transaction = self._transactions.get(checkout)
            owns = transaction is not None and transaction is self._owner
            if transaction is not None and owns and not self.raw.in_transaction:
                transaction.lost = transaction.lost or error

    def commit(self, checkout: object, plain: Plain) -> None:
        """Commit, if the open transaction is this one, and let the next one in."""
        with self._changed:
            transaction = self._transactions.get(checkout)
            if transaction is not None and transaction.lost is not None:
                raise rolled_back(transaction.lost)
            if self._may_end(transaction):
                self._send(checkout, plain, "COMMIT")
            self._forget(checkout)

    def rollback(self, checkout: object, plain: Plain) -> None:
        """Roll back, if the open transaction is this one, and let the next one in."""
        with self._changed:
            try:
                if self._may_end(self._transactions.get(checkout)):
                    self._send(checkout, plain, "ROLLBACK")
            finally:
                self._forget(checkout)

    def set_read_only(self, checkout: object, *, read_only: bool) -> None:
        """Refuse the writes of one transaction: the pragma would bind every session."""
        transaction = self._transactions.get(checkout) if checkout is not None else None
        if transaction is not None:
            transaction.read_only = read_only

    def leave_to_parent(self) -> None:
        """In a forked child: go on with a copy of the memory, less what was uncommitted."""
        self._changed = threading.Condition(threading.RLock())
        for transaction in self._transactions.values():
            transaction.lost = inherited_connection()
        # Rolled back by whoever is next: a thread that is not here may have been using it.
        self._owner = Transaction(Mode.DISPLACED, _Nobody())

    # -- whose turn it is -----------------------------------------------------------------

    def _may_end(self, transaction: Transaction | None) -> bool:
        """Tell whether a COMMIT or ROLLBACK by this transaction may reach the database."""
        owner = self._live_owner()
        return owner is None or owner is transaction

    def _forget(self, checkout: object) -> None:
        transaction = self._transactions.pop(checkout, None)
        if transaction is not None and transaction is self._owner:
            self._owner = None
        if self._owner is None and self._is_limited():
            self._lift_limits()
        self._changed.notify_all()

    def _enter(self, transaction: Transaction, *, to_write: bool) -> bool:
        """Make ``transaction`` the owner of the connection; False: it is a guest of the owner."""
        if self._live_owner() is transaction:
            return True
        if not self._make_way(to_write=to_write):
            return False
        if not self.raw.in_transaction:
            self._begin_deferred(transaction)
        self._owner = transaction
        transaction.mode = Mode.DEFERRED
        return True

    def _make_way(self, *, to_write: bool) -> bool:
        """Let the owner step aside, or wait for its end; False: read along with it."""
        deadline = time.monotonic() + self._patience_s()
        while (owner := self._live_owner()) is not None and owner.mode is Mode.WRITING:
            if owner.thread == threading.get_ident():
                if to_write:
                    raise shared_connection_busy()
                return False
            left = deadline - time.monotonic()
            if left <= 0:
                raise shared_connection_busy()
            self._changed.wait(min(left, _LOOK_AGAIN_S))
        if owner is not None:
            owner.mode = Mode.DISPLACED
            self._owner = None
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")
        return True

    def _live_owner(self) -> Transaction | None:
        owner = self._owner
        if owner is not None and owner.checkout() is None:
            # Collected without being closed: what it had not committed goes with it.
            self._owner = owner = None
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")
        return owner

    # -- the upgrade ----------------------------------------------------------------------

    def _upgrade(self, transaction: Transaction) -> None:
        """Let the owner write: nobody else can have the lock, but its reads may be outdated."""
        if transaction.stale or not self._still_says_the_same(transaction):
            transaction.stale = True
            raise busy_snapshot()
        self._remember_reads(but_of=transaction)
        transaction.start_writing()

    def _still_says_the_same(self, transaction: Transaction) -> bool:
        known = transaction.digests
        if not known:
            return True
        reads = transaction.reads
        try:
            return digest_reads(self.raw, reads and reads[: len(known)]) == known
        except TooMuchToRepeat:
            return False

    def _remember_reads(self, but_of: Transaction | None = None) -> None:
        """Before anything is written: keep what the displaced transactions have seen."""
        for transaction in list(self._transactions.values()):
            if transaction is not but_of:
                self._remember(transaction)

    def _remember(self, transaction: Transaction) -> None:
        try:
            reads = transaction.reads
            new = reads[len(transaction.digests) :] if reads is not None else None
            transaction.digests += digest_reads(self.raw, new)
        except TooMuchToRepeat:
            transaction.stale = True
