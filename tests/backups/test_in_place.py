"""A restore in place loses no row that was acknowledged, and fails as if it had never begun."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from flask_dbkit.backups.exceptions import BackupError
from flask_dbkit.backups.servers import send
from tests.support.databases import Database

from .conftest import Shop, database_names

ROUNDS = int(os.environ.get("DBKIT_TEST_ROUNDS", "1"))
"""How often a restore is tried while others write. One try in many finds a narrow gap."""

pytestmark = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")


@contextmanager
def writers(url: str, number: int = 3) -> Iterator[list[int]]:
    """Write on short connections, as timers and other machines do; yield what was acknowledged."""
    acknowledged: list[int] = []
    stop = threading.Event()

    def write(first: int) -> None:
        engine = sa.create_engine(url, poolclass=NullPool)
        value = first
        while not stop.is_set():
            value += number
            with suppress(DBAPIError):
                with engine.begin() as connection:
                    connection.execute(sa.text("INSERT INTO w VALUES (:i)"), {"i": value})
                acknowledged.append(value)
            stop.wait(0.002 if ROUNDS > 1 else 0.01)

    threads = [threading.Thread(target=write, args=(first,)) for first in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def values(url: Any) -> set[int]:
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return set(connection.scalars(sa.text("SELECT i FROM w")))


@pytest.mark.parametrize("force", [False, True], ids=["alone", "force"])
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_every_acknowledged_row_is_there_or_in_the_safety_backup(
    shop: Shop,
    database: Database,
    restored_name: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    force: bool,
    round_: int,
) -> None:
    """Nobody can write between the safety backup and the exchange, forced or not.

    Without --force it counts on no look at who is connected: that look misses who comes later.
    """
    monkeypatch.setattr(
        "flask_dbkit.backups.on_mysql.database.MySQLDatabase.other_connections", lambda _: []
    )
    monkeypatch.setattr(
        "flask_dbkit.backups.on_postgresql.database.PostgreSQLDatabase.other_connections",
        lambda _: [],
    )
    shop.execute("CREATE TABLE w (i int PRIMARY KEY)")
    made = shop.create()
    shop.dispose()
    arguments = ["restore", made, "--in-place", "--yes", *(["--force"] if force else [])]
    with writers(database.url) as acknowledged:
        for _ in range(10):
            result = shop.run(*arguments)
            if result.exit_code == 0:
                break
            assert "as it was" in result.output or "Others are connected" in result.output
        time.sleep(0.05)
    shop.dispose()
    if result.exit_code != 0:
        assert not force, result.output
        assert values(database.url) >= set(acknowledged)
        return
    safety = result.output.split("saved as ")[1].split(".")[0]
    shop.done("restore", safety)
    kept = values(database.url) | values(restored_name(safety))
    assert set(acknowledged) - kept == set()
    assert len(acknowledged) > 5


def test_a_step_that_fails_undoes_those_before(
    shop: Shop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and objects are as they were, nothing is left behind, and the message says so."""
    made = shop.create()
    shop.execute("INSERT INTO book VALUES (4, 'live', NULL)", "CREATE TABLE later (i int)")
    shop.dispose()
    before = database_names(database)

    def fail(*_arguments: object, **_options: object) -> None:
        raise BackupError("It did not work.", code="tool.failed")

    exchanges = {
        "sqlite-file": "flask_dbkit.backups.on_sqlite.copying._fit_page_size",
        "postgresql": "flask_dbkit.backups.on_postgresql.database._Aside.__init__",
        "mariadb": "flask_dbkit.backups.on_mysql.database.MySQLDatabase._load_new_programs",
    }
    for step in (_CREATE, exchanges[database.name]):
        with monkeypatch.context() as patched:
            patched.setattr(step, fail)
            result = shop.run("restore", made, "--in-place", "--yes", "--force")
        assert result.exit_code == 1
        assert "It did not work." in result.output
        assert "is as it was, and takes connections" in result.output
        assert database_names(database) == before
        shop.execute("INSERT INTO later VALUES (1)")
        assert len(shop.rows()) == 4
        with shop.engine.connect() as connection:
            assert len(connection.scalars(sa.text("SELECT title FROM titles")).all()) == 4
        shop.dispose()


_CREATE = "flask_dbkit.backups.restoring.create"


