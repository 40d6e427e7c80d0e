"""Backups of SQLite: the online backup API, and the same API in the other direction.

A file copy of a live database was damaged in 47 of 60 tries, so no file of a live database is
ever copied here. The source is pinned first: without a read transaction of our own, every write
of another connection starts the copy again, and under a steady writer it never ends.

References:
    * https://www.sqlite.org/backup.html
    * https://www.sqlite.org/howtocorrupt.html
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import URL

from ..dialects.sqlite import file_of
from ..dialects.sqlite.gate import gate_for
from ..exceptions import BackupError
from .database import Contents, Database, DumpedFile, Progress, Target, not_empty
from .manifest import Manifest
from .sqlite_contents import examine
from .store import sync

__all__ = ["SQLiteDatabase", "SQLiteFile"]

_PAGES_PER_STEP = 1024
_PAUSE_S = 0.002  # lets a writer of this process, and the disk, come in between two steps
_PATIENCE_S = 30.0
_SIDE_FILES = ("-wal", "-shm", "-journal")


class SQLiteDatabase(Database):
    """One bind on SQLite, a file or in memory."""

    dialect = "sqlite"

    @property
    def path(self) -> Path | None:
        """The file, ``None`` for a database in memory."""
        found = file_of(self.engine.url)
        return None if found is None else Path(found)

    @property
    def name(self) -> str:
        """Return the name of the database."""
        return ":memory:" if self.path is None else self.path.name

    def check(self, *, compact: bool, jobs: int) -> None:
        """Refuse what would fail later."""
        if self.path is not None and not self.path.exists():
            raise BackupError(
                f"{self.path} does not exist yet, so there is nothing to back up.",
                code="database.missing",
            )
        if jobs > 1:
            raise BackupError(
                "--jobs is for PostgreSQL: a SQLite file is copied by one connection.",
                code="option.unusable",
            )

    def dump(self, directory: Path, *, compact: bool, jobs: int, progress: Progress) -> DumpedFile:
        """Copy the database as it is at one moment."""
        target = directory / "copy.sqlite3"
        journal_mode = "memory"
        if self.path is None:
            with self._memory() as source:
                _copy_pages(source, target, progress, pause_s=0.0)
        else:
            with _explaining(self.path), closing(_open(self.path)) as source:
                journal_mode = source.execute("PRAGMA journal_mode").fetchone()[0]
                if compact:
                    _vacuum_into(source, target, progress)
                else:
                    # With a rollback journal nobody can commit while the source is pinned, so
                    # there a pause would only make the wait longer.
                    pause_s = _PAUSE_S if journal_mode == "wal" else 0.0
                    source.execute("BEGIN")
                    source.execute("SELECT count(*) FROM sqlite_master").fetchone()
                    _copy_pages(source, target, progress, pause_s=pause_s)
        if compact and self.path is None:
            _compact(target)
        _make_plain(target)
        contents = examine(target)
        if contents.problems:
            raise BackupError(
                f"{self.name} is damaged itself: {contents.problems[0]}. A copy of it would be no"
                " backup. Restore an older one, or save what can be read with the command"
                " .recover of the sqlite3 shell.",
                code="database.damaged",
            )
        return DumpedFile(
            path=target,
            suffix=".sqlite3",
            format="sqlite",
            compressed=False,
            tool=f"sqlite3 {sqlite3.sqlite_version}" + (" VACUUM INTO" if compact else ""),
            server_version=sqlite3.sqlite_version,
            contents=_with_details(contents, journal_mode=journal_mode),
        )

    @contextmanager
    def _memory(self) -> Iterator[sqlite3.Connection]:
        """Yield the one connection that holds a database in memory."""
        with self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            if not isinstance(raw, sqlite3.Connection):
                raise BackupError(
                    f"{type(raw).__name__} is no connection of Python's sqlite3 module, whose"
                    " backup this is.",
                    code="database.unsupported",
                )
            if raw.in_transaction:
                raise BackupError(
                    "The database in memory has uncommitted work, which would get into the copy."
                    " Commit or roll back first.",
                    code="database.busy",
                )
            yield raw

    def scratch(self, directory: Path) -> Target:
        """Make an empty database for one verification."""
        return SQLiteFile(directory / "scratch.sqlite3")

    def beside(self, backup_id: str) -> Target:
        """Make an empty database named ``<name>-<id>``."""
        if self.path is None:
            raise BackupError(
                "A database in memory has no place beside it. Name a file:"
                " --into sqlite:////path/to/restored.sqlite3",
                code="target.missing",
            )
        target = SQLiteFile(self.path.with_name(f"{self.path.name}-{backup_id}"), like=self.path)
        if target.path.exists():
            raise BackupError(
                f"{target.path} exists: this backup was restored before. Use that file, remove it,"
                " or name another one with --into.",
                code="target.not_empty",
            )
        return target

    def as_target(self) -> Target:
        """Return this database, if it is empty; make it if it is missing."""
        if self.path is None:
            raise BackupError(
                "A backup cannot be restored into memory, which ends with this process. Name a"
                " file: --into sqlite:////path/to/restored.sqlite3",
                code="target.missing",
            )
        target = SQLiteFile(self.path)
        if self.path.exists() and (self.path.stat().st_size or _has_wal(self.path)):
            with _explaining(self.path), closing(_open(self.path)) as connection:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise not_empty(str(self.path))
        return target

    def other_connections(self) -> list[str]:
        """Describe who else is connected."""
        if self.path is None:
            return []
        others = [f"process {pid}" for pid in _processes_with(self.path)]
        in_use = getattr(self.engine.pool, "checkedout", lambda: 0)()
        if in_use:
            others.append(f"{in_use} connections of this process")
        return others

    def replace(self, plain: Path, manifest: Manifest, *, force: bool, jobs: int) -> None:
        """Put a copy in the place of this database."""
        path = self.path
        if path is None:
            raise BackupError(
                "A database in memory cannot be replaced: it ends with its process. Restore with"
                " --into sqlite:////path/to/restored.sqlite3",
                code="target.missing",
            )
        self.engine.dispose()
        if not path.exists():
            SQLiteFile(path).load(plain, manifest)
            return
        try:
            _write_over(path, plain, alone=not force)
        except sqlite3.DatabaseError as error:
            code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
            if code not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise _explained(error, path) from error
            # There is no database in the file to write into, and nobody can be using one.
            _exchange(path, plain)

    def set_aside(self) -> Path | None:
        """Keep a damaged database, as it is, beside itself; return where."""
        path = self.path
        if path is None or not path.exists():
            return None
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = path.with_name(f"{path.name}-damaged-{stamp}")
        for suffix in ("", *_SIDE_FILES):
            source = Path(f"{path}{suffix}")
            if source.exists():
                shutil.copy2(source, f"{aside}{suffix}")
        return aside


class SQLiteFile(Target):
    """A file that a backup is loaded into.

    Args:
        path: Where; missing or without a table.
        like: A file whose owner and permissions a new one gets.
    """

    def __init__(self, path: Path, *, like: Path | None = None) -> None:
        self.path = path
        self.url = URL.create("sqlite", database=str(path))
        self.is_new = not path.exists()
        self._like = like

    def load(self, plain: Path, manifest: Manifest, *, jobs: int = 1, owner: bool = True) -> None:
        """Load a copy."""
        with _explaining(self.path):
            if self.path.exists():
                _write_over(self.path, plain, alone=False)
            else:
                self._link(plain, manifest)

    def _link(self, plain: Path, manifest: Manifest) -> None:
        """Make the file, complete or not at all, where nobody else has made one."""
        temporary = self.path.with_name(f"{self.path.name}-dbkit-{os.urandom(4).hex()}")
        try:
            shutil.copyfile(plain, temporary)
            if manifest.details.get("journal_mode") == "wal":
                with closing(sqlite3.connect(temporary)) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
            if self._like is not None and self._like.exists():
                _take_after(temporary, self._like)
            sync(temporary)
            # A link fails where a rename would replace what somebody has just put there.
            os.link(temporary, self.path)
            sync(self.path.parent)
        except FileExistsError:
            raise not_empty(str(self.path)) from None
        finally:
            temporary.unlink(missing_ok=True)

    def contents(self) -> Contents:
        """Return what is in it now."""
        return examine(self.path)

    def drop(self) -> None:
        """Remove the database."""
        for suffix in ("", *_SIDE_FILES):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)


def _open(path: Path) -> sqlite3.Connection:
    """Open a file that is there, never a new one."""
    mode = "rw" if os.access(path, os.W_OK) else "ro"
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=_PATIENCE_S,
        isolation_level=None,
    )


def _copy_pages(
    source: sqlite3.Connection, target: Path, progress: Progress, *, pause_s: float
) -> None:
    page_size = source.execute("PRAGMA page_size").fetchone()[0]
    patience = _Patience()

    def step(status: int, remaining: int, total: int) -> None:
        patience.check(status)
        progress((total - remaining) * page_size, total * page_size)
        if pause_s and remaining:
            time.sleep(pause_s)

    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # It is synced once, when it is complete.
        copy.execute("PRAGMA synchronous = OFF")
        source.backup(copy, pages=_PAGES_PER_STEP, progress=step, sleep=0.05)


class _Patience:
    """Ends a wait for a lock: the module's own loop would go on for ever."""

    def __init__(self) -> None:
        self._deadline: float | None = None

    def check(self, status: int) -> None:
        """Take the result of one step: ``SQLITE_BUSY`` and ``SQLITE_LOCKED`` are waits."""
        if status not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._deadline = None
            return
        now = time.monotonic()
        self._deadline = self._deadline or now + _PATIENCE_S
        if now > self._deadline:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode, error.sqlite_errorname = status, "SQLITE_BUSY"
            raise error


