"""PostgreSQL: the same database again, the right program, and no password in sight."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flask_dbkit.backups import LocalStore, create, database_at, restore_in_place, verify
from flask_dbkit.backups.on_postgresql.catalog import read_contents
from flask_dbkit.backups.servers import fit_name, left_over, passing_name
from tests.support.databases import Database
from tests.support.forks import exit_code, fork
from tests.support.postgres import PostgresServer

from .conftest import Shop, database_names, drop, watching_command_lines

pytestmark = pytest.mark.backends("postgresql")

MODULE = "flask_dbkit.backups.on_postgresql.loading"
ODDITIES = [
    "CREATE SCHEMA archive",
    "CREATE TYPE mood AS ENUM ('fine', 'tired')",
    'CREATE TABLE "Größe ""x"" :y %s" (id serial PRIMARY KEY, "naïve" bytea, m mood)',
    "CREATE TABLE archive.book (id int PRIMARY KEY, a int REFERENCES author ON DELETE CASCADE)",
    "CREATE TABLE part (day date, n int) PARTITION BY RANGE (day)",
    "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE TABLE area (w int, h int, size int GENERATED ALWAYS AS (w * h) STORED)",
    "CREATE MATERIALIZED VIEW sizes AS SELECT size FROM area",
    "CREATE INDEX ix_lower ON author (lower(name)) WHERE name IS NOT NULL",
    "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'",
    """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
       'BEGIN INSERT INTO area VALUES (1, 1); RETURN NEW; END'""",
    "CREATE TRIGGER note AFTER INSERT ON author FOR EACH ROW EXECUTE FUNCTION note()",
    "COMMENT ON TABLE author IS 'people; they''re real'",
    """INSERT INTO "Größe ""x"" :y %s" ("naïve", m)
       VALUES (decode(repeat('00ff', 500000), 'hex'), 'tired')""",
    "INSERT INTO archive.book VALUES (1, 1)",
    "INSERT INTO part VALUES ('2026-05-05', 1)",
    "INSERT INTO area VALUES (3, 4)",
]


def described(url: Any) -> str:
    """Return everything in a database as the script ``pg_dump`` makes of it."""
    url = sa.make_url(url).set(drivername="postgresql")
    program = shutil.which("pg_dump")
    assert program is not None
    done = subprocess.run(
        [program, "--dbname", url.render_as_string(hide_password=False)],
        capture_output=True,
        text=True,
        check=True,
    )
    # Newer versions write a random word, and the statistics, which differ a little every time.
    text = re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.MULTILINE)
    return re.sub(r"SELECT \* FROM pg_catalog\.pg_restore_\w+\(.*?\);", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_restored_database_equals_the_source(
    shop: Shop, restored_name: Callable[[str], Any], database: Database, jobs: int
) -> None:
    """Schemas, types, partitions, functions, triggers, large values, any name; with jobs too."""
    shop.execute(*[text.replace('" :y', '" \\:y') for text in ODDITIES])
    made = shop.create("--jobs", str(jobs), *(["--verify"] if jobs == 1 else []))
    tables = shop.listed()[made]["tables"]
    assert tables['Größe "x" :y %s'] == 1
    assert (tables["archive.book"], tables["part"], tables["part_1"]) == (1, 1, 1)
    assert shop.listed()[made]["views"] == ["sizes", "titles"]
    assert shop.listed()[made]["format"] == ("custom" if jobs == 1 else "directory")
    shop.done("restore", made, "--jobs", str(jobs))
    assert described(restored_name(made)) == described(database.url)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_server_that_is_older_than_the_programs_is_restored_through_a_script(
    shop: Shop,
    restored_name: Callable[[str], Any],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
) -> None:
    """``pg_restore`` 17 begins with a setting that a server before 17 refuses."""
    monkeypatch.setattr(f"{MODULE}._UNKNOWN_BEFORE", 2)
    monkeypatch.setattr(f"{MODULE}.server_major_of", lambda _connection: 1)
    made = shop.create("--jobs", str(jobs))
    shop.done("restore", made)
    assert described(restored_name(made)) == described(database.url)


def test_the_numbers_are_those_of_the_copy_whatever_is_written_meanwhile(
    shop: Shop, fake_program: Callable[[str, str], Path], database: Database
) -> None:
    """Rows are counted in the snapshot that ``pg_dump`` reads."""
    notes = fake_program(
        "pg_dump",
        'case "$1" in --version) ;; *) touch "$NOTES/on"; sleep 0.5;; esac; exec "$REAL" "$@"',
    )
    stop = threading.Event()

    def write() -> None:
        number = 100
        while not stop.is_set():
            number += 1
            shop.execute(f"INSERT INTO book VALUES ({number}, 'new', NULL)")

    thread = threading.Thread(target=write)
    thread.start()
    made = shop.create()
    stop.set()
    thread.join()
    assert (notes / "on").exists()
    manifest = shop.listed()[made]
    assert manifest["row_counts"] == "exact"
    assert 3 <= manifest["tables"]["book"] < len(shop.rows())
    assert f"{made} is good" in shop.done("verify", made)


@pytest.fixture
def not_handed_on(database: Database) -> Iterator[None]:
    """Remove the database, instead of handing it on to another test with its grants."""
    yield
    drop(database.url)


@pytest.mark.usefixtures("not_handed_on")
def test_in_place_keeps_the_settings_and_grants_of_the_database(
    database: Database, make_shop: Callable[..., Shop]
) -> None:
    """They belong to the database, which is a new one afterwards."""
    shop = make_shop()
    shop.fill()
    name = sa.make_url(database.url).database
    with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for text in (
            f"ALTER DATABASE {name} SET search_path TO public, archive",
            f"ALTER DATABASE {name} SET work_mem TO '7MB'",
            f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
            f"GRANT CREATE ON DATABASE {name} TO pg_monitor WITH GRANT OPTION",
        ):
            connection.exec_driver_sql(text)
    statement = sa.text(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, datdba,"
        " (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a),"
        " (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid)"
        " FROM pg_database d WHERE datname = current_database()"
    )
    with shop.engine.connect() as connection:
        before = connection.execute(statement).one()
    expected = described(database.url)
    made = shop.create()
    shop.execute("DROP TABLE book CASCADE", "CREATE TABLE other (id int)")
    shop.done("restore", made, "--in-place", "--yes")
    with shop.engine.connect() as connection:
        assert connection.execute(statement).one() == before
    shop.dispose()
    assert described(database.url) == expected


def test_an_older_pg_dump_is_refused_before_anything_is_written(
    shop: Shop, fake_program: Callable[[str, str], Path]
) -> None:
    """With both versions and the way to get the right one."""
    notes = fake_program(
        "pg_dump",
        'case "$1" in --version) echo "pg_dump (PostgreSQL) 9.6.24";; *) touch "$NOTES/ran";; esac',
    )
    result = shop.run("create")
    assert result.exit_code == 1
    assert "pg_dump 9 cannot read a PostgreSQL" in result.output
    assert "apt-get install postgresql-client-" in result.output
    assert not (notes / "ran").exists()
    assert not shop.folder.exists()


def test_a_missing_pg_dump_is_told_with_the_way_to_get_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing is written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    result = shop.run("create")
    assert result.exit_code == 1
    assert "pg_dump is not on the PATH" in result.output
    assert "postgresql-client" in result.output
    assert not shop.folder.exists()


def test_a_program_that_fails_is_quoted_and_leaves_nothing(
    shop: Shop, fake_program: Callable[[str, str], Path]
) -> None:
    """Its last words, and its exit code."""
    failing = 'echo half; echo "No space left" >&2; exit 3'
    fake_program("pg_dump", f'case "$1" in --version) exec "$REAL" "$@";; esac; {failing}')
    result = shop.run("create")
    assert result.exit_code == 1
    assert "pg_dump failed with exit code 3: No space left" in result.output
    assert list(shop.folder.iterdir()) == []


def test_a_restore_that_fails_removes_what_it_made(
    shop: Shop, fake_program: Callable[[str, str], Path], database: Database
) -> None:
    """The live database is as it was."""
    made = shop.create()
    shop.dispose()
    before = database_names(database)
    fake_program("pg_restore", 'case "$1" in --version) exec "$REAL" "$@";; esac; exit 1')
    for arguments in ([], ["--in-place", "--yes"]):
        assert shop.run("restore", made, *arguments).exit_code == 1
        assert database_names(database) == before
    assert shop.run("verify", made).exit_code == 1
    assert database_names(database) == before
    assert len(shop.rows()) == 3


def test_a_restore_in_place_that_is_killed_leaves_the_live_database(
    shop: Shop, fake_program: Callable[[str, str], Path], database: Database
) -> None:
    """What it made is there under a name that a command removes a day later."""
    made = shop.create()
    shop.execute("INSERT INTO book VALUES (4, 'live', NULL)")
    shop.dispose()
    script = (
        'case "$1" in --version) exec "$REAL" "$@";; esac;'
        ' if [ ! -e "$NOTES/on" ]; then touch "$NOTES/on"; kill -9 $PPID; exit 1; fi;'
        ' exec "$REAL" "$@"'
    )
    fake_program("pg_restore", script)
    live, store = database_at(database.url), LocalStore(shop.folder)
    assert exit_code(fork(lambda: restore_in_place(store, made, live))) == -signal.SIGKILL
    assert len(shop.rows()) == 4
    assert f"{made} is good" in shop.done("verify", made)
    (left,) = database_names(database) - {sa.make_url(database.url).database}
    assert "_restored_" in left
    shop.done("restore", made, "--in-place", "--yes", "--force")
    assert len(shop.rows()) == 3
    drop(sa.make_url(database.url).set(database=left))


def test_names_of_databases_in_passing_are_cut_and_found_again() -> None:
    """A server would cut them itself, and the part that tells them apart with it."""
    name = passing_name("é" * 40, "verify", 63)
    assert len(name.encode()) <= 63
    old = fit_name("shop", "_verify_5f5e10000a0b", 63)
    names = [name, old, "shop_verify_5f5e1000", "shopkeeper_verify_5f5e10000a0b", "shop"]
    assert left_over(names, "shop", 63) == [old]
    assert left_over(names, "é" * 40, 63) == []


def test_a_table_too_large_to_count_is_estimated(shop: Shop) -> None:
    """By the server's own statistics."""
    shop.execute("ANALYZE")
    with shop.engine.connect() as connection:
        contents = read_contents(connection, count_at_most=2)
    assert (contents.exact, contents.tables["book"]) == (False, 3)


