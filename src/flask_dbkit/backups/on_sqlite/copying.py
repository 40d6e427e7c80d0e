"""Copy the pages of a SQLite database out of a live file, and in again."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from ...databases.sqlite.gate import gate_for
from ...databases.sqlite.inheriting import refuse_inherited
from ...support.files import copy_to_new_file
from ..database import Progress
from ..exceptions import BackupError
from ..store import sync

__all__ = [
    "PAUSE_S",
    "SIDE_FILES",
    "TooManyWrites",
    "compact_file",
    "copy_pages",
    "exchange",
    "explained",
    "explaining",
    "make_plain",
    "open_file",
    "vacuum_into",
    "write_over",
]

_PAGES_PER_STEP = 1024
PAUSE_S = 0.002  # lets a writer of this process, and the disk, come in between two steps
PATIENCE_S = 30.0
SIDE_FILES = ("-wal", "-shm", "-journal")


def open_file(path: Path) -> sqlite3.Connection:
    """Open a file that is there, never a new one."""
    refuse_inherited(path)
    mode = "rw" if os.access(path, os.W_OK) else "ro"
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=PATIENCE_S,
        isolation_level=None,
    )


class TooManyWrites(Exception):
    """Others wrote so often that a copy which does not stop them would never end."""


def copy_pages(
    source: sqlite3.Connection,
    target: Path,
    progress: Progress,
    *,
    pause_s: float,
    restarts: int | None = None,
) -> None:
    """Copy a database page by page.

    Args:
        source: Pinned to a snapshot by a read transaction; or not, and then every write of
            another connection starts the copy again.
        target: A file that is not there.
        progress: Told the bytes that are copied, and all of them.
        pause_s: Seconds between two steps.
        restarts: How often it may be started again; ``None`` is without a limit.

    Raises:
        TooManyWrites: It was started again more often.
    """
    page_size = source.execute("PRAGMA page_size").fetchone()[0]
    patience = Patience()
    before, begun = 0, 0

    def step(status: int, remaining: int, total: int) -> None:
        nonlocal before, begun
        patience.check(status)
        waits = status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        # A step leaves less to do than the one before, unless the copy was started again.
        if restarts is not None and not waits and remaining >= before:
            begun += 1
            if begun > restarts + 1:
                raise TooManyWrites
        before = remaining
        progress((total - remaining) * page_size, total * page_size)
        if pause_s and remaining:
            time.sleep(pause_s)

    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # It is synced once, when it is complete.
        copy.execute("PRAGMA synchronous = OFF")
        source.backup(copy, pages=_PAGES_PER_STEP, progress=step, sleep=0.05)


class Patience:
    """Ends a wait for a lock: the module's own loop would go on for ever."""

    def __init__(self) -> None:
        self._deadline: float | None = None

    def check(self, status: int) -> None:
        """Take the result of one step: ``SQLITE_BUSY`` and ``SQLITE_LOCKED`` are waits."""
        if status not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._deadline = None
            return
        now = time.monotonic()
        self._deadline = self._deadline or now + PATIENCE_S
        if now > self._deadline:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode, error.sqlite_errorname = status, "SQLITE_BUSY"
            raise error


def vacuum_into(source: sqlite3.Connection, target: Path, progress: Progress) -> None:
    """Write a copy without free pages; it takes a snapshot of its own.

    References:
        https://www.sqlite.org/lang_vacuum.html#vacuum_with_an_into_clause
    """

    def look() -> int:
        with suppress(OSError):
            progress(target.stat().st_size, None)
        return 0

    source.set_progress_handler(look, 200_000)
    source.execute("VACUUM INTO ?", (str(target),))
    source.set_progress_handler(None, 0)


def compact_file(path: Path) -> None:
    """Leave out the free pages of a copy."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("VACUUM")


def make_plain(path: Path) -> None:
    """Make a copy one file that needs no ``-wal`` beside it, and can be opened for reading."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def write_over(
    path: Path,
    plain: Path,
    *,
    alone: bool,
    save: Callable[[sqlite3.Connection | None], object] | None = None,
) -> None:
    """Write a copy into a live database, as one transaction of that database.

    Other connections see the old content until it is committed, and the new one afterwards; a
    process that dies leaves what there was. A file that takes the place of another would leave
    every open connection writing to the one that is gone.

    Args:
        path: The live database.
        plain: The copy. It may be changed to the page size of the live one.
        alone: Whether to demand that nobody else has the database open.
        save: Called when nobody else can write any more, and before anything is written; what
            it raises ends the matter. It is given the one connection that can read then;
            ``None`` is any.
    """
    gate = gate_for(str(path))
    held = gate.acquire(PATIENCE_S)
    try:
        with closing(open_file(path)) as live:
            live.execute(f"PRAGMA busy_timeout = {1000 if alone else int(PATIENCE_S * 1000)}")
            page_size = live.execute("PRAGMA page_size").fetchone()[0]
            wal = live.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            if alone or not wal:
                _lock_out_others(live, wal=wal)
                if save is not None:
                    save(live)
                    save = None
            if wal:
                _fit_page_size(plain, page_size)
            _write_pages(plain, live, save)
            if wal:
                # Somebody who reads the old content may go on for long; SQLite does it later then.
                live.execute("PRAGMA busy_timeout = 0")
                live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        if held:
            gate.release()


