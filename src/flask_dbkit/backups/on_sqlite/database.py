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
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import URL

from ...databases.sqlite.engine import file_of
from ...support.files import copy_to_new_file
from ..database import (
    Contents,
    Database,
    DumpedFile,
    Progress,
    Target,
    as_it_was,
    not_empty,
    save_nothing,
)
from ..exceptions import BackupError
from ..manifest import Manifest
from ..store import sync
from .contents import examine
from .copying import (
    PAUSE_S,
    SIDE_FILES,
    TooManyWrites,
    compact_file,
    copy_pages,
    exchange,
    explained,
    explaining,
    make_plain,
    open_file,
    vacuum_into,
    write_over,
)

__all__ = ["SQLiteDatabase", "SQLiteFile"]

_LARGE_BYTES = 64_000_000  # copied within the patience of any writer
_RESTARTS = 3


class SQLiteDatabase(Database):
    """One bind on SQLite, a file or in memory."""

    dialect = "sqlite"
    drivers = ("pysqlite",)

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
        with explaining(self.path or Path(self.name)):
            if self.path is None:
                journal_mode = "memory"
                with self._memory() as source:
                    copy_pages(source, target, progress, pause_s=0.0)
                if compact:
                    compact_file(target)
            else:
                journal_mode = self._copy_file(self.path, target, progress, compact=compact)
            make_plain(target)
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

    def _copy_file(self, path: Path, target: Path, progress: Progress, *, compact: bool) -> str:
        """Copy a live file, and return its journal mode."""
        with closing(open_file(path)) as source:
            journal_mode = str(source.execute("PRAGMA journal_mode").fetchone()[0])
            if compact:
                vacuum_into(source, target, progress)
            elif journal_mode == "wal" or not _copy_between_writes(path, source, target, progress):
                # Pinned: what others commit from here on is not copied. With a rollback journal
                # they cannot commit meanwhile, so there a pause would only make them wait longer.
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()
                pause_s = PAUSE_S if journal_mode == "wal" else 0.0
                copy_pages(source, target, progress, pause_s=pause_s)
        return journal_mode

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
            with explaining(self.path), closing(open_file(self.path)) as connection:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise not_empty(str(self.path))
        return target

    def other_connections(self) -> list[str]:
        """Describe who else is connected."""
        if self.path is None:
            return []
        others = [f"process {pid}" for pid in processes_with(self.path)]
        in_use = getattr(self.engine.pool, "checkedout", lambda: 0)()
        if in_use:
            others.append(f"{in_use} connections of this process")
        return others

    def replace(
        self,
        plain: Path,
        manifest: Manifest,
        *,
        force: bool,
        jobs: int,
        save: Callable[[Database], object] = save_nothing,
    ) -> None:
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
            write_over(
                path,
                plain,
                alone=not force,
                save=lambda held: save(self if held is None else _HeldFile(self, held)),
            )
        except sqlite3.DatabaseError as error:
            code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
            if code not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise as_it_was(explained(error, path), str(path)) from error
            # There is no database in the file to write into, and nobody can be using one.
            save(self)
            exchange(path, plain)
        except BackupError as error:
            if error.code == "database.damaged":
                raise
            raise as_it_was(error, str(path)) from error

    def set_aside(self) -> Path | None:
        """Keep a damaged database, as it is, beside itself; return where."""
        path = self.path
        if path is None or not path.exists():
            return None
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = path.with_name(f"{path.name}-damaged-{stamp}")
        for suffix in ("", *SIDE_FILES):
            source = Path(f"{path}{suffix}")
            if source.exists():
                copy_to_new_file(source, Path(f"{aside}{suffix}"), like=source.stat())
        return aside


class _HeldFile(SQLiteDatabase):
    """A file that one connection has locked for itself, and that only this one can read."""

    def __init__(self, live: SQLiteDatabase, connection: sqlite3.Connection) -> None:
        super().__init__(live.engine, live.connect_args)
        self._connection = connection

    def _copy_file(self, path: Path, target: Path, progress: Progress, *, compact: bool) -> str:
        copy_pages(self._connection, target, progress, pause_s=0.0)
        return str(self._connection.execute("PRAGMA journal_mode").fetchone()[0])


def _copy_between_writes(
    path: Path, source: sqlite3.Connection, target: Path, progress: Progress
) -> bool:
    """Try to copy a large file with a rollback journal without keeping its writers waiting.

    Returns:
        Whether it worked: a small file is not tried, and with many writes it never ends.
    """
    if path.stat().st_size < _LARGE_BYTES:
        return False
    try:
        copy_pages(source, target, progress, pause_s=PAUSE_S, restarts=_RESTARTS)
    except TooManyWrites:
        target.unlink()
        return False
    return True


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
        with explaining(self.path):
            if self.path.exists():
                write_over(self.path, plain, alone=False)
            else:
                self._link(plain, manifest)

    def _link(self, plain: Path, manifest: Manifest) -> None:
        """Make the file, complete or not at all, where nobody else has made one."""
        temporary = self.path.with_name(f"{self.path.name}-dbkit-{os.urandom(4).hex()}")
        try:
            if manifest.details.get("journal_mode") == "wal":
                with closing(sqlite3.connect(plain)) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
            like = self._like.stat() if self._like is not None and self._like.exists() else None
            copy_to_new_file(plain, temporary, like=like)
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
        for suffix in ("", *SIDE_FILES):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)


def _has_wal(path: Path) -> bool:
    wal = Path(f"{path}-wal")
    return wal.exists() and wal.stat().st_size > 0


def processes_with(path: Path) -> list[int]:
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


KIND = SQLiteDatabase
"""What the room looks for in each of these modules."""
