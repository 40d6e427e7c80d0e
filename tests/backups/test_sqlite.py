"""Copies of a live SQLite file: complete, consistent, and equal to the source."""

from __future__ import annotations

import gzip
import itertools
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from flask_dbkit import BackupError
from flask_dbkit.backups import (
    LocalStore,
    create,
    database_at,
    restore,
    restore_in_place,
    verify,
)
from flask_dbkit.backups.database import Database
from tests.support.forks import fork, succeeded

from .conftest import Shop


def _write(path: Path, committed: Synchronized[int], stop: Any) -> None:
    """Insert 1, 2, 3 … in transactions of their own, and tell what is committed."""
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # no power is cut here
        for number in itertools.count(1):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO entry VALUES (?, hex(randomblob(300)))", (number,))
            connection.execute("UPDATE account SET total = total + ?", (number,))
            connection.execute("COMMIT")
            committed.value = number
            if stop.is_set():
                return
            time.sleep(0.0005)


@contextmanager
def writer(path: Path) -> Iterator[Synchronized[int]]:
    """Run a writer in a process of its own."""
    context = multiprocessing.get_context("fork")
    committed: Synchronized[int] = context.Value("q", 0)
    stop = context.Event()
    child = fork(lambda: _write(path, committed, stop))
    deadline = time.monotonic() + 60
    while committed.value < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    yield committed
    stop.set()
    assert succeeded(child)


def make_file(path: Path, journal_mode: str = "wal", *statements: str) -> Database:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.executescript(";".join(statements))
    return database_at(URL.create("sqlite", database=str(path)))


