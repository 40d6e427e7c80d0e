"""Snippets of the page "Let users sort and filter".

Backends: sqlite-file postgresql mariadb
"""

from datetime import UTC, datetime
from typing import Any

from flask import Flask, render_template_string, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, Index, Select, String, exists, func, select
from sqlalchemy.orm import Mapped, contains_eager, mapped_column, relationship
from werkzeug.datastructures import MultiDict

from flask_dbkit import (
    Base,
    DBKit,
    Filter,
    FilterAllowlist,
    Listing,
    QueryError,
    SortAllowlist,
    SortKey,
    transaction,
)

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
app.config["SECRET_KEY"] = "not a secret: this is a test"
dbkit.init_app(app)


# start models
class Author(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


class Book(Base):
    __table_args__ = (Index(None, "added", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    added: Mapped[datetime]
    pages: Mapped[int | None]

    author: Mapped[Author] = relationship()


class Loan(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))
    reader: Mapped[str] = mapped_column(String(100))


# end models

# start sort
BOOK_SORT = SortAllowlist(
    {
        "title": Book.title,
        "added": Book.added,
        "author": Author.name,
        "pages": SortKey(Book.pages, nulls="last"),
    },
    default="-added",
)
# end sort


# start filter
def lent_to(statement: Select[Any], reader: str) -> Select[Any]:
    lent = exists().where(Loan.book_id == Book.id, Loan.reader == reader)
    return statement.where(lent)


BOOK_FILTER = FilterAllowlist(
    {
        "title": Filter(Book.title, ops="eq icontains startswith"),
        "author": Book.author_id,  # the same as Filter(Book.author_id, ops="eq in")
        "added": Filter(Book.added, ops="gte lt"),
        "pages": Filter(Book.pages, ops="gte lte isnull"),
        "lent_to": Filter(lent_to, type=str),
    }
)
# end filter

# start listing
BOOKS = Listing(
    select(Book).join(Book.author).options(contains_eager(Book.author)),
    sort=BOOK_SORT,
    filter=BOOK_FILTER,
    per_page=20,
)
# end listing

PAGE = """
{% from "flask_dbkit/pager.html" import render_pager %}
{# start form #}
<form>
  <label>Title <input name="title__icontains" value="{{ request.args.title__icontains }}"></label>
  <label>Pages, at least <input name="pages__gte" value="{{ request.args.pages__gte }}"></label>
  <label>Sort by
    <select name="sort">
      <option value="-added">newest</option>
      <option value="title" {{ "selected" if request.args.sort == "title" }}>title</option>
      <option value="author,title" {{ "selected" if request.args.sort == "author,title" }}>
        author</option>
    </select>
  </label>
  <button>Show</button>
</form>
{# end form #}
<ul>
  {% for book in page %}
  <li>{{ book.title }}, {{ book.author.name }}</li>
  {% endfor %}
</ul>
{{ render_pager(page) }}
"""


# start route
@app.get("/books")
def books() -> str:
    # A form sends the fields that were left empty, too.
    filled = MultiDict([(name, text) for name, text in request.args.items(multi=True) if text])
    return render_template_string(PAGE, page=BOOKS.paginate(args=filled))


# end route


# start handler
@app.errorhandler(QueryError)
def show_mistakes(error: QueryError) -> QueryError | tuple[str, int]:
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
        return error  # the problem document
    names = ", ".join(mistake["parameter"] for mistake in error.errors)
    return f"This page cannot be shown: look at {names} in its address.", 400


# end handler


# start init-db
@app.cli.command("init-db")
def init_db() -> None:
    db.create_all()
    print("The tables are there.")


# end init-db


def titles(query: str) -> list[str]:
    text = app.test_client().get(f"/books{query}").text
    return [line.strip()[4:].partition(",")[0] for line in text.splitlines() if "<li>" in line][:4]


def check() -> None:
    with app.app_context():
        db.create_all()
        with transaction():
            db.session.add_all([Author(id=1, name="Woolf"), Author(id=2, name="Melville")])
            db.session.flush()
            for number, (title, author, day, pages) in enumerate(
                [
                    ("The Waves", 1, 1, 324),
                    ("Moby-Dick", 2, 2, 635),
                    ("The Voyage Out", 1, 3, None),
                ],
                1,
            ):
                added = datetime(2026, 1, day, tzinfo=UTC)
                db.session.add(
                    Book(id=number, title=title, author_id=author, added=added, pages=pages)
                )
            db.session.flush()
            db.session.add(Loan(id=1, book_id=2, reader="ada"))
            db.session.add(Loan(id=2, book_id=2, reader="ada"))

    waves, moby, voyage = "The Waves", "Moby-Dick", "The Voyage Out"
    assert titles("?per_page=5")[:3] == [voyage, moby, waves]
    assert titles("?sort=author,-title")[:3] == [moby, waves, voyage]
    assert titles("?sort=pages")[:3] == [waves, moby, voyage]
    assert titles("?sort=-pages")[:3] == [moby, waves, voyage]
    assert titles("?title__icontains=the+v&pages__gte=&sort=title")[0] == voyage
    assert titles("?author__in=1,3&added__lt=2026-01-02")[0] == waves
    assert titles("?lent_to=ada")[0] == moby
    assert "look at shelf__in, pages__gte" in (
        app.test_client()
        .get("/books?shelf__in=1&pages__gte=many", headers={"Accept": "text/html"})
        .text.replace("pages__gte, shelf__in", "shelf__in, pages__gte")
    )

    with app.app_context():
        # start apply
        statement = select(func.count()).select_from(Book)
        statement = BOOK_FILTER.apply(statement, {"added__gte": "2026-01-02", "author__in": "1,2"})
        assert db.session.scalar(statement) == 2

        newest_first = BOOK_SORT.apply(select(Book).join(Book.author), "-added,title")
        assert db.session.scalars(newest_first).first() is not None
        # end apply

        # start mistakes
        try:
            BOOKS.paginate(args={"sort": "colour", "pages__gte": "many", "titel__eq": "Emma"})
        except QueryError as error:
            assert sorted(mistake["code"] for mistake in error.errors) == [
                "query.bad_value",
                "query.unknown_filter",
                "query.unknown_sort",
            ]
        # end mistakes
        else:
            raise AssertionError
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
