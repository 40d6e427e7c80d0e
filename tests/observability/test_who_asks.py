"""Whose statements a window counts: of requests, commands, jobs, async views, every bind."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pymysql.cursors
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from flask_dbkit import (
    Listing,
    QueryStats,
    SortAllowlist,
    job,
    query_stats,
    record_queries,
    savepoint,
    transaction,
)
from flask_dbkit.observability import watchdog
from tests.observability.shop import COUNT, Shop

NewShop = Callable[..., Shop]
ON_DISK = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
SQLITE = pytest.mark.backends("sqlite-file")
# How a transaction begins and ends, with what the library sends to be a writer: no statements.
_ENDS = re.compile(r"(BEGIN|COMMIT|ROLLBACK(?! TO)|START|PRAGMA incremental_vacuum)\b")


class Postgres(psycopg.Cursor[Any]):
    """A cursor that notes what it is asked to send."""

    sent: list[str]

    def execute(self, query: Any, *rest: Any, **named: Any) -> Any:
        self.sent.append(str(query))
        return super().execute(query, *rest, **named)

    def executemany(self, query: Any, *rest: Any, **named: Any) -> Any:
        self.sent.append(str(query))
        return super().executemany(query, *rest, **named)


class MySQL(pymysql.cursors.Cursor):
    """The same; it sends many rows by its own execute()."""

    sent: list[str]
    many = False

    def execute(self, query: Any, args: Any = None) -> Any:
        if not self.many:
            self.sent.append(str(query))
        return super().execute(query, args)

    def executemany(self, query: Any, args: Any) -> Any:
        self.sent.append(str(query))
        self.many = True
        try:
            return super().executemany(query, args)
        finally:
            self.many = False


def log_of_driver(engine: sa.Engine) -> list[str]:
    """Return what the driver itself is told to send, over connections that are made from now on."""
    sent: list[str] = []

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        if engine.dialect.name == "sqlite":
            connection.set_trace_callback(sent.append)
        elif engine.dialect.name == "postgresql":
            connection.cursor_factory = type("Noting", (Postgres,), {"sent": sent})
        else:
            connection.cursorclass = type("Noting", (MySQL,), {"sent": sent})

    engine.dispose()
    return sent


def statements_in(log: list[str]) -> list[str]:
    """Return the statements of a log: SQLite tells each row of an executemany."""
    texts = [each.split(" VALUES ")[0] for each in log if not _ENDS.match(each)]
    return [text for number, text in enumerate(texts) if number == 0 or text != texts[number - 1]]


@ON_DISK
def test_figures_add_up_to_what_the_driver_was_told_to_send(shop: Shop) -> None:
    """Of the ORM, Core, texts and the driver's own, many rows at once, flushes and savepoints."""
    with shop.app.app_context():
        session, user = shop.db.session, shop.User
        log = log_of_driver(shop.db.engine)
        session.execute(sa.text("SELECT 1"))
        session.rollback()
        log.clear()
        with record_queries() as stats:
            with transaction():
                everybody = session.scalars(sa.select(user)).all()
                len(everybody[0].posts)
                session.connection().exec_driver_sql("SELECT 2").all()
                rows = [{"id": 500 + n, "name": "x", "bio": "b"} for n in range(3)]
                session.execute(sa.insert(user.__table__), rows)
                with savepoint():
                    session.add(user(id=600, name="x"))
                session.execute(sa.text("SELECT 3"))
                with pytest.raises(sa.exc.IntegrityError), savepoint():
                    session.execute(sa.insert(user.__table__).values(id=1, name="x"))
            session.execute(sa.delete(user).where(user.id >= 500))
            session.commit()
    assert stats.queries == len(statements_in(log)), statements_in(log)


@ON_DISK
def test_every_bind_is_counted_under_its_name(new_shop: NewShop, tmp_path: Path) -> None:
    """One window for all databases."""
    shop = new_shop(SQLALCHEMY_BINDS={"other": f"sqlite:///{tmp_path}/other.db"})
    with shop.app.app_context(), record_queries() as stats:
        shop.db.session.execute(sa.text("SELECT 1"))
        for _ in range(2):
            with shop.db.engines["other"].connect() as connection:
                connection.execute(sa.text("SELECT 2"))
    assert [each.bind for each in stats.statements] == ["default", "other", "other"]
    assert (stats.queries, stats.checkouts) == (3, 3)


