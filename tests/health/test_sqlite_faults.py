"""Every way in which a SQLite file cannot be used, made for real."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_dbkit import transaction
from tests.health.conftest import Kit, MakeKit
from tests.support.forks import Child, Talk

JOURNALS = ["WAL", "DELETE"]


def _use(made: Kit) -> None:
    """Let the application open a connection and write, as a running one has done."""
    with made.app.app_context():
        with transaction():
            made.kit.db.session.execute(sa.text("INSERT INTO book DEFAULT VALUES"))


def _fill(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE filler (text TEXT)")
        raw.executemany("INSERT INTO filler VALUES (?)", [("x" * 3000,)] * 200)
        raw.execute("CREATE INDEX ix_filler ON filler (text)")
        raw.commit()
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _stop_using(made: Kit) -> None:
    with made.app.app_context():
        made.kit.db.engine.dispose()


@contextmanager
def _held(path: Path, statement: str) -> Iterator[None]:
    """Let another process hold a lock."""

    def hold(talk: Talk) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute(statement)
            talk.say("held")
            talk.wait()

    child = Child(hold)
    assert child.hear() == "held"
    try:
        yield
    finally:
        child.kill()


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("statement", ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"])
def test_a_lock_that_somebody_keeps_is_told_before_the_deadline(
    make_kit: MakeKit, journal: str, statement: str
) -> None:
    """The answer is "locked", not "too late", and it is over as soon as the lock is."""
    made = make_kit(DBKIT_HEALTH_TIMEOUT=1, DBKIT_SQLITE_PRAGMAS={"journal_mode": journal})
    assert made.get()[0] == 200
    with _held(made.path, statement):
        began = time.monotonic()
        assert made.codes() == {"db.locked"}
        assert time.monotonic() - began < 4  # SQLite's own timeout is five seconds
    # A question asked before may still be waiting for its answer, on a machine that is late.
    _until(lambda: made.codes() == set())


def test_a_file_that_is_missing_is_not_made(make_kit: MakeKit) -> None:
    """Asking leaves no empty database behind."""
    made = make_kit(tables=False)
    assert made.codes() == {"db.missing"}
    assert made.get()[0] == 503
    assert list(made.path.parent.glob("health-*")) == []


def test_a_folder_that_is_missing_is_told(make_kit: MakeKit, tmp_path: Path) -> None:
    """A volume that was not mounted."""
    made = make_kit(f"sqlite:///{tmp_path}/volume/shop.db", tables=False)
    assert made.codes() == {"db.missing"}
    assert not (tmp_path / "volume").exists()


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_file_deleted_under_pooled_connections_is_told(make_kit: MakeKit, journal: str) -> None:
    """Every statement on a pooled connection goes on working, and nothing of it is kept."""
    made = make_kit(DBKIT_SQLITE_PRAGMAS={"journal_mode": journal})
    _use(made)
    made.path.unlink()
    if journal == "WAL":
        _use(made)  # with a rollback journal, SQLite notices by itself
    assert made.codes() == {"db.missing"}


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_file_replaced_under_pooled_connections_is_told(
    make_kit: MakeKit, journal: str, tmp_path: Path
) -> None:
    """Only a comparison of the file at the path with the one in use tells."""
    made = make_kit(DBKIT_SQLITE_PRAGMAS={"journal_mode": journal})
    _use(made)
    assert made.codes() == set()
    with closing(sqlite3.connect(made.path)) as source:
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            source.backup(copy)
    for rest in made.path.parent.glob(f"{made.path.name}-[ws]*"):
        rest.unlink()
    (tmp_path / "copy.db").rename(made.path)
    assert made.codes() == {"db.replaced"}
    assert made.get()[0] == 503
    _stop_using(made)
    assert made.codes() == set()
    _use(made)
    assert made.codes() == set()


@pytest.mark.parametrize("how", ["invalidate", "detach"])
def test_a_connection_that_was_closed_does_not_tell_of_a_replaced_file(
    make_kit: MakeKit, tmp_path: Path, how: str
) -> None:
    """Its place in the pool stays, until somebody takes it again."""
    made = make_kit()
    with made.app.app_context(), made.kit.db.engine.connect() as connection:
        getattr(connection, how)()
    with closing(sqlite3.connect(tmp_path / "other.db")) as raw, raw:
        raw.execute("CREATE TABLE another (id)")
    (tmp_path / "other.db").rename(made.path)
    assert made.codes() == set()


def test_a_header_that_was_overwritten_is_told(make_kit: MakeKit) -> None:
    """``SELECT 1`` answers all the same: it never looks at the file."""
    made = make_kit()
    _stop_using(made)
    with made.path.open("r+b") as file:
        file.write(b"no database at all" * 6)
    assert made.codes() == {"db.corrupt"}


def test_a_file_that_was_cut_is_told(make_kit: MakeKit) -> None:
    """Half a copy, or a disk that was full."""
    made = make_kit()
    _fill(made.path)
    _stop_using(made)
    os.truncate(made.path, made.path.stat().st_size // 2)
    assert made.codes() == {"db.corrupt"}


def test_a_file_without_content_is_empty(make_kit: MakeKit) -> None:
    """The application has models, so a database without any table is the wrong one."""
    made = make_kit()
    _stop_using(made)
    os.truncate(made.path, 0)
    assert made.codes() == {"db.empty"}
    assert made.get()[0] == 503
    made.create_tables()
    assert made.codes() == set()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda path: _overwrite(path, b"no database at all" * 6), "db.corrupt"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "db.corrupt"),
        (lambda path: os.truncate(path, 0), "db.empty"),
    ],
)
def test_what_happens_to_a_file_in_use_is_told_although_its_log_has_everything(
    make_kit: MakeKit, change: Callable[[Path], None], code: str
) -> None:
    """Connections read the log, and nothing is wrong with that until it is written back."""
    made = make_kit()
    _use(made)
    assert made.codes() == set()
    change(made.path)
    _use(made)
    assert made.codes() == {code}
    assert made.get()[0] == 503


def _overwrite(path: Path, data: bytes) -> None:
    # Past this process: closing the file would take its locks away, and a fork its connections.
    subprocess.run(["dd", f"of={path}", "conv=notrunc", "status=none"], input=data, check=True)


def test_probing_takes_no_lock_away_from_the_application(make_kit: MakeKit) -> None:
    """A file that is closed past SQLite costs its process every lock on it."""
    made = make_kit(DBKIT_HEALTH_TIMEOUT=1)
    with made.app.app_context(), transaction():
        made.kit.db.session.execute(sa.text("INSERT INTO book DEFAULT VALUES"))
        assert made.codes() == {"db.locked"}

        def try_to_write(talk: Talk) -> None:
            with closing(sqlite3.connect(made.path, timeout=0, isolation_level=None)) as raw:
                with pytest.raises(sqlite3.OperationalError) as caught:
                    raw.execute("BEGIN IMMEDIATE")
                talk.say(caught.value)

        child = Child(try_to_write)
        assert child.hear() == "database is locked"
        assert child.exit_code() == 0


def test_a_damaged_page_is_found_in_the_background(make_kit: MakeKit) -> None:
    """Every quick probe passes; the thorough look does not, and sees the repair."""
    made = make_kit(DBKIT_HEALTH_SQLITE_QUICK_CHECK=0.2)
    _fill(made.path)
    _stop_using(made)
    whole = made.path.read_bytes()
    with made.path.open("r+b") as file:
        file.seek(len(whole) // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    _until(lambda: made.codes() == {"db.corrupt"})
    assert made.get()[0] == 503
    made.path.write_bytes(whole)
    _until(lambda: made.codes() == set())


def test_no_thorough_look_is_taken_when_it_is_switched_off(make_kit: MakeKit) -> None:
    """Zero, and None."""
    for off in (0, None):
        made = make_kit(DBKIT_HEALTH_SQLITE_QUICK_CHECK=off)
        assert made.get()[0] == 200
        assert [each.name for each in threading.enumerate() if "quick" in each.name] == []


def _until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_url_that_opens_the_file_read_only_is_told(make_kit: MakeKit) -> None:
    """``BEGIN IMMEDIATE`` alone is content with it."""
    path = make_kit().path
    url = f"sqlite:///file:{path}?mode=ro&uri=true"
    assert make_kit(url, tables=False).codes() == {"db.readonly"}
    reader = make_kit(url, tables=False, DBKIT_HEALTH_BINDS={"default": {"writable": False}})
    assert reader.codes() == set()


def test_a_file_that_may_no_longer_be_written_is_told_while_it_is_in_use(
    make_kit: MakeKit,
) -> None:
    """Open descriptors go on, and a log that may be written hides it until it is full.

    Root may write everything but what is immutable, where the file system knows such a thing.
    """
    made = make_kit()
    _use(made)
    assert made.codes() == set()
    made.path.chmod(0o444)
    immutable = ["chattr", "+i", str(made.path)]
    with suppress(FileNotFoundError):
        subprocess.run(immutable, capture_output=True, check=False)
    try:
        may_write = os.access(made.path, os.W_OK)
        assert made.codes() == (set() if may_write else {"db.readonly"})
    finally:
        with suppress(FileNotFoundError):
            subprocess.run(["chattr", "-i", str(made.path)], capture_output=True, check=False)
        made.path.chmod(0o644)
    assert made.codes() == set()


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_file_without_permission_to_write_is_told(
    make_kit: MakeKit, open_folder: Path, journal: str
) -> None:
    """To a process that is not root."""
    path = open_folder / "shop.db"
    made = make_kit(f"sqlite:///{path}", DBKIT_SQLITE_PRAGMAS={"journal_mode": journal})
    _stop_using(made)
    path.chmod(0o444)
    open_folder.chmod(0o555)

    def ask(talk: Talk) -> None:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        status, body = made.get()
        talk.say(f"{status} {body['checks']['db:default'][0]['code']}")

    child = Child(ask)
    assert child.hear() == "503 db.readonly"
    child.exit_code()  # a nobody may not write coverage data


def test_a_folder_that_may_not_be_entered_is_told(make_kit: MakeKit, tmp_path: Path) -> None:
    """A path below a file is no path; the answer is a code all the same."""
    (tmp_path / "file").touch()
    assert make_kit(f"sqlite:///{tmp_path}/file/shop.db", tables=False).codes() == {"db.missing"}


def test_a_folder_in_place_of_the_file_is_told(make_kit: MakeKit, tmp_path: Path) -> None:
    """A mount that was made because the file was not there."""
    (tmp_path / "shop.db").mkdir()
    made = make_kit(f"sqlite:///{tmp_path}/shop.db", tables=False)
    assert made.get()[0] == 503


def test_a_disk_that_is_nearly_full_warns_and_then_fails(make_kit: MakeKit) -> None:
    """The limits are settings; here they are above what there is."""
    warned = make_kit(DBKIT_HEALTH_DISK_WARN="100 %")
    assert warned.codes() == {"disk.low"}
    assert warned.get()[1]["status"] == "warn"
    failed = make_kit(DBKIT_HEALTH_DISK_FAIL="1000000 TB")
    assert failed.codes() == {"disk.low"}
    assert failed.get()[0] == 503
    assert make_kit(DBKIT_HEALTH_DISK_WARN=None, DBKIT_HEALTH_DISK_FAIL=None).codes() == set()


@pytest.fixture
def tiny_disk() -> Iterator[tuple[Path, int]]:
    """A disk of half a megabyte where this system lets us have one, and its size in any case."""
    where = Path(tempfile.mkdtemp(prefix="dbkit-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(where)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield where, shutil.disk_usage(where).total
    if mounted:
        subprocess.run(["umount", "-l", str(where)], check=True)
    shutil.rmtree(where)


def test_a_disk_that_is_full_is_told(make_kit: MakeKit, tiny_disk: tuple[Path, int]) -> None:
    """Before SQLite notices, and when it does: it cannot even open its log any more."""
    where, size = tiny_disk
    made = make_kit(f"sqlite:///{where}/shop.db", DBKIT_HEALTH_DISK_FAIL=size + 1)
    assert made.codes() == {"disk.low"}
    assert made.get()[0] == 503
    if size < 1_000_000:
        late = make_kit(
            f"sqlite:///{where}/shop.db",
            tables=False,
            DBKIT_HEALTH_DISK_FAIL=None,
            DBKIT_HEALTH_DISK_WARN=None,
            DBKIT_HEALTH_SQLITE_QUICK_CHECK=None,  # its connection would keep the log open
        )
        assert late.codes() == set()
        _stop_using(made)
        with suppress(OSError), (where / "ballast").open("wb", buffering=0) as ballast:
            for _ in range(10_000):
                ballast.write(b"x" * 4096)
        assert late.codes() == {"disk.low"}
        assert late.get()[0] == 503
        (where / "ballast").unlink()
        assert late.codes() == set()


def test_a_large_log_warns(make_kit: MakeKit) -> None:
    """A reader that never ends keeps the write-ahead log from being reset."""
    made = make_kit(DBKIT_HEALTH_WAL_WARN="100 KB")
    assert made.codes() == set()
    with closing(sqlite3.connect(made.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM book").fetchall()
        with closing(sqlite3.connect(made.path)) as writer:
            writer.execute("CREATE TABLE filler (text TEXT)")
            writer.executemany("INSERT INTO filler VALUES (?)", [("x" * 3000,)] * 100)
            writer.commit()
        assert made.codes() == {"wal.large"}
        assert made.get()[1]["status"] == "warn"


def test_an_exhausted_pool_is_a_warning_and_no_outage(make_kit: MakeKit) -> None:
    """The pool is never waited for."""
    made = make_kit(SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 2, "max_overflow": 1})
    with made.app.app_context():
        held = [made.kit.db.engine.connect() for _ in range(3)]
        began = time.monotonic()
        status, body = made.get()
        assert time.monotonic() - began < 10  # the pool's timeout is thirty seconds
        (entry,) = body["checks"]["pool:default"]
        for connection in held:
            connection.close()
    assert (status, body["status"]) == (200, "warn")
    assert (entry["code"], entry["observedValue"], entry["limit"]) == ("db.pool_full", 3, 3)
    assert made.codes() == set()


def test_a_database_in_memory_is_as_well_as_its_process(make_kit: MakeKit) -> None:
    """Its one connection is left to whoever uses it."""
    made = make_kit("sqlite://")
    with made.app.app_context(), transaction():
        made.kit.db.session.execute(sa.text("INSERT INTO book DEFAULT VALUES"))
        assert made.codes() == set()


def test_a_busy_application_is_not_taken_for_a_locked_file(make_kit: MakeKit) -> None:
    """The probe takes its turn among the writers, and the writers do not fail."""
    made = make_kit(DBKIT_HEALTH_TIMEOUT=10)
    stop, errors, written = threading.Event(), [], []

    def write() -> None:
        while not stop.is_set():
            try:
                _use(made)
                written.append(1)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    found = [made.codes() for _ in range(30)]
    stop.set()
    for thread in threads:
        thread.join()
    assert found == [set()] * 30
    assert errors == []
    with made.app.app_context():
        assert made.kit.db.session.scalar(sa.text("SELECT count(*) FROM book")) == len(written)


def test_a_long_write_of_our_own_is_told_in_time(make_kit: MakeKit) -> None:
    """The probe does not stand in the queue of the writers longer than its deadline."""
    made = make_kit(DBKIT_HEALTH_TIMEOUT=1)
    with made.app.app_context(), transaction():
        made.kit.db.session.execute(sa.text("INSERT INTO book DEFAULT VALUES"))
        began = time.monotonic()
        assert made.codes() == {"db.locked"}
        assert time.monotonic() - began < 4  # SQLite's own timeout is five seconds
    assert made.codes() == set()


def test_asking_writes_nothing(make_kit: MakeKit) -> None:
    """The write is rolled back; the version of the application's own stays what it is."""
    made = make_kit()
    with closing(sqlite3.connect(made.path)) as raw:
        raw.execute("PRAGMA user_version = 7")
        raw.commit()
        before = raw.execute("PRAGMA data_version").fetchone()
        for _ in range(3):
            assert made.get()[0] == 200
        assert raw.execute("PRAGMA data_version").fetchone() == before
        assert raw.execute("PRAGMA user_version").fetchone() == (7,)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("in_use", [False, True])
def test_nothing_is_left_open_after_many_probes(make_kit: MakeKit, in_use: bool) -> None:
    """No descriptor and no thread, with and without connections of the application."""
    made = make_kit(DBKIT_HEALTH_SQLITE_QUICK_CHECK=None)
    if in_use:
        _use(made)
    made.get()
    before = _descriptors(), threading.active_count()
    for _ in range(300):
        made.client.get("/health/ready")
    _until(lambda: threading.active_count() <= before[1])
    assert _descriptors() <= before[0]
