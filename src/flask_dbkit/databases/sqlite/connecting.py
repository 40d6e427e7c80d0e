"""What happens when a SQLite connection is opened and closed: pragmas, and plain words.

Pragmas belong to a connection, so they are set on each new one, before anything else and
outside any transaction (``foreign_keys`` is ignored inside one).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import OWN_WORDS
from .pragmas import PragmaValue

__all__ = [
    "apply_pragmas",
    "explain",
    "file_system",
    "network_file_system",
    "optimize",
    "read_pragmas",
]

logger = logging.getLogger("flask_dbkit.sqlite")

# Set before the first table is made, or not at all.
_BEFORE_JOURNAL = ("busy_timeout", "page_size", "auto_vacuum", "encoding")
_NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"}
)
_JOURNAL_RETRY_S = 0.01
_ALWAYS_SHOWN = (
    "foreign_keys",
    "journal_mode",
    "synchronous",
    "busy_timeout",
    "cache_size",
    "mmap_size",
    "temp_store",
    "journal_size_limit",
)


def apply_pragmas(
    raw: sqlite3.Connection,
    pragmas: Mapping[str, PragmaValue],
    *,
    journal: bool,
    patience_s: float,
) -> None:
    """Set pragmas on a new connection.

    Args:
        raw: The connection, idle.
        pragmas: Names and values that were checked by :mod:`.pragmas`.
        journal: Whether ``journal_mode`` may be switched; not on a read-only file.
        patience_s: How long to wait for others while switching the journal.
    """
    with _outside_transaction(raw):
        first = [name for name in _BEFORE_JOURNAL if name in pragmas]
        rest = [name for name in pragmas if name not in first and name != "journal_mode"]
        for name in first:
            raw.execute(f"PRAGMA {name} = {_spell(pragmas[name])}")
        if journal and "journal_mode" in pragmas:
            _set_journal_mode(raw, str(pragmas["journal_mode"]), patience_s)
        for name in rest:
            raw.execute(f"PRAGMA {name} = {_spell(pragmas[name])}")


def _spell(value: PragmaValue) -> str:
    # 'UTF-16' is no bare word; every other word may be quoted as well.
    return f"'{value}'" if isinstance(value, str) else str(value)


@contextmanager
def _outside_transaction(raw: sqlite3.Connection) -> Iterator[None]:
    # Python 3.12's autocommit=False keeps a transaction open at all times.
    # https://docs.python.org/3/library/sqlite3.html#sqlite3.Connection.autocommit
    connection: Any = raw  # older Pythons know no such attribute, nor do their types
    if getattr(connection, "autocommit", None) is False:
        connection.autocommit = True
        try:
            yield
        finally:
            connection.autocommit = False
    else:
        yield


def _set_journal_mode(raw: sqlite3.Connection, mode: str, patience_s: float) -> None:
    """Switch the journal; several processes starting at once have to take turns at it.

    The busy handler is not always asked here, so the waiting is done by hand.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            answer = raw.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]
        except sqlite3.OperationalError as error:
            code = error.sqlite_errorcode & 0xFF
            if code == sqlite3.SQLITE_READONLY:
                return  # nothing can be written here, so the journal does not matter
            if code != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_JOURNAL_RETRY_S)
            continue
        if answer.lower() != mode.lower():
            logger.warning(
                "SQLite answered journal_mode=%s to %s: this file system or build cannot do it."
                " Readers and writers will block each other.",
                answer,
                mode,
            )
        return


def read_pragmas(raw: sqlite3.Connection, names: Mapping[str, object]) -> dict[str, str]:
    """Return the values in force: the usual ones and those of ``names``."""
    values = {}
    for name in dict.fromkeys([*_ALWAYS_SHOWN, *names]):
        row = raw.execute(f"PRAGMA {name}").fetchone()
        if row is not None:
            values[name] = str(row[0])
    return values


def optimize(raw: sqlite3.Connection) -> None:
    """Let SQLite refresh its statistics where they are stale, before the connection closes.

    Looks at a bounded number of rows and waits for nobody. A failure (a read-only file, a
    busy database) costs nothing but the refresh.

    References:
        https://www.sqlite.org/lang_analyze.html#periodically_run_pragma_optimize_
    """
    try:
        if raw.in_transaction:
            return
        raw.execute("PRAGMA busy_timeout = 0")
        raw.execute("PRAGMA analysis_limit = 400")
        raw.execute("PRAGMA optimize")
    except sqlite3.Error as error:
        logger.debug("PRAGMA optimize was not run: %s", error)


def network_file_system(path: str) -> str | None:
    """Return the type of the network file system a path is on, ``None`` for a local one.

    WAL needs memory shared between processes, which no network file system gives:
    https://www.sqlite.org/wal.html#noshm. Known on Linux only.
    """
    kind = file_system(path)
    return kind if kind in _NETWORK_TYPES else None


def file_system(path: str) -> str:
    """Return the type of the file system a path is on; empty where nobody tells."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    real, best, kind = os.path.realpath(path), "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2 and len(fields[1]) >= len(best):
            where = fields[1].rstrip("/")
            if real == where or real.startswith(where + "/"):
                best, kind = fields[1], fields[2]
    return kind


def explain(
    error: sqlite3.Error, path: str | None, *, read_only_url: bool = False
) -> sqlite3.Error | None:
    """Put a failure to open or to write a database into one paragraph that says what to do.

    Args:
        error: What SQLite said.
        path: The file, ``None`` for a database in memory.
        read_only_url: Whether the URL forbids writing.

    Returns:
        An error of the same class and code with a better text, or ``None`` to keep it.
    """
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    if path is None:
        return None
    folder = Path(path).parent
    if code == sqlite3.SQLITE_NOTADB:
        message = (
            f"{path} is not a SQLite database, or it is encrypted or damaged. Nothing was"
            " changed in it. Point the database URL at another file, or restore a backup."
        )
    elif code == sqlite3.SQLITE_CORRUPT:
        message = f"{path} is damaged ({error}). Nothing was changed in it. Restore a backup."
    elif code == sqlite3.SQLITE_READONLY and read_only_url:
        message = (
            f"{path} cannot be written: the database URL opens it read-only. Leave mode=ro and"
            " immutable out of it to write."
        )
    elif code == sqlite3.SQLITE_READONLY:
        message = (
            f"{path} cannot be written, or its folder cannot. Make both writable for the user"
            " of this process, or open it read-only with ?mode=ro&uri=true."
        )
    elif code == sqlite3.SQLITE_CANTOPEN:
        if not folder.is_dir():
            reason, remedy = f"the folder {folder} does not exist", "Create it"
        elif Path(path).is_dir():
            reason, remedy = "it is a folder", "Name a file in it"
        else:
            reason, remedy = "the file or its folder cannot be opened for writing", "Grant access"
        message = f"{path} cannot be opened: {reason}. {remedy}, or change the database URL."
    else:
        return None
    explained = type(error)(message)
    # The message names a file: that is for whoever starts the application, and for no log.
    explained.__dict__[OWN_WORDS] = str(error)
    explained.sqlite_errorcode = error.sqlite_errorcode
    explained.sqlite_errorname = error.sqlite_errorname
    return explained
