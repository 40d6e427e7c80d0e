"""MySQL and MariaDB: strict, in UTC, with timeouts, and whatever the application says wins."""

from __future__ import annotations

from typing import Any

import pytest
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from flask_dbkit.config import Config
from flask_dbkit.databases import EngineContext, support_for
from flask_dbkit.databases.mysql.engine import _session_settings
from tests.databases.conftest import KitEngine
from tests.support.databases import Database

mariadb = pytest.mark.backends("mariadb")


def variable(engine: Engine, name: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(f"SELECT @@SESSION.{name}")).scalar_one()


def options_for(url: str, **given: Any) -> dict[str, Any]:
    parsed = make_url(url)
    context = EngineContext(None, "app", Config(), given)
    return support_for(parsed).engine_options(parsed, context)


@mariadb
def test_a_session_is_strict_and_in_utc(database: Database, prepare_engine: KitEngine) -> None:
    """Too long a value is an error instead of being cut; NOW() is UTC; every character fits."""
    engine = prepare_engine(database.url)
    assert "STRICT_TRANS_TABLES" in variable(engine, "sql_mode")
    assert variable(engine, "time_zone") == "+00:00"
    assert variable(engine, "character_set_connection") == "utf8mb4"
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (name VARCHAR(3))"))
        with pytest.raises(DBAPIError, match="too long"):
            connection.execute(text("INSERT INTO t VALUES ('four')"))
        assert connection.execute(text("SELECT '🦉'")).scalar() == "🦉"


@mariadb
def test_strict_mode_is_added_to_the_servers_modes(
    database: Database, prepare_engine: KitEngine
) -> None:
    """What the server's administrator chose stays in force."""
    plain = prepare_engine(database.url, connect_args={"init_command": "SET sql_mode = 'ANSI'"})
    assert "ANSI_QUOTES" in variable(plain, "sql_mode")
    assert "STRICT_TRANS_TABLES" not in variable(plain, "sql_mode")
    engine = prepare_engine(database.url)
    with engine.connect() as connection:
        served = connection.execute(text("SELECT @@GLOBAL.sql_mode")).scalar_one()
    assert set(filter(None, served.split(","))) <= set(variable(engine, "sql_mode").split(","))


@mariadb
def test_timeouts_are_set_on_every_session(database: Database, prepare_engine: KitEngine) -> None:
    """In the units of the server: seconds, rounded up."""
    engine = prepare_engine(
        database.url,
        DBKIT_STATEMENT_TIMEOUT_MS=2500,
        DBKIT_LOCK_TIMEOUT_MS=1200,
        DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS=30_000,
    )
    for _ in range(2):
        assert float(variable(engine, "max_statement_time")) == 2.5
        assert variable(engine, "innodb_lock_wait_timeout") == 2
        assert variable(engine, "lock_wait_timeout") == 2
        assert variable(engine, "idle_transaction_timeout") == 30
        engine.dispose()


@mariadb
def test_a_slow_statement_is_ended(database: Database, prepare_engine: KitEngine) -> None:
    """``max_statement_time`` interrupts it, and the session goes on."""
    engine = prepare_engine(database.url, DBKIT_STATEMENT_TIMEOUT_MS=100)
    with engine.connect() as connection:
        with pytest.raises(OperationalError, match="max_statement_time"):
            connection.execute(text("SELECT SLEEP(30) FROM information_schema.tables"))
        connection.rollback()
        assert connection.execute(text("SELECT 1")).scalar() == 1


@mariadb
def test_a_killed_connection_is_replaced_before_it_is_used(
    database: Database, prepare_engine: KitEngine
) -> None:
    """The ping finds that the server has hung up."""
    options = options_for(database.url)
    assert options["pool_pre_ping"] is True
    engine = prepare_engine(database.url)
    with engine.connect() as first, engine.connect() as second:
        killed = first.execute(text("SELECT CONNECTION_ID()")).scalar_one()
        first.rollback()
        first.close()
        second.execute(text(f"KILL {killed}"))
    for _ in range(3):
        with engine.connect() as connection:
            assert connection.execute(text("SELECT 42")).scalar() == 42


@mariadb
@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        ({"sql_mode": "ANSI"}, "sql_mode", "ANSI"),
        ({"init_command": "SET time_zone = '+02:00'"}, "time_zone", "+02:00"),
        ({"charset": "latin1"}, "character_set_connection", "latin1"),
    ],
)
def test_the_applications_own_arguments_win(
    database: Database,
    prepare_engine: KitEngine,
    arguments: dict[str, str],
    name: str,
    expected: str,
) -> None:
    """What it says to the driver is not said otherwise afterwards."""
    engine = prepare_engine(database.url, connect_args=arguments)
    assert str(variable(engine, name)).endswith(expected)


