"""Every SQLite connection gets its pragmas, and what cannot be opened is said in plain words."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, make_url, text
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from flask_dbkit.databases.sqlite import connecting
from flask_dbkit.databases.sqlite.engine import file_of
from flask_dbkit.databases.sqlite.pragmas import DEFAULT_PRAGMAS
from tests.databases.conftest import KitEngine, add_account
from tests.databases.test_sqlite_control import entry, rows
from tests.support.forks import Child, Talk

IN_FORCE = {"synchronous": {"OFF": 0, "NORMAL": 1, "FULL": 2}, "foreign_keys": {"ON": 1, "OFF": 0}}


def pragma(engine: Engine, name: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()


def all_pragmas(engine: Engine) -> dict[str, Any]:
    names = [*DEFAULT_PRAGMAS, "busy_timeout", "temp_store", "mmap_size"]
    return {name: pragma(engine, name) for name in names}


def test_the_defaults_are_in_force_on_a_file(file_engine: KitEngine) -> None:
    """Foreign keys, write-ahead log, NORMAL, the busy timeout and the sizes, as documented."""
    found = all_pragmas(file_engine())
    assert found["foreign_keys"] == 1
    assert found["journal_mode"] == "wal"
    assert found["synchronous"] == 1
    assert found["busy_timeout"] == 5000
    for name in DEFAULT_PRAGMAS.keys() - {"foreign_keys", "journal_mode", "synchronous"}:
        assert str(found[name]) in (str(DEFAULT_PRAGMAS[name]), "2"), name


def test_an_in_memory_database_gets_those_that_make_sense(prepare_engine: KitEngine) -> None:
    """There is no journal to choose, but foreign keys are on."""
    engine = prepare_engine("sqlite://")
    assert pragma(engine, "foreign_keys") == 1
    assert pragma(engine, "journal_mode") == "memory"
    assert pragma(engine, "busy_timeout") == 5000


def test_every_connection_of_the_pool_gets_them(file_engine: KitEngine) -> None:
    """Not only the first one, and again after the pool was thrown away."""
    engine = file_engine()
    for _ in range(2):
        connections = [engine.connect() for _ in range(4)]
        for connection in connections:
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
            assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 5000
        for connection in connections:
            connection.close()
        engine.dispose()


def test_a_recycled_connection_gets_them_too(file_engine: KitEngine) -> None:
    """A connection that replaces an old or invalidated one is a new one."""
    engine = file_engine(pool_recycle=0)
    assert pragma(engine, "foreign_keys") == 1
    assert pragma(engine, "foreign_keys") == 1
    with engine.connect() as connection:
        connection.invalidate()
        connection.rollback()
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_settings_change_exactly_what_they_name(path: Path, prepare_engine: KitEngine) -> None:
    """Merged over the defaults; ``None`` leaves a pragma as SQLite has it."""
    plain = all_pragmas(prepare_engine(f"sqlite:///{path}"))
    given = {"synchronous": "FULL", "mmap_size": None, "cache_size": None}
    engine = prepare_engine(f"sqlite:///{path}", DBKIT_SQLITE_PRAGMAS=given)
    changed = all_pragmas(engine)
    bare = create_engine(f"sqlite:///{path}")
    assert changed.pop("synchronous") == 2
    assert changed.pop("cache_size") == pragma(bare, "cache_size")
    assert changed.pop("mmap_size") == pragma(bare, "mmap_size")
    assert {name: plain[name] for name in changed} == changed
    bare.dispose()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 5000),
        ({"DBKIT_SQLITE_BUSY_TIMEOUT_MS": 250}, 250),
        ({"connect_args": {"timeout": 7}}, 7000),
        ({"connect_args": {"timeout": 7}, "DBKIT_SQLITE_BUSY_TIMEOUT_MS": 250}, 250),
        ({"DBKIT_SQLITE_PRAGMAS": {"busy_timeout": 99}}, 99),
        ({"DBKIT_SQLITE_PRAGMAS": {"busy_timeout": None}}, 5000),
        (
            {"connect_args": {"timeout": 3}, "DBKIT_SQLITE_PRAGMAS": {"busy_timeout": None}},
            3000,
        ),
    ],
)
def test_the_most_particular_busy_timeout_wins(
    file_engine: KitEngine, options: dict[str, Any], expected: int
) -> None:
    """The pragma, then our setting, then the driver's own ``timeout``, then the default."""
    assert pragma(file_engine(**options), "busy_timeout") == expected


def test_the_timeout_of_the_url_counts_as_the_drivers_own(
    path: Path, prepare_engine: KitEngine
) -> None:
    """``?timeout=`` is where SQLAlchemy's documentation puts it."""
    assert pragma(prepare_engine(f"sqlite:///{path}?timeout=9"), "busy_timeout") == 9000