def _vacuum_into(source: sqlite3.Connection, target: Path, progress: Progress) -> None:
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


def _compact(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("VACUUM")


def _make_plain(path: Path) -> None:
    """Make a copy one file that needs no ``-wal`` beside it, and can be opened for reading."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _write_over(path: Path, plain: Path, *, alone: bool) -> None:
    """Write a copy into a live database, as one transaction of that database.

    Other connections see the old content until it is committed, and the new one afterwards; a
    process that dies leaves what there was. A file that takes the place of another would leave
    every open connection writing to the one that is gone.

    Args:
        path: The live database.
        plain: The copy. It may be changed to the page size of the live one.
        alone: Whether to demand that nobody else has the database open.
    """
    gate = gate_for(str(path))
    held = gate.acquire(_PATIENCE_S)
    try:
        with closing(_open(path)) as live:
            live.execute(f"PRAGMA busy_timeout = {1000 if alone else int(_PATIENCE_S * 1000)}")
            page_size = live.execute("PRAGMA page_size").fetchone()[0]
            wal = live.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            if alone and wal:
                # Before the first access this takes the whole file, and fails when anybody
                # else has it open. https://www.sqlite.org/wal.html#noshm
                live.execute("PRAGMA locking_mode = EXCLUSIVE")
                live.execute("BEGIN IMMEDIATE")
                live.execute("COMMIT")
            if wal:
                _fit_page_size(plain, page_size)
            patience = _Patience()
            with closing(sqlite3.connect(f"file:{quote(str(plain))}?mode=ro", uri=True)) as copy:
                copy.backup(
                    live,
                    pages=_PAGES_PER_STEP,
                    progress=lambda status, _remaining, _total: patience.check(status),
                    sleep=0.05,
                )
            if wal:
                # Somebody who reads the old content may go on for long; SQLite does it later then.
                live.execute("PRAGMA busy_timeout = 0")
                live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        if held:
            gate.release()


def _fit_page_size(plain: Path, page_size: int) -> None:
    """Give a copy another page size: under WAL the one of a live database cannot change."""
    with closing(sqlite3.connect(plain, isolation_level=None)) as connection:
        if connection.execute("PRAGMA page_size").fetchone()[0] != page_size:
            connection.execute(f"PRAGMA page_size = {page_size}")
            connection.execute("VACUUM")


def _exchange(path: Path, plain: Path) -> None:
    """Put a copy in the place of a file that is no database."""
    temporary = path.with_name(f"{path.name}-dbkit-{os.urandom(4).hex()}")
    try:
        shutil.copyfile(plain, temporary)
        _take_after(temporary, path)
        sync(temporary)
        # A journal of the old file would be played into the new one.
        for suffix in _SIDE_FILES:
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _take_after(path: Path, like: Path) -> None:
    status = like.stat()
    path.chmod(status.st_mode & 0o777)
    with suppress(PermissionError):
        os.chown(path, status.st_uid, status.st_gid)


def _has_wal(path: Path) -> bool:
    wal = Path(f"{path}-wal")
    return wal.exists() and wal.stat().st_size > 0


def _processes_with(path: Path) -> list[int]:
    """Return the other processes that have a file open; on Linux, and of those we may look at."""
    status = path.stat() if path.exists() else None
    found = []
    if status is not None:
        for folder in Path("/proc").glob("[0-9]*/fd"):
            pid = int(folder.parent.name)
            if pid != os.getpid() and _has_open(folder, status):
                found.append(pid)
    return sorted(found)


def _has_open(folder: Path, status: os.stat_result) -> bool:
    with suppress(OSError):
        for link in folder.iterdir():
            with suppress(OSError):
                other = link.stat()
                if (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino):
                    return True
    return False


def _with_details(contents: Contents, **details: object) -> Contents:
    return Contents(
        tables=contents.tables,
        views=contents.views,
        revision=contents.revision,
        exact=contents.exact,
        details={**contents.details, **details},
        problems=contents.problems,
    )


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _explained(error, path) from error


def _explained(error: sqlite3.Error, path: Path) -> BackupError:
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
