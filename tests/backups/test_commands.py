"""``flask dbkit backup``, with the shapes that scripts rely on."""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy.pool import NullPool

from flask_dbkit import DBKit
from tests.support.databases import Database
from tests.support.forks import fork, succeeded

from .conftest import Shop, database_names

ID = re.compile(r"default-\d{8}T\d{6}Z(-\d+)?")
lasting = pytest.mark.requires("several_processes")


def test_a_backup_is_a_data_file_and_a_manifest_named_by_the_last_line(shop: Shop) -> None:
    """Scripts read the id from the last line, and know the names of the two files by it.

    The manifest tells digest, size, versions, revision, rows, duration; it is not verified yet.
    """
    made = shop.create()
    assert ID.fullmatch(made)
    assert sorted(path.name for path in shop.folder.iterdir()) == sorted(
        [f"{made}.json", shop.data(made).name]
    )
    assert shop.folder.stat().st_mode & 0o777 == 0o700
    assert shop.data(made).stat().st_mode & 0o777 == 0o600
    manifest = shop.listed()[made]
    assert manifest["tables"] == {"alembic_version": 1, "author": 2, "book": 3}
    assert manifest["views"] == ["titles"]
    assert manifest["revision"] == "f00dcafe"
    assert manifest["bind"] == "default"
    assert manifest["size_bytes"] == shop.data(made).stat().st_size
    assert len(manifest["sha256"]) == 64
    assert all(manifest[name] for name in ("tool", "server_version", "library_version"))
    assert manifest["duration_s"] > 0
    assert (manifest["verified"], manifest["verified_at"]) == (False, None)


@lasting
def test_a_verified_backup_says_so_and_leaves_nothing_behind(
    shop: Shop, database: Database
) -> None:
    """The scratch database is removed, the live one was not touched."""
    before = database_names(database)
    made = shop.create("--verify")
    assert shop.listed()[made]["verified"] is True
    assert shop.listed()[made]["verified_at"]
    assert json.loads(shop.done("verify", made, "--json"))["ok"] is True
    assert "verified" in shop.done("list")
    assert database_names(database) == before
    assert [path.name for path in shop.folder.iterdir() if path.name.startswith(".")] == []


@lasting
def test_a_restore_goes_into_a_database_of_its_own_and_never_over_another(
    shop: Shop,
    database: Database,
    make_database: Callable[[str], Database],
    restored_name: Callable[[str], Any],
) -> None:
    """Beside the live one as ``<name>-<id>``, or into one that is empty or not there yet.

    The line that switches to it is printed. One with tables is refused.
    """
    made = shop.create()
    expected = shop.rows()
    shop.execute("DELETE FROM book")
    said = shop.done("restore", made)
    url = restored_name(made)
    shown = url.render_as_string(hide_password=True)
    assert f'SQLALCHEMY_DATABASE_URI = "{shown}' in said
    assert shop.rows(url) == expected
    again = shop.run("restore", made)
    assert again.exit_code == 1
    assert "exists" in again.output

    other = make_database(database.name)
    assert other.url in shop.done("restore", made, "--into", other.url)
    assert shop.rows(other.url) == expected
    missing = restored_name("elsewhere")
    shop.done("restore", made, "--into", missing.render_as_string(hide_password=False))
    assert shop.rows(missing) == expected
    for full in (other.url, database.url):
        refused = shop.run("restore", made, "--into", full)
        assert refused.exit_code == 1
        assert "is not empty" in refused.output
    assert shop.rows() == []


@lasting
def test_in_place_replaces_the_live_database_after_a_yes_and_a_safety_backup(
    shop: Shop, database: Database
) -> None:
    """Without a yes it ends with 2. Tables that came later are gone, and in the safety backup."""
    made = shop.create()
    expected = shop.rows()
    shop.execute("DELETE FROM book WHERE id > 1", "CREATE TABLE later (id int)")
    refused = shop.run("restore", made, "--in-place")
    assert refused.exit_code == 2
    assert len(shop.rows()) == 1
    assert list(shop.listed()) == [made]
    shop.dispose()
    before = database_names(database)
    said = shop.done("restore", made, "--in-place", "--yes")
    assert shop.rows() == expected
    assert "later" not in sa.inspect(shop.engine).get_table_names()
    shop.dispose()
    (safety,) = set(shop.listed()) - {made}
    assert safety in said
    assert shop.listed()[safety]["tables"]["later"] == 0
    assert shop.listed()[safety]["tables"]["book"] == 1
    assert database_names(database) == before
    assert f"{safety} is good" in shop.done("verify", safety)