def test_page_size_and_auto_vacuum_are_set_before_the_first_table(
    file_engine: KitEngine,
) -> None:
    """They are ignored once the file has content, so they come before the journal mode."""
    engine = file_engine(
        DBKIT_SQLITE_PRAGMAS={"page_size": 8192, "auto_vacuum": "INCREMENTAL", "encoding": "UTF-16"}
    )
    assert pragma(engine, "page_size") == 8192
    assert pragma(engine, "auto_vacuum") == 2
    assert pragma(engine, "encoding").startswith("UTF-16")


def test_the_upgrade_works_with_an_incremental_vacuum(file_engine: KitEngine, path: Path) -> None:
    """Taking the lock may give one free page back; rows and transactions do not notice."""
    engine = file_engine(DBKIT_SQLITE_PRAGMAS={"auto_vacuum": "INCREMENTAL"})
    with engine.begin() as connection:
        connection.execute(insert(entry), [{"n": "x" * 2000} for _ in range(50)])
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM entry"))
    for n in range(3):
        with engine.begin() as connection:
            connection.execute(insert(entry).values(n=n))
    with engine.connect() as connection:
        connection.execute(insert(entry).values(n=9))
        connection.rollback()
        assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    assert rows(engine) == 3


def test_the_journal_can_be_chosen(file_engine: KitEngine) -> None:
    """WAL is a default, not a must."""
    engine = file_engine(DBKIT_SQLITE_PRAGMAS={"journal_mode": "TRUNCATE"})
    assert pragma(engine, "journal_mode") == "truncate"


def test_several_processes_may_start_on_a_new_file_at_once(
    path: Path, prepare_engine: KitEngine
) -> None:
    """Switching the journal needs the file alone for a moment: they take turns at it."""
    engine = prepare_engine(f"sqlite:///{path}")

    def start(talk: Talk) -> None:
        talk.wait()
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS t (id INTEGER)"))
            talk.say(connection.execute(text("PRAGMA journal_mode")).scalar())

    children = [Child(start) for _ in range(5)]
    for child in children:
        child.let_go_on()
    assert [child.hear() for child in children] == ["wal"] * 5
    assert [child.exit_code() for child in children] == [0] * 5