def checked_rows(packed: Path, scratch: Path) -> int:
    """Open a backup by hand, without the library, and check that it is one moment."""
    scratch.write_bytes(gzip.decompress(packed.read_bytes()))
    with closing(sqlite3.connect(scratch)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((count, last),) = connection.execute("SELECT count(*), max(id) FROM entry")
        ((total,),) = connection.execute("SELECT total FROM account")
    assert count == last, "a row in the middle is missing"
    assert total == last * (last + 1) // 2, "two tables are of two moments"
    return int(count)


@pytest.mark.parametrize(("journal_mode", "rounds"), [("wal", 6), ("delete", 3)])
def test_every_backup_under_a_writer_is_one_moment_and_loses_nothing(
    tmp_path: Path, journal_mode: str, rounds: int
) -> None:
    """Verified, sound, and with every row that was committed before its start."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(
        path,
        journal_mode,
        "CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT)",
        "CREATE TABLE account (total INT)",
        "INSERT INTO account VALUES (0)",
        "CREATE TABLE ballast (data BLOB)",
        "INSERT INTO ballast VALUES (zeroblob(1000000))",
    )
    with writer(path) as committed:
        for _ in range(rounds):
            before = committed.value
            manifest = create(database, store)
            assert verify(store, manifest.id, database).ok
            rows = checked_rows(store.directory / manifest.file, tmp_path / "scratch.db")
            assert rows >= before
            assert manifest.tables["entry"] == rows
        assert committed.value > before, "the writer stood still"


def test_a_backup_keeps_no_writer_waiting_with_write_ahead_logging(tmp_path: Path) -> None:
    """While the copy is being made, somebody else commits."""
    path = tmp_path / "live.db"
    database = make_file(
        path,
        "wal",
        "CREATE TABLE entry (id INTEGER PRIMARY KEY)",
        "CREATE TABLE ballast (data BLOB)",
        "INSERT INTO ballast VALUES (zeroblob(20000000))",
    )
    written: list[int] = []

    def progress(done: int, total: int | None) -> None:
        assert total is not None
        assert done <= total
        with closing(sqlite3.connect(path, timeout=0)) as other, other:
            written.append(other.execute("INSERT INTO entry DEFAULT VALUES").lastrowid or 0)

    manifest = create(database, LocalStore(tmp_path / "backups"), progress=progress)
    assert len(written) > 3
    assert manifest.tables["entry"] == 0, "the snapshot was not pinned"


@pytest.mark.parametrize("busy", [False, True])
def test_a_large_file_with_a_rollback_journal_is_tried_between_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """A writer that comes once does not wait; one that never stops is made to wait at last."""
    monkeypatch.setattr("flask_dbkit.backups.on_sqlite.database._LARGE_BYTES", 1000)
    path = tmp_path / "live.db"
    database = make_file(
        path,
        "delete",
        "CREATE TABLE entry (id INTEGER PRIMARY KEY)",
        "CREATE TABLE ballast (data BLOB)",
        "INSERT INTO ballast VALUES (zeroblob(20000000))",
    )
    written: list[bool] = []

    def progress(_done: int, _total: int | None) -> None:
        if busy or len(written) == 1:
            with closing(sqlite3.connect(path, timeout=0)) as other:
                try:
                    with other:
                        other.execute("INSERT INTO entry DEFAULT VALUES")
                    written.append(True)
                except sqlite3.OperationalError:
                    written.append(False)
        else:
            written.append(True)

    store = LocalStore(tmp_path / "backups")
    manifest = create(database, store, progress=progress)
    assert written.count(False) == 0 or busy
    assert 3 < written.count(True) < 10, "it was started again and again"
    assert (manifest.tables["entry"] == 1) != busy
    assert verify(store, manifest.id, database).ok


ODDITIES = [
    "CREATE TABLE parent (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE COLLATE NOCASE)",
    "CREATE TABLE child (id INTEGER PRIMARY KEY, p INT REFERENCES parent (id) ON DELETE CASCADE)",
    "CREATE TABLE code (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID",
    "CREATE TABLE area (w INT, h INT, size INT GENERATED ALWAYS AS (w * h) STORED)",
    "CREATE VIRTUAL TABLE words USING fts5(body)",
    'CREATE TABLE "Größe ""x"" 🐘" (id INTEGER PRIMARY KEY, "naïve" BLOB)',
    "CREATE INDEX ix_expression ON parent (lower(name)) WHERE name IS NOT NULL",
    "CREATE VIEW big AS SELECT * FROM area WHERE size > 10",
    "CREATE TABLE log (text TEXT)",
    "CREATE TRIGGER note AFTER INSERT ON parent BEGIN INSERT INTO log VALUES (new.name); END",
    "INSERT INTO parent (name) VALUES ('Łódź'), ('東京'), (NULL)",
    "DELETE FROM parent WHERE name IS NULL",
    "INSERT INTO child VALUES (1, 1), (2, 2), (3, 99)",
    "INSERT INTO code VALUES ('a', 'b')",
    "INSERT INTO area (w, h) VALUES (3, 4), (1, 1)",
    "INSERT INTO words VALUES ('the quick brown fox'), ('jumps')",
    'INSERT INTO "Größe ""x"" 🐘" VALUES (1, zeroblob(3000000)), (2, NULL)',
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 1234",
]


def dump(path: Path) -> list[str]:
    """Return everything in a file, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        pragmas = [
            str(connection.execute(f"PRAGMA {name}").fetchone())
            for name in ("user_version", "application_id", "encoding", "journal_mode")
        ]
        return pragmas + list(connection.iterdump())


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16"])
def test_the_restored_file_equals_the_source(tmp_path: Path, compact: bool, encoding: str) -> None:
    """Keys, generated columns, full text, views, triggers, large values, any name."""
    path, store = tmp_path / "lïve db%3f#.sqlite", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", f"PRAGMA encoding = '{encoding}'", *ODDITIES)
    manifest = create(database, store, compact=compact)
    assert manifest.details["foreign_key_violations"] == 1
    assert verify(store, manifest.id, database).ok
    restored = restore(store, manifest.id, database)
    assert dump(Path(str(restored.url.database))) == dump(path)
    before = dump(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE child")
        connection.execute("CREATE TABLE other (id)")
    restore_in_place(store, manifest.id, database)
    assert dump(path) == before


def test_a_compact_backup_leaves_out_free_pages(tmp_path: Path) -> None:
    """``VACUUM INTO``: smaller, and the live file stays as it is."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(
        path, "wal", "CREATE TABLE t (b BLOB)", "INSERT INTO t VALUES (randomblob(5000000))"
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM t")
    plain, compact = create(database, store), create(database, store, compact=True)
    assert compact.size_bytes < plain.size_bytes / 10
    assert verify(store, compact.id, database).ok


def test_functions_and_collations_of_the_application_are_no_damage(tmp_path: Path) -> None:
    """What only the application can check is noted, and the rest is verified."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = database_at(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.create_function("tax", 1, lambda x: x / 5, deterministic=True)
        connection.create_collation("german", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t (a INT, name TEXT COLLATE german, CHECK (tax(a) >= 0))")
        connection.execute("CREATE INDEX ix ON t (name)")
        connection.create_function("regexp", 2, lambda _a, _b: True, deterministic=True)
        connection.execute("CREATE TABLE r (a TEXT CHECK (a REGEXP '^x'))")
        connection.execute("INSERT INTO t VALUES (5, 'x')")
    manifest = create(database, store)
    assert manifest.details["unchecked"]
    assert manifest.tables["t"] == 1
    assert verify(store, manifest.id, database).ok


def test_a_damaged_database_is_told_and_not_kept_as_a_backup(tmp_path: Path) -> None:
    """A copy of a damaged file is no backup; nothing is left of it."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(
        path,
        "delete",
        "CREATE TABLE t (a TEXT)",
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
        " INSERT INTO t SELECT hex(randomblob(50)) FROM n",
    )
    good = create(database, store)
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 3 * 4096 + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(BackupError) as caught:
        create(database, store)
    assert caught.value.code == "database.damaged"
    assert store.ids() == [good.id]

    restored = restore_in_place(store, good.id, database)
    assert restored.set_aside is not None
    assert Path(restored.set_aside).read_bytes() == bytes(content)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2000,)


@pytest.mark.parametrize("content", [b"no database at all, " * 500, b""])
def test_a_file_that_is_no_database_is_replaced_and_kept_aside(
    tmp_path: Path, content: bytes
) -> None:
    """Also one of no length; the journal of the old file does not get into the new one."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
    manifest = create(database, store)
    path.write_bytes(content)
    Path(f"{path}-wal").write_bytes(b"x" * 5000)
    restored = restore_in_place(store, manifest.id, database)
    if content:
        assert restored.set_aside is not None
        assert Path(restored.set_aside).read_bytes() == content
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]


def test_a_missing_live_file_is_made_again(tmp_path: Path) -> None:
    """There is nothing to save first."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
    manifest = create(database, store)
    for each in tmp_path.glob("live.db*"):
        each.unlink()
    assert restore_in_place(store, manifest.id, database).safety_id is None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_page_size_that_changed_since_is_no_obstacle(tmp_path: Path) -> None:
    """Under write-ahead logging the size of the live file's pages cannot change."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", "PRAGMA page_size = 8192", "CREATE TABLE t (a)")
    path.unlink()
    database = make_file(path, "delete", "PRAGMA page_size = 1024", "CREATE TABLE t (a)")
    manifest = create(database, store)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO t VALUES (1)")
    restore_in_place(store, manifest.id, database)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == []


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_a_reader_sees_the_old_content_and_then_the_new_one(
    tmp_path: Path, journal_mode: str
) -> None:
    """A connection that stays open through a forced restore is on the right file."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, journal_mode, "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
    manifest = create(database, store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO t VALUES (2)")
        if journal_mode == "wal":
            other.execute("BEGIN")
            assert other.execute("SELECT count(*) FROM t").fetchone() == (2,)
        restore_in_place(store, manifest.id, database, force=True)
        if journal_mode == "wal":
            assert other.execute("SELECT count(*) FROM t").fetchone() == (2,)
            other.execute("COMMIT")
        assert other.execute("SELECT count(*) FROM t").fetchone() == (1,)
        other.execute("INSERT INTO t VALUES (3)")
    with closing(sqlite3.connect(path)) as fresh:
        assert fresh.execute("SELECT a FROM t ORDER BY a").fetchall() == [(1,), (3,)]


def test_a_restore_in_place_sees_a_connection_of_this_process(tmp_path: Path) -> None:
    """SQLite's own lock tells, where the list of processes does not."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
    manifest = create(database, store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO t VALUES (2)")
        with pytest.raises(BackupError) as caught:
            restore_in_place(store, manifest.id, database)
        assert caught.value.code == "database.busy"
        assert other.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_two_backups_at_once_get_two_ids(tmp_path: Path) -> None:
    """Within one second they are numbered; each is complete."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(create(database, store).id)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8
    assert sorted(store.ids()) == sorted(made)
    assert all(verify(store, each, database).ok for each in made)
    assert [path.name for path in store.directory.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """A file stands in its way."""
    database = make_file(tmp_path / "live.db", "wal", "CREATE TABLE t (a)")
    (tmp_path / "backups").write_text("")
    with pytest.raises(BackupError, match="cannot be made") as caught:
        create(database, LocalStore(tmp_path / "backups"))
    assert caught.value.code == "store.unusable"


@pytest.mark.backends("sqlite-file")
def test_the_application_goes_on_after_it_was_restored_in_place(
    shop: Shop, make_shop: Callable[..., Shop]
) -> None:
    """Its pool is renewed; it writes to the restored file."""
    made = shop.create()
    shop.execute("DELETE FROM book")
    shop.done("restore", made, "--in-place", "--yes")
    shop.execute("INSERT INTO book VALUES (9, 'Walden', NULL)")
    assert len(shop.rows()) == 4
    with shop.engine.connect() as connection:
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
