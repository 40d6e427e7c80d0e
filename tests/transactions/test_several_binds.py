"""Scopes over several databases: refused before any COMMIT, prepared together, or in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from flask_dbkit import (
    DBKit,
    OptionMismatch,
    OwnershipError,
    PartialCommit,
    TransactionError,
    after_end,
    on_commit,
    on_rollback,
    transaction,
)
from flask_dbkit.application import application_of
from flask_dbkit.transactions.options import ScopeDefaults
from tests.support.databases import Database

TABLE = "CREATE TABLE item (id int PRIMARY KEY, name varchar(20))"
LATE = "CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"


class Pair:
    """One application with the binds ``None``, ``"b"`` and ``"c"``."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.db = SQLAlchemy()
        DBKit(app, db=self.db)
        self.commits: list[str | None] = []
        with app.app_context():
            self.engines: dict[str | None, sa.Engine] = dict(self.db.engines)
        for key, engine in self.engines.items():
            with engine.begin() as connection:
                connection.exec_driver_sql(TABLE)
                if engine.dialect.name == "postgresql":
                    connection.exec_driver_sql(LATE)
                    connection.exec_driver_sql("INSERT INTO late VALUES (1)")
            event.listen(engine, "commit", lambda connection, key=key: self.commits.append(key))

    def insert(self, key: str | None, number: int = 1, table: str = "item") -> None:
        self.db.session.execute(
            sa.text(f"INSERT INTO {table} (id) VALUES ({number})"),
            bind_arguments={"bind": self.engines[key]},
        )

    def read(self, key: str | None) -> list[int]:
        found = self.db.session.scalars(
            sa.text("SELECT id FROM item"), bind_arguments={"bind": self.engines[key]}
        )
        return list(found)

    def stored(self) -> dict[str | None, list[int]]:
        found: dict[str | None, list[int]] = {}
        for key, engine in self.engines.items():
            with engine.connect() as connection:
                found[key] = list(connection.scalars(sa.text("SELECT id FROM item ORDER BY id")))
            pool: Any = engine.pool
            assert pool.checkedout() == 0
        return found


@pytest.fixture
def pair(
    make_app: Callable[..., Flask], database: Database, make_database: Callable[[str], Database]
) -> Iterator[Pair]:
    """Three databases on one backend, ``"c"`` configured before ``"b"``."""
    binds = {"c": make_database(database.name).url, "b": make_database(database.name).url}
    pair = Pair(make_app(SQLALCHEMY_BINDS=binds))
    with pair.app.app_context():
        yield pair


several = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")


@several
def test_writes_to_several_databases_are_refused_before_any_commit(pair: Pair) -> None:
    """One after the other some could be saved and others lost; the error says what to do."""
    ran: list[object] = []
    with pytest.raises(TransactionError, match=r"several databases.*multi_bind") as caught:
        write_both(pair, ran)
    assert "'default'" in str(caught.value)
    assert "'b'" in str(caught.value)
    assert pair.commits == []
    assert pair.stored() == {None: [], "b": [], "c": []}
    assert ran == [caught.value, "rolled_back"]
    with transaction():
        pair.insert(None)
    assert pair.stored()[None] == [1]


def write_both(pair: Pair, ran: list[object], **options: Any) -> None:
    with transaction(**options):
        on_commit(ran.append, "committed")
        on_rollback(ran.append)
        after_end(ran.append)
        pair.insert(None)
        pair.insert("b")


@several
@pytest.mark.parametrize("mode", ["raise", "best_effort"])
def test_one_database_written_and_others_read_is_no_matter(pair: Pair, mode: str) -> None:
    """Nothing can be lost halfway."""
    with transaction(multi_bind=mode):
        assert pair.read("c") == []
        pair.insert("b")
        assert pair.read(None) == []
    assert pair.stored() == {None: [], "b": [1], "c": []}


@several
def test_best_effort_commits_in_the_order_of_the_binds(pair: Pair) -> None:
    """The default one first, then as configured, in whatever order they were used."""
    order = list(application_of(pair.app).part(ScopeDefaults).bind_names.values())
    ran: list[object] = []
    with transaction(multi_bind="best_effort"):
        for key in reversed(order):
            pair.insert(key)
        on_commit(ran.append, "committed")
    assert pair.commits == order
    assert pair.stored() == {None: [1], "b": [1], "c": [1]}
    assert ran == ["committed"]


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_best_effort_tells_what_was_committed(pair: Pair, bad: int) -> None:
    """A unique constraint that is checked at COMMIT fails one; those after it are rolled back."""
    order = list(application_of(pair.app).part(ScopeDefaults).bind_names.values())
    ran: list[object] = []

    def block() -> None:
        with transaction(multi_bind="best_effort"):
            on_commit(ran.append, "on_commit")
            on_rollback(lambda error: ran.append(type(error).__name__))
            after_end(ran.append)
            for key in order:
                pair.insert(key, 2)
            pair.insert(order[bad], 1, "late")

    if bad == 0:
        with pytest.raises(IntegrityError):
            block()
        assert ran == ["IntegrityError", "rolled_back"]
    else:
        with pytest.raises(PartialCommit) as caught:
            block()
        assert caught.value.committed == tuple(order[:bad])
        assert caught.value.failed == order[bad]
        assert isinstance(caught.value.__cause__, IntegrityError)
        assert ran == ["unknown"]
    assert pair.commits[:bad] == order[:bad]
    assert pair.stored() == {key: [2] if key in order[:bad] else [] for key in order}
    with transaction(multi_bind="best_effort"):
        for key in order:
            pair.insert(key, 3)


