"""Several upgrades at once, locks held by others, and processes that are killed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import ConfigError, DBKit, declarative_base
from flask_dbkit.migrations import Limits, upgrade
from tests.migrations.conftest import Project
from tests.support.databases import Database
from tests.support.forks import Child, Talk

TABLE = "op.create_table({!r}, sa.Column('id', sa.Integer, primary_key=True))"
SLOW = (
    "op.execute('INSERT INTO a VALUES (1)')\n"
    "import pathlib, time\npathlib.Path({!r}).touch()\ntime.sleep(60)"
)


def upgrading(project: Project, url: str) -> Child:
    """Start an upgrade in a process of its own; it says what it applied."""

    def work(talk: Talk) -> None:
        app = Flask("shop", instance_path=f"{project.path}-instance")
        app.config.update(SQLALCHEMY_DATABASE_URI=url, DBKIT_MIGRATIONS_DIR=project.path)
        DBKit(app, db=SQLAlchemy(model_class=declarative_base()))
        talk.wait()
        with app.app_context():
            talk.say(json.dumps(upgrade(limits=Limits(wait_s=60))["default"]))

    return Child(work)


@pytest.mark.requires("several_processes")
def test_of_four_upgrades_at_once_each_revision_runs_once(
    project: Project, database: Database
) -> None:
    """All succeed; one applies, the others find nothing to do."""
    for number in range(4):
        project.write(TABLE.format(f"t{number}"))
    children = [upgrading(project, database.url) for _ in range(4)]
    for child in children:
        child.let_go_on()
    applied = [json.loads(child.hear()) for child in children]
    assert [child.exit_code() for child in children] == [0] * 4
    assert sorted(revision for each in applied for revision in each) == project.revisions
    assert project.tables() == {"alembic_version", *(f"t{number}" for number in range(4))}


@pytest.mark.requires("several_processes")
def test_a_killed_upgrade_leaves_a_usable_database(
    project: Project, database: Database, tmp_path: Any
) -> None:
    """While it runs, another one waits and gives up; after SIGKILL it goes on at once."""
    flag = tmp_path / "inside"
    project.write(TABLE.format("a"))
    project.write(SLOW.format(str(flag)))
    child = upgrading(project, database.url)
    child.let_go_on()
    try:
        deadline = time.monotonic() + 60
        while not flag.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        locked = project.run("upgrade", "--wait", "0.3")
        assert locked.exit_code == 1
        assert "Another upgrade of the database 'default' holds its lock" in locked.output
        assert "Nothing was changed" in locked.output
    finally:
        child.kill()
    (project.path / "versions" / "002_by_hand.py").unlink()
    project.revisions.pop()
    project.write("op.execute('INSERT INTO a VALUES (2)')")
    project.ok("upgrade")
    assert project.rows("SELECT id FROM a") == [(2,)]
    assert project.rows("SELECT version_num FROM alembic_version") == [("002",)]
    if database.name == "sqlite-file":
        with contextlib.closing(sqlite3.connect(database.url[10:])) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_revision_may_go_back_to_a_savepoint(project: Project) -> None:
    """After a statement that failed, on a server that takes nothing else in between."""
    project.write(
        """
        connection = op.get_bind()
        op.create_table("kept", sa.Column("id", sa.Integer, primary_key=True))
        for number in (1, 1, 2):
            try:
                with connection.begin_nested():
                    connection.execute(sa.text(f"INSERT INTO kept VALUES ({number})"))
                    if number == 2:
                        op.create_table("kept", sa.Column("id", sa.Integer))
            except sa.exc.DBAPIError:
                pass
        op.create_table("later", sa.Column("id", sa.Integer))
        """
    )
    project.ok("upgrade", "--no-backup")
    assert {"kept", "later"} <= project.tables()
    assert (1,) in project.rows("SELECT id FROM kept")


@pytest.mark.requires("server")
def test_readers_do_not_queue_behind_a_blocked_alter(project: Project) -> None:
    """It asks for the table again and again instead, and gets it when the blocker ends."""
    project.execute("CREATE TABLE book (id INTEGER PRIMARY KEY)", "INSERT INTO book VALUES (1)")
    project.write("op.add_column('book', sa.Column('title', sa.String(20)))")
    slowest = 0.0
    with project.engine().connect() as blocker, project.engine().connect() as reader:
        blocker.exec_driver_sql("SELECT * FROM book").fetchall()
        output: list[Any] = []
        upgrade = threading.Thread(target=lambda: output.append(project.run("upgrade")))
        upgrade.start()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            started = time.monotonic()
            reader.exec_driver_sql("SELECT * FROM book").fetchall()
            reader.rollback()
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.01)
        blocker.rollback()
        upgrade.join(60)
    (result,) = output
    assert result.exit_code == 0, result.output
    assert "default: waiting for a lock" in result.output
    assert slowest < 5, "the lock timeout of 5 s, or no end at all"
    assert "title" in {
        column["name"] for column in sa.inspect(project.engine()).get_columns("book")
    }


@pytest.mark.requires("server")
def test_a_lock_that_is_never_given_ends_the_upgrade(project: Project) -> None:
    """In the time that was asked for, with nothing applied."""
    project.execute("CREATE TABLE book (id INTEGER PRIMARY KEY)")
    project.write("op.add_column('book', sa.Column('title', sa.String(20)))")
    with project.engine().connect() as blocker:
        blocker.exec_driver_sql("SELECT * FROM book").fetchall()
        result = project.run("upgrade", "--wait", "0.5")
        blocker.rollback()
    assert result.exit_code == 1
    assert "got no lock in the database 'default' within 0.5 seconds" in result.output
    assert "pending" in project.ok("status")


@pytest.mark.requires("several_connections")
def test_a_writer_that_is_busy_is_waited_for(project: Project) -> None:
    """The upgrade tries again until the other transaction has ended."""
    project.execute("CREATE TABLE book (id INTEGER PRIMARY KEY)", "INSERT INTO book VALUES (1)")
    project.write("op.execute('UPDATE book SET id = id + 1')")
    blocker = project.engine().connect()
    blocker.exec_driver_sql("UPDATE book SET id = id + 10")
    timer = threading.Timer(0.5, blocker.commit)
    timer.start()
    project.ok("upgrade", "--lock-timeout", "0.2")
    timer.join()
    blocker.close()
    assert project.rows("SELECT id FROM book") == [(12,)]


@pytest.mark.backends("postgresql")
def test_an_index_can_be_built_concurrently(project: Project) -> None:
    """Outside a transaction, without the short lock timeout, and with no other waiting inside."""
    project.execute("CREATE TABLE book (id INTEGER PRIMARY KEY)")
    project.write(
        "with op.get_context().autocommit_block():\n"
        "    op.create_index('ix', 'book', ['id'], postgresql_concurrently=True)"
    )
    project.ok("upgrade")
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix'::regclass"
    assert project.rows(valid) == [(True,)]


@pytest.mark.requires("server")
def test_the_limits_of_requests_do_not_hold_for_revisions(
    make_project: Any, database: Database
) -> None:
    """A long statement may run, unless a limit of its own is given; requests keep theirs."""
    project = make_project(database.url, DBKIT_STATEMENT_TIMEOUT_MS=300)
    sleep = "SELECT pg_sleep(0.6)" if database.name == "postgresql" else "DO SLEEP(0.6)"
    project.write(f"op.execute({sleep!r})")
    refused = project.run("upgrade", "--statement-timeout", "0.2")
    if database.name == "postgresql":  # MariaDB's SLEEP() ends early, and says nothing
        assert refused.exit_code == 1
        project.ok("upgrade")
    else:
        assert refused.exit_code == 0
    with project.engine().connect() as connection:
        name = "statement_timeout" if database.name == "postgresql" else "max_statement_time"
        shown = "SHOW " + name if database.name == "postgresql" else f"SELECT @@{name}"
        assert str(connection.exec_driver_sql(shown).scalar()) in ("300ms", "0.3")


@pytest.mark.backends("postgresql")
def test_migrations_go_past_the_pooler(
    make_project: Any, make_database: Any, database: Database
) -> None:
    """Another database shows which of the two URLs was used."""
    direct = make_database("postgresql")
    url = direct.url.replace("postgresql+psycopg://", "postgresql://")
    project = make_project(database.url, DBKIT_POOLER="pgbouncer", DBKIT_DIRECT_URL=url)
    project.write(TABLE.format("a"))
    project.ok("upgrade")
    assert project.tables() == set()
    engine = sa.create_engine(direct.url)
    assert set(sa.inspect(engine).get_table_names()) == {"alembic_version", "a"}
    engine.dispose()


@pytest.mark.parametrize("url", ["postgres", "oracle+nothing://a:s3cret@b/c"])
def test_a_direct_url_that_is_none_is_refused_at_the_start(url: str) -> None:
    """By the name of its key, and without its password."""
    app = Flask("shop")
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", DBKIT_DIRECT_URL=url)
    with pytest.raises(ConfigError, match="DBKIT_DIRECT_URL") as caught:
        DBKit(app)
    assert "s3cret" not in str(caught.value)


@pytest.mark.backends("sqlite-file")
def test_a_sqlite_file_is_backed_up_before_it_is_changed(project: Project, tmp_path: Any) -> None:
    """Only when there is something to change, and something in it; not without being asked."""
    kept = tmp_path / "instance" / "backups"
    project.write(TABLE.format("a"), "op.drop_table('a')")
    assert "backed up" not in project.ok("upgrade")  # there was no file
    project.execute("INSERT INTO a VALUES (7)")
    assert "backed up" not in project.ok("upgrade")  # there is nothing to do
    project.write("op.execute('DELETE FROM a')")
    output = project.ok("upgrade")
    backup_id = output.partition("default: backed up as ")[2].split()[0]
    assert {path.name for path in kept.iterdir()} > {f"{backup_id}.json"}
    restored = tmp_path / "restored.db"
    run = project.app.test_cli_runner().invoke
    arguments = ["dbkit", "backup", "restore", backup_id, "--into", f"sqlite:///{restored}"]
    assert run(args=arguments).exit_code == 0
    with contextlib.closing(sqlite3.connect(restored)) as raw:
        assert raw.execute("SELECT id FROM a").fetchall() == [(7,)]
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("001",)]
    project.write("pass")
    assert "backed up" not in project.ok("upgrade", "--no-backup")
    assert "backed up" in project.ok("downgrade")
    result = run(args=["dbkit", "migrate", "upgrade", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)  # alone there
    assert "backed up as" in result.stderr


@pytest.mark.backends("sqlite-file")
def test_nothing_is_changed_when_the_backup_fails(project: Project, tmp_path: Any) -> None:
    """One sentence says so."""
    project.execute("CREATE TABLE a (id INTEGER)")
    (tmp_path / "instance").mkdir(exist_ok=True)
    (tmp_path / "instance" / "backups").write_text("in the way")
    project.write("op.drop_table('a')")
    result = project.run("upgrade")
    assert result.exit_code == 1
    assert "could not be backed up, so nothing was changed" in result.output
    assert "a" in project.tables()


@pytest.mark.backends("sqlite-file")
def test_an_upgrade_with_nothing_to_do_waits_for_no_writer(project: Project) -> None:
    """A long import is no reason for the second of two deploys to stand still."""
    project.write(TABLE.format("a"))
    project.ok("upgrade")
    with project.engine().connect() as writer:
        writer.exec_driver_sql("INSERT INTO a VALUES (1)")
        assert project.ok("upgrade", "--wait", "0") == "default: nothing to do.\n"
        assert project.ok("upgrade", "001", "--wait", "0") == "default: nothing to do.\n"
        writer.rollback()