def test_a_journal_that_cannot_be_switched_now_is_the_busy_error(
    path: Path, prepare_engine: KitEngine
) -> None:
    """Another program holds the file for longer than the busy timeout."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (id INTEGER)")
    other.execute("BEGIN EXCLUSIVE")
    engine = prepare_engine(f"sqlite:///{path}", DBKIT_SQLITE_BUSY_TIMEOUT_MS=30)
    with pytest.raises(OperationalError, match="locked"):
        engine.connect()
    other.execute("ROLLBACK")
    other.close()
    assert pragma(engine, "journal_mode") == "wal"


def test_a_journal_mode_that_was_not_taken_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """SQLite answers with the mode it has: a warning says what that means."""
    raw = sqlite3.connect(":memory:")
    with caplog.at_level(logging.WARNING, "flask_dbkit.sqlite"):
        connecting.apply_pragmas(raw, {"journal_mode": "WAL"}, journal=True, patience_s=0)
    assert "cannot do it" in caplog.text
    raw.close()


# -- files that cannot be used ------------------------------------------------------------


def test_a_file_that_is_no_database_is_named_and_untouched(
    path: Path, prepare_engine: KitEngine
) -> None:
    """One paragraph, the same class of error, and not one byte or file is changed."""
    content = b"Dear diary, this is no database.\n" * 100
    path.write_bytes(content)
    before = path.stat()
    engine = prepare_engine(f"sqlite:///{path}")
    for _ in range(2):
        with pytest.raises(DatabaseError) as caught:
            engine.connect()
        message = str(caught.value.orig)
        assert f"{path} is not a SQLite database" in message
        assert "Nothing was changed" in message
        assert "\n" not in message
        assert isinstance(caught.value.orig, sqlite3.DatabaseError)
        assert caught.value.orig.sqlite_errorcode == sqlite3.SQLITE_NOTADB
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_missing_folder_is_named(tmp_path: Path, prepare_engine: KitEngine) -> None:
    """SQLite makes files, not folders."""
    path = tmp_path / "missing" / "test.db"
    with pytest.raises(OperationalError) as caught:
        prepare_engine(f"sqlite:///{path}").connect()
    assert f"the folder {path.parent} does not exist. Create it" in str(caught.value.orig)
    assert not path.parent.exists()


def test_a_folder_in_place_of_the_file_is_told(path: Path, prepare_engine: KitEngine) -> None:
    """Somebody named the folder and forgot the file."""
    path.mkdir()
    with pytest.raises(OperationalError, match="it is a folder"):
        prepare_engine(f"sqlite:///{path}").connect()


def test_a_file_below_a_file_cannot_be_opened(path: Path, prepare_engine: KitEngine) -> None:
    """The folder of the URL is no folder."""
    path.write_text("")
    with pytest.raises(OperationalError, match="does not exist"):
        prepare_engine(f"sqlite:///{path / 'test.db'}").connect()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte, where this system lets us have one."""
    where = Path(tempfile.mkdtemp(prefix="dbkit-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(where)],
        capture_output=True,
        check=False,
    )
    yield where
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", str(where)], check=True)
    where.rmdir() if not any(where.iterdir()) else None


def fill(talk: Talk, engine: Engine, path: Path, way: str) -> None:
    """Run out of room in a transaction, undo it, and go on once there is room again."""

    def count() -> int:
        return rows(engine)

    with engine.begin() as connection:
        connection.execute(text("INSERT INTO entry (n) VALUES (1)"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if way == "limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    else:
        (path.parent / "ballast").write_bytes(b"x" * 200_000)
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO entry (n) VALUES (2)"))
        with pytest.raises(DBAPIError) as caught:
            for _ in range(100):
                connection.execute(text("INSERT INTO entry (n) SELECT hex(randomblob(20000))"))
            connection.commit()
        assert isinstance(caught.value.orig, sqlite3.Error)
        talk.say(caught.value.orig.sqlite_errorname.split("_")[1])
        connection.rollback()
        talk.say(count())
        if way == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        else:
            (path.parent / "ballast").unlink()
        connection.execute(text("INSERT INTO entry (n) VALUES (3)"))
        connection.commit()
        talk.say(count())
        talk.say(connection.execute(text("PRAGMA integrity_check")).scalar())


@pytest.mark.parametrize("way", ["disk", "limit"])
def test_a_full_disk_undoes_the_transaction_and_nothing_else(
    path: Path, tiny_disk: Path, prepare_engine: KitEngine, way: str
) -> None:
    """The error is raised, the transaction is gone, reads go on, and writes once there is room."""
    if way == "disk" and not os.path.ismount(tiny_disk):
        way = "limit"
    place = tiny_disk / "test.db" if way == "disk" else path
    engine = prepare_engine(f"sqlite:///{place}")
    add_account(engine)
    child = Child(lambda talk: fill(talk, engine, place, way))
    assert child.hear() in ("FULL", "IOERR")
    assert [child.hear() for _ in range(3)] == ["1", "2", "ok"]
    assert child.exit_code() == 0
    engine.dispose()


# -- read-only files ----------------------------------------------------------------------


@pytest.fixture
def read_only(path: Path, prepare_engine: KitEngine) -> Engine:
    """A prepared engine on an existing file, opened with ``mode=ro``."""
    maker = create_engine(f"sqlite:///{path}")
    add_account(maker)
    maker.dispose()
    return prepare_engine(f"sqlite:///file:{path}?mode=ro&uri=true")


def test_a_read_only_url_reads_and_leaves_the_journal_alone(read_only: Engine, path: Path) -> None:
    """No attempt is made to switch it, and no side file appears."""
    assert pragma(read_only, "journal_mode") == "delete"
    assert pragma(read_only, "foreign_keys") == 1
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_first_write_to_a_read_only_url_says_so(read_only: Engine, path: Path) -> None:
    """One sentence that names the file and the way out."""
    with read_only.connect() as connection:
        with pytest.raises(OperationalError) as caught:
            connection.execute(insert(entry).values(n=1))
        assert isinstance(caught.value.orig, sqlite3.Error)
        assert caught.value.orig.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY
        message = str(caught.value.orig)
        assert str(path) in message
        assert "mode=ro" in message
        connection.rollback()
        assert connection.execute(text("SELECT count(*) FROM account")).scalar() == 2
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_without_write_permission_is_opened_for_reading(
    open_folder: Path, prepare_engine: KitEngine
) -> None:
    """An ordinary user may read a file of somebody else's; the write says what is wrong."""
    path = open_folder / "test.db"
    maker = create_engine(f"sqlite:///{path}")
    add_account(maker)
    maker.dispose()
    path.chmod(0o444)
    open_folder.chmod(0o555)
    engine = prepare_engine(f"sqlite:///{path}")

    def work(talk: Talk) -> None:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        with engine.connect() as connection:
            talk.say(connection.execute(text("SELECT count(*) FROM account")).scalar())
            with pytest.raises(OperationalError) as caught:
                connection.execute(text("INSERT INTO entry (n) VALUES (1)"))
            talk.say(caught.value.orig)

    child = Child(work)
    assert child.hear() == "2"
    assert f"{path} cannot be written" in child.hear()
    child.exit_code()  # a nobody may not write coverage data


def test_a_read_only_transaction_is_not_taken_for_a_read_only_file(
    file_engine: KitEngine,
) -> None:
    """The database's own words stay: there is nothing wrong with the file."""
    engine = file_engine().execution_options(dbkit_sqlite_read_only=True)
    message = "attempt to write a readonly database"
    with engine.connect() as connection, pytest.raises(OperationalError, match=message):
        connection.execute(insert(entry).values(n=1))


# -- where a file is ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("sqlite:///file::memory:?uri=true", None),
        ("sqlite:///file:shared?mode=memory&cache=shared&uri=true", None),
        ("sqlite:///file:?uri=true", None),
        ("sqlite:///app.db", "app.db"),
        ("sqlite:////srv/app.db", "/srv/app.db"),
        ("sqlite:///file:app.db?uri=true", "app.db"),
        ("sqlite:///file:/srv/app.db?mode=ro&uri=true", "/srv/app.db"),
        ("sqlite:///file:///srv/app.db?uri=true", "/srv/app.db"),
    ],
)
def test_the_file_of_a_url_is_found(url: str, expected: str | None) -> None:
    """Plain paths and SQLite's own URIs; memory is no file."""
    assert file_of(make_url(url)) == expected


def test_a_network_file_system_is_warned_of(
    file_engine: KitEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write-ahead logging needs shared memory, which no network gives."""
    monkeypatch.setattr(connecting, "_NETWORK_TYPES", _Everything())
    with caplog.at_level(logging.WARNING, "flask_dbkit.sqlite"):
        engine = file_engine()
        engine.dispose()
        pragma(engine, "foreign_keys")
    assert caplog.text.count("is on a network file system") == 1


class _Everything:
    def __contains__(self, kind: object) -> bool:
        return True


def test_a_local_disk_is_not_taken_for_a_network(path: Path) -> None:
    """The longest mount point decides."""
    assert connecting.network_file_system(str(path)) is None
    assert connecting.network_file_system("/") is None


# -- the end of a connection --------------------------------------------------------------


def test_statistics_are_refreshed_when_an_engine_is_disposed_of(file_engine: KitEngine) -> None:
    """``PRAGMA optimize`` runs as connections close, and makes statistics where they help."""
    engine = file_engine()
    with engine.begin() as connection:
        connection.execute(text("CREATE INDEX by_n ON entry (n)"))
        connection.execute(insert(entry), [{"n": n % 7} for n in range(2000)])
    with engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()
        connection.execute(insert(entry), [{"n": n} for n in range(60_000)])
        connection.commit()
        connection.execute(text("SELECT * FROM entry WHERE n = 3")).all()
        before = connection.execute(text("SELECT stat FROM sqlite_stat1")).scalars().all()
    engine.dispose()
    with engine.connect() as connection:
        after = connection.execute(text("SELECT stat FROM sqlite_stat1")).scalars().all()
    assert after != before


def test_closing_while_others_write_waits_for_nobody(file_engine: KitEngine, path: Path) -> None:
    """The refresh is left out when the database is busy, and nothing is raised."""
    engine = file_engine()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    engine.dispose()
    other.execute("ROLLBACK")
    other.close()


def test_closing_a_connection_that_is_closed_already_is_quiet(file_engine: KitEngine) -> None:
    """Code that closes the driver's connection under the pool finds no error here."""
    engine = file_engine()
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.close()
        connection.invalidate()
    engine.dispose()


# -- pools --------------------------------------------------------------------------------


def test_a_file_gets_a_pool_sized_for_readers(file_engine: KitEngine) -> None:
    """Readers run beside the writer, so there may be many; nobody waits longer than 10 s."""
    pool = file_engine().pool
    assert isinstance(pool, QueuePool)
    assert pool.size() == 16
    assert pool.timeout() == 10


@pytest.mark.parametrize("options", [{"poolclass": NullPool}, {"pool_size": 3, "max_overflow": 0}])
def test_the_applications_pool_wins(file_engine: KitEngine, options: dict[str, Any]) -> None:
    """Its own class or numbers are used as they are."""
    pool = file_engine(**options).pool
    if "poolclass" in options:
        assert isinstance(pool, NullPool)
    else:
        assert isinstance(pool, QueuePool)
        assert pool.size() == 3


def test_regular_expressions_work(file_engine: KitEngine) -> None:
    """SQLAlchemy registers REGEXP on each connection; we leave it there."""
    with file_engine().connect() as connection:
        assert connection.execute(text("SELECT 'sea' REGEXP '^s'")).scalar() == 1