@lasting
def test_in_place_refuses_while_others_are_connected(shop: Shop, database: Database) -> None:
    """Unless forced. Nothing changed, not even a safety backup was made."""
    made = shop.create()
    shop.execute("DELETE FROM book")
    with shop.engine.connect() as other:
        other.execute(sa.text("SELECT 1 FROM book"))
        result = shop.run("restore", made, "--in-place", "--yes")
        assert result.exit_code == 1
        assert "connected" in result.output
        assert list(shop.listed()) == [made]
        if "file" in database.capabilities:
            other.rollback()
        shop.done("restore", made, "--in-place", "--yes", "--force")
        other.invalidate()
    assert len(shop.rows()) == 3


def test_all_backs_up_every_bind_and_prints_one_id_per_line(tmp_path: Path) -> None:
    """The ids are the last lines, the default bind's first."""
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
    app.config["SQLALCHEMY_BINDS"] = {"audit": "sqlite:///audit.db", "a b/c": "sqlite:///abc.db"}
    DBKit(app)
    for name in ("shop", "audit", "abc"):
        with sa.create_engine(f"sqlite:///{tmp_path}/{name}.db", poolclass=NullPool).begin() as c:
            c.exec_driver_sql("CREATE TABLE t (id int)")
    run = app.test_cli_runner().invoke
    result = run(args=["dbkit", "backup", "create", "--all", "--verify"])
    assert result.exit_code == 0, result.output
    ids = result.stdout.splitlines()[-3:]
    assert [made.rpartition("-")[0] for made in ids] == ["default", "audit", "a%20b%2Fc"]
    one = run(args=["dbkit", "backup", "create", "--bind", "audit"]).stdout.splitlines()[-1]
    assert one.startswith("audit-")
    listed = json.loads(run(args=["dbkit", "backup", "list", "--json"]).stdout)
    assert sorted(each["bind"] for each in listed) == ["a b/c", "audit", "audit", "default"]
    said = run(args=["dbkit", "backup", "restore", one]).output
    assert 'SQLALCHEMY_BINDS["audit"] = "sqlite:///' in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "--bind", "default", "--all"],
        ["create", "--bind", "nothing"],
        ["create", "--jobs", "0"],
        ["verify"],
        ["restore"],
        ["restore", "x", "--in-place", "--into", "sqlite://"],
        ["restore", "x", "--in-place"],
        ["restore", "x", "--force"],
        ["prune", "--everything"],
    ],
)
@pytest.mark.backends("sqlite-memory")
def test_wrong_usage_ends_with_2(shop: Shop, arguments: list[str]) -> None:
    """And with a line that says what is wrong."""
    result = shop.run(*arguments)
    assert result.exit_code == 2
    assert "Error:" in result.output


@pytest.mark.parametrize("command", ["verify", "restore"])
@pytest.mark.parametrize("made", ["default-20200101T000000Z", "../../etc/passwd", "nonsense", ""])
@pytest.mark.backends("sqlite-memory")
def test_an_unknown_id_is_one_sentence_and_1(shop: Shop, command: str, made: str) -> None:
    """Nothing outside the folder is ever read."""
    result = shop.run(command, made)
    assert result.exit_code == 1
    assert "There is no backup" in result.output


@pytest.mark.backends("sqlite-memory")
def test_an_empty_folder_is_no_failure(shop: Shop) -> None:
    """There is nothing to list and nothing to prune."""
    assert shop.done("list") == "There are no backups.\n"
    assert shop.done("list", "--json") == "[]\n"
    assert shop.done("prune") == "Nothing to remove.\n"
    assert not shop.folder.exists()


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    """And not made."""
    app = Flask("shop", instance_path=str(tmp_path))
    DBKit(app)
    result = app.test_cli_runner().invoke(args=["dbkit", "backup", "create"])
    assert result.exit_code == 1
    assert "does not exist yet" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backends("sqlite-memory")
def test_memory_is_copied_without_what_is_not_committed(
    shop: Shop, tmp_path: Path, make_shop: Callable[..., Shop]
) -> None:
    """A true copy; uncommitted work of somebody else is refused instead of copied."""
    made = shop.create("--verify")
    target = f"sqlite:///{tmp_path}/restored.sqlite3"
    shop.done("restore", made, "--into", target)
    assert shop.rows(target) == shop.rows()
    for arguments in (["restore", made], ["restore", made, "--in-place", "--yes"]):
        result = shop.run(*arguments)
        assert result.exit_code == 1
        assert "memory" in result.output
    with shop.app.app_context():
        shop.db.session.execute(sa.text("DELETE FROM book"))
        result = shop.run("create")
        assert result.exit_code == 1
        assert "uncommitted" in result.output
        shop.db.session.rollback()