@SQLITE
def test_an_async_view_counts_in_its_request(new_shop: NewShop) -> None:
    """Flask runs it in a thread of its own."""
    shop = new_shop(DBKIT_SERVER_TIMING="always")
    seen: list[object] = []

    @shop.app.get("/")
    async def view() -> str:
        seen.append(threading.get_ident())
        shop.db.session.execute(sa.text("SELECT 1"))
        stats = query_stats()
        assert stats is not None
        return str(stats.queries)

    answer = shop.app.test_client().get("/")
    assert answer.text == "1"
    assert "1 queries" in answer.headers["Server-Timing"]
    assert query_stats() is None


@SQLITE
@pytest.mark.parametrize("mode", ["debug", "testing", "production"])
def test_a_command_is_a_window_and_a_finding_is_logged(
    new_shop: NewShop,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    """From its context to its end; a job in it is another; neither ever fails because of it."""
    monkeypatch.setenv("FLASK_DEBUG", str(int(mode == "debug")))
    shop = new_shop(TESTING=mode == "testing")
    seen: list[QueryStats | None] = []

    @job
    def piece() -> None:
        seen.append(query_stats())
        for user in shop.db.session.scalars(sa.select(shop.User)):
            len(user.posts)

    @shop.app.cli.command("count-posts")
    def count_posts() -> None:
        for user in shop.db.session.scalars(sa.select(shop.User)):
            len(user.posts)
        seen.append(query_stats())
        piece()

    runner = shop.app.test_cli_runner()
    assert runner.invoke(args=["count-posts"]).exit_code == 0
    command, in_job = seen
    assert command is not None
    assert in_job is not None
    assert command is not in_job
    assert command.queries == 2 * (1 + COUNT)
    assert in_job.queries == 1 + COUNT
    told = [each for each in caplog.records if each.name == "flask_dbkit.n_plus_one"]
    lines = [each.getMessage() for each in told]
    expected = ["N+1 in a job: User.posts", "N+1 in the command", "N+1 in the command"]
    assert [line[: len(begin)] for line, begin in zip(lines, expected, strict=False)] == (
        expected if mode != "production" else []
    )
    assert query_stats() is None


@SQLITE
def test_a_context_that_is_no_command_is_no_window(shop: Shop) -> None:
    """A script that opens a context opens no window with it."""
    with shop.app.app_context():
        assert query_stats() is None


@SQLITE
def test_a_query_string_that_is_not_understood_has_the_request_id(shop: Shop) -> None:
    """As every problem of the database has."""
    listing = Listing(shop.User, sort=SortAllowlist({"id": shop.User.id}, default="id"))
    shop.app.add_url_rule("/users", "users", lambda: listing.paginate().to_dict())
    headers = {"X-Request-ID": "request-0815"}
    answer = shop.app.test_client().get("/users?sort=nothing", headers=headers)
    assert answer.status_code == 400
    assert answer.get_json()["request_id"] == answer.headers["X-Request-ID"] == "request-0815"


@SQLITE
@pytest.mark.requires("several_processes")
def test_no_thread_of_the_watchdog_is_alive_at_a_fork(
    new_shop: NewShop, caplog: pytest.LogCaptureFixture
) -> None:
    """It is stopped at once, goes on with what is held, and the child begins with nothing."""
    shop = new_shop(DBKIT_CONNECTION_WARN_S=0.3)
    with shop.app.app_context(), shop.db.engine.connect():
        (thread,) = threads()
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            held = [each for each in watchdog._living if each.held]
            os._exit(len(held) + len(threads()))
        stopped_s = time.monotonic() - begun
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not thread.is_alive()
        assert stopped_s < 0.25
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not told(caplog):
            time.sleep(0.02)
    (record,) = told(caplog)
    assert f"{__file__}:" in record.getMessage()


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "dbkit-watchdog"]


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == "flask_dbkit.connections"]
