"""A small application, as a type checker sees it.

``make lint`` checks this file with mypy and pyright in strict mode, on both SQLAlchemy lines.
``assert_type`` states what they must infer; ``mistakes.py`` has what they must refuse.
"""

# mypy: disallow-untyped-defs, disallow-incomplete-defs, disallow-untyped-calls
# mypy: disallow-any-generics
# pyright: strict

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

from flask import Flask, Response
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    relationship,
)

from flask_dbkit import (
    NAMING_CONVENTION,
    Base,
    DBKit,
    Filter,
    FilterAllowlist,
    KeysetPage,
    Listing,
    OffsetPage,
    SortAllowlist,
    Timestamps,
    UTCDateTime,
    UUIDPrimaryKey,
    Versioned,
    declarative_base,
    get_or_create,
    paginate,
    upsert,
)
from flask_dbkit.models import BaseMixin
from flask_dbkit.models.identifiers import uuid7

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


# --- Models below Base -----------------------------------------------------------------


class Author(UUIDPrimaryKey, Timestamps, Base):
    """The mixins in front."""

    name: Mapped[str] = mapped_column(String(50), unique=True)
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base, Timestamps, Versioned):
    """The mixins behind, and every type of the type map."""

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(50), unique=True)
    title: Mapped[str | None] = mapped_column(String(200))
    price: Mapped[Decimal | None]
    extra: Mapped[dict[str, Any] | None]
    tags: Mapped[list[Any] | None]
    published_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    author_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey(Author.id))
    author: Mapped[Author | None] = relationship(back_populates="books")


class Loan(MappedAsDataclass, Timestamps, Versioned, Base):
    """A dataclass: what the library sets is no argument."""

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    reader: Mapped[str] = mapped_column(String(50))
    book_id: Mapped[int] = mapped_column(ForeignKey(Book.id), default=0)


# --- A base of the application's own -----------------------------------------------------


class AppBase(BaseMixin, DeclarativeBase):
    """The form of ``declarative_base()`` that every checker can follow."""


class Note(UUIDPrimaryKey, AppBase):
    """A model of that base."""

    text: Mapped[str] = mapped_column(String(200))


assert_type(declarative_base(), type[Base])
assert_type(NAMING_CONVENTION, dict[str, str])
other_db = SQLAlchemy(model_class=AppBase)
third_db = SQLAlchemy(model_class=declarative_base())


# --- A model below db.Model --------------------------------------------------------------


# Flask-SQLAlchemy's db.Model is an attribute, which mypy does not accept as a parent.
class Shelf(db.Model, Versioned):  # type: ignore[name-defined,misc]
    """A model as Flask-SQLAlchemy's documentation writes it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)


# --- Using them ------------------------------------------------------------------------


BOOKS = Listing(
    Book,
    sort=SortAllowlist({"title": Book.title, "made": Book.created_at}, default="title"),
    filter=FilterAllowlist({"title": Filter(Book.title, ops="eq icontains")}),
)


def add_lists(app: Flask) -> None:
    """Answer with lists, each helper without a cast."""

    @app.get("/books")
    def books() -> Response:
        return BOOKS.paginate().to_response()

    @app.get("/feed")
    def feed() -> Response:
        narrowed = BOOKS.statement.where(Book.title != "")
        return BOOKS.paginate_keyset(narrowed, bind=1).to_response(lambda book: book.title)

    @app.get("/spot")
    def spot() -> Response:
        page = paginate(select(Book).order_by(Book.title), count="none")
        assert_type(page, OffsetPage[Book])
        return page.to_response()

    @app.get("/titles")
    def titles() -> list[str]:
        page = BOOKS.paginate_keyset()
        assert_type(page, KeysetPage[Book])
        links: dict[str, str | None] = page.links
        shown = [page.sort_url("title"), page.sort_state("title") or "", links["self"] or ""]
        for batch in BOOKS.iterate(batch=10):
            assert_type(batch, list[Book])
            shown += [book.slug for book in batch]
        return shown


def create_app(url: str) -> Flask:
    """Make the application."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SECRET_KEY"] = "of the tests"
    dbkit.init_app(app)
    add_lists(app)
    return app


def fill() -> Sequence[Book]:
    """Write some rows, in each of the ways there are, and read them back."""
    author, created = get_or_create(Author, name="Ann")
    assert_type(author, Author)
    assert_type(created, bool)
    book, _ = get_or_create(Book, {"title": lambda: "Sea"}, slug="sea", author=author)
    assert_type(book, Book)
    books = upsert(Book, [{"slug": "sea", "price": Decimal(3)}], by="slug")
    assert_type(books, list[Book])
    upsert(Book, ({"slug": slug} for slug in ("a", "b")), by=Book.slug, update=())
    upsert(Book, [], by=["slug"], update=(Book.title, "price"), session=db.session)
    upsert(Shelf, [{"name": "a"}], by="name")

    assert_type(author.id, uuid.UUID)
    assert_type(author.books, list[Book])
    assert_type(book.id, int)
    assert_type(book.version, int)
    assert_type(book.created_at, datetime)
    assert_type(book.updated_at, datetime)
    assert_type(book.published_at, datetime | None)
    assert_type(book.extra, dict[str, Any] | None)
    assert_type(book.author, Author | None)
    assert_type(uuid7(), uuid.UUID)

    loan = Loan("Bob", book_id=book.id)
    assert_type(loan.created_at, datetime)
    db.session.add(loan)
    recent = select(Book).where(Book.created_at <= datetime.now(UTC), Book.version >= 1)
    return db.session.scalars(recent.order_by(Book.updated_at.desc())).all()
