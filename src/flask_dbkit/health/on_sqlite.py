"""Asking a SQLite file: is it there, is it the one in use, can it be read and written?

``SELECT 1`` never looks at the file, and answers in nearly every state in which the file cannot
be used. So the file is looked at, opened without the right to create it, its header is read,
and a write is begun and rolled back.

References:
    * https://www.sqlite.org/uri.html#recognized_query_parameters
    * https://www.sqlite.org/pragma.html#pragma_schema_version
    * https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy.engine import Engine

from ..databases.forking import briefly_open
from ..databases.sqlite.engine import file_of, is_read_only
from ..databases.sqlite.files import FileIdentity, open_files
from ..databases.sqlite.gate import gate_for
from ..databases.sqlite.inheriting import refuse_inherited
from .integrity import IntegrityCheck
from .probe import Probe, ProbedBind
from .report import FAIL, WARN, Result
from .runner import HealthRun, Outcome

__all__ = ["SQLiteProbe", "is_probed_as_file"]

T = TypeVar("T")

_SHARE = 0.8  # of the time given, for waiting: the answer shall be "locked", not "too late"
_BUSY_S = 0.02  # SQLite's own waiting, which cannot be told of a deadline that comes nearer
_RETRY_S = 0.005
_BLOCK_BYTES = 4096  # a larger page may be seen half written
_NO_SPACE_BYTES = 1_000_000
_CODES = {
    sqlite3.SQLITE_BUSY: "db.locked",
    sqlite3.SQLITE_LOCKED: "db.locked",
    sqlite3.SQLITE_READONLY: "db.readonly",
    sqlite3.SQLITE_NOTADB: "db.corrupt",
    sqlite3.SQLITE_CORRUPT: "db.corrupt",
    sqlite3.SQLITE_FORMAT: "db.corrupt",
    sqlite3.SQLITE_PERM: "db.auth",
    sqlite3.SQLITE_AUTH: "db.auth",
    sqlite3.SQLITE_INTERRUPT: "db.timeout",
    sqlite3.SQLITE_FULL: "disk.low",
}


def is_probed_as_file(engine: Engine) -> bool:
    """Tell whether an engine uses Python's own ``sqlite3``; SQLCipher's driver needs a key."""
    return engine.dialect.driver == "pysqlite"


class SQLiteProbe(Probe):
    """The probe of one SQLite database."""

    def __init__(self, target: ProbedBind) -> None:
        super().__init__(target)
        self._path = file_of(target.engine.url)
        self._integrity = IntegrityCheck(target.config.health_sqlite_quick_check)

    def __call__(self, run: HealthRun) -> Outcome:
        """Look at the file, read its header, begin a write, and look at the disk."""
        if self._path is None:
            # In memory there is one connection, and it is in this process: nothing to find out
            # that would not disturb whoever uses it.
            return {self.name: self.found(run)}
        outcome = dict(self._figures(self._path))
        code = self._examine(self._path, run)
        if code == "disk.low":
            outcome[f"disk:{self.target.bind}"] = self.warning(code, 0, "bytes", status=FAIL)
            code = None
        return {self.name: self.found(run, code), **outcome}

    @contextlib.contextmanager
    def private_connection(self, run: HealthRun) -> Iterator[sqlite3.Connection | None]:
        """Open the file, without the right to create it."""
        if self._path is None:
            yield None
            return
        with self._connection(self._path, self._mode(), run) as raw:
            yield raw

    # -- the file ---------------------------------------------------------------------------

    def _examine(self, path: str, run: HealthRun) -> str | None:
        try:
            status = Path(path).stat()
        except OSError as error:
            return "db.auth" if isinstance(error, PermissionError) else "db.missing"
        identity = (status.st_dev, status.st_ino)
        if open_files(self.target.engine) - {identity}:
            return "db.replaced"
        if self.target.writable and is_read_only(self.target.engine.url):
            # SQLite hands a descriptor out again that was opened when writing was allowed, and
            # a log that may be written hides a file that may not.
            return "db.readonly"
        try:
            return self._ask(path, status.st_size, run) or self._damage(path, identity)
        except sqlite3.Error as error:
            return self._code(error, path)

    def _ask(self, path: str, size: int, run: HealthRun) -> str | None:
        if size == 0 and self.target.has_models():
            return "db.empty"  # also when the write-ahead log still has everything
        if self._has_log(path):
            self._read_header(path, run)
        with self._connection(path, self._mode(), run) as raw:
            version = self._patiently(
                lambda: raw.execute("PRAGMA schema_version").fetchone()[0], run
            )
            if version == 0 and self.target.has_models():
                return "db.empty"
            page_bytes = raw.execute("PRAGMA page_size").fetchone()[0]
            if size % min(page_bytes, _BLOCK_BYTES):
                return "db.corrupt"  # cut inside a page
            if self.target.writable:
                self._try_to_write(raw, path, run)
        return None

    @staticmethod
    def _has_log(path: str) -> bool:
        try:
            return Path(f"{path}-wal").stat().st_size > 0
        except OSError:
            return False

    def _read_header(self, path: str, run: HealthRun) -> None:
        """Read the first page from the file itself; it may be in the log as well.

        Through SQLite, with the log left aside: a file that this process opens and closes past
        SQLite loses every lock that its other connections hold on it.
        https://www.sqlite.org/howtocorrupt.html#posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
        """
        with self._connection(path, "ro&immutable=1", run) as raw:
            try:
                raw.execute("PRAGMA schema_version").fetchone()
            except sqlite3.DatabaseError as error:
                # Without the log the file may be older than it says, which is no damage.
                if _primary(error) == sqlite3.SQLITE_NOTADB:
                    raise

    @contextlib.contextmanager
    def _connection(self, path: str, mode: str, run: HealthRun) -> Iterator[sqlite3.Connection]:
        with briefly_open():
            raw = _open(path, mode)
            run.release_with(raw.interrupt)
            try:
                yield raw
            finally:
                run.release_with(None)
                raw.close()

    def _mode(self) -> str:
        query = self.target.engine.url.query
        read_only = query.get("mode") == "ro" or query.get("immutable") in ("1", "true")
        return "ro" if read_only or not self.target.writable else "rw"

    def _try_to_write(self, raw: sqlite3.Connection, path: str, run: HealthRun) -> None:
        """Begin a write and roll it back, in the writers' own order.

        The turn in front of the lock is taken like any writer's, because SQLite's own waiting
        is a lottery that a probe may lose against a busy but healthy application. It is held
        for one statement.
        """
        with_gate = self.target.writer_gate and not is_read_only(self.target.engine.url)
        gate = gate_for(path) if with_gate else None
        if gate is not None:
            run.late_code = "db.locked"
            if not gate.acquire(run.left_s() * _SHARE):
                raise _busy()
            run.late_code = None
        try:
            self._patiently(lambda: raw.execute("BEGIN IMMEDIATE"), run)
            try:
                version = raw.execute("PRAGMA user_version").fetchone()[0]
                # BEGIN IMMEDIATE alone is content with a file that cannot be written.
                raw.execute(f"PRAGMA user_version = {version:d}")
            except sqlite3.OperationalError as error:
                if _primary(error) == sqlite3.SQLITE_CANTOPEN:  # no journal beside the file
                    error.sqlite_errorcode = sqlite3.SQLITE_READONLY
                raise
            finally:
                if raw.in_transaction:
                    raw.execute("ROLLBACK")
        finally:
            if gate is not None:
                gate.release()

    @staticmethod
    def _patiently(ask: Callable[[], T], run: HealthRun) -> T:
        """Try until the time for waiting is over: SQLite does not always wait by itself.

        The first statement of a connection reads the schema, and may say "locked" at once.
        """
        whole = run.deadline - run.started
        while True:
            try:
                answer = ask()
            except sqlite3.OperationalError as error:
                if _CODES.get(_primary(error)) != "db.locked":
                    raise
                run.late_code = "db.locked"
                if run.overdue or run.left_s() < whole * (1 - _SHARE) + _RETRY_S:
                    raise
            else:
                run.late_code = None
                return answer
            time.sleep(_RETRY_S)

    def _code(self, error: sqlite3.Error, path: str) -> str:
        primary = _primary(error)
        if primary == sqlite3.SQLITE_CANTOPEN:
            return "db.missing" if not Path(path).exists() else "db.auth"
        if primary == sqlite3.SQLITE_IOERR and _free_bytes(path) < _NO_SPACE_BYTES:
            return "disk.low"
        return _CODES.get(primary, "db.refused")

    def _damage(self, path: str, identity: FileIdentity) -> str | None:
        """Return what the last thorough look found, and start the next one if it is due."""
        if self.target.background():
            self._integrity.start_if_due(path, identity)
        return "db.corrupt" if self._integrity.is_damaged(identity) else None

    # -- figures ----------------------------------------------------------------------------

    def _figures(self, path: str) -> dict[str, Result]:
        config, bind = self.target.config, self.target.bind
        figures: dict[str, Result] = {}
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(Path(path).parent)
            status, code = "pass", None
            warn, fail = config.health_disk_warn, config.health_disk_fail
            if warn is not None and usage.free < usage.total * warn:
                status, code = WARN, "disk.low"
            if fail is not None and usage.free < fail:
                status, code = FAIL, "disk.low"
            figures[f"disk:{bind}"] = self.warning(code, usage.free, "bytes", status=status)
        with contextlib.suppress(OSError):
            size = Path(f"{path}-wal").stat().st_size
            limit = config.health_wal_warn
            code = "wal.large" if limit is not None and size > limit else None
            figures[f"wal:{bind}"] = self.warning(code, size, "bytes")
        return figures


def _open(path: str, mode: str) -> sqlite3.Connection:
    refuse_inherited(path)
    uri = f"file:{quote(str(Path(path).absolute()))}?mode={mode}"
    return sqlite3.connect(
        uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )


def _primary(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked: no turn to write before the deadline")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.sqlite_errorname = "SQLITE_BUSY"
    return error


def _free_bytes(path: str) -> int:
    try:
        return shutil.disk_usage(Path(path).parent).free
    except OSError:
        return 0
