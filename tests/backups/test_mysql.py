"""MariaDB: the same database again, with everything that hangs on its tables."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from flask_dbkit.backups import LocalStore, database_at, restore_in_place
from flask_dbkit.backups.on_mysql.catalog import option_file
from flask_dbkit.backups.tools import find_program, run_program
from tests.support.databases import Database
from tests.support.forks import exit_code, fork

from .conftest import Shop, database_names, drop, watching_command_lines

pytestmark = pytest.mark.backends("mariadb")

ODDITIES = [
    "CREATE TABLE `Größe ``x`` %s` (id int AUTO_INCREMENT PRIMARY KEY, `naïve` longblob)",
    "CREATE TABLE area (w int, h int, size int AS (w * h) STORED)",
    """CREATE TABLE child (id int PRIMARY KEY, a int,
       FOREIGN KEY (a) REFERENCES author (id) ON DELETE CASCADE)""",
    "CREATE TABLE log (text varchar(100))",
    "CREATE VIEW z_first AS SELECT title FROM titles",
    """CREATE TRIGGER note AFTER INSERT ON author FOR EACH ROW
       BEGIN INSERT INTO log VALUES (NEW.name); UPDATE area SET w = 1 WHERE w < 0; END""",
    "CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC RETURN 2 * n",
    "CREATE PROCEDURE clear_log() BEGIN DELETE FROM log; DELETE FROM area; END",
    "CREATE EVENT yearly ON SCHEDULE EVERY 1 YEAR DISABLE DO DELETE FROM log",
    "INSERT INTO `Größe ``x`` %s` (`naïve`) VALUES (repeat(x'00ff27', 700000)), (NULL)",
    "INSERT INTO area (w, h) VALUES (3, 4)",
    "INSERT INTO child VALUES (1, 1)",
    "INSERT INTO author VALUES (3, 'O''Brien \\\\ 🐘')",
]


def described(url: Any) -> str:
    """Return everything in a database as the script of the dump program."""
    url = sa.make_url(url)
    program = shutil.which("mariadb-dump")
    assert program is not None
    command = [
        program,
        f"--host={url.host}",
        f"--port={url.port or 3306}",
        f"--user={url.username}",
    ]
    flags = ["--protocol=tcp", "--routines", "--triggers", "--events", "--hex-blob"]
    done = subprocess.run(
        [*command, *flags, "--skip-comments", str(url.database)],
        capture_output=True,
        text=True,
        check=True,
        env={"MYSQL_PWD": str(url.password or "")},
    )
    return re.sub(r"AUTO_INCREMENT=\d+ ", "", done.stdout)


@pytest.fixture
def odd_shop(shop: Shop) -> Shop:
    with shop.engine.begin() as connection:
        for text in ODDITIES:
            connection.execute(sa.text(text))
    return shop


def test_the_restored_database_equals_the_source(
    odd_shop: Shop, restored_name: Callable[[str], Any], database: Database
) -> None:
    """Views on views, triggers, routines, events, generated columns, binary values, any name.

    In place too: what was added since is gone; triggers, views, routines and events are those of
    then.
    """
    expected = described(database.url)
    made = odd_shop.create()
    assert odd_shop.listed()[made]["tables"]["Größe `x` %s"] == 2
    assert odd_shop.listed()[made]["views"] == ["titles", "z_first"]
    odd_shop.done("restore", made)
    assert described(restored_name(made)) == expected
    odd_shop.execute(
        "DROP TRIGGER note",
        "DROP VIEW z_first",
        "DROP PROCEDURE clear_log",
        "DROP TABLE child",
        "CREATE TABLE later (id int)",
        "CREATE TRIGGER late AFTER INSERT ON later FOR EACH ROW INSERT INTO log VALUES ('x')",
        "CREATE FUNCTION later_too(n int) RETURNS int DETERMINISTIC RETURN n",
        "DELETE FROM book",
    )
    odd_shop.dispose()
    before = database_names(database)
    odd_shop.done("restore", made, "--in-place", "--yes")
    assert described(database.url) == expected
    assert database_names(database) == before
    odd_shop.execute("INSERT INTO author VALUES (4, 'Woolf')")
    with odd_shop.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT max(text) FROM log")) == "Woolf"


def test_a_restore_that_fails_leaves_the_live_database(
    shop: Shop, fake_program: Callable[[str, str], Path], database: Database
) -> None:
    """And removes what it made."""
    made = shop.create()
    shop.dispose()
    before, expected = database_names(database), described(database.url)
    failing = 'case "$1" in --version) exec "$REAL" "$@";; esac; echo "ERROR 1064" >&2; exit 1'
    fake_program("mariadb", failing)
    for arguments in ([], ["--in-place", "--yes"]):
        result = shop.run("restore", made, *arguments)
        assert result.exit_code == 1
        assert "mariadb failed with exit code 1: ERROR 1064" in result.output
        assert database_names(database) == before
        assert described(database.url) == expected
    assert shop.run("verify", made).exit_code == 1
    assert database_names(database) == before


def test_a_dump_without_its_last_line_is_no_backup(
    shop: Shop, fake_program: Callable[[str, str], Path]
) -> None:
    """Whatever its exit code says."""
    fake_program("mariadb-dump", 'case "$1" in --version) exec "$REAL" "$@";; esac; echo "-- half"')
    result = shop.run("create")
    assert result.exit_code == 1
    assert "no last line" in result.output
    assert list(shop.folder.iterdir()) == []


def test_missing_programs_are_told_with_the_way_to_get_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing is written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    result = shop.run("create")
    assert result.exit_code == 1
    assert "mariadb-dump or mysqldump is not on the PATH" in result.output
    assert "apt-get install mariadb-client" in result.output
    assert not shop.folder.exists()


def test_the_programs_of_mysql_do_where_those_of_mariadb_are_missing(
    odd_shop: Shop,
    restored_name: Callable[[str], Any],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """They are told to leave out what MariaDB does not have, and read no line of MariaDB's.

    Here they are MariaDB's own behind a script that has the name, the options and the version of
    MySQL's, and refuses what those do not know.
    """
    expected = described(database.url)
    made_by_mariadb = odd_shop.create()
    folder, notes = tmp_path / "mysql-only", tmp_path / "notes"
    folder.mkdir()
    for name, real, options in (
        ("mysqldump", "mariadb-dump", "--column-statistics --set-gtid-purged"),
        ("mysql", "mariadb", "--binary-mode"),
    ):
        for tool in ("sed", "tee", "sh"):
            (folder / tool).unlink(missing_ok=True)
            (folder / tool).symlink_to(str(shutil.which(tool)))
        (folder / name).write_text(
            "#!/bin/sh\n"
            f'case "$1" in --version) echo "{name}  Ver 8.4.3 for Linux (MySQL)"; exit;;\n'
            f'--help) echo "  {options}"; exit;; esac\n'
            f'echo "{name} $@" >> "{notes}"\n'
            'for each; do shift; case "$each" in --column-statistics=0|--set-gtid-purged=OFF) ;;'
            ' --dump-history) exit 7;; *) set -- "$@" "$each";; esac; done\n'
            + (f'tee "{tmp_path}/read" | ' if name == "mysql" else "")
            + f'"{shutil.which(real)}" "$@"'
            + ("" if name == "mysql" else " | sed '/sandbox mode/d'")
            + "\n"
        )
        (folder / name).chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(folder))
        made = odd_shop.create()
        odd_shop.done("restore", made)
        odd_shop.done("restore", made_by_mariadb)
    assert b"sandbox mode" not in (tmp_path / "read").read_bytes()
    dumped, loaded = (
        [line for line in notes.read_text().splitlines() if line.startswith(f"{name} ")]
        for name in ("mysqldump", "mysql")
    )
    assert all("--column-statistics=0" in line for line in dumped)
    assert all("--set-gtid-purged=OFF" in line for line in dumped)
    assert len(loaded) == 2
    for each in (made, made_by_mariadb):
        assert described(restored_name(each)) == expected
    assert odd_shop.listed()[made]["tool"].startswith("mysqldump")


@pytest.mark.parametrize("flags", [["--compact"], ["--jobs", "2"]])
def test_options_of_other_databases_are_refused(shop: Shop, flags: list[str]) -> None:
    """Instead of being ignored."""
    result = shop.run("create", *flags)
    assert result.exit_code == 1
    assert "--compact is for SQLite" in result.output


def test_the_password_reaches_the_programs_through_an_inherited_pipe(
    tmp_path: Path, database: Database
) -> None:
    """Every character of it; on no command line, in no file, and not in the environment."""
    secret = "s3cr3t\"\\ '#;é="
    url = sa.make_url("mysql+pymysql://u@h/d?ssl_ca=/ca.pem").set(password=secret)
    engine = sa.create_engine(url)
    connection: Any = SimpleNamespace(connection=SimpleNamespace(driver_connection=None))
    program = find_program(["my_print_defaults"], "mysql")
    printed = tmp_path / "printed"
    with watching_command_lines("s3cr3t") as found, printed.open("wb") as output:
        options = option_file(engine, connection)
        run_program(program, ["client"], options=options, stdout=output)
    assert found == []
    lines = printed.read_text().splitlines()
    assert f"--password={secret}" in lines
    assert {"--host=h", "--user=u", "--protocol=tcp", "--ssl-ca=/ca.pem"} <= set(lines)
    engine.dispose()


def test_the_programs_are_given_nothing_secret(
    shop: Shop, fake_program: Callable[[str, str], Path]
) -> None:
    """What they are started with is an inherited descriptor and plain words."""
    script = (
        'case "$1" in --version) ;; *) echo "$@" > "$NOTES/arguments";; esac; exec "$REAL" "$@"'
    )
    notes = fake_program("mariadb-dump", script)
    shop.create()
    arguments = (notes / "arguments").read_text().split()
    assert re.fullmatch(r"--defaults-file=/dev/fd/\d+", arguments[0])
    assert {"--single-transaction", "--routines", "--triggers", "--events"} <= set(arguments)
    assert not any("user" in each or "pass" in each for each in arguments)


def test_a_table_in_use_is_not_waited_for_without_an_end(
    odd_shop: Shop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live database keeps its tables and gets its triggers back."""
    monkeypatch.setattr("flask_dbkit.backups.on_mysql.catalog._PATIENCE_S", 1)
    made = odd_shop.create()
    odd_shop.dispose()
    before, expected = database_names(database), described(database.url)
    monkeypatch.setattr(
        "flask_dbkit.backups.on_mysql.database.end_session", lambda *_arguments: None
    )
    with odd_shop.engine.connect() as other:
        other.execute(sa.text("SELECT * FROM area"))
        monkeypatch.setattr(odd_shop.engine, "dispose", lambda: None)
        result = odd_shop.run("restore", made, "--in-place", "--yes", "--force")
        assert result.exit_code == 1
        assert "Lock wait timeout" in result.output
    monkeypatch.undo()
    odd_shop.dispose()
    assert database_names(database) == before
    assert described(database.url) == expected


