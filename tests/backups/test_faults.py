"""Killed, interrupted, and out of room: a usable database and no half backup each time."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from flask import Flask

from flask_dbkit import BackupError, DBKit
from flask_dbkit.backups import LocalStore, Packing, create, database_at, restore, verify
from flask_dbkit.backups.verifying import unpacked
from tests.support.forks import exit_code, fork, succeeded

from .test_sqlite import make_file

ROWS = (
    "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    " INSERT INTO t SELECT i, hex(randomblob(2000)) FROM n"
)


def kill_when(child: int, reached: Callable[[], bool]) -> bool:
    """Kill a child as soon as it has come so far; tell whether it was still running."""
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) and not reached():
        time.sleep(0.0005)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return exit_code(child) == -signal.SIGKILL


def die(*_arguments: object) -> None:
    """End this process here and now, as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def sound(path: Path) -> int:
    """Check a file from end to end, and return how many rows it has."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((count,),) = connection.execute("SELECT count(*) FROM t")
    return int(count)


@pytest.mark.parametrize("pattern", [".partial-*/copy.sqlite3", ".partial-*/*.gz"])
def test_a_backup_that_is_killed_leaves_no_backup_and_no_file(tmp_path: Path, pattern: str) -> None:
    """Nothing is listed, the live file is sound, and the next backup tidies up."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", "CREATE TABLE t (i, a TEXT)", ROWS.format(count=1500))
    child = fork(lambda: create(database, store))
    assert kill_when(child, lambda: bool(list(store.directory.glob(pattern))))
    assert store.ids() == []
    assert any(each.name.startswith(".partial-") for each in store.directory.iterdir())
    assert sound(path) == 1500
    manifest = create(database, store)
    assert {each.name for each in store.directory.iterdir()} == {
        f"{manifest.id}.json",
        manifest.file,
    }
    assert verify(store, manifest.id, database).ok


def test_data_whose_manifest_was_never_written_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between the two names: nothing is listed, and the next command tidies up."""
    store = LocalStore(tmp_path / "backups")
    database = make_file(tmp_path / "live.db", "wal", "CREATE TABLE t (a)")
    good = create(database, store)

    def end_before_the_manifest() -> None:
        monkeypatch.setattr(store, "write_manifest", die)
        create(database, store)

    assert exit_code(fork(end_before_the_manifest)) == -signal.SIGKILL
    left = {each.name for each in store.directory.iterdir()}
    assert len(left) == 4  # one backup, data without a manifest, and the folder
    assert store.ids() == [good.id]
    store.clean()
    assert {each.name for each in store.directory.iterdir()} == {f"{good.id}.json", good.file}


@pytest.mark.parametrize(("journal_mode", "force"), [("wal", "alone"), ("delete", "force")])
def test_a_restore_in_place_that_is_killed_leaves_the_old_or_the_new_content(
    tmp_path: Path, journal_mode: str, force: str
) -> None:
    """At several moments while the live file is being written."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, journal_mode, "CREATE TABLE t (i, a TEXT)", ROWS.format(count=1000))
    manifest = create(database, store, packing=Packing("none"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM t WHERE i > 10")

    def bring_back() -> None:
        with unpacked(store, manifest, None) as plain:
            database.replace(plain, manifest, force=force == "force", jobs=1)

    seen = set()
    journal = Path(f"{path}-wal" if journal_mode == "wal" else f"{path}-journal")
    for size in (1, 1_500_000):

        def reached(size: int = size) -> bool:
            # The journal of a file grows with what is overwritten, the file with what is new.
            written = max(
                (each.stat().st_size for each in (journal, path) if each.exists()), default=0
            )
            return journal.exists() and written >= size

        kill_when(fork(bring_back), reached)
        seen.add(sound(path))
    assert seen <= {10, 1000}
    assert succeeded(fork(bring_back))
    assert sound(path) == 1000


def test_a_restore_that_is_killed_leaves_no_half_file_under_the_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file gets its name when it is complete."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", "CREATE TABLE t (i, a TEXT)", ROWS.format(count=1000))
    manifest = create(database, store, packing=Packing("none"))

    def end_before_the_name() -> None:
        monkeypatch.setattr("flask_dbkit.backups.on_sqlite.database.sync", die)
        restore(store, manifest.id, database)

    assert exit_code(fork(end_before_the_name)) == -signal.SIGKILL
    assert not path.with_name(f"live.db-{manifest.id}").exists()
    restored = restore(store, manifest.id, database)
    assert sound(Path(str(restored.url.database))) == 1000


@pytest.mark.parametrize("room", [10_000, 1_000_000])
def test_a_full_disk_is_a_clean_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """While the copy is made, and while it is compressed: one sentence, nothing left behind."""
    path, folder = tmp_path / "live.db", tmp_path / "backups"
    make_file(path, "wal", "CREATE TABLE t (i, a TEXT)", ROWS.format(count=200))
    # A filter that makes more of the data than there was.
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{path}"
    app.config["DBKIT_BACKUP_FILTER"] = ["sh", "-c", "cat > all; cat" + " all" * 9]
    monkeypatch.chdir(tmp_path)
    DBKit(app)

    def back_up() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # Files of this process, and of its children, cannot grow beyond this.
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        result = app.test_cli_runner().invoke(args=["dbkit", "backup", "create"])
        os.write(writing, f"{result.exit_code} {result.output}".encode())

    reading, writing = os.pipe()
    assert succeeded(fork(back_up))
    os.close(writing)
    with os.fdopen(reading) as said:
        first = said.readline()
    assert first.startswith("1 Error: ")
    assert "Traceback" not in first
    assert list(folder.iterdir()) == []
    assert sound(path) == 200


def test_an_interrupted_backup_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the copy."""
    store = LocalStore(tmp_path / "backups")
    database = make_file(tmp_path / "live.db", "wal", "CREATE TABLE t (a)")

    def interrupt(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create(database, store, progress=interrupt)
    assert list(store.directory.iterdir()) == []


def test_a_lock_that_is_never_given_back_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in a wait without an end."""
    monkeypatch.setattr("flask_dbkit.backups.on_sqlite.copying.PATIENCE_S", 0.3)
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "delete", "CREATE TABLE t (a)")
    manifest = create(database, store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for action in (
            lambda: create(database, store),
            lambda: database.replace(store.directory / manifest.file, manifest, force=True, jobs=1),
        ):
            with pytest.raises(BackupError) as caught:
                action()
            assert caught.value.code == "database.busy"
    assert database_at(f"sqlite:///{path}").other_connections() == []