@pytest.mark.backends("sqlite-file")
def test_sqlite_cannot_prepare(pair: Pair) -> None:
    """Refused at the first use, with what can be done; nothing was sent."""
    with pytest.raises(OptionMismatch, match="best_effort"), transaction(multi_bind="two_phase"):
        pair.insert(None)
    assert pair.stored() == {None: [], "b": [], "c": []}
    with transaction(multi_bind="best_effort"):
        pair.insert(None)


@several
def test_a_nested_scope_cannot_ask_for_another_way(pair: Pair) -> None:
    """It joins, and the outermost scope commits."""
    with transaction(multi_bind="best_effort"):
        with transaction(multi_bind="best_effort"):
            pair.insert(None)
        with pytest.raises(OptionMismatch), transaction(multi_bind="raise"):
            pass
        with transaction():
            pair.insert("b")
    assert pair.stored() == {None: [1], "b": [1], "c": []}


@several
def test_an_error_rolls_every_database_back(pair: Pair) -> None:
    """Whatever was asked for."""
    with pytest.raises(ZeroDivisionError), transaction(multi_bind="best_effort"):
        pair.insert(None)
        pair.insert("b")
        raise ZeroDivisionError
    assert pair.stored() == {None: [], "b": [], "c": []}
    assert pair.commits == []


@pytest.fixture
def prepared(
    postgres_server: Callable[..., Any], database: Database, tmp_path: Path
) -> Iterator[Pair]:
    """The same three databases on a server that can prepare transactions."""
    server = postgres_server(settings={"max_prepared_transactions": "10"})
    driver = sa.make_url(database.url).get_driver_name()
    plain = sa.make_url(server.url()).set(drivername="postgresql")
    url = plain.render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("one", "two", "three"):
            connection.execute(f"CREATE DATABASE {name}".encode())
    app = Flask("prepared", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = server.url("one", driver=driver)
    app.config["SQLALCHEMY_BINDS"] = {
        "b": server.url("two", driver=driver),
        "c": server.url("three", driver=driver),
    }
    pair = Pair(app)
    with app.app_context():
        yield pair
    for engine in pair.engines.values():
        engine.dispose()


def left_prepared(pair: Pair) -> int:
    with pair.engines[None].connect() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM pg_prepared_xacts")) or 0)


@pytest.mark.backends("postgresql")
def test_two_phases_are_all_or_nothing(prepared: Pair) -> None:
    """Ten times, because the order in which SQLAlchemy prepares them is a coin toss."""
    ran: list[object] = []
    write_both(prepared, ran, multi_bind="two_phase")
    assert ran == ["committed", "committed"]
    assert prepared.stored() == {None: [1], "b": [1], "c": []}
    for number, key in enumerate([None, "b"] * 5, start=2):
        errors: list[BaseException] = []

        def block(number: int = number, key: str | None = key) -> None:
            with transaction(multi_bind="two_phase"):
                on_rollback(errors.append)  # noqa: B023
                prepared.insert(None, number)
                prepared.insert("b", number)
                prepared.insert(key, 1, "late")

        with pytest.raises(IntegrityError) as caught:
            block()
        # Not the "prepared transaction does not exist" that comes of it.
        assert type(caught.value.orig).__name__ == "UniqueViolation"
        assert errors == [caught.value]
        assert prepared.stored() == {None: [1], "b": [1], "c": []}
        assert left_prepared(prepared) == 0
    with transaction():
        prepared.insert("c", 5)
    assert prepared.stored()["c"] == [5]


@pytest.mark.backends("postgresql")
def test_two_phases_with_an_error_in_the_block(prepared: Pair) -> None:
    """Nothing is prepared, and the session is as it was before."""
    with pytest.raises(ZeroDivisionError), transaction(multi_bind="two_phase"):
        prepared.insert(None)
        prepared.insert("b")
        raise ZeroDivisionError
    assert left_prepared(prepared) == 0
    assert prepared.stored() == {None: [], "b": [], "c": []}
    assert prepared.db.session().twophase is False
    with transaction(multi_bind="two_phase"):
        pass
    with transaction(multi_bind="two_phase"):
        assert prepared.read(None) == []
    assert left_prepared(prepared) == 0


@pytest.mark.backends("postgresql")
def test_what_a_listener_adds_while_databases_prepare_is_refused(prepared: Pair) -> None:
    """It comes after the last flush, so that it would be lost without a word."""
    base: Any = sa.orm.declarative_base()
    engine = prepared.engines[None]

    class Row(base):  # type: ignore[misc]
        __table__ = sa.Table("item", base.metadata, sa.Column("id", sa.Integer, primary_key=True))

    def listener(*_: object) -> None:
        with transaction():
            prepared.db.session.add(Row(id=100))

    sa.event.listen(engine, "prepare_twophase", listener)
    try:
        with pytest.raises(OwnershipError), transaction(multi_bind="two_phase"):
            prepared.insert(None)
            prepared.insert("b")
    finally:
        sa.event.remove(engine, "prepare_twophase", listener)
    prepared.db.session.rollback()
    assert left_prepared(prepared) == 0
    assert prepared.stored() == {None: [], "b": [], "c": []}


@pytest.mark.backends("postgresql")
def test_a_commit_in_order_whose_answer_proves_nothing_is_told_as_such(pair: Pair) -> None:
    """Nobody knows whether the second database has what it was given."""
    with pair.engines["b"].begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION unclear() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'unclear' USING ERRCODE = '40003'; END$$"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER unclear AFTER INSERT ON item"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION unclear()"
        )
    ran: list[object] = []
    with pytest.raises(PartialCommit, match="is saved, or it is not") as caught:
        write_both(pair, ran, multi_bind="best_effort")
    told = caught.value
    assert (told.committed, told.failed, told.unknown) == ((None,), "b", True)
    assert ran == ["unknown"]
