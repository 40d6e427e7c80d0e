"""DK03x: SQLite, its pragmas, and where its file is.

References:
    https://www.sqlite.org/pragma.html
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import Connection

from ...databases import SQLITE
from ...databases.sqlite.connecting import file_system
from ...databases.sqlite.engine import effective_pragmas, is_read_only
from ...databases.sqlite.pragmas import PragmaValue
from ...doctor.checks import check
from ...doctor.examination import Examination, ExaminedBind
from ...doctor.findings import Found

__all__: list[str] = []

_PRAGMA = "https://www.sqlite.org/pragma.html#pragma_"
_ON = ("1", "ON", "TRUE", "YES")
_SHORT_MS = 1000
_LARGE_LOG_BYTES = 256_000_000
_LAYERS = ("overlay", "aufs", "overlayfs")
_OLDEST = (3, 35, 0)
_KEY = "DBKIT_SQLITE_PRAGMAS"


def _files(given: Examination) -> Iterator[tuple[ExaminedBind, Mapping[str, PragmaValue]]]:
    """Yield each SQLite database with the pragmas its connections get."""
    for bind in given.binds_of(SQLITE):
        if bind.engine.dialect.driver == "pysqlite":
            yield bind, effective_pragmas(bind.url, bind.context)


@check(
    "DK030",
    "Foreign keys are not enforced",
    level="error",
    tags=("sqlite",),
    cause="SQLite then takes rows that refer to nothing, and leaves children behind when their"
    " parent is deleted.",
    fix=f'Take "foreign_keys" out of {_KEY}: on is the default.',
    link=f"{_PRAGMA}foreign_keys",
)
def foreign_keys_off(given: Examination) -> Iterator[Found]:
    """Look at the pragma each connection gets."""
    for bind, pragmas in _files(given):
        if str(pragmas.get("foreign_keys", "OFF")).upper() not in _ON:
            yield Found(f"foreign_keys is off on {bind.name}", object=bind.name)


@check(
    "DK031",
    "No write-ahead log",
    tags=("sqlite",),
    cause="Without it every write waits for all readers, and every reader for the writer.",
    fix=f'Take "journal_mode" out of {_KEY}: WAL is the default. On a network file system move'
    " the file first.",
    link="https://www.sqlite.org/wal.html",
)
def no_wal(given: Examination) -> Iterator[Found]:
    """Look at the pragma each connection gets."""
    for bind, pragmas in _files(given):
        mode = str(pragmas.get("journal_mode", "delete")).upper()
        if bind.file is not None and mode != "WAL" and not is_read_only(bind.url):
            yield Found(f"journal_mode of {bind.name} is {mode}", object=bind.name)


@check(
    "DK032",
    "Writers do not wait for each other",
    tags=("sqlite",),
    cause='With a busy_timeout this short a second writer fails with "database is locked".',
    fix="Set DBKIT_SQLITE_BUSY_TIMEOUT_MS to 5000, its default.",
    link=f"{_PRAGMA}busy_timeout",
)
def short_busy_timeout(given: Examination) -> Iterator[Found]:
    """Look at the pragma, and at the timeout of the driver."""
    for bind, pragmas in _files(given):
        waits_ms = pragmas.get("busy_timeout")
        if bind.file is not None and waits_ms is not None and int(waits_ms) < _SHORT_MS:
            yield Found(f"busy_timeout of {bind.name} is {waits_ms} ms", object=bind.name)


@check(
    "DK033",
    "Writes are not brought to the disk",
    level="error",
    tags=("sqlite",),
    cause="With synchronous off a power failure may damage the whole file, and not only lose the"
    " last writes.",
    fix=f'Take "synchronous" out of {_KEY}: NORMAL is the default, and safe with WAL.',
    link=f"{_PRAGMA}synchronous",
)
def synchronous_off(given: Examination) -> Iterator[Found]:
    """Look at the pragma each connection gets."""
    for bind, pragmas in _files(given):
        if bind.file is not None and str(pragmas.get("synchronous", "")).upper() in ("0", "OFF"):
            yield Found(f"synchronous is off on {bind.name}", object=bind.name)


@check(
    "DK034",
    "A write-ahead log that has grown",
    tags=("sqlite", "operations"),
    cause="A reader that never ends keeps the log from being written back; each read has to look"
    " through it.",
    fix="Find the reader that stays open, then run: PRAGMA wal_checkpoint(TRUNCATE).",
    link="https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files",
    database=True,
)
def large_log(given: Examination) -> Iterator[Found]:
    """Look at the size of the file beside the database."""
    for bind, _ in _files(given):
        log = Path(f"{bind.file}-wal")
        if bind.file is not None and log.exists() and log.stat().st_size > _LARGE_LOG_BYTES:
            size_mb = log.stat().st_size // 1_000_000
            yield Found(f"The log of {bind.name} has {size_mb} MB", object=bind.name)


@check(
    "DK035",
    "Permissions of a database file",
    level="error",
    tags=("sqlite", "security"),
    cause="SQLite needs to write the file and to make files beside it; and whoever can read the"
    " file reads every row.",
    fix="Give folder and file to the account that serves, and nobody else: chmod 700 and 600.",
    link="https://www.sqlite.org/wal.html",
    database=True,
)
def permissions(given: Examination) -> Iterator[Found]:
    """Look at the file, and at the folder it is in."""
    for bind, _ in _files(given):
        file = bind.file
        if file is None or not file.exists():
            continue
        if not is_read_only(bind.url) and not os.access(file.parent, os.W_OK):
            yield Found(f"No file can be made beside {file}", object=bind.name)
        mode = file.stat().st_mode
        if given.deploy and mode & stat.S_IWOTH:
            yield Found(f"Every account of the machine may write {file}", object=bind.name)


@check(
    "DK036",
    "A database that is gone with the process",
    level="error",
    tags=("sqlite",),
    cause="A database in memory is lost at each restart, each worker has one of its own, and its"
    " one connection serves all threads.",
    fix="Set DATABASE_URL to a file or a server.",
    link="https://www.sqlite.org/inmemorydb.html",
    deploy=True,
)
def in_memory(given: Examination) -> Iterator[Found]:
    """Look for URLs without a file."""
    for bind, _ in _files(given):
        if bind.file is None:
            yield Found(f"{bind.name} is in memory", object=bind.name)


@check(
    "DK037",
    "A database file that a deployment throws away",
    level="error",
    tags=("sqlite", "operations"),
    cause="What is in a layer of a container is gone when the container is made anew; what is among"
    " the source files is overwritten, or served.",
    fix="Put the file on a volume, outside the code.",
    link="https://docs.docker.com/engine/storage/volumes/",
    deploy=True,
)
def thrown_away(given: Examination) -> Iterator[Found]:
    """Look whether the file is in the package, or in the layers of a container."""
    root, instance = Path(given.app.root_path).resolve(), Path(given.app.instance_path).resolve()
    for bind, _ in _files(given):
        if bind.file is None:
            continue
        path = bind.file.resolve()
        if path.is_relative_to(root) and not path.is_relative_to(instance):
            yield Found(f"{bind.name} is among the source files: {bind.file}", object=bind.name)
        elif file_system(str(path)) in _LAYERS:
            yield Found(f"{bind.name} is in a layer of a container: {bind.file}", bind.name)


@check(
    "DK038",
    "More writers than one file can serve",
    level="info",
    tags=("sqlite", "capacity"),
    cause="One transaction at a time writes to a SQLite file. With many workers most of them wait.",
    fix="Watch the time writers wait, and move to a server before it hurts.",
    link="https://www.sqlite.org/whentouse.html",
    deploy=True,
)
def many_workers(given: Examination) -> Iterator[Found]:
    """Look how many requests are worked on at once."""
    size = given.process.size or 1
    for bind, _ in _files(given):
        if bind.file is not None and size > _MANY and not is_read_only(bind.url):
            yield Found(f"{size} requests at once share the one writer of {bind.name}", bind.name)


_MANY = 32


@check(
    "DK039",
    "A SQLite that is too old",
    tags=("sqlite",),
    cause="It has no RETURNING and does not drop columns: more statements are sent, and"
    " migrations copy whole tables.",
    fix="Use a Python that is built with a newer SQLite.",
    link="https://www.sqlite.org/chronology.html",
)
def old_library(given: Examination) -> Iterator[Found]:
    """Ask the library."""
    if sqlite3.sqlite_version_info < _OLDEST and any(True for _ in _files(given)):
        yield Found(f"SQLite is {sqlite3.sqlite_version}", object="sqlite3")


@check(
    "DK093",
    "A disk that is nearly full",
    tags=("sqlite", "operations"),
    cause="When it is full every write fails, and a checkpoint that fails makes the log grow.",
    fix="Make room, or move the file.",
    database=True,
)
def full_disk(given: Examination) -> Iterator[Found]:
    """Ask for the disk of each file."""
    for bind, _ in _files(given):
        if bind.file is None or not bind.file.parent.exists():
            continue
        found = os.statvfs(bind.file.parent)
        if found.f_blocks and found.f_bavail / found.f_blocks < _FREE:
            share = 100 * found.f_bavail / found.f_blocks
            yield Found(f"{share:.1f} % of the disk of {bind.name} is free", object=bind.name)


_FREE = 0.1


@check(
    "DK099",
    "Rows that refer to nothing",
    level="error",
    tags=("sqlite", "operations"),
    cause="They were written while foreign keys were not enforced. Objects load without their"
    " parents, and a backup restored elsewhere is refused.",
    fix="Delete or mend them: PRAGMA foreign_key_check lists them.",
    link=f"{_PRAGMA}foreign_key_check",
    database=True,
    deploy=True,
)
def dangling_rows(given: Examination) -> Iterator[Found]:
    """Let SQLite look for them."""
    for bind, _ in _files(given):
        with given.connect(bind) as connection:
            yield from _dangling(bind, connection)


def _dangling(bind: ExaminedBind, connection: Connection) -> Iterator[Found]:
    seen: dict[tuple[str, str], int] = {}
    for table, _rowid, parent, _number in connection.execute(text("PRAGMA foreign_key_check")):
        seen[table, parent] = seen.get((table, parent), 0) + 1
    for (table, parent), count in seen.items():
        yield Found(
            f"Rows of {table} that refer to rows of {parent} that are not there: {count}",
            object=f"{bind.name}.{table}" if bind.key else str(table),
        )
