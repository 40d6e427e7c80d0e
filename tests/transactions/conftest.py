"""One application with a few tables, and a look at what every test leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, Engine, String, event, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.pool import QueuePool

from flask_dbkit import DBKit, Versioned, declarative_base
from flask_dbkit.databases.sqlite.control import control_of
from flask_dbkit.transactions.checks import orm_write_guard
from flask_dbkit.transactions.state import open_units
from tests.support.databases import Database

Base: Any = declarative_base()


class Entry(Base):  # type: ignore[misc]
    """A number that is there once."""

    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(unique=True)
    note: Mapped[str | None] = mapped_column(String(50))


class Sheet(Versioned, Base):  # type: ignore[misc]
    """A row that refuses an outdated update without asking the database."""

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None] = mapped_column(String(50))


class Copy(Base):  # type: ignore[misc]
    """A row in the second database."""

    __bind_key__ = "second"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(unique=True)


class Ledger:
    """The application of a test, its database, and what it finds there."""

    def __init__(self, app: Flask, db: SQLAlchemy, database: Database) -> None:
        self.app = app
        self.db = db
        self.database = database
        self.checkouts = 0
        event.listen(self.engine, "checkout", self._count)

    def _count(self, *_: object) -> None:
        self.checkouts += 1

    @property
    def session(self) -> Session:
        return self.db.session()

    @property
    def engine(self) -> Engine:
        with self.app.app_context():
            return self.db.engine

    def add(self, *numbers: int) -> list[Any]:
        """Add entries through the ORM, without a flush."""
        entries = [Entry(n=n) for n in numbers]
        self.db.session.add_all(entries)
        return entries

    def insert(self, *numbers: int) -> None:
        """Insert entries with one statement each."""
        for n in numbers:
            self.db.session.execute(insert(Entry).values(n=n))

    def read(self) -> list[int]:
        """Read the entries in the current session."""
        return list(self.db.session.scalars(select(Entry.n).order_by(Entry.n)))

    def saved(self) -> list[int]:
        """Read what another session finds in the database."""
        with self.app.app_context():
            return self.read()

    def copies(self) -> list[int]:
        """Read what another session finds in the second database."""
        with self.app.app_context():
            return list(self.db.session.scalars(select(Copy.n).order_by(Copy.n)))

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """Collect the statements that are sent inside the block, savepoints included."""
        sent: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, *_: object) -> None:
            sent.append(statement)

        event.listen(self.engine, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            event.remove(self.engine, "before_cursor_execute", note)

    def writes_by_database_alone(self, n: int) -> None:
        """Send an INSERT that SQLAlchemy's ORM knows nothing of."""
        self.db.session.execute(insert(Entry.__table__).values(n=n))


@pytest.fixture
def make_ledger(
    make_app: Callable[..., Flask], database: Database
) -> Iterator[Callable[..., Ledger]]:
    """Return a function that makes an application; keyword arguments are configuration."""
    made: list[tuple[Ledger, dict[str, object]]] = []

    def make(**config: Any) -> Ledger:
        app = make_app(**config)
        db = SQLAlchemy(model_class=Base)
        DBKit(db=db).init_app(app)
        with app.app_context():
            tables = [Entry.__table__, Sheet.__table__]
            Base.metadata.create_all(db.engine, tables=tables)
            if "second" in db.engines:
                Base.metadata.create_all(db.engines["second"], tables=[Copy.__table__])
            ledger = Ledger(app, db, database)
            made.append((ledger, settings_of(db.engine)))
        return ledger

    yield make
    for ledger, before in made:
        check_leftovers(ledger, before)


@pytest.fixture
def ledger(make_ledger: Callable[..., Ledger]) -> Iterator[Ledger]:
    """An application with an empty table of entries; its context is pushed."""
    made = make_ledger()
    with made.app.app_context():
        yield made
        check_session(made.session)


@pytest.fixture
def second(make_database: Callable[[str], Database], database: Database) -> Database:
    """One more database on the same backend."""
    return make_database(database.name)


@pytest.fixture
def two(make_ledger: Callable[..., Ledger], second: Database) -> Iterator[Ledger]:
    """As ``ledger``, with a second database behind the bind key ``second``."""
    made = make_ledger(SQLALCHEMY_BINDS={"second": second.url})
    with made.app.app_context():
        yield made
        check_session(made.session)


def check_session(session: Session) -> None:
    """After every test: the session is its own again, and not wedged."""
    assert "get_bind" not in vars(session)
    assert session.twophase is False
    assert orm_write_guard not in list(session.dispatch.do_orm_execute)
    session.rollback()
    assert session.scalar(select(1)) == 1
    session.close()


def check_leftovers(ledger: Ledger, before: dict[str, object]) -> None:
    """After every test: nothing is open, nothing is held, nothing is set."""
    assert open_units.get() == ()
    engine = ledger.engine
    if isinstance(engine.pool, QueuePool):
        assert engine.pool.checkedout() == 0
    assert settings_of(engine) == before


def settings_of(engine: Engine) -> dict[str, object]:
    """Return what the next user of the pooled connection would find."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            return _sqlite_settings(connection)
        if engine.dialect.name == "postgresql":
            names = (
                "lock_timeout",
                "statement_timeout",
                "transaction_read_only",
                "transaction_isolation",
            )
            return {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names}
        names = ("innodb_lock_wait_timeout", "max_statement_time", "tx_read_only", "tx_isolation")
        return {name: connection.exec_driver_sql(f"SELECT @@{name}").scalar() for name in names}


def _sqlite_settings(connection: Connection) -> dict[str, object]:
    names = ("query_only", "busy_timeout", "foreign_keys")
    found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
    control: Any = control_of(connection)
    assert control is not None
    return {**found, "statement_timeout": control._statement_timeout_s}


def code_of(error: BaseException | None) -> object:
    """Return the database's own code of a SQLAlchemy error."""
    assert isinstance(error, DBAPIError)
    original: Any = error.orig
    for name in ("sqlstate", "pgcode", "sqlite_errorcode"):
        if getattr(original, name, None) is not None:
            return getattr(original, name)
    return original.args[0]
