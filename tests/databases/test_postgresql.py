"""PostgreSQL: pool and timeouts, session settings, and servers that come, go and stand still."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from flask_dbkit import DBKit
from flask_dbkit.config import Config
from flask_dbkit.databases import EngineContext, support_for
from tests.databases.conftest import KitEngine
from tests.support.databases import Database
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.backends("postgresql")

DRIVERS = ("psycopg", "psycopg2")


@pytest.fixture(params=DRIVERS)
def url(database: Database, request: pytest.FixtureRequest) -> str:
    """The database's URL, once per driver."""
    return str(with_driver(database.url, request.param))


def with_driver(url: str, driver: str) -> str:
    parsed = make_url(url).set(drivername=f"postgresql+{driver}")
    return parsed.render_as_string(hide_password=False)


def show(engine: Engine, name: str) -> str:
    with engine.connect() as connection:
        return str(connection.execute(text(f"SHOW {name}")).scalar_one())


def socket_option(engine: Engine, name: int) -> int:
    """Ask the kernel about the socket of a connection."""
    with engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        with socket.socket(fileno=os.dup(raw.fileno())) as own:
            return own.getsockopt(socket.IPPROTO_TCP, name)


def test_a_session_is_in_utc_and_says_whose_it_is(url: str, prepare_engine: KitEngine) -> None:
    """The application's name is in the server's list of sessions, the time zone is UTC."""
    engine = prepare_engine(url)
    assert show(engine, "TimeZone") == "UTC"
    assert show(engine, "application_name") == "dbkit_test_app"


def test_a_peer_that_vanished_is_noticed(url: str, prepare_engine: KitEngine) -> None:
    """Keep-alives while idle, and a limit for data that nobody acknowledges."""
    engine = prepare_engine(url)
    assert socket_option(engine, socket.TCP_KEEPIDLE) == 30
    assert socket_option(engine, socket.TCP_KEEPINTVL) == 10
    assert socket_option(engine, socket.TCP_KEEPCNT) == 3
    assert socket_option(engine, socket.TCP_USER_TIMEOUT) == 10_000


def test_the_pool_pings_recycles_and_does_not_wait_forever(
    url: str, prepare_engine: KitEngine
) -> None:
    """Dead connections are found before use, and a full pool is told after ten seconds."""
    pool = prepare_engine(url).pool
    assert isinstance(pool, QueuePool)
    assert pool._pre_ping is True
    assert pool._recycle == 1800
    assert pool.timeout() == 10


def test_timeouts_are_set_on_every_session(url: str, prepare_engine: KitEngine) -> None:
    """Also on one that replaces another in the pool."""
    engine = prepare_engine(
        url,
        DBKIT_STATEMENT_TIMEOUT_MS=4000,
        DBKIT_LOCK_TIMEOUT_MS=1500,
        DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS=60_000,
    )
    for _ in range(2):
        assert show(engine, "statement_timeout") == "4s"
        assert show(engine, "lock_timeout") == "1500ms"
        assert show(engine, "idle_in_transaction_session_timeout") == "1min"
        engine.dispose()


def test_a_setting_survives_a_rollback(url: str, prepare_engine: KitEngine) -> None:
    """It is committed when the connection is made, so no transaction can take it back."""
    engine = prepare_engine(url, DBKIT_STATEMENT_TIMEOUT_MS=4000)
    with engine.connect() as connection:
        connection.rollback()
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "4s"


def test_without_settings_the_servers_own_timeouts_stay(
    url: str, prepare_engine: KitEngine
) -> None:
    """Nothing is set that nobody asked for."""
    engine = prepare_engine(url)
    assert show(engine, "statement_timeout") == "0"
    assert show(engine, "lock_timeout") == "0"


def test_a_slow_statement_is_ended_and_the_session_goes_on(
    url: str, prepare_engine: KitEngine
) -> None:
    """The statement timeout cancels the statement, not the connection."""
    engine = prepare_engine(url, DBKIT_STATEMENT_TIMEOUT_MS=50)
    with engine.connect() as connection:
        with pytest.raises(OperationalError, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(30)"))
        connection.rollback()
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_lock_is_not_waited_for_longer_than_said(url: str, prepare_engine: KitEngine) -> None:
    """The lock timeout ends the waiting statement."""
    engine = prepare_engine(url, DBKIT_LOCK_TIMEOUT_MS=50)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id int)"))
    with engine.connect() as first, engine.connect() as second:
        first.execute(text("LOCK TABLE t"))
        with pytest.raises(OperationalError, match="lock timeout"):
            second.execute(text("SELECT * FROM t"))


