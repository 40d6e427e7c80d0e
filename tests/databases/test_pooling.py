"""Pooled connections to a server: pinged after a rest, and let go when they are lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from flask_dbkit import DBKit, stream, transaction
from tests.support.databases import Database

pytestmark = pytest.mark.backends("postgresql", "mariadb")
IDLE_S = 0.4


class Pool:
    """An application, its pings, and somebody who ends its connections."""

    def __init__(self, app: Flask, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pings = 0
        dialect: Any = type(make_url(app.config["SQLALCHEMY_DATABASE_URI"]).get_dialect()())
        plain = dialect.do_ping

        def do_ping(own: Any, dbapi_connection: Any) -> bool:
            self.pings += 1
            answer: bool = plain(own, dbapi_connection)
            return answer

        monkeypatch.setattr(dialect, "do_ping", do_ping)
        self.app, self.database = app, database
        self.kit = DBKit(app)
        self.db: SQLAlchemy = self.kit.db
        app.add_url_rule("/", "index", self.read)
        self.client = app.test_client()

    def read(self) -> str:
        return str(self.db.session.scalar(text("SELECT 1")))

    def get(self, times: int = 1) -> list[int]:
        return [self.client.get("/").status_code for _ in range(times)]

    def end_all(self) -> None:
        """End every other session of this database, as a restart would."""
        engine = create_engine(self.database.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            if self.database.name == "postgresql":
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
            else:
                ids = text(
                    "SELECT id FROM information_schema.processlist"
                    " WHERE db = database() AND id <> connection_id()"
                )
                for number in connection.scalars(ids).all():
                    connection.execute(text(f"KILL {number}"))
        engine.dispose()


@pytest.fixture
def make_pool(
    make_app: Callable[..., Flask], database: Database, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Pool]:
    """Return a function that makes an application; keyword arguments are its configuration."""
    return lambda **config: Pool(make_app(**config), database, monkeypatch)


@pytest.mark.parametrize(
    ("config", "busy", "idle"),
    [
        ({"DBKIT_POOL_PING_AFTER_S": IDLE_S}, 0, 1),
        ({"DBKIT_POOL_PING_AFTER_S": 0}, 5, 1),
        ({"DBKIT_POOL_PING_AFTER_S": None}, 0, 0),
        ({"SQLALCHEMY_ENGINE_OPTIONS": {"pool_pre_ping": True}}, 5, 1),
        ({"SQLALCHEMY_ENGINE_OPTIONS": {"pool_pre_ping": False}}, 0, 0),
    ],
    ids=["after a rest", "always", "never", "the application's always", "the application's never"],
)
def test_a_connection_is_pinged_after_it_was_idle(
    make_pool: Callable[..., Pool], config: dict[str, Any], busy: int, idle: int
) -> None:
    """A busy one has answered a moment ago; what the application says of the ping stands."""
    pool = make_pool(**config)
    pool.get()
    assert pool.get(5) == [200] * 5
    assert pool.pings == busy
    time.sleep(IDLE_S * 1.2)
    assert pool.get() == [200]
    assert pool.pings == busy + idle


def test_connections_that_were_ended_cost_nothing_after_a_rest_and_one_error_within_it(
    make_pool: Callable[..., Pool], database: Database
) -> None:
    """What went stale while it was idle is replaced unseen; who was too quick may try again."""
    name = make_url(database.url).get_backend_name()
    for driver in ("psycopg", "psycopg2") if database.name == "postgresql" else ("pymysql",):
        url = make_url(database.url).set(drivername=f"{name}+{driver}")
        end_and_use(make_pool(SQLALCHEMY_DATABASE_URI=url, DBKIT_POOL_PING_AFTER_S=IDLE_S))


def end_and_use(pool: Pool) -> None:
    with pool.app.app_context():
        several = [pool.db.engine.connect() for _ in range(3)]
        for connection in several:
            connection.close()
    pool.end_all()
    time.sleep(IDLE_S * 1.2)
    assert pool.get(10) == [200] * 10
    pool.get()
    pool.end_all()
    first = pool.client.get("/")
    if first.status_code != 200:  # a loaded machine took its time
        assert (first.status_code, "Retry-After" in first.headers) == (503, True)
    assert pool.get(10) == [200] * 10


class Readers:
    """What reads, loses its connection, and has its answer all the same."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.session = pool, pool.db.session

    def lose(self) -> str:
        answer = self.session.scalar(text("SELECT 'the answer'"))
        self.pool.end_all()
        return str(answer)

    def in_a_request(self) -> str:
        self.pool.app.view_functions["index"] = self.lose
        return self.pool.client.get("/").text

    def in_a_read_only_scope(self) -> str:
        with self.pool.app.app_context(), transaction(read_only=True):
            return self.lose()

    def in_a_context(self) -> str:
        with self.pool.app.app_context():
            return self.lose()

    def in_a_check(self) -> str:
        found: list[str] = []
        self.pool.kit.health.check("reading")(lambda: found.append(self.lose()))
        report = self.pool.kit.health.run("readiness")
        assert report.checks["reading"][0]["status"] == "pass"
        return found[0]

    def in_a_stream(self) -> str:
        def body() -> Iterator[str]:
            yield self.lose()

        self.pool.app.view_functions["index"] = lambda: stream(body())
        return self.pool.client.get("/").text

    def rolled_back(self) -> str:
        with self.pool.app.app_context():
            answer = self.lose()
            self.session.rollback()
            assert self.session.scalar(text("SELECT 1")) == 1
            return answer


READERS = [name for name in vars(Readers) if name.startswith(("in_a", "rolled"))]


@pytest.mark.parametrize("how", READERS)
def test_a_connection_that_is_lost_after_it_was_read_from_costs_no_answer(
    make_pool: Callable[..., Pool], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, the connection is dropped, and the next request has a good one."""
    pool = make_pool()
    read = pool.app.view_functions["index"]
    with caplog.at_level(logging.WARNING):
        assert getattr(Readers(pool), how)() == "the answer"
    told = [record for record in caplog.records if "lost before its ROLLBACK" in record.message]
    assert [(record.levelname, record.exc_info) for record in told] == [("WARNING", None)]
    pool.app.view_functions["index"] = read
    assert pool.get(3) == [200] * 3


def test_work_that_is_lost_with_its_connection_is_never_passed_over(
    make_pool: Callable[..., Pool],
) -> None:
    """Neither by COMMIT nor by a statement, in a scope or without one."""
    pool = make_pool()
    with pool.app.app_context():
        for write in (pool.db.session.commit, lambda: pool.db.session.execute(text("SELECT 1"))):
            pool.db.session.execute(text("CREATE TEMPORARY TABLE lost (n INTEGER)"))
            pool.end_all()
            with pytest.raises(DBAPIError):
                write()
            pool.db.session.rollback()
