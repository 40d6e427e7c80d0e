"""``flask dbkit indexes``: what it finds, prints and exits with."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Enum, ForeignKey, Index, String, create_engine, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from flask_dbkit import (
    DBKit,
    Filter,
    FilterAllowlist,
    Listing,
    SortAllowlist,
    SortKey,
    declarative_base,
)
from flask_dbkit.models import BaseMixin


class Base(BaseMixin, DeclarativeBase):
    pass


class Writer(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class Poem(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(40))
    year: Mapped[int]
    rank: Mapped[int | None]
    writer_id: Mapped[int] = mapped_column(ForeignKey("writer.id"))
    writer: Mapped[Writer] = relationship()
    __table_args__ = (Index("ix_year_id", "year", "id"),)


POEMS = Listing(
    select(Poem).join(Poem.writer),
    sort=SortAllowlist(
        {
            "title": Poem.title,
            "year": Poem.year,
            "rank": SortKey(Poem.rank, nulls="last"),
            "writer": Writer.name,
            "length": func.length(Poem.title),
            "id": Poem.id,
        },
        default="-year,title",
    ),
)


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Iterator[Flask]:
    app = make_app()
    db = SQLAlchemy(model_class=Base)
    DBKit(app, db=db)
    with app.app_context():
        db.create_all()
        yield app


pytestmark = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")


def run(app: Flask, *arguments: str) -> Any:
    return app.test_cli_runner().invoke(args=["dbkit", "indexes", *arguments])


def findings(app: Flask) -> dict[str, dict[str, Any]]:
    result = run(app, "--json")
    assert result.exit_code == 0, result.output
    return {one["sort"]: one for one in json.loads(result.output) if one["listing"] == "Poem"}


def test_each_order_is_compared_with_the_live_indexes(app: Flask) -> None:
    """Served, missing, or nothing an index could serve: each is said, with the reason."""
    found = findings(app)
    assert list(found) == ["-year,title", "title", "year", "rank", "writer", "length", "id"]
    assert (found["year"]["status"], found["year"]["index"]) == ("ok", "ix_year_id")
    assert found["id"]["status"] == "ok"
    assert found["title"]["status"] == "missing"
    assert found["-year,title"]["status"] == "missing"
    assert "year DESC, title, id" in found["-year,title"]["create"]
    assert found["writer"]["reason"] == "keys of several tables: poem, writer"
    assert found["length"]["reason"] == "length is computed"


def test_the_printed_statement_makes_the_finding_go_away(app: Flask) -> None:
    """What is printed can be run as it is, and is then found, directions and all."""
    db = app.extensions["sqlalchemy"]
    missing = [one["create"] for one in findings(app).values() if one["status"] == "missing"]
    assert missing
    with db.engine.begin() as connection:
        for statement in missing:
            connection.execute(text(statement.rstrip(";")))
    assert not [one for one in findings(app).values() if one["status"] == "missing"]


def test_strict_exits_with_one_only_when_something_is_missing(app: Flask) -> None:
    """For a build; without it the command only tells."""
    assert run(app).exit_code == 0
    strict = run(app, "--strict")
    assert strict.exit_code == 1
    assert "missing    Poem ?sort=title  CREATE INDEX" in strict.output


@pytest.mark.backends("postgresql")
def test_nulls_have_their_place_in_the_index(app: Flask) -> None:
    """An index with NULLs elsewhere is of no use for the order."""
    sort = SortAllowlist({"rank": SortKey(Poem.rank, nulls="first")}, default="rank")
    listing = Listing(Poem, sort=sort, name="Ranked")
    with app.extensions["sqlalchemy"].engine.begin() as connection:
        connection.execute(text("CREATE INDEX plain ON poem (rank, id)"))
    (found,) = listing.examine_indexes()
    assert found.status == "missing"
    assert "rank NULLS FIRST, id" in str(found.create)
    assert findings(app)["rank"]["index"] == "plain"
    with app.extensions["sqlalchemy"].engine.begin() as connection:
        connection.execute(text(str(found.create).rstrip(";")))
    (found,) = listing.examine_indexes()
    assert found.status == "ok"


@pytest.mark.backends("sqlite-file", "mariadb")
def test_a_placement_no_index_has_is_said(app: Flask) -> None:
    """There, NULLs stand where the database puts them, or everything is sorted."""
    assert "no index has NULLs last" in findings(app)["rank"]["reason"]


def test_partial_and_computed_indexes_serve_no_order(app: Flask) -> None:
    """They do not have every row, or not the column."""
    with app.extensions["sqlalchemy"].engine.begin() as connection:
        if connection.dialect.name in ("sqlite", "postgresql"):
            connection.execute(text("CREATE INDEX part ON poem (title, id) WHERE year > 5"))
            connection.execute(text("CREATE INDEX computed ON poem (lower(title), id)"))
        else:
            connection.execute(text("CREATE INDEX part ON poem (title(5), id)"))
    assert findings(app)["title"]["status"] == "missing"


def test_a_listing_that_cannot_be_planned_is_an_error(app: Flask) -> None:
    """Found here before a request finds it."""
    wrong = Listing(Writer, sort=SortAllowlist({"title": Poem.title}, default="title"))
    result = run(app)
    assert result.exit_code == 1
    assert "error      Writer ?sort=title" in result.output
    assert "Its table is not in the statement" in result.output
    del wrong
    gc.collect()


def test_tables_that_are_not_there_are_not_checked(app: Flask) -> None:
    """Before the first migration there is nothing to compare with."""
    app.extensions["sqlalchemy"].drop_all()
    assert {one["reason"] for one in findings(app).values() if one["status"] == "unchecked"} >= {
        "no table poem"
    }


def test_an_application_without_listings_says_so(make_app: Callable[..., Flask]) -> None:
    """Listings of other applications in the process are not its own."""
    app = make_app()
    DBKit(app, db=SQLAlchemy(model_class=declarative_base()))
    assert run(app).output == "No listing is declared.\n"


class Leaf(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))


LEAVES = Listing(Leaf, sort=SortAllowlist({"title": Leaf.title}, default="title"))
INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'x'::regclass"


@contextmanager
def _leaves(make_database: Any, on: str, ddl: str) -> Iterator[Session]:
    """Yield a session on a database that has the table, and the indexes that are made there."""
    database = make_database("sqlite-file" if on == "sqlite" else on)
    with Session(create_engine(database.url)) as session:
        Base.metadata.create_all(session.connection(), tables=[Leaf.__table__])  # type: ignore[list-item]
        for one in ddl.split("; "):
            session.execute(text(one))
        session.commit()
        yield session


@pytest.mark.parametrize(
    ("on", "ddl", "status", "reason"),
    [
        ("sqlite", "CREATE INDEX x ON leaf (title, id)", "ok", None),
        ("sqlite", "CREATE INDEX x ON leaf (title DESC, id DESC)", "ok", None),
        ("sqlite", "CREATE INDEX x ON leaf (title COLLATE NOCASE, id)", "missing", "NOCASE"),
        ("sqlite", "CREATE INDEX x ON leaf (title) WHERE id > 5", "missing", None),
        ("postgresql", "CREATE INDEX x ON leaf (title, id)", "ok", None),
        ("postgresql", "CREATE INDEX x ON leaf (title, id) INCLUDE (id)", "ok", None),
        ("postgresql", "CREATE INDEX x ON leaf (title text_pattern_ops, id)", "missing", "_ops"),
        ("postgresql", 'CREATE INDEX x ON leaf (title COLLATE "C", id)', "missing", "collation"),
        ("postgresql", "CREATE INDEX x ON leaf USING brin (title, id)", "missing", "brin"),
        ("postgresql", "CREATE INDEX x ON leaf USING hash (title)", "missing", None),
        ("postgresql", "CREATE INDEX x ON leaf (title, id) WHERE id > 5", "missing", None),
        ("postgresql", f"CREATE INDEX x ON leaf (title, id); {INVALID}", "missing", "not valid"),
        ("mariadb", "CREATE INDEX x ON leaf (title)", "ok", None),
        ("mariadb", "CREATE INDEX x ON leaf (title(20))", "missing", "first 20"),
        ("mariadb", "CREATE FULLTEXT INDEX x ON leaf (title)", "missing", "FULLTEXT"),
        ("mariadb", "CREATE INDEX x ON leaf (title) IGNORED", "missing", "ignored"),
    ],
)
def test_an_index_serves_only_if_the_database_would_use_it(
    make_database: Any, on: str, ddl: str, status: str, reason: str | None
) -> None:
    """Collation, operator class, method, validity, visibility and prefixes count."""
    with _leaves(make_database, on, ddl) as session:
        found = LEAVES.examine_indexes(session)[0]
        assert found.status == status
        assert (reason or "") in (found.reason or "")


class Shelf(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(20), unique=True)
    label: Mapped[str] = mapped_column(String(40))
    width: Mapped[int]
    room: Mapped[int]
    open: Mapped[bool]
    kind: Mapped[str] = mapped_column(Enum("oak", "pine", name="kind"))
    __table_args__ = (Index("ix_room_width", "room", "width"),)


SHELF_FILTER = FilterAllowlist(
    {
        "id": Shelf.id,
        "code": Shelf.code,
        "label": Filter(Shelf.label, ops="icontains eq startswith"),
        "width": Filter(Shelf.width, ops="gte lt"),
        "room": Filter(Shelf.room, ops="in"),
        "open": Shelf.open,
        "kind": Shelf.kind,
        "begins": Filter(Shelf.code, ops="startswith"),
        "size": Filter(func.length(Shelf.label), ops="gt", type=int),
        "text": Filter(Shelf.label, ops="icontains"),
        "any": Filter(lambda statement, value: statement, type=int),
    }
)
SHELVES = Listing(
    Shelf, sort=SortAllowlist({"id": Shelf.id}, default="id"), filter=SHELF_FILTER, name="Shelves"
)
IN_A_ROOM = Listing(
    select(Shelf).where(Shelf.room == 3),
    sort=SortAllowlist({"id": Shelf.id}, default="id"),
    filter=FilterAllowlist({"width": Filter(Shelf.width, ops="gte")}),
    name="In a room",
)


def of_filters(app: Flask, listing: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(run(app, "--json").output):
        if one["listing"] == listing and one["filter"]:
            found.setdefault(one["filter"], []).append(one)
    return found


def test_each_filter_is_compared_with_the_live_indexes(app: Flask) -> None:
    """What finds its rows, what is missing, and what no index would serve."""
    database = app.extensions["sqlalchemy"].engine.dialect.name
    found = of_filters(app, "Shelves")
    parameters = ["id", "code", "label", "width__gte", "room__in", "open", "kind"]
    assert list(found) == [*parameters, "begins__startswith", "size__gt"]
    told = {name: [one["status"] for one in every] for name, every in found.items()}
    for name in ("id", "code", "room__in"):
        assert told[name] == ["ok"]
    assert found["room__in"][0]["index"] == "ix_room_width"
    assert told["width__gte"] == ["missing"]
    assert found["size__gt"][0]["reason"] == "it is computed"
    for name in ("open", "kind"):
        assert "has few values" in found[name][0]["reason"]
    if database == "postgresql":
        assert told["label"] == ["missing", "missing"]
        assert "text_pattern_ops" in found["label"][1]["create"]
    else:
        assert told["label"] == ["missing"]
        assert told["begins__startswith"] == ["unchecked"]
    # An index that begins with what the statement says already is as good.
    assert [one["index"] for one in of_filters(app, "In a room")["width__gte"]] == ["ix_room_width"]
    assert "missing    Shelves ?width__gte=…  CREATE INDEX" in run(app, "--strict").output
    with app.extensions["sqlalchemy"].engine.begin() as connection:
        for every in found.values():
            for one in every:
                if one["create"]:
                    connection.execute(text(one["create"].rstrip(";")))
    left = [one for every in of_filters(app, "Shelves").values() for one in every]
    assert [one for one in left if one["status"] == "missing"] == []


def test_a_filter_without_an_index_fails_no_build(make_app: Callable[..., Flask]) -> None:
    """Whether one pays depends on how many rows the filter leaves."""
    base = declarative_base()

    class Book(base):  # type: ignore[misc, valid-type]
        id: Mapped[int] = mapped_column(primary_key=True)
        year: Mapped[int]

    app = make_app()
    db = SQLAlchemy(model_class=base)
    DBKit(app, db=db)
    listing = Listing(
        Book,
        sort=SortAllowlist({"id": Book.id}, default="id"),
        filter=FilterAllowlist({"year": Book.year}),
    )
    with app.app_context():
        db.create_all()
    result = run(app, "--strict")
    assert "missing    Book ?year=…  CREATE INDEX ix_book_year ON book (year);" in result.output
    assert result.exit_code == 0
    del listing


SEARCHES = [
    ("sqlite", "CREATE INDEX x ON leaf (title COLLATE NOCASE)", ["missing"]),
    ("sqlite", "CREATE INDEX x ON leaf (title) WHERE id > 5", ["missing"]),
    ("postgresql", "CREATE INDEX x ON leaf USING hash (title)", ["missing", "missing"]),
    ("postgresql", "CREATE INDEX x ON leaf (title text_pattern_ops)", ["missing"]),
    ("postgresql", 'CREATE INDEX x ON leaf (title COLLATE "C")', ["missing"]),
    ("postgresql", f"CREATE INDEX x ON leaf (title); {INVALID}", ["missing", "missing"]),
    ("postgresql", "CREATE INDEX x ON leaf USING brin (title)", ["ok"]),
    ("mariadb", "CREATE INDEX x ON leaf (title(20))", ["ok"]),
    ("mariadb", "CREATE INDEX x ON leaf (title) IGNORED", ["missing"]),
    ("mariadb", "CREATE FULLTEXT INDEX x ON leaf (title)", ["missing"]),
]


@pytest.mark.parametrize(("on", "ddl", "statuses"), SEARCHES)
def test_an_index_finds_rows_only_if_the_database_would_use_it(
    make_database: Any, on: str, ddl: str, statuses: list[str]
) -> None:
    """A hash knows no ranges, a pattern class no order, and no other collation is of use."""
    listing = Listing(
        Leaf,
        sort=SortAllowlist({"id": Leaf.id}, default="id"),
        filter=FilterAllowlist({"title": Filter(Leaf.title, ops="eq lt startswith")}),
    )
    with _leaves(make_database, on, ddl) as session:
        assert [one.status for one in listing.examine_indexes(session) if one.filter] == statuses


@pytest.mark.backends("sqlite-file")
def test_a_database_that_does_not_answer_is_told_in_one_line(
    make_app: Callable[..., Flask],
) -> None:
    """As by the other commands."""
    app = make_app(SQLALCHEMY_DATABASE_URI="mysql+pymysql://nobody@127.0.0.1:1/poems")
    DBKit(app, db=SQLAlchemy(model_class=Base))
    result = run(app)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert re.fullmatch(r"Error: .*Can't connect.*\n", result.output)


@pytest.mark.backends("sqlite-file")
def test_models_that_do_not_fit_are_told_in_one_sentence(make_app: Callable[..., Flask]) -> None:
    """Those of the application; a neighbour in the process may be as broken as it likes."""
    base = declarative_base()

    class Stray(base):  # type: ignore[misc, valid-type]
        id: Mapped[int] = mapped_column(primary_key=True)
        owner = relationship("Nobody")

    listing = Listing(Stray, sort=SortAllowlist({"id": Stray.id}, default="id"))
    broken, sound = make_app(), make_app()
    DBKit(broken, db=SQLAlchemy(model_class=base))
    DBKit(sound, db=SQLAlchemy(model_class=declarative_base()))
    assert run(sound).output == "No listing is declared.\n"
    result = run(broken)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.output.startswith("Error: ")
    assert "'Nobody'" in result.output
    assert result.output.count("\n") == 1
    base.registry.dispose()
    del listing, Stray
    gc.collect()
