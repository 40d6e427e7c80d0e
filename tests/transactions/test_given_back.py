"""A connection goes back to the pool as it came out of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, text
from sqlalchemy.pool import (
    AssertionPool,
    NullPool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
)

from flask_dbkit import DBKit, savepoint, transaction
from tests.support.databases import Database
from tests.transactions.conftest import Ledger

NewLedger = Callable[..., Ledger]
FLAGS = ("autocommit", "isolation_level", "read_only", "readonly", "deferrable")
SETTINGS = {
    "postgresql": (
        "SHOW transaction_read_only",
        "SHOW transaction_isolation",
        "SHOW lock_timeout",
        "SHOW statement_timeout",
    ),
    "mariadb": (
        "SELECT @@SESSION.tx_read_only",
        "SELECT @@SESSION.tx_isolation",
        "SELECT @@SESSION.innodb_lock_wait_timeout",
        "SELECT @@SESSION.max_statement_time",
    ),
    "sqlite-file": (
        "PRAGMA query_only",
        "PRAGMA read_uncommitted",
        "PRAGMA busy_timeout",
    ),
}


def state_of(ledger: Ledger) -> list[Any]:
    """Return what the next user of the connection finds in the driver, and in the session."""
    with ledger.engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        flags = [getattr(raw, name, None) for name in FLAGS]
        settings = SETTINGS[ledger.database.name]
        return [*flags, *(connection.scalar(text(ask)) for ask in settings)]


def read_committed(dbapi_connection: Any, record: Any) -> None:
    dbapi_connection.cursor().execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")


def leave_nothing_behind(database: Database, driver: str, make_ledger: NewLedger) -> None:
    url = database.url.replace("psycopg", driver, 1)
    ledger = make_ledger(SQLALCHEMY_DATABASE_URI=url)
    if database.name == "mariadb":
        event.listen(ledger.engine, "connect", read_committed)
        ledger.engine.dispose()
    before = state_of(ledger)
    options: list[dict[str, Any]] = [
        {"read_only": True},
        {"isolation": "SERIALIZABLE"},
        {"read_only": True, "isolation": "REPEATABLE READ"},
        {"lock_timeout": 3, "statement_timeout": 4},
    ]
    with ledger.app.app_context():
        for number, each in enumerate(options):
            with transaction(**each):
                ledger.read()
            assert state_of(ledger) == before, (each, "commit")
            with pytest.raises(ZeroDivisionError), transaction(**each):
                ledger.read()
                if not each.get("read_only"):
                    ledger.insert(number)
                _ = 1 / 0
            assert state_of(ledger) == before, (each, "rollback")
            with pytest.raises(Exception, match="nowhere"), transaction(**each):
                ledger.session.execute(text("SELECT n FROM nowhere"))
            assert state_of(ledger) == before, (each, "error")
    if database.name == "mariadb":
        event.remove(ledger.engine, "connect", read_committed)
        ledger.engine.dispose()


@pytest.mark.requires("several_connections")
def test_nothing_a_scope_sets_is_there_for_the_next_one(
    database: Database, make_ledger: NewLedger
) -> None:
    """After a commit, a rollback and an error; an isolation level of the application's too."""
    for driver in ("psycopg", "psycopg2") if database.name == "postgresql" else ("psycopg",):
        leave_nothing_behind(database, driver, make_ledger)


@pytest.mark.parametrize("reset", ["commit", "rollback", None])
@pytest.mark.parametrize(
    "poolclass", [QueuePool, NullPool, AssertionPool, SingletonThreadPool, StaticPool]
)
@pytest.mark.requires("several_connections")
def test_a_pool_that_resets_by_commit_saves_nothing_and_keeps_its_connection(
    reset: str | None,
    poolclass: type[Any],
    make_ledger: NewLedger,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its COMMIT is no COMMIT of the application's, and what a scope left is rolled back."""
    ledger = make_ledger(
        SQLALCHEMY_ENGINE_OPTIONS={"pool_reset_on_return": reset, "poolclass": poolclass}
    )
    opened: list[int] = []
    ledger.engine.dispose()
    event.listen(ledger.engine, "connect", lambda *_: opened.append(1))
    with ledger.app.app_context():
        for n in range(2):
            with pytest.raises(ZeroDivisionError), transaction():
                ledger.insert(n)
                _ = 1 / 0
            with transaction(read_only=True):
                ledger.read()
            with transaction():
                ledger.insert(10 + n)
                with savepoint():
                    ledger.insert(20 + n)
    assert ledger.saved() == [10, 11, 20, 21]
    assert len(opened) == 1 or poolclass is NullPool
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.backends("postgresql")
def test_plain_reads_of_a_hot_standby_work_after_a_read_only_scope(
    postgres_server: Callable[..., Any], make_standby: Callable[..., Any], tmp_path: Any
) -> None:
    """A flag left behind would begin them READ WRITE, which a standby refuses."""
    standby = make_standby(postgres_server())
    for driver in ("psycopg", "psycopg2"):
        app = Flask("standby", instance_path=str(tmp_path))
        app.config["SQLALCHEMY_DATABASE_URI"] = standby.url(driver=driver)
        db = SQLAlchemy()
        DBKit(app, db=db)
        pids: set[int] = set()
        for scopes in (True, False, False, False):
            with app.app_context(), transaction(read_only=True) if scopes else nullcontext():
                pids.add(db.session.scalar(text("SELECT pg_backend_pid()")) or 0)
        assert len(pids) == 1
        with app.app_context():
            db.engine.dispose()
