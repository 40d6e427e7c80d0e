"""A database whose dialect is not known: what works, what is refused, and what is said."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import (
    DBKit,
    Listing,
    OptionMismatch,
    PlanError,
    Retry,
    SortAllowlist,
    SortKey,
    declarative_base,
    run,
    savepoint,
    transaction,
)
from tests.support.databases import Database

Base: Any = declarative_base()


class Thing(Base):  # type: ignore[misc]
    """A row with a name that is there once, or none."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(unique=True)


class ElsePG(PGDialect_psycopg):
    """An engine that speaks PostgreSQL's protocol, under a name of its own."""

    name = "elsepg"
    supports_statement_cache = True


class StrangeDriver(SQLiteDialect_pysqlite):
    """A database and a driver that nobody has heard of."""

    name = "strange"
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:
        import sqlite3

        module = types.ModuleType("strange_driver")
        module.__dict__.update(
            {name: value for name, value in vars(sqlite3).items() if name[:2] != "__"}
        )
        return module


class Site(Flask):
    """An application on an unknown database."""

    db: SQLAlchemy
    said: list[str]


@pytest.fixture
def make_site(caplog: pytest.LogCaptureFixture, tmp_path: Any) -> Iterator[Callable[..., Site]]:
    """Return a function that makes an application on a URL with an unknown name."""
    registry.register("elsepg", __name__, "ElsePG")
    registry.register("strange", __name__, "StrangeDriver")

    def make(url: str, **config: Any) -> Site:
        app = Site("elsewhere", instance_path=str(tmp_path))
        app.config.update(config, SQLALCHEMY_DATABASE_URI=url, SECRET_KEY="x")
        app.db = SQLAlchemy(model_class=Base)
        with caplog.at_level(logging.INFO, "flask_dbkit"):
            DBKit(app, db=app.db)
        app.said = [record.getMessage() for record in caplog.records]
        with app.app_context():
            app.db.create_all()
        return app

    yield make
    for name in ("elsepg", "strange"):
        registry.impls.pop(name, None)


@pytest.mark.backends("postgresql")
def test_an_option_that_has_no_effect_is_refused_or_said(
    database: Database, make_site: Callable[..., Site]
) -> None:
    """No option is dropped without a word, on any dialect outside the three."""
    url = database.url.replace("postgresql+psycopg", "elsepg")
    app = make_site(url, DBKIT_STATEMENT_TIMEOUT_MS=1234)
    (line,) = [line for line in app.said if "elsepg" in line]
    assert "DBKIT_STATEMENT_TIMEOUT_MS" in line
    session = app.db.session
    options: dict[str, Any] = {"read_only": True, "lock_timeout": 1, "statement_timeout": 2}
    with app.app_context():
        for name, value in options.items():
            with (
                pytest.raises(OptionMismatch, match="elsepg") as caught,
                transaction(**{name: value}),
            ):
                session.scalar(sa.text("SELECT 1"))
            assert (caught.value.option, caught.value.given) == (name, value)
            with transaction():
                session.scalar(sa.text("SELECT 1"))
                with pytest.raises(OptionMismatch), transaction(**{name: value}):
                    session.scalar(sa.text("SELECT 1"))
        assert session.scalar(sa.text("SELECT 7")) == 7


@pytest.mark.backends("postgresql")
def test_what_does_not_depend_on_the_dialect_works_on_an_unknown_one(
    database: Database, make_site: Callable[..., Site]
) -> None:
    """Scopes, savepoints, retries by the driver's codes, and a 409 for a name that is taken."""
    app = make_site(database.url.replace("postgresql+psycopg", "elsepg"))
    tries: list[int] = []

    def conflict() -> None:
        tries.append(1)
        raising = "RAISE EXCEPTION 'again' USING ERRCODE = '40001'"
        app.db.session.execute(sa.text(f"DO $$ BEGIN {raising}; END $$"))

    @app.post("/")
    def add() -> tuple[str, int]:
        with transaction():
            app.db.session.add(Thing(name="a"))
            with savepoint():
                app.db.session.add(Thing(name=None))
        return "", 201

    with app.app_context():
        with pytest.raises(sa.exc.DBAPIError):
            run(conflict, retry=Retry(3, base=0))
        assert len(tries) == 3
        client = app.test_client()
        assert [client.post("/").status_code for _ in range(2)] == [201, 409]
        assert len(app.db.session.scalars(sa.select(Thing)).all()) == 2


@pytest.mark.backends("postgresql")
def test_a_list_is_paged_on_an_unknown_database_where_its_nulls_are_said(
    database: Database, make_site: Callable[..., Site]
) -> None:
    """It may put them first or last; a cursor that guessed would lose rows."""
    app = make_site(database.url.replace("postgresql+psycopg", "elsepg"))
    names = [None, "a", "b", None, "c"]

    def pages(**options: Any) -> list[int]:
        sort = SortAllowlist({"name": SortKey(Thing.name, **options)}, default="name")
        books, found, cursor = Listing(Thing, sort=sort, per_page=2), [], None
        while True:
            page = books.paginate_keyset(args={"cursor": cursor} if cursor else {})
            found += [each.id for each in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return found

    with app.app_context():
        app.db.session.add_all(Thing(id=n, name=name) for n, name in enumerate(names))
        app.db.session.commit()
        assert pages(nulls="first") == [0, 3, 1, 2, 4]
        assert pages(nulls="last") == [1, 2, 4, 0, 3]
        with pytest.raises(PlanError, match="elsepg"):
            pages()


def test_a_retry_that_could_never_happen_is_refused(make_site: Callable[..., Site]) -> None:
    """Of a driver that is not known no code says what is worth another attempt."""
    app = make_site("strange://")
    with app.app_context():
        with pytest.raises(OptionMismatch, match="strange") as caught:
            run(lambda: None, retry=3)
        assert caught.value.option == "retry"
        assert run(lambda: 7) == 7
        assert run(lambda: 7, retry=Retry(on=(ZeroDivisionError,))) == 7