@pytest.mark.backends("postgresql", "mariadb")
def test_what_a_killed_restore_moved_aside_is_brought_back(
    shop: Shop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next restore, before anything else: the live rows are in its safety backup then."""
    made = shop.create()
    shop.execute("INSERT INTO book VALUES (4, 'live', NULL)")
    shop.dispose()
    before = database_names(database)

    def die(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # A process that is killed undoes nothing.
        patched.setattr("flask_dbkit.backups.on_postgresql.exchanging._bring_back", ignore)
        patched.setattr("flask_dbkit.backups.on_mysql.database.MySQLDatabase._bring_back", ignore)
        patched.setattr(_CREATE, die)
        with pytest.raises((KeyboardInterrupt, SystemExit, AssertionError)):
            assert shop.run("restore", made, "--in-place", "--yes").exit_code == 0
    (aside,) = database_names(database) - before
    assert "_before_" in aside
    result = shop.run("restore", made, "--in-place", "--yes")
    assert result.exit_code == 0, result.output
    assert database_names(database) == before
    assert len(shop.rows()) == 3
    safety = result.output.split("saved as ")[1].split(".")[0]
    assert shop.listed()[safety]["tables"]["book"] == 4


def ignore(*_arguments: object, **_options: object) -> None:
    """Do nothing."""


@pytest.mark.backends("postgresql", "mariadb")
def test_a_database_with_an_odd_name_is_restored(
    shop: Shop, make_shop: Callable[..., Shop], database: Database
) -> None:
    """No name is taken for an option, a connection string or a URI by a client program."""
    url = sa.make_url(database.url)
    name = f"-x=a 'b' \"c\"`\\%41{url.database}"
    quoted = shop.engine.dialect.identifier_preparer.quote_identifier(name)
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        send(connection, f"CREATE DATABASE {quoted.replace('%%', '%')}")
    try:
        other = make_shop(SQLALCHEMY_DATABASE_URI=url.set(database=name))
        other.fill()
        made = other.create("--verify")
        other.execute("DELETE FROM book")
        other.dispose()
        other.done("restore", made, "--in-place", "--yes")
        assert len(other.rows()) == 3
        other.dispose()
    finally:
        with engine.connect() as connection:
            send(connection, f"DROP DATABASE {quoted.replace('%%', '%')}")


@pytest.mark.backends("mariadb")
def test_the_past_of_tables_comes_along_or_is_said_to_be_missing(
    shop: Shop, database: Database, fake_program: Callable[[str, str], Path]
) -> None:
    """A dump leaves it out unless an option is given, which older programs do not know."""
    shop.execute(
        "CREATE TABLE price (id int PRIMARY KEY, amount int) WITH SYSTEM VERSIONING",
        "INSERT INTO price VALUES (1, 1)",
    )
    for amount in (2, 3):
        shop.execute(f"UPDATE price SET amount = {amount}")
    made = shop.create("--verify")
    shop.execute("UPDATE price SET amount = 9")
    shop.dispose()
    result = shop.done("restore", made, "--in-place", "--yes")
    history = sa.text("SELECT amount FROM price FOR SYSTEM_TIME ALL ORDER BY 1")
    with shop.engine.connect() as connection:
        assert list(connection.scalars(history)) == [1, 2, 3]
    safety = result.split("saved as ")[1].split(".")[0]
    assert shop.listed()[safety]["details"]["versions"] == {"price": 4}
    shop.dispose()
    fake_program("mariadb-dump", 'case "$1" in --help) echo old;; *) exec "$REAL" "$@";; esac')
    told = shop.run("create")
    lacking = told.stdout.splitlines()[-1]
    assert "lacks part of the data" in told.output
    assert "price" in told.output
    verified = shop.run("verify", lacking)
    assert verified.exit_code == 1
    assert "incomplete" in verified.output
    refused = shop.run("restore", made, "--in-place", "--yes")
    assert refused.exit_code == 1
    assert "is as it was" in refused.output


@pytest.mark.backends("mariadb")
def test_definers_whose_rights_end_at_the_database_are_no_obstacle(
    shop: Shop, database: Database
) -> None:
    """A view is checked with the rights of its definer, who has none in a copy of another name."""
    url = sa.make_url(database.url)
    account = f"`dbkit_{os.getpid()}`@`%`"
    live = shop.engine.dialect.identifier_preparer.quote_identifier(str(url.database))
    shop.execute(
        f"CREATE OR REPLACE USER {account}",
        f"GRANT SELECT, EXECUTE, SHOW VIEW, TRIGGER, INSERT ON {live}.* TO {account}",
        f"CREATE DEFINER = {account} VIEW inner_view AS SELECT title FROM book",
        "CREATE VIEW outer_view AS SELECT title FROM inner_view",
        f"CREATE DEFINER = {account} FUNCTION books() RETURNS int READS SQL DATA"
        " RETURN (SELECT count(*) FROM book)",
        "CREATE VIEW counted AS SELECT books() AS n",
        f"CREATE DEFINER = {account} TRIGGER b AFTER INSERT ON book FOR EACH ROW"
        " INSERT INTO author VALUES (NEW.id + 100, NEW.title)",
    )
    try:
        made = shop.create("--verify")
        shop.execute("DELETE FROM book")
        shop.dispose()
        shop.done("restore", made, "--in-place", "--yes")
        shop.execute("INSERT INTO book VALUES (9, 'new', NULL)")
        with shop.engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM outer_view")) == 4
            assert connection.scalar(sa.text("SELECT n FROM counted")) == 4
            assert connection.scalar(sa.text("SELECT name FROM author WHERE id = 109")) == "new"
            definers = connection.scalars(
                sa.text("SELECT definer FROM information_schema.views WHERE table_schema = :name"),
                {"name": url.database},
            )
            assert account.replace("`", "") in set(definers)
    finally:
        shop.execute(f"DROP USER {account}")