def test_the_urls_query_wins_too() -> None:
    """SQLAlchemy would let ``connect_args`` overrule it, so ours leave it out."""
    options = options_for("mysql+pymysql://host/app?charset=latin1")
    assert options["connect_args"] == {"connect_timeout": 5}


def test_pool_options_fit_the_applications_pool() -> None:
    """No queue options for another class, none at all for a ready pool."""
    url = "mysql+pymysql://host/app"
    assert options_for(url)["pool_timeout"] == 10
    assert "pool_timeout" not in options_for(url, poolclass=NullPool)
    assert options_for(url, poolclass=QueuePool)["pool_timeout"] == 10
    assert set(options_for(url, pool=object())) == {"connect_args"}
    assert options_for("mariadb+pymysql://host/app")["pool_recycle"] == 7200


def test_another_driver_gets_no_arguments_it_may_not_know() -> None:
    """Only PyMySQL and mysqlclient are known to take them."""
    assert "connect_args" not in options_for("mysql+mysqlconnector://host/app")


def test_mysql_itself_has_other_names_for_the_timeouts() -> None:
    """``max_execution_time`` in milliseconds, and no limit for idle transactions."""
    config = Config.from_mapping(
        {
            "DBKIT_STATEMENT_TIMEOUT_MS": 2500,
            "DBKIT_LOCK_TIMEOUT_MS": 0,
            "DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS": 1000,
        }
    )
    context = EngineContext(None, "app", config)
    settings = _session_settings("8.4.2", "ANSI", {"init_command": "SET time_zone = 1"}, context)
    assert settings == [
        "sql_mode = 'ANSI,STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
        "max_execution_time = 2500",
        "innodb_lock_wait_timeout = 31536000",
        "lock_wait_timeout = 31536000",
    ]


def test_nothing_is_sent_when_there_is_nothing_to_set() -> None:
    """An application that decides everything itself is left alone."""
    own = {"init_command": "SET time_zone = '+01:00', sql_mode = ''"}
    assert _session_settings("10.11-MariaDB", "", own, EngineContext(None, "app", Config())) == []


@mariadb
def test_an_application_that_decides_everything_gets_a_session(
    database: Database, prepare_engine: KitEngine
) -> None:
    """The empty list of settings sends no empty statement."""
    engine = prepare_engine(
        database.url, connect_args={"init_command": "SET time_zone = '+01:00', sql_mode = ''"}
    )
    assert variable(engine, "time_zone") == "+01:00"


@mariadb
def test_datetimes_are_read_as_the_driver_reads_them(
    database: Database, prepare_engine: KitEngine
) -> None:
    """Its own decoder is the slowest part of a row; ours gives the same for every value."""
    engine = prepare_engine(database.url, connect_args={"sql_mode": ""})
    plain = create_engine(database.url, connect_args={"sql_mode": ""})
    values = ["2026-01-03 07:33:10", "0099-12-31 23:59:59.999999", "0000-00-00", "2026-00-00"]
    columns = [
        f"CAST('{value}' AS DATETIME({digits}))" for value in values for digits in (0, 1, 3, 6)
    ]
    statement = text(f"SELECT {', '.join(columns)}, NULL, UTC_TIMESTAMP() + INTERVAL 0 SECOND")
    with engine.connect() as ours, plain.connect() as theirs:
        assert ours.connection.dbapi_connection is not None
        assert ours.connection.dbapi_connection.decoders != (
            theirs.connection.dbapi_connection.decoders  # type: ignore[union-attr]
        )
        row = ours.execute(statement).one()
        assert row[:-1] == theirs.execute(statement).one()[:-1]
    plain.dispose()
    assert [type(value).__name__ for value in row] == [
        *["datetime"] * 8,
        *["str"] * 8,
        "NoneType",
        "datetime",
    ]


@mariadb
def test_a_decoder_of_the_application_stays(database: Database, prepare_engine: KitEngine) -> None:
    """What it tells the driver about datetimes is in force."""
    own = {**conversions, FIELD_TYPE.DATETIME: lambda value: f"at {value}"}
    engine = prepare_engine(database.url, connect_args={"conv": own})
    with engine.connect() as connection:
        found = connection.execute(text("SELECT CAST('2026-01-03' AS DATETIME)")).scalar_one()
    assert found == "at 2026-01-03 00:00:00"


@mariadb
def test_info_shows_what_is_in_force(database: Database, prepare_engine: KitEngine) -> None:
    """Only variables that this server has."""
    engine = prepare_engine(database.url)
    with engine.connect() as connection:
        settings = support_for(engine.url).settings(connection)
    assert settings["time_zone"] == "+00:00"
    assert "max_statement_time" in settings
    assert "max_execution_time" not in settings