@pytest.fixture
def locked_server(postgres_server: Callable[..., PostgresServer]) -> str:
    """The URL of a server that asks for a password, with the password."""
    server = postgres_server()
    engine = sa.create_engine(server.url(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("ALTER USER postgres PASSWORD 's3cr3t/p@ss'")
        connection.exec_driver_sql("CREATE DATABASE shop")
        hba = server.data / "pg_hba.conf"
        hba.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()
    url = sa.make_url(server.url("shop")).set(password="s3cr3t/p@ss")
    return url.render_as_string(hide_password=False)


def test_the_password_is_on_no_command_line_and_in_no_file(
    locked_server: str,
    tmp_path: Path,
    fake_program: Callable[[str, str], Path],
    caplog: pytest.LogCaptureFixture,
    database: Database,
) -> None:
    """The server really asks for it; every process of the machine is looked at meanwhile."""
    caplog.set_level("DEBUG")
    for name in ("pg_dump", "pg_restore"):
        notes = fake_program(name, f'echo "$@" >> "$NOTES/{name}"; sleep 0.05; exec "$REAL" "$@"')
    store = LocalStore(tmp_path / "backups")
    with watching_command_lines("s3cr3t") as found:
        for driver in ("psycopg", "psycopg2"):
            live = database_at(sa.make_url(locked_server).set(drivername=f"postgresql+{driver}"))
            with live.engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (a int)")
            manifest = create(live, store)
            assert verify(store, manifest.id, live).ok
            restore_in_place(store, manifest.id, live)
            live.engine.dispose()
    assert found == []
    assert "--format=custom" in (notes / "pg_dump").read_text()
    assert "--single-transaction" in (notes / "pg_restore").read_text()
    for path in (*notes.iterdir(), *store.directory.glob("*.json")):
        assert "s3cr3t" not in path.read_text()
    assert "s3cr3t" not in caplog.text


@pytest.fixture
def humble(database: Database) -> Iterator[str]:
    """The URL of the database for an account that may make no databases."""
    role = f"{sa.make_url(database.url).database}_humble"
    engine = sa.create_engine(database.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT ALL ON SCHEMA public TO {role}")
    yield sa.make_url(database.url).set(username=role).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()


def test_an_account_that_may_make_no_databases_verifies_on_another_server(
    humble: str, database: Database, make_shop: Callable[..., Shop]
) -> None:
    """And without one is told the setting."""
    shop = make_shop(SQLALCHEMY_DATABASE_URI=humble)
    shop.fill()
    made = shop.create()
    result = shop.run("verify", made)
    assert result.exit_code == 1
    assert "permission denied to create database" in result.output
    assert "DBKIT_BACKUP_SCRATCH_URL" in result.output
    other = make_shop(SQLALCHEMY_DATABASE_URI=humble, DBKIT_BACKUP_SCRATCH_URL=database.url)
    before = database_names(database)
    assert f"{made} is good" in other.done("verify", made)
    assert database_names(database) == before
