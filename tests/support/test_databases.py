"""The ``database`` fixture keeps what it promises to every other test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tests.support.databases import BACKENDS, Database, MariaDB, PostgreSQL


def test_a_database_is_empty(session: Session) -> None:
    """A test starts from nothing, whatever ran before it."""
    assert inspect(session.connection()).get_table_names() == []
    session.execute(text("CREATE TABLE left_over (number INTEGER)"))
    session.commit()


test_the_next_database_is_empty_too = test_a_database_is_empty


@pytest.mark.requires("several_connections")
def test_two_databases_share_nothing(
    database: Database, make_database: Callable[[str], Database]
) -> None:
    """A test with two binds asks for a second one of the same kind."""
    other = make_database(database.name)
    assert other.url != database.url
    first, second = create_engine(database.url), create_engine(other.url)
    try:
        with first.begin() as connection:
            connection.execute(text("CREATE TABLE mine (number INTEGER)"))
        assert inspect(second).get_table_names() == []
    finally:
        first.dispose()
        second.dispose()


@pytest.mark.requires("server")
def test_a_database_is_dropped_although_a_transaction_is_open(database: Database) -> None:
    """A test that failed in the middle must not hang the ones after it."""
    engine = create_engine(database.url)
    connection = engine.connect()
    try:
        connection.execute(text("CREATE TABLE busy (number INTEGER)"))
        connection.execute(text("INSERT INTO busy VALUES (1)"))
        database.drop()
        with pytest.raises(SQLAlchemyError):
            connection.execute(text("SELECT * FROM busy"))
    finally:
        connection.invalidate()
        connection.close()
        engine.dispose()


@pytest.mark.requires("returning")
def test_the_returning_capability_is_true(session: Session) -> None:
    """Tests that ask for RETURNING get a database that has it."""
    session.execute(text("CREATE TABLE returned (number INTEGER)"))
    statement = text("INSERT INTO returned VALUES (3) RETURNING number")
    assert session.execute(statement).scalar_one() == 3


@pytest.mark.backends("sqlite-file", "mariadb")
def test_backends_are_chosen_by_name(database: Database) -> None:
    """A test of one dialect runs on that dialect only."""
    assert database.name in {"sqlite-file", "mariadb"}


def test_the_application_uses_the_database(
    make_app: Callable[..., Flask], database: Database
) -> None:
    """``make_app`` gives a bare Flask application; its keywords are configuration."""
    app = make_app(SQLALCHEMY_RECORD_QUERIES=True)
    assert app.config["SQLALCHEMY_DATABASE_URI"] == database.url
    assert app.config["SQLALCHEMY_RECORD_QUERIES"] is True
    assert "dbkit" not in app.extensions


def test_every_backend_tells_how_to_get_it() -> None:
    """The line "not run" ends with something one can do."""
    for backend in BACKENDS:
        assert backend.remedy or backend.name.startswith("sqlite")


@pytest.mark.requires("server")
def test_a_database_that_is_handed_out_again_has_nothing_in_it(
    database: Database, make: Callable[[], Database]
) -> None:
    """Emptying takes less time than making anew, and leaves as little."""
    first = make()
    engine = create_engine(first.url)
    with engine.begin() as connection:
        for statement in _OBJECTS[database.name]:
            connection.execute(text(statement))
    first.drop()
    first.drop()
    second = make()
    assert second.url == first.url
    assert make().url != first.url
    engine.dispose()
    seen = inspect(engine)
    assert (seen.get_table_names(), seen.get_view_names()) == ([], [])
    if database.name == "postgresql":
        assert seen.get_schema_names() == ["information_schema", "public"]
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW statement_timeout")) == "0"
            assert not connection.scalar(text("SELECT 1 FROM pg_type WHERE typname = 'mood'"))


@pytest.mark.backends("mariadb")
def test_what_cannot_be_emptied_is_made_anew(
    database: Database, make: Callable[[], Database]
) -> None:
    """A stored procedure is rare; it takes its database with it."""
    first = make()
    engine = create_engine(first.url)
    with engine.begin() as connection:
        connection.execute(text("CREATE PROCEDURE nothing() SELECT 1"))
    first.drop()
    assert make().url != first.url
    engine.dispose()
    with pytest.raises(SQLAlchemyError, match="Unknown database"):
        engine.connect()


_OBJECTS = {
    "postgresql": [
        "CREATE TABLE parent (id SERIAL PRIMARY KEY)",
        "CREATE TABLE child (id INTEGER REFERENCES parent)",
        "CREATE VIEW both_of_them AS SELECT parent.id FROM parent JOIN child USING (id)",
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        "CREATE SCHEMA other CREATE TABLE hidden (id INTEGER)",
        """
        DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET statement_timeout = 5000', current_database());
        END $$
        """,
    ],
    "mariadb": [
        "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
        "CREATE TABLE child (id INTEGER, FOREIGN KEY (id) REFERENCES parent (id))",
        "CREATE VIEW both_of_them AS SELECT parent.id FROM parent JOIN child USING (id)",
        "CREATE SEQUENCE numbers",
    ],
}


@pytest.fixture
def make(database: Database, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Return a function that makes databases on a backend that has handed out none before."""
    backend = {"postgresql": PostgreSQL, "mariadb": MariaDB}[database.name]()
    made: list[Database] = []

    def make() -> Database:
        made.append(backend.create(tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.drop()
    backend.close()
