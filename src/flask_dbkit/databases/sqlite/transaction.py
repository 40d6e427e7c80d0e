"""One transaction of a SQLite connection: how far it is, and what it has read."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import weakref
from collections.abc import Iterable
from enum import Enum
from typing import Any

from ..errors import OWN_WORDS

__all__ = [
    "Mode",
    "TooMuchToRepeat",
    "Transaction",
    "busy_snapshot",
    "digest_reads",
    "inherited_connection",
    "inherited_file",
    "read_only_transaction",
    "rolled_back",
    "shared_connection_busy",
    "waits_for_itself",
]

Read = tuple[str, Any]
"""A statement and its parameters, as the driver got them."""

_MAX_READS = 256  # a transaction that read more often is not repeated
_MAX_ROWS = 100_000


class Mode(Enum):
    """Where a transaction stands.

    A *displaced* one is open for SQLAlchemy only: another transaction uses the connection.
    """

    DEFERRED = "deferred"
    WRITING = "writing"
    DISPLACED = "displaced"


class Transaction:
    """One transaction: how far it is, what it read, and its open savepoints.

    Attributes:
        mode: Where it stands.
        checkout: The pooled connection it runs on, not kept alive by it.
        thread: The thread it began in.
        reads: What it read so far, in order; ``None`` when that is too much to repeat.
        digests: What the first of these reads said, as far as that was looked at.
        savepoints: Names of the open savepoints, the outermost first.
        stale: Its reads are known to be out of date, so it cannot write any more.
        read_only: It asked never to write.
        lost: The error on which the database rolled it back by itself.
    """

    __slots__ = (
        "checkout",
        "digests",
        "lost",
        "mode",
        "read_only",
        "reads",
        "savepoints",
        "stale",
        "thread",
    )

    def __init__(self, mode: Mode, checkout: object) -> None:
        self.mode = mode
        self.checkout = weakref.ref(checkout)
        self.thread = threading.get_ident()
        self.reads: list[Read] | None = []
        self.digests: list[bytes] = []
        self.savepoints: list[str] = []
        self.stale = False
        self.read_only = False
        self.lost: BaseException | None = None

    def note_read(self, statement: str, parameters: Any) -> None:
        """Remember a read, in case it has to be repeated."""
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

    def start_writing(self) -> None:
        """Note that it holds the write lock: from here on nothing can change behind its back."""
        self.mode = Mode.WRITING
        self.reads = None
        self.digests = []


class TooMuchToRepeat(Exception):
    """The reads of a transaction are too many to be compared."""


def digest_reads(raw: sqlite3.Connection, reads: Iterable[Read] | None) -> list[bytes]:
    """Repeat reads and return one digest per result.

    Raises:
        TooMuchToRepeat: They are ``None``, or return too many rows together.
    """
    if reads is None:
        raise TooMuchToRepeat
    budget = _MAX_ROWS
    digests = []
    for statement, parameters in reads:
        digest = hashlib.blake2b(digest_size=16)
        try:
            cursor = raw.execute(statement, parameters or ())
            while rows := cursor.fetchmany(500):
                budget -= len(rows)
                if budget < 0:
                    raise TooMuchToRepeat
                digest.update(repr(rows).encode("utf-8", "surrogatepass"))
        except sqlite3.Error as error:
            digest.update(repr(error).encode())
        digests.append(digest.digest())
    return digests


def busy_snapshot() -> sqlite3.OperationalError:
    """Build the error SQLite gives for a write on an old snapshot."""
    return _error(
        "database is locked: rows that this transaction had read were changed by another one"
        " before its first write. Roll back and try again, or begin it for writing.",
        sqlite3.SQLITE_BUSY_SNAPSHOT,
        "SQLITE_BUSY_SNAPSHOT",
    )


def shared_connection_busy() -> sqlite3.OperationalError:
    """Build the error for a write beside another session's writes on the one connection."""
    return _error(
        "database is locked: this in-memory database has one connection, and another session"
        " has uncommitted writes on it. Commit those first, or use a file for the database. If they"
        " are those of db.session, as before db.drop_all(), db.session.remove() ends them.",
        sqlite3.SQLITE_LOCKED,
        "SQLITE_LOCKED",
    )


def waits_for_itself(path: str | None, *, reading: bool = False) -> sqlite3.OperationalError:
    """Build the error for a lock whose holder cannot end while this thread waits for it."""
    does = "is reading from" if reading else "has uncommitted writes on"
    return _error(
        f"database is locked by this very thread: another session or connection of it {does}"
        f" {path}, and cannot end while this one waits. Commit or roll back that one first, or do"
        " both in one session.",
        sqlite3.SQLITE_BUSY,
        "SQLITE_BUSY",
    )


def read_only_transaction() -> sqlite3.OperationalError:
    """Build the error SQLite gives for a write under ``PRAGMA query_only``."""
    return _error(
        "attempt to write a readonly database", sqlite3.SQLITE_READONLY, "SQLITE_READONLY"
    )


def rolled_back(cause: BaseException) -> sqlite3.OperationalError:
    """Build the error for going on after SQLite has rolled back by itself."""
    return _error(
        f"the database rolled this transaction back on an earlier error ({cause}). Nothing of it"
        " is left: roll back, and begin again.",
        sqlite3.SQLITE_ABORT_ROLLBACK,
        "SQLITE_ABORT_ROLLBACK",
    )


def inherited_connection() -> sqlite3.OperationalError:
    """Build the error for using a connection on the other side of a fork."""
    return _error(
        "this connection was opened before the process was forked and belongs to the parent."
        " Open a new session in the child.",
        sqlite3.SQLITE_MISUSE,
        "SQLITE_MISUSE",
    )


def inherited_file(path: object) -> sqlite3.OperationalError:
    """Build the error for opening a file that the parent had open at the fork."""
    return _error(
        f"{path} was in use when this process was forked, so it cannot be used here: SQLite keeps"
        " its locks per process, and what is committed here could be lost. End what uses it in"
        " the parent before the fork (db.session.remove(), close connections, stop threads that"
        " work on it), or start this process with the method 'spawn' of multiprocessing.",
        sqlite3.SQLITE_MISUSE,
        "SQLITE_MISUSE",
    )


def _error(message: str, code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.__dict__[OWN_WORDS] = True
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error
