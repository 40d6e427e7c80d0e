"""A statement goes to the database of its tables, and to no other."""

# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSQLAlchemySession
from sqlalchemy import exists, func, insert, literal, select, text, update
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import (
    Mapped,
    aliased,
    foreign,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.schema import CreateIndex

from flask_dbkit import DBKit, declarative_base, transaction

Base: Any = declarative_base()
db = SQLAlchemy(model_class=Base)


class Book(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(20))


class Log(Base):
    __bind_key__ = "logs"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(20))


class Entry(Base):
    """A table of the name of one in the default database."""

    __tablename__ = "book"
    __bind_key__ = "logs"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(20))


book, log, entry = Book.__table__, Log.__table__, Entry.__table__
other = aliased(Log)
alias = log.alias()
sub = select(Log.title).subquery()
cte = select(log.c.title).cte()
recursive = select(literal(0).label("n")).cte(recursive=True)
recursive = recursive.union_all(select(recursive.c.n + 1).where(recursive.c.n < log.c.id))


@pytest.fixture
def app(tmp_path: Any) -> Iterator[Flask]:
    app = Flask("routing", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///default.db"
    app.config["SQLALCHEMY_BINDS"] = {"logs": "sqlite:///logs.db"}
    DBKit(db=db).init_app(app)
    with app.app_context():
        db.create_all()
        db.session.add_all([Book(title="book"), Log(title="log"), Entry(title="entry")])
        db.session.commit()
        yield app
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


READS: dict[str, tuple[Any, Any]] = {
    "model": (select(Log.title), "log"),
    "table": (select(log).with_only_columns(log.c.title), "log"),
    "table of a model": (select(entry.c.title), "entry"),
    "default table": (select(book.c.title), "book"),
    "column": (select(log.c.title), "log"),
    "exists": (select(exists().where(log.c.id == 1)).with_only_columns(literal("log"))
               .where(exists().where(log.c.id == 1)), "log"),
    "exists of a model": (select(literal("log")).where(exists(select(Log.id))), "log"),
    "scalar subquery": (select(select(log.c.title).scalar_subquery()), "log"),
    "subquery": (select(sub), "log"),
    "count": (select(func.count()).select_from(sub), 1),
    "count of a table": (select(func.count()).select_from(entry), 1),
    "function": (select(func.max(log.c.title)), "log"),
    "cte": (select(cte), "log"),
    "recursive cte": (select(func.max(recursive.c.n)), 1),
    "union": (sa.union_all(select(log.c.title), select(log.c.title)), "log"),
    "union of models": (sa.union(select(Log.title), select(Log.title)), "log"),
    "aliased": (select(other.title), "log"),
    "alias of a table": (select(alias.c.title), "log"),
    "join": (select(log.c.title).join(entry, entry.c.id == log.c.id), "log"),
    "in": (select(literal("log")).where(literal(1).in_(select(log.c.id))), "log"),
    "case": (select(sa.case((log.c.id == 1, "log"))), "log"),
    "ordered": (select(literal("log")).select_from(log).order_by(log.c.id), "log"),
    "text with columns": (text("SELECT title FROM log").columns(log.c.title), "log"),
    "from statement": (select(Log).from_statement(text("SELECT * FROM log")), "log"),
}  # fmt: skip


def _read(statement: Any) -> Any:
    found = db.session.scalar(statement)
    return found.title if isinstance(found, Log) else found


@pytest.mark.usefixtures("app")
def test_a_statement_reads_the_database_of_its_tables() -> None:
    """Both databases have a table of the same name: a wrong one would not even fail."""
    for form, (statement, expected) in READS.items():
        assert _read(statement) == expected, form
        db.session.rollback()
        with transaction():
            assert _read(statement) == expected, form


WRITES: dict[str, Any] = {
    "insert": insert(log).values(id=9, title="new"),
    "insert from select": insert(log).from_select(
        ["id", "title"], select(literal(9), literal("new")).select_from(log)
    ),
    "update": update(log).values(id=9),
    "update by subquery": update(log).values(id=9).where(log.c.id.in_(select(entry.c.id))),
    "update of a model": update(Log).values(id=9),
    "raw text": text("UPDATE log SET id = 9"),
}


@pytest.mark.usefixtures("app")
def test_a_statement_writes_to_the_database_of_its_tables() -> None:
    """An INSERT, UPDATE or DELETE, DDL, and text with the database named beside it."""
    for form, statement in WRITES.items():
        arguments = {"mapper": Log} if form == "raw text" else {}
        with transaction():
            db.session.execute(statement, bind_arguments=arguments)
        assert db.session.scalar(select(func.max(Log.id))) == 9, form
        with transaction():
            db.session.execute(sa.delete(log).where(log.c.title == "new"))
            db.session.execute(update(log).values(id=1))
    with transaction():
        db.session.execute(CreateIndex(sa.Index("ix_entry", entry.c.title)))
        db.session.execute(sa.delete(entry))
    assert [index["name"] for index in sa.inspect(db.engines["logs"]).get_indexes("book")]
    assert db.session.scalar(select(func.count()).select_from(book)) == 1


MIXED: list[Any] = [
    select(Book, Log),
    select(book, log),
    select(Book).join(Log, Log.id == Book.id),
    select(Book).where(Book.id.in_(select(Log.id))),
    select(book.c.id).where(exists().where(log.c.id == book.c.id)),
    sa.union(select(Book.title), select(Log.title)),
    select(func.count()).select_from(select(book.c.id, cte).subquery()),
    insert(log).from_select(["id", "title"], select(book)),
    update(Book).values(title=select(Log.title).scalar_subquery()),
]


@pytest.mark.usefixtures("app")
def test_tables_of_two_databases_in_one_statement_are_refused(
    assert_queries: Callable[..., AbstractContextManager[object]],
) -> None:
    """Before anything is sent: the other database may have a table of that name."""
    words = "'(book|log)' of .*, '(book|log)' of .*Send one statement to each"
    with assert_queries(exact=0):
        for statement in MIXED:
            with pytest.raises(UnboundExecutionError, match=words):
                db.session.execute(statement)
    with assert_queries(exact=1), transaction():
        with pytest.raises(UnboundExecutionError):
            db.session.execute(MIXED[0])
        assert db.session.get(Book, 1) is not None  # the scope goes on


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("how", ["an option", "the relationship"])
def test_a_join_of_the_orm_s_own_over_two_databases_is_refused(how: str) -> None:
    """``joinedload()`` is no part of the statement until it is compiled."""
    lazy: Any = "select" if how == "an option" else "joined"
    own: Any = declarative_base()
    two = SQLAlchemy(model_class=own)

    class Shelf(own):
        id: Mapped[int] = mapped_column(primary_key=True)
        marks: Mapped[list[Mark]] = relationship(
            lambda: Mark,
            primaryjoin=lambda: Shelf.id == foreign(Mark.shelf_id),
            lazy=lazy,
            viewonly=True,
        )

    class Mark(own):
        __bind_key__ = "logs"
        id: Mapped[int] = mapped_column(primary_key=True)
        shelf_id: Mapped[int]

    other_app = Flask("joined", instance_path=current_app.instance_path)
    other_app.config.from_mapping(
        SQLALCHEMY_DATABASE_URI="sqlite:///shelves.db", SQLALCHEMY_BINDS={"logs": "sqlite:///m.db"}
    )
    DBKit(db=two).init_app(other_app)
    with other_app.app_context():
        two.create_all()
        for row in (Shelf(id=1), Mark(id=1, shelf_id=1)):
            with transaction():
                two.session.add(row)
        statement = select(Shelf)
        if how == "an option":
            statement = statement.options(joinedload(Shelf.marks))
        with transaction():
            for _ in range(2):
                with pytest.raises(UnboundExecutionError, match="Send one statement to each"):
                    two.session.scalars(statement).unique().all()
            shelf = two.session.scalars(select(Shelf).options(selectinload(Shelf.marks))).one()
            assert [mark.id for mark in shelf.marks] == [1]  # the scope goes on
        for engine in two.engines.values():
            engine.dispose()


@pytest.mark.usefixtures("app")
def test_the_callers_own_choice_of_a_database_stands() -> None:
    """``bind`` and ``mapper`` in ``bind_arguments`` are documented, and go first."""
    named: list[dict[str, Any]] = [{"bind": db.engines["logs"]}, {"mapper": Log}, {"clause": log}]
    for arguments in named:
        assert db.session.scalar(text("SELECT title FROM book"), bind_arguments=arguments) == (
            "entry"
        )
        db.session.rollback()
    loose = sa.table("book", sa.column("title"))
    assert db.session.scalar(select(loose.c.title)) == "book"
    foreign = sa.Table("book", sa.MetaData(), sa.Column("title", sa.String))
    assert db.session.scalar(select(foreign.c.title)) == "book"
    statement = select(book.c.title)
    assert db.session.scalar(statement, bind_arguments={"mapper": Log}) == "entry"


def test_two_keys_of_one_database_may_meet_in_a_statement(
    make_app: Callable[..., Flask], database: Any
) -> None:
    """Keys that name the same database are one database; memory is nobody else's."""
    base: Any = declarative_base()
    own = SQLAlchemy(model_class=base)

    class One(base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Two(base):
        __bind_key__ = "two"
        id: Mapped[int] = mapped_column(primary_key=True)

    app = make_app(SQLALCHEMY_BINDS={"two": database.url})
    DBKit(db=own).init_app(app)
    with app.app_context():
        own.create_all()
        statement = select(One.id).join(Two, One.id == Two.id)
        if database.name == "sqlite-memory":
            with pytest.raises(UnboundExecutionError):
                own.session.execute(statement)
        else:
            assert own.session.scalars(statement).all() == []
        own.session.remove()


def test_a_session_class_with_rules_of_its_own_keeps_them(tmp_path: Any) -> None:
    """As for tenants: who overrides ``get_bind`` is asked, and nobody else."""

    class Tenants(FlaskSQLAlchemySession):
        def get_bind(self, *args: Any, **kwargs: Any) -> Any:
            return own.engine

    own = SQLAlchemy(model_class=declarative_base(), session_options={"class_": Tenants})
    app = Flask("tenants", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///default.db"
    app.config["SQLALCHEMY_BINDS"] = {"logs": "sqlite:///logs.db"}
    DBKit(db=own).init_app(app)
    with app.app_context():
        assert own.session.get_bind(clause=select(log.c.id)) is own.engine