@pytest.mark.parametrize(
    ("options", "query", "expected"),
    [
        ({"connect_args": {"application_name": "mine"}}, "", ("application_name", "mine")),
        ({}, "?application_name=mine", ("application_name", "mine")),
        ({}, "?options=-c%20timezone%3DEurope/Paris", ("TimeZone", "Europe/Paris")),
        ({"connect_args": {"options": "-c TimeZone=Asia/Tokyo"}}, "", ("TimeZone", "Asia/Tokyo")),
    ],
)
def test_the_applications_own_arguments_win(
    url: str,
    prepare_engine: KitEngine,
    options: dict[str, Any],
    query: str,
    expected: tuple[str, str],
) -> None:
    """Given as ``connect_args`` or in the URL's query, they stay."""
    engine = prepare_engine(url + query, **options)
    assert show(engine, expected[0]) == expected[1]
    assert socket_option(engine, socket.TCP_KEEPIDLE) == 30  # the others are still ours


@pytest.mark.parametrize("given", [{"connect_args": {"keepalives_idle": 7}}, {}])
def test_the_applications_own_keepalives_win(
    url: str, prepare_engine: KitEngine, given: dict[str, Any]
) -> None:
    """Argument by argument, wherever it is given."""
    engine = prepare_engine(url + ("" if given else "?keepalives_idle=7"), **given)
    assert socket_option(engine, socket.TCP_KEEPIDLE) == 7
    assert socket_option(engine, socket.TCP_KEEPCNT) == 3


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"poolclass": NullPool}, {"pool_timeout"}),
        ({"pool": object()}, {"pool_timeout", "pool_pre_ping", "pool_recycle"}),
    ],
)
def test_options_that_do_not_fit_the_applications_pool_are_left_out(
    url: str, options: dict[str, Any], absent: set[str]
) -> None:
    """``create_engine`` refuses queue options for another class, and all for a ready pool."""
    parsed = make_url(url)
    context = EngineContext(None, "app", Config(), options)
    assert absent.isdisjoint(support_for(parsed).engine_options(parsed, context))


def test_another_driver_gets_no_arguments_of_libpq() -> None:
    """``connect_timeout`` and the like are words of one C library."""
    parsed = make_url("postgresql+pg8000://localhost/app")
    options = support_for(parsed).engine_options(parsed, EngineContext(None, "app", Config()))
    assert options["pool_pre_ping"] is True
    assert "connect_args" not in options


def test_a_long_or_foreign_application_name_is_cut_to_what_the_server_takes(
    url: str, prepare_engine: KitEngine
) -> None:
    """63 bytes of ASCII; anything else would be cut or replaced by the server, with a notice."""
    parsed = make_url(url)
    context = EngineContext(None, "Bücherei " + "x" * 80, Config())
    arguments = support_for(parsed).engine_options(parsed, context)["connect_args"]
    engine = prepare_engine(url, connect_args=arguments)
    assert show(engine, "application_name") == ("B?cherei " + "x" * 80)[:63]


# -- poolers ------------------------------------------------------------------------------


def test_behind_a_pooler_settings_end_with_their_transaction(
    url: str, prepare_engine: KitEngine
) -> None:
    """A SET would be seen by the next client of the same server session."""
    engine = prepare_engine(url, DBKIT_POOLER="pgbouncer", DBKIT_STATEMENT_TIMEOUT_MS=4000)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "4s"
        assert connection.execute(text("SHOW TimeZone")).scalar() == "UTC"
        connection.rollback()
        raw = connection.connection.cursor()
        raw.execute("SHOW statement_timeout")
        assert raw.fetchone() == ("0",)
        raw.close()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"


