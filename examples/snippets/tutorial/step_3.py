"""A reading list."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, abort, redirect, render_template, request, url_for
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, UniqueConstraint, select
from sqlalchemy.orm import Mapped, contains_eager, mapped_column, relationship
from werkzeug.wrappers import Response

from flask_dbkit import (
    Base,
    DBKit,
    Filter,
    FilterAllowlist,
    Listing,
    SortAllowlist,
    Timestamps,
    Versioned,
    get_or_create,
    transaction,
)

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
pages = Blueprint("pages", __name__)


class Author(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)


class Book(Timestamps, Versioned, Base):
    __table_args__ = (UniqueConstraint("author_id", "title"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))

    author: Mapped[Author] = relationship()


BOOKS = Listing(
    select(Book).join(Book.author).options(contains_eager(Book.author)),
    sort=SortAllowlist(
        {"title": Book.title, "author": Author.name, "added": Book.created_at},
        default="-added",
    ),
    filter=FilterAllowlist({"title": Filter(Book.title, ops="icontains")}),
    per_page=10,
)


def to_dict(book: Book) -> dict[str, Any]:
    return {"id": book.id, "title": book.title, "author": book.author.name}


@pages.get("/")
def index() -> str:
    return render_template("index.html", page=BOOKS.paginate())


@pages.get("/api/books")
def list_books() -> Response:
    return BOOKS.paginate().to_response(to_dict)


@pages.post("/books")
def add_book() -> Response:
    name, title = request.form["author"].strip(), request.form["title"].strip()
    if not name or not title:
        abort(400, "A book needs an author and a title.")
    with transaction():
        author, _ = get_or_create(Author, name=name)
        get_or_create(Book, author=author, title=title)
    return redirect(url_for("pages.index"), 303)


@pages.post("/api/books")
def create_book() -> tuple[dict[str, Any], int]:
    given = request.get_json()
    with transaction():
        author, _ = get_or_create(Author, name=given["author"])
        book = Book(author=author, title=given["title"])
        db.session.add(book)
    return to_dict(book), 201


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config or {})
    dbkit.init_app(app)
    app.register_blueprint(pages)
    return app
