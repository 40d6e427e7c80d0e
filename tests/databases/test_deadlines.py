"""A server that falls silent holds nobody longer than the statement timeout and a little."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from flask_dbkit import DBKit, after_end, transaction
from flask_dbkit.databases import command_engine, deadlines, forking
from tests.support.databases import Database
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

DRIVERS = {"postgresql": ("psycopg", "psycopg2"), "mariadb": ("pymysql",)}
TIMEOUT_S, GRACE_S = 0.5, 0.1


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds more than the server's own clock are too long for a test."""
    monkeypatch.setattr(deadlines, "GRACE_S", GRACE_S)
    monkeypatch.setattr(deadlines, "_PING_S", 0.3)
    monkeypatch.setattr(deadlines, "_LOOK_S", 0.05)
    monkeypatch.setattr(deadlines, "_clock", deadlines._Clock())


def watchers() -> int:
    return sum(thread.name == "flask-dbkit-deadlines" for thread in threading.enumerate())


class Frozen:
    """An application behind a proxy that stands still at a chosen step of a request."""

    def __init__(self, folder: Path, url: Any, **config: Any) -> None:
        self.proxy = Proxy(url.port)
        self.app = Flask("frozen", instance_path=str(folder))
        self.app.config |= {
            "SQLALCHEMY_DATABASE_URI": url.set(host="127.0.0.1", port=self.proxy.port),
            "DBKIT_STATEMENT_TIMEOUT_MS": int(TIMEOUT_S * 1000),
            "SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"connect_timeout": 2}},
        } | config
        self.db = DBKit(self.app).db
        self.ends: list[str] = []
        self.step = ""
        for name in ("pinging", "reading", "fetching", "committing", "rolling_back", "isolating"):
            self.app.add_url_rule(f"/{name}", name, getattr(self, name))

    def freeze_at(self, step: str) -> None:
        if step == self.step:
            self.proxy.freeze()

    def ask(self, number: int = 1, **options: Any) -> Any:
        statement = text(f"SELECT {number}").execution_options(**options)
        return self.db.session.execute(statement)

    def pinging(self) -> str:
        self.freeze_at("pinging")
        self.ask()
        return "pong"

    def reading(self) -> str:
        self.ask()
        self.freeze_at("reading")
        self.ask(2)
        return "read"

    def fetching(self) -> str:
        # PostgreSQL sends what is asked for; MariaDB all, so it has to be more than a link holds.
        asks = self.db.engine.dialect.name == "postgresql"
        many = (
            "SELECT n FROM generate_series(1, 900) AS n"
            if asks
            else "SELECT repeat('x', 9000) FROM seq_1_to_900"
        )
        rows = iter(self.db.session.execute(text(many), execution_options={"yield_per": 300}))
        next(rows)
        self.freeze_at("fetching")
        return str(len(list(rows)))

    def committing(self) -> str:
        with transaction():
            after_end(self.ends.append)
            self.ask()
            self.freeze_at("committing")
        return "saved"

    def rolling_back(self) -> str:
        self.ask()
        self.freeze_at("rolling_back")
        self.db.session.rollback()
        return "undone"

    def isolating(self) -> str:
        self.freeze_at("isolating")
        self.db.session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        self.ask()
        return "alone"

    def run(self, step: str) -> tuple[int, str, float]:
        client = self.app.test_client()
        assert client.get(f"/{step}").status_code == 200  # the first opens the connection
        self.step = step
        began = time.monotonic()
        answer = client.get(f"/{step}")
        took_s = time.monotonic() - began
        self.proxy.thaw()
        self.step = ""
        # Empty: what was cut off is not in the pool any more.
        assert client.get(f"/{step}").status_code == 200
        body = answer.get_json(silent=True) or {}
        code = body.get("code", answer.text)
        return answer.status_code, code, took_s

    def close(self) -> None:
        with self.app.app_context():
            self.db.engine.dispose()
        self.proxy.close()