def test_behind_a_pooler_no_statement_is_prepared(
    database: Database, prepare_engine: KitEngine
) -> None:
    """A prepared statement lives in one server session, and the pooler hands out others."""
    parsed = make_url(with_driver(database.url, "psycopg"))
    config = Config.from_mapping({"DBKIT_POOLER": "PgBouncer"})
    options = support_for(parsed).engine_options(parsed, EngineContext(None, "app", config))
    assert options["connect_args"]["prepare_threshold"] is None
    engine = prepare_engine(database.url, DBKIT_POOLER="pgbouncer")
    with engine.connect() as connection:
        for _ in range(10):
            connection.execute(text("SELECT 1")).all()
        prepared = connection.execute(text("SELECT count(*) FROM pg_prepared_statements"))
        assert prepared.scalar() == 0


# -- servers that go away -----------------------------------------------------------------


def app_on(url: str, **config: Any) -> tuple[Flask, SQLAlchemy]:
    """A small application whose one page asks the database."""
    app, db = Flask("served"), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config.update(config)
    DBKit(app, db=db)

    @app.get("/")
    def page() -> str:
        return str(db.session.execute(text("SELECT 42")).scalar())

    return app, db


def dispose(app: Flask, db: SQLAlchemy) -> None:
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


def test_killed_backends_fail_no_request(url: str) -> None:
    """Every connection of the pool was ended by the server: ten requests in a row succeed."""
    app, db = app_on(url)
    client = app.test_client()
    with app.app_context():
        connections = [db.engine.connect() for _ in range(5)]
        for connection in connections:
            connection.execute(text("SELECT 1"))
        for connection in connections:
            connection.close()
        killed = db.session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ).all()
        assert len(killed) == 4
    assert [client.get("/").text for _ in range(10)] == ["42"] * 10
    dispose(app, db)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_restarted_server_fails_no_request(
    database: Database,
    postgres_server: Callable[..., PostgresServer],
    driver: str,
    way: str,
) -> None:
    """The second request, after the restart, finds a new connection by itself."""
    server = postgres_server()
    app, db = app_on(server.url(driver=driver))
    client = app.test_client()
    assert client.get("/").text == "42"
    getattr(server, way)()
    server.start()
    assert client.get("/").text == "42"
    dispose(app, db)


def test_an_unreachable_server_is_an_error_at_its_first_use_only(
    database: Database, postgres_server: Callable[..., PostgresServer]
) -> None:
    """Starting the application opens nothing; once the server is there it is used."""
    server = postgres_server()
    server.stop()
    app, db = app_on(server.url())
    with app.app_context():
        with pytest.raises(OperationalError, match="refused"):
            db.session.execute(text("SELECT 1"))
        db.session.rollback()
        server.start()
        assert db.session.execute(text("SELECT 42")).scalar() == 42
    dispose(app, db)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_frozen_server_is_given_up_on(
    database: Database, postgres_server: Callable[..., PostgresServer], driver: str
) -> None:
    """The kernel accepts the connection and nobody answers: ``connect_timeout`` ends the wait."""
    server = postgres_server()
    app, db = app_on(
        server.url(driver=driver),
        SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"connect_timeout": 2}},
    )
    server.freeze()
    with app.app_context():
        with pytest.raises(OperationalError, match="time"):
            db.session.execute(text("SELECT 1"))
        db.session.rollback()
        server.thaw()
        assert db.session.execute(text("SELECT 42")).scalar() == 42
    dispose(app, db)


def test_a_session_that_cannot_be_prepared_does_not_enter_the_pool(
    url: str, prepare_engine: KitEngine
) -> None:
    """A failing setting is the driver's error, and the next try starts afresh."""
    engine = prepare_engine(url)
    seen: list[object] = []

    @event.listens_for(engine, "connect")
    def count(raw: object, record: object) -> None:
        seen.append(raw)

    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        backend = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        with engine.connect() as other:
            other.execute(text(f"SELECT pg_terminate_backend({backend})"))
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT 1"))
    assert show(engine, "TimeZone") == "UTC"
    assert len(seen) == 3


def test_info_shows_what_is_in_force(url: str, prepare_engine: KitEngine) -> None:
    """The settings of ``flask dbkit info`` are read from a session, not from the configuration."""
    engine = prepare_engine(url, DBKIT_LOCK_TIMEOUT_MS=2000)
    with engine.connect() as connection:
        settings = support_for(engine.url).settings(connection)
    assert settings["TimeZone"] == "UTC"
    assert settings["lock_timeout"] == "2s"
    assert settings["default_transaction_isolation"] == "read committed"