@pytest.mark.backends("sqlite-file")
def test_a_backup_of_another_kind_of_database_is_refused(shop: Shop) -> None:
    """SQLite's file is no use to a server."""
    made = shop.create()
    result = shop.run("restore", made, "--into", "postgresql+psycopg://nobody@127.0.0.1:1/x")
    assert result.exit_code == 1
    assert "cannot be restored into postgresql" in result.output


def test_one_database_that_fails_hides_no_other(tmp_path: Path) -> None:
    """The others are backed up and their ids are the last lines; the exit code is 1."""
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///missing.db"
    app.config["SQLALCHEMY_BINDS"] = {"audit": "sqlite:///audit.db", "z": "sqlite:///z.db"}
    DBKit(app)
    for name in ("audit", "z"):
        with sa.create_engine(f"sqlite:///{tmp_path}/{name}.db", poolclass=NullPool).begin() as c:
            c.exec_driver_sql("CREATE TABLE t (id int)")
    result = app.test_cli_runner().invoke(args=["dbkit", "backup", "create", "--all"])
    assert result.exit_code == 1
    assert "missing.db does not exist yet" in result.stderr
    assert [line.rpartition("-")[0] for line in result.stdout.splitlines()] == ["audit", "z"]


@pytest.mark.backends("sqlite-file")
def test_an_empty_database_is_backed_up_with_a_warning(make_shop: Callable[..., Shop]) -> None:
    """It may be the wrong one."""
    shop = make_shop()
    shop.execute("PRAGMA user_version = 1")
    result = shop.run("create")
    assert result.exit_code == 0
    assert "has no tables" in result.stderr
    assert ID.fullmatch(result.stdout.strip())


@pytest.mark.backends("sqlite-file")
def test_rows_that_point_nowhere_are_told_and_kept(shop: Shop) -> None:
    """A backup is made of what is there."""
    shop.execute("PRAGMA foreign_keys = OFF")
    with closing(sqlite3.connect(str(shop.engine.url.database))) as connection, connection:
        connection.execute("INSERT INTO book VALUES (7, 'lost', 99)")
    result = shop.run("create", "--verify")
    assert result.exit_code == 0, result.output
    assert "1 rows break a foreign key" in result.stderr


def on_terminal(shop: Shop, *arguments: str) -> tuple[str, str]:
    """Run a command with a terminal for its errors; return its output, and what was drawn."""
    controlling, terminal = pty.openpty()
    reading, writing = os.pipe()

    def run() -> None:
        for descriptor, number in ((writing, 1), (terminal, 2)):
            os.dup2(descriptor, number)
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
        with suppress(SystemExit):
            shop.app.cli.main(
                ["dbkit", "backup", *arguments], obj=ScriptInfo(create_app=lambda: shop.app)
            )
        sys.stderr.write("over")  # reading from a terminal that nobody wrote to would wait
        sys.stdout.flush()
        sys.stderr.flush()

    assert succeeded(fork(run))
    os.close(writing)
    with os.fdopen(reading) as said:
        output = said.read()
    drawn = os.read(controlling, 100_000).decode()
    os.close(terminal)
    os.close(controlling)
    return output, drawn.removesuffix("over")


@pytest.mark.backends("sqlite-file")
def test_a_terminal_shows_a_progress_bar_and_a_pipe_does_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is drawn to standard error, so the last line of the output stays the id."""
    monkeypatch.setenv("TERM", "xterm")
    output, drawn = on_terminal(shop, "create")
    made = output.splitlines()[-1]
    assert ID.fullmatch(made)
    assert "Backing up default" in drawn
    assert "100%" in drawn
    output, drawn = on_terminal(shop, "verify", made)
    assert "is good" in output
    assert re.search(rf"Verifying {made} .* 66%.*100%", drawn, re.DOTALL)
    into = f"sqlite:///{tmp_path / 'restored.db'}"
    output, drawn = on_terminal(shop, "restore", made, "--into", into)
    assert "was restored" in output
    assert re.search(rf"Restoring {made} .* 66%.*100%", drawn, re.DOTALL)
    shop.engine.dispose()
    output, drawn = on_terminal(shop, "restore", made, "--in-place", "--yes")
    assert "What is there now was saved" in output
    assert re.search(rf"Restoring {made} .* 66%.*\n.*100%", drawn, re.DOTALL)
    output, drawn = on_terminal(shop, "verify", made, "--json")
    assert json.loads(output)["ok"] is True
    assert drawn == ""
    assert shop.run("create").stderr == ""
    assert shop.run("verify", made).stderr == ""
