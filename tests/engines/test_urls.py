"""A database URL gets an installed driver, or one sentence that never shows its password."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from flask import Flask
from sqlalchemy import make_url

from flask_dbkit import ConfigError, DBKit
from flask_dbkit.engines.urls import drivers_not_taken, parse_database_url

KEY = "SQLALCHEMY_DATABASE_URI"


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let the import of these modules fail, as if they were not installed."""
    for name in list(sys.modules):
        if name.partition(".")[0] in modules:
            monkeypatch.delitem(sys.modules, name)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgres+psycopg2://u:p@h/d", "postgresql+psycopg2://u:p@h/d"),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg2://h/d"),
        ("mysql://u:p@h/d?charset=utf8", "mysql+pymysql://u:p@h/d?charset=utf8"),
        ("mariadb://h/d", "mariadb+pymysql://h/d"),
        ("sqlite:///app.db", "sqlite:///app.db"),
        ("  sqlite://\n", "sqlite://"),
    ],
)
def test_a_url_is_completed_with_its_driver(given: str, expected: str) -> None:
    """The schemes of hosting platforms work; a driver that is named stays."""
    url = parse_database_url(given, key=KEY)
    assert url.render_as_string(hide_password=False) == expected
    assert parse_database_url(make_url(expected), key=KEY) == url


def test_psycopg2_is_taken_when_psycopg_3_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of the two is installed."""
    hide(monkeypatch, "psycopg")
    assert parse_database_url("postgres://h/d", key=KEY).drivername == "postgresql+psycopg2"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://h/d", ["psycopg is used, and psycopg2 is installed too"]),
        ("postgres://h/d", ["psycopg is used, and psycopg2 is installed too"]),
        ("postgresql+psycopg://h/d", []),
        ("sqlite://", []),
    ],
)
def test_a_driver_that_was_chosen_among_several_is_told(
    url: str, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An extra that is installed for something else may change the driver at a deployment."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    with caplog.at_level(logging.INFO, "flask_dbkit"):
        DBKit(app)
    told = [each.getMessage() for each in caplog.records if "driver" in each.getMessage()]
    assert len(told) == len(said)
    for line, words in zip(told, said, strict=True):
        assert line.startswith(f"{KEY} names no driver: {words}.")
        assert line.endswith("write postgresql+psycopg://… or postgresql+psycopg2://…")


def test_a_driver_is_told_of_only_where_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the one that was wanted first, but could not be imported."""
    assert drivers_not_taken("postgresql://h/d", key=KEY) == ("psycopg2",)
    hide(monkeypatch, "psycopg")
    assert drivers_not_taken("postgresql://h/d", key=KEY) == ()


def test_mysqlclient_is_taken_when_pymysql_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module has another name than its driver."""
    hide(monkeypatch, "pymysql", "MySQLdb")
    with pytest.raises(ConfigError, match="pymysql"):
        parse_database_url("mysql://h/d", key=KEY)
    monkeypatch.setitem(sys.modules, "MySQLdb", type(sys)("MySQLdb"))
    assert parse_database_url("mysql://h/d", key=KEY).drivername == "mysql+mysqldb"


@pytest.mark.parametrize(
    ("url", "hidden", "extra"),
    [
        ("postgres://u:secret@h/d", ("psycopg", "psycopg2"), "postgresql"),
        ("postgresql+psycopg2://u:secret@h/d", ("psycopg2",), "postgresql"),
        ("mysql://u:secret@h/d", ("pymysql", "MySQLdb"), "mysql"),
        ("mariadb+pymysql://u:secret@h/d", ("pymysql",), "mysql"),
    ],
)
def test_a_missing_driver_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, url: str, hidden: tuple[str, ...], extra: str
) -> None:
    """The line to run is in the message."""
    hide(monkeypatch, *hidden)
    with pytest.raises(ConfigError) as caught:
        parse_database_url(url, key=KEY)
    assert f"Run: pip install 'flask-sqlalchemy-dbkit[{extra}]'" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_of_another_database_is_named() -> None:
    """There is no extra for it, but its name is known."""
    with pytest.raises(ConfigError, match="Run: pip install oracledb"):
        parse_database_url("oracle+oracledb://h/d", key=KEY)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "is no database URL"),
        ("   ", "is no database URL"),
        (None, "is no database URL"),
        (42, "is no database URL"),
        (b"sqlite://", "is no database URL"),
        ("app.db", "is no database URL"),
        ("secret", "is no database URL"),
        ("postgresql://u:secret@h:port/d", "is no database URL"),
        ("postgrs://u:secret@h/d", "Did you mean 'postgresql'?"),
        ("sqlit:///secret.db", "Did you mean 'sqlite'?"),
        ("banana://u:secret@h/d", "the database 'banana', which SQLAlchemy does not know. Use"),
        ("postgresql+psycpg://u:secret@h/d", "the driver 'psycpg' for postgresql"),
        ("postgresql+psycpg://u:secret@h/d", "Did you mean 'psycopg'?"),
    ],
)
def test_a_url_that_cannot_be_used_is_explained_without_showing_it(
    given: object, said: str
) -> None:
    """It may hold a password, so only the key, the database and the driver are named."""
    with pytest.raises(ConfigError) as caught:
        parse_database_url(given, key=KEY)
    message = str(caught.value)
    assert said in message
    assert KEY in message
    assert "secret" not in message
    assert "\n" not in message
    assert "secret" not in repr(caught.value.given)
    assert caught.value.__cause__ is None


START = """
import os
from flask import Flask
from flask_dbkit import DBKit
app = Flask('app')
app.config['SQLALCHEMY_DATABASE_URI'] = os.environ['URL']
DBKit(app)
"""


def test_a_traceback_shows_no_password() -> None:
    """Neither does anything that led to the error."""
    done = subprocess.run(
        [sys.executable, "-c", START],
        env={"URL": "postgresql://u:s3cret@h:port/d", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ConfigError: SQLALCHEMY_DATABASE_URI is no database URL." in done.stderr
    assert "s3cret" not in done.stderr


def test_a_dialect_without_a_module_of_its_own_is_let_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A third-party dialect need not have a DBAPI to import."""
    from sqlalchemy.dialects import registry
    from sqlalchemy.engine.default import DefaultDialect

    class Strange(DefaultDialect):
        """Has no ``import_dbapi``."""

        name = "strange"

    monkeypatch.setattr(sys.modules[__name__], "Strange", Strange, raising=False)
    registry.register("strange", __name__, "Strange")
    monkeypatch.setitem(registry.impls, "strange", lambda: Strange)
    assert parse_database_url("strange://h/d", key=KEY).drivername == "strange"
    monkeypatch.delitem(registry.impls, "strange")