def _lock_out_others(live: sqlite3.Connection, *, wal: bool) -> None:
    """Take the whole file, and keep it until the connection is closed.

    With a write-ahead log that fails when anybody else has the file open, so it is for a restore
    that demands to be alone. https://www.sqlite.org/pragma.html#pragma_locking_mode
    """
    live.execute("PRAGMA locking_mode = EXCLUSIVE")
    live.execute("BEGIN IMMEDIATE" if wal else "BEGIN EXCLUSIVE")
    live.execute("COMMIT")


def _write_pages(
    plain: Path, live: sqlite3.Connection, save: Callable[[None], object] | None
) -> None:
    """Copy the pages; ``save`` is called between the first step, which locks, and the rest.

    With a write-ahead log others go on reading the old content while the pages are written. The
    backup API takes the write lock with its first page and keeps it to the last, and no other
    transaction of the connection may be open then: what is to be read behind that lock has to be
    read in between. https://www.sqlite.org/c3ref/backup_finish.html
    """
    patience, waiting = Patience(), save

    def after_step(status: int, _remaining: int, _total: int) -> None:
        nonlocal waiting
        patience.check(status)
        if waiting is not None and status == sqlite3.SQLITE_OK:
            waiting(None)
            waiting = None

    pages = _PAGES_PER_STEP
    if save is not None and _has_two_steps(plain) <= pages:
        pages = 1
    with closing(sqlite3.connect(f"file:{quote(str(plain))}?mode=ro", uri=True)) as copy:
        copy.backup(live, pages=pages, progress=after_step, sleep=0.05)


def _has_two_steps(plain: Path) -> int:
    """Return the pages of a copy, at least two: a single one would be written in one step."""
    with closing(sqlite3.connect(plain, isolation_level=None)) as connection:
        count = "PRAGMA page_count"
        if connection.execute(count).fetchone()[0] < 2:
            connection.executescript("CREATE TABLE _dbkit_page (x); DROP TABLE _dbkit_page;")
        pages = int(connection.execute(count).fetchone()[0])
    if pages < 2:
        raise BackupError(
            "The backup is of an empty database, and others have the live one open. Stop them, or"
            " remove the file.",
            code="database.busy",
        )
    return pages


def _fit_page_size(plain: Path, page_size: int) -> None:
    """Give a copy another page size: under WAL the one of a live database cannot change."""
    with closing(sqlite3.connect(plain, isolation_level=None)) as connection:
        if connection.execute("PRAGMA page_size").fetchone()[0] != page_size:
            connection.execute(f"PRAGMA page_size = {page_size}")
            connection.execute("VACUUM")


def exchange(path: Path, plain: Path) -> None:
    """Put a copy in the place of a file that is no database."""
    temporary = path.with_name(f"{path.name}-dbkit-{os.urandom(4).hex()}")
    try:
        copy_to_new_file(plain, temporary, like=path.stat())
        # A journal of the old file would be played into the new one.
        for suffix in SIDE_FILES:
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn what SQLite refuses into one paragraph."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(error, path) from error


def explained(error: sqlite3.Error, path: Path) -> BackupError:
    """Return what SQLite said as one paragraph that says what to do."""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return BackupError(
            f"{path} is damaged or no SQLite database: {error}. Restore a backup with"
            " 'flask dbkit backup restore ID --in-place --yes'.",
            code="database.damaged",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BackupError(
            f"{path} is in use by another connection, which did not let go of it in time. Stop"
            " what uses it, or add --force when you restore in place.",
            code="database.busy",
        )
    if code == sqlite3.SQLITE_FULL:
        return BackupError(f"There is no room left on the disk: {error}.", code="disk.full")
    return BackupError(f"SQLite says of {path}: {error}.", code="database.failed")
