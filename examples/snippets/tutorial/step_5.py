"""A reading list."""

import csv
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import click
from flask import (
    Blueprint,
    Flask,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.cli import with_appcontext
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, UniqueConstraint, select
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship
from werkzeug.wrappers import Response

from flask_dbkit import (
    Base,
    DBKit,
    Timestamps,
    Versioned,
    get_or_create,
    on_commit,
    transaction,
    upsert,
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
    finished_at: Mapped[datetime | None]

    author: Mapped[Author] = relationship()


@pages.get("/")
def index() -> str:
    newest_first = select(Book).options(joinedload(Book.author)).order_by(Book.created_at.desc())
    return render_template("index.html", books=db.session.scalars(newest_first).all())


@pages.post("/books")
def add_book() -> Response:
    name, title = request.form["author"].strip(), request.form["title"].strip()
    if not name or not title:
        abort(400, "A book needs an author and a title.")
    with transaction():
        author, _ = get_or_create(Author, name=name)
        get_or_create(Book, author=author, title=title)
    return redirect(url_for("pages.index"), 303)


@pages.post("/books/<int:book_id>/finish")
def finish_book(book_id: int) -> Response:
    with transaction():
        book = db.get_or_404(Book, book_id)
        if request.form["version"] != str(book.version):
            abort(409, "This book was changed after the page was shown. Go back and reload it.")
        book.finished_at = datetime.now(UTC)
        on_commit(current_app.logger.warning, "%s: read.", book.title)
    return redirect(url_for("pages.index"), 303)


@click.command("init-db")
@with_appcontext
def init_db() -> None:
    """Create the tables that are not there yet."""
    db.create_all()
    click.echo("The tables are there.")


@click.command("import-books")
@click.argument("file", type=click.File(encoding="utf-8"))
@with_appcontext
def import_books(file: TextIO) -> None:
    """Add the books of a CSV file with the columns author and title."""
    rows = list(csv.DictReader(file))
    with transaction():
        authors = upsert(Author, [{"name": row["author"]} for row in rows], by="name")
        books = [
            {"author_id": author.id, "title": row["title"]}
            for author, row in zip(authors, rows, strict=True)
        ]
        upsert(Book, books, by=("author_id", "title"))
    click.echo(f"{len(rows)} books read from {file.name}.")


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config or {})
    dbkit.init_app(app)
    app.register_blueprint(pages)
    app.cli.add_command(init_db)
    app.cli.add_command(import_books)
    return app
