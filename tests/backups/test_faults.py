"""Killed, interrupted, and out of room: a usable database and no half backup each time."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flask_dbkit import BackupError
from flask_dbkit.backups import LocalStore, Packing, create, database_at, restore, verify

from .conftest import without_coverage
from .test_sqlite import make_file

CREATE = """
import sys
from pathlib import Path
from flask_dbkit.backups import LocalStore, create, database_at
create(database_at("sqlite:///" + sys.argv[1]), LocalStore(Path(sys.argv[2])))
"""
RESTORE = """
import sys
from pathlib import Path
from flask_dbkit.backups import LocalStore, database_at
from flask_dbkit.backups.restoring import unpacked
store, database = LocalStore(Path(sys.argv[2])), database_at("sqlite:///" + sys.argv[1])
manifest = store.read_manifest(sys.argv[3])
with unpacked(store, manifest, None) as plain:
    database.replace(plain, manifest, force=sys.argv[4] == "force", jobs=1)
"""
ROWS = (
    "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    " INSERT INTO t SELECT i, hex(randomblob(2000)) FROM n"
)


def start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        start_new_session=True,
        env=without_coverage(),
    )


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> bool:
    """Kill a process as soon as it has come so far; tell whether it was still running."""
    while process.poll() is None and not reached():
        time.sleep(0.0005)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    return alive


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
    database = make_file(path, "wal", "CREATE TABLE t (i, a TEXT)", ROWS.format(count=6000))
    process = start(CREATE, path, store.directory)
    assert kill_when(process, lambda: bool(list(store.directory.glob(pattern))))
    assert store.ids() == []
    assert any(each.name.startswith(".partial-") for each in store.directory.iterdir())
    assert sound(path) == 6000
    manifest = create(database, store)
    assert {each.name for each in store.directory.iterdir()} == {
        f"{manifest.id}.json",
        manifest.file,
    }
    assert verify(store, manifest.id, database).ok


def test_data_whose_manifest_was_never_written_are_removed(tmp_path: Path) -> None:
    """The moment between the two names: nothing is listed, and the next command tidies up."""
    store = LocalStore(tmp_path / "backups")
    database = make_file(tmp_path / "live.db", "wal", "CREATE TABLE t (a)")
    good = create(database, store)
    script = f"""
import os, signal, sys
from pathlib import Path
from flask_dbkit.backups import LocalStore, create, database_at
store = LocalStore(Path({str(store.directory)!r}))
store.write_manifest = lambda manifest: os.kill(os.getpid(), signal.SIGKILL)
create(database_at({"sqlite:///" + str(tmp_path / "live.db")!r}), store)
"""
    assert start(script).wait(60) == -signal.SIGKILL
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
    database = make_file(path, journal_mode, "CREATE TABLE t (i, a TEXT)", ROWS.format(count=4000))
    manifest = create(database, store, packing=Packing("none"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM t WHERE i > 10")
    seen = set()
    journal = Path(f"{path}-wal" if journal_mode == "wal" else f"{path}-journal")
    for size in (1, 6_000_000):
        process = start(RESTORE, path, store.directory, manifest.id, force)

        def reached(size: int = size) -> bool:
            # The journal of a file grows with what is overwritten, the file with what is new.
            written = max(
                (each.stat().st_size for each in (journal, path) if each.exists()), default=0
            )
            return journal.exists() and written >= size

        kill_when(process, reached)
        seen.add(sound(path))
    assert seen <= {10, 4000}
    assert start(RESTORE, path, store.directory, manifest.id, force).wait(60) == 0
    assert sound(path) == 4000


def test_a_restore_that_is_killed_leaves_no_half_file_under_the_new_name(tmp_path: Path) -> None:
    """The new file gets its name when it is complete."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", "CREATE TABLE t (i, a TEXT)", ROWS.format(count=4000))
    manifest = create(database, store, packing=Packing("none"))
    script = """
import os, signal, sys
from pathlib import Path
from flask_dbkit.backups import LocalStore, database_at, restore
from flask_dbkit.backups.on_sqlite import database as sqlite
sqlite.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
restore(LocalStore(Path(sys.argv[2])), sys.argv[3], database_at("sqlite:///" + sys.argv[1]))
"""
    code = start(script, path, store.directory, manifest.id).wait(60)
    assert code == -signal.SIGKILL
    assert not path.with_name(f"live.db-{manifest.id}").exists()
    restored = restore(store, manifest.id, database)
    assert sound(Path(str(restored.url.database))) == 4000


@pytest.mark.parametrize("room", [100_000, 9_000_000])
def test_a_full_disk_is_a_clean_error(tmp_path: Path, room: int) -> None:
    """While the copy is made, and while it is compressed: one sentence, nothing left behind."""
    path, folder = tmp_path / "live.db", tmp_path / "backups"
    make_file(path, "wal", "CREATE TABLE t (i, a TEXT)", ROWS.format(count=2000))
    # A filter that makes more of the data than there was.
    larger = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read() * 9)"
    script = f"""
import resource, signal, sys
from flask import Flask
from flask_dbkit import DBKit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
app = Flask("shop", instance_path={str(tmp_path)!r})
app.config["SQLALCHEMY_DATABASE_URI"] = {"sqlite:///" + str(path)!r}
app.config["DBKIT_BACKUP_FILTER"] = [sys.executable, "-c", {larger!r}]
DBKit(app)
# Files of this process, and of its children, cannot grow beyond this.
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
result = app.test_cli_runner().invoke(args=["dbkit", "backup", "create"])
sys.stdout.write(result.output)
sys.exit(result.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=without_coverage(),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("Error: ")
    assert "Traceback" not in done.stdout.splitlines()[0]
    assert list(folder.iterdir()) == []
    assert sound(path) == 2000


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