@pytest.mark.parametrize("round_", [1, 2])
def test_a_restore_in_place_that_is_killed_can_be_repeated(
    odd_shop: Shop, fake_program: Callable[[str, str], Path], database: Database, round_: int
) -> None:
    """Before the exchange the live database is as it was; after it the rows are the restored."""
    expected = described(database.url)
    made = odd_shop.create()
    odd_shop.execute("INSERT INTO book VALUES (4, 'live', NULL)")
    odd_shop.dispose()
    before = database_names(database)
    script = (
        'case "$1" in --version) exec "$REAL" "$@";; esac; echo x >> "$NOTES/runs";'
        f' if [ "$(wc -l < "$NOTES/runs")" = {round_} ]; then kill -9 $PPID; exit 1; fi;'
        ' exec "$REAL" "$@"'
    )
    fake_program("mariadb", script)
    live, store = database_at(database.url), LocalStore(odd_shop.folder)
    assert exit_code(fork(lambda: restore_in_place(store, made, live))) == -signal.SIGKILL
    assert len(odd_shop.rows()) == (4 if round_ == 1 else 3)
    odd_shop.dispose()
    odd_shop.done("restore", made, "--in-place", "--yes", "--force")
    odd_shop.dispose()
    assert described(database.url) == expected
    for left in database_names(database) - before:
        drop(sa.make_url(database.url).set(database=left))