@pytest.fixture
def collected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Collect what a test leaves behind before another one does, errors in log records too."""
    yield
    for phase in ("setup", "call"):
        caplog.get_records(phase).clear()
    gc.collect()


# PyMySQL reads the rest of an answer when its cursor is collected, from a connection or from none.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("collected")
@pytest.mark.backends("postgresql", "mariadb")
def test_a_server_that_falls_silent_is_cut_off_at_every_step(
    database: Database, tmp_path: Path
) -> None:
    """Ping, statement, rows, COMMIT and ROLLBACK end in time, on every driver, with one thread."""
    answers: dict[tuple[str, str], tuple[int, str]] = {}
    steps = ("pinging", "reading", "fetching", "committing", "rolling_back", "isolating")
    url, before = make_url(database.url), watchers()
    with ExitStack() as stack, ThreadPoolExecutor(12) as pool:
        made = {}
        for driver in DRIVERS[database.name]:
            for step in steps:
                own = url.set(drivername=f"{url.get_backend_name()}+{driver}")
                config = {"DBKIT_POOL_PING_AFTER_S": 0 if step == "pinging" else None}
                if step == "fetching":  # so many rows may take the server longer than that
                    config["DBKIT_STATEMENT_TIMEOUT_MS"] = None
                frozen = made[driver, step] = Frozen(tmp_path, own, **config)
                with frozen.app.app_context():
                    deadlines.guard_silence(frozen.db.engine, TIMEOUT_S)
                stack.callback(frozen.close)
        runs = {key: pool.submit(frozen.run, key[1]) for key, frozen in made.items()}
        for key, run in runs.items():
            status, code, took_s = run.result(60)
            answers[key] = status, code
            # The limit, and what a loaded machine adds; a connect may follow on a ping.
            assert took_s < TIMEOUT_S + GRACE_S + 9, key
        assert watchers() == before + 1
    expected = {
        "reading": (504, "timeout"),
        "fetching": (504, "timeout"),
        "committing": (503, "unavailable"),
        # What was not to be saved is undone, whoever does it.
        "rolling_back": (200, "undone"),
        "isolating": (504, "timeout"),
    }
    ends = [frozen.ends for (_, step), frozen in made.items() if step == "committing"]
    assert ends == [["committed", "unknown", "committed"]] * len(ends)
    for (driver, step), answer in answers.items():
        if step == "pinging":  # what follows is a connect, which is given up too
            assert answer[0] >= 500
            continue
        assert answer == expected[step], (driver, step)


@pytest.mark.backends("postgresql", "mariadb")
def test_only_a_timeout_of_the_scope_or_of_the_setting_starts_the_clock(
    database: Database, tmp_path: Path
) -> None:
    """Without one there is no thread; a scope's own limit is looked after like the setting."""
    frozen = Frozen(tmp_path, make_url(database.url), DBKIT_STATEMENT_TIMEOUT_MS=None)
    before = watchers()
    try:
        with frozen.app.app_context():
            with transaction():
                frozen.ask()
            assert watchers() == before
            with pytest.raises(OperationalError, match=r"silent for 0\.6 seconds"):
                with transaction(read_only=True, statement_timeout=TIMEOUT_S):
                    frozen.ask()
                    frozen.proxy.freeze()
                    frozen.ask(2)
            frozen.proxy.thaw()
            sleep = "pg_sleep" if database.name == "postgresql" else "SLEEP"
            with transaction():  # the limit went with its scope
                frozen.db.session.execute(text(f"SELECT {sleep}(0.8)"))
    finally:
        frozen.close()


@pytest.mark.backends("postgresql")
def test_a_real_server_that_is_stopped_holds_no_request(
    postgres_server: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    """Its kernel goes on acknowledging: neither the server's clock nor TCP's would end the wait."""
    server = postgres_server()
    app = Flask("stopped", instance_path=str(tmp_path))
    app.config |= {
        "SQLALCHEMY_DATABASE_URI": server.url(),
        "DBKIT_STATEMENT_TIMEOUT_MS": int(TIMEOUT_S * 1000),
    }
    db = DBKit(app).db
    with app.app_context():
        db.session.execute(text("SELECT 1"))
        server.freeze()
        began = time.monotonic()
        with pytest.raises(OperationalError, match="was silent"):
            db.session.execute(text("SELECT 2"))
        assert time.monotonic() - began < TIMEOUT_S + GRACE_S + 3
        server.thaw()
        db.session.rollback()
        assert db.session.scalar(text("SELECT 3")) == 3
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def guarded(database: Database) -> Iterator[Engine]:
    """An engine with the clock here, whose server has no limit."""
    engine = create_engine(database.url)
    deadlines.guard_silence(engine, TIMEOUT_S)
    yield engine
    engine.dispose()


@pytest.mark.backends("postgresql", "mariadb")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # of the test's own
def test_no_clock_is_alive_at_a_fork_and_what_is_under_way_is_still_cut_off(
    guarded: Engine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child has no copy of a thread, and Python warns of those it leaves behind."""
    alive: list[int] = []
    monkeypatch.setattr(forking, "_before", [*forking._before, lambda: alive.append(watchers())])
    sleep = "pg_sleep" if database.name == "postgresql" else "SLEEP"

    def ask() -> None:
        with guarded.connect() as connection:
            connection.execute(text(f"SELECT {sleep}(5)"))

    before = watchers()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        while watchers() == before:
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            os._exit(watchers())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert alive == [before]
        with pytest.raises(OperationalError, match="silent for"):
            asked.result(10)


@pytest.mark.backends("postgresql", "mariadb")
def test_neither_a_long_answer_nor_a_longer_limit_of_the_application_is_silence(
    guarded: Engine, database: Database
) -> None:
    """Rows that go on coming are waited for, and so is a server that was told to take longer."""
    if database.name == "postgresql":
        slow = "SELECT repeat('x', 50000), pg_sleep(0.15) FROM generate_series(1, 6)"
        longer, sleep = "SET LOCAL statement_timeout = 60000", "SELECT pg_sleep(0.8)"
    else:
        slow = "SELECT REPEAT('x', 50000), SLEEP(0.15) FROM seq_1_to_6"
        longer, sleep = "SET SESSION max_statement_time = 60", "SELECT SLEEP(0.8)"
    with guarded.connect() as connection:
        assert len(connection.execute(text(slow)).all()) == 6
        connection.execute(text(longer))
        connection.execute(text(sleep))
        connection.rollback()
        if database.name == "postgresql":  # what was LOCAL is over
            with pytest.raises(OperationalError, match="was silent"):
                connection.execute(text(sleep))


def test_a_server_that_takes_the_connection_and_says_nothing_is_left_in_time(
    tmp_path: Path,
) -> None:
    """The connect timeout holds for the whole handshake, on every driver."""
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]

    def of_an_application(driver: str) -> Callable[[], object]:
        app = Flask("hanging", instance_path=str(tmp_path))
        app.config |= {
            "SQLALCHEMY_DATABASE_URI": f"{driver}://u:p@127.0.0.1:{port}/x",
            "SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"connect_timeout": 2}},
        }
        db = DBKit(app).db
        with app.app_context():
            return db.engine.connect

    def of_a_command(driver: str) -> Callable[[], object]:
        url = make_url(f"{driver}://u:p@127.0.0.1:{port}/x?connect_timeout=2")
        return command_engine(url).connect

    def wait(connect: Callable[[], object]) -> float:
        began = time.monotonic()
        with pytest.raises(OperationalError):
            connect()
        return time.monotonic() - began

    drivers = ("postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql", "mariadb+pymysql")
    made = [make(driver) for make in (of_an_application, of_a_command) for driver in drivers]
    with silent, ThreadPoolExecutor(len(made)) as pool:
        for took_s in pool.map(wait, made):
            assert 1 < took_s < 4


@pytest.mark.backends("mariadb")
def test_the_deadline_of_the_handshake_does_not_shorten_statements(
    make_app: Callable[..., Flask],
) -> None:
    """PyMySQL knows one limit for reading: it holds until the connection is ready."""
    options: dict[str, Any] = {"connect_args": {"connect_timeout": 1}}
    app = make_app(SQLALCHEMY_ENGINE_OPTIONS=options)
    db = DBKit(app).db
    with app.app_context(), db.engine.connect() as connection:
        assert connection.execute(text("SELECT SLEEP(1.1)")).scalar() == 0
