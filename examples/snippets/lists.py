"""Snippets of the pages about lists.

Backends: sqlite-file postgresql mariadb
"""

import csv
import io

from flask import Flask, render_template_string
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from flask_dbkit import (
    Base,
    DBKit,
    Filter,
    FilterAllowlist,
    Listing,
    SortAllowlist,
    SortKey,
    paginate,
)

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
app.config["SECRET_KEY"] = "use a real one"
dbkit.init_app(app)


class Author(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(80))
    year: Mapped[int]
    price: Mapped[int | None]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


# start allowlists
BOOK_SORT = SortAllowlist(
    {
        "title": Book.title,
        "year": Book.year,
        "author": Author.name,
        "price": SortKey(Book.price, nulls="last"),
    },
    default="-year",
)


def with_colleague(statement, name):
    """Books of an author, written as EXISTS: a join would list a book once per match."""
    return statement.where(Book.author.has(Author.name == name))


BOOK_FILTER = FilterAllowlist(
    {
        "title": Filter(Book.title, ops="eq icontains startswith"),
        "year": Filter(Book.year, ops="eq gte lt"),
        "author": Author.name,  # short for ops="eq in"
        "by": Filter(with_colleague, type=str),
    }
)
# end allowlists

# start listing
BOOKS = Listing(
    select(Book).join(Book.author).options(joinedload(Book.author)),
    sort=BOOK_SORT,
    filter=BOOK_FILTER,
    per_page=20,
)
# end listing


# start offset
@app.get("/books")
def books():
    return render_template_string(PAGE, page=BOOKS.paginate())


# end offset

PAGE = """
{# start template #}
{% from "flask_dbkit/pager.html" import render_pager %}
<ul>
  {% for book in page %}<li>{{ book.title }}, {{ book.author.name }}</li>{% endfor %}
</ul>
{{ render_pager(page) }}
{# end template #}
"""


# start json
@app.get("/api/books")
def api_books():
    return BOOKS.paginate_keyset().to_response()


@app.get("/api/titles")
def api_titles():
    return BOOKS.paginate_keyset().to_response(lambda book: {"title": book.title})


# end json


# start bind
@app.get("/authors/<int:author_id>/books")
def books_of(author_id):
    own = BOOKS.statement.where(Book.author_id == author_id)
    return BOOKS.paginate_keyset(own, bind=author_id).to_response()


# end bind


# start spot
@app.get("/cheap")
def cheap():
    statement = select(Book).where(Book.price < 10).order_by(Book.price)
    return paginate(statement, count="none").to_response()


# end spot


# start export
def write_all(file):
    writer = csv.writer(file)
    for batch in BOOKS.iterate(batch=1000, order="title"):
        writer.writerows((book.title, book.year) for book in batch)
        db.session.expunge_all()


# end export


def check() -> None:
    with app.app_context():
        db.create_all()
        db.session.add_all([Author(id=1, name="Ann"), Author(id=2, name="Bob")])
        db.session.flush()
        for n in range(1, 46):
            price = None if n % 9 == 0 else n
            author = 1 + n % 2
            db.session.add(
                Book(id=n, title=f"Book {n:02}", year=2000 + n % 5, price=price, author_id=author)
            )
        db.session.commit()
    client = app.test_client()
    page = client.get("/books?sort=price&page=3").text
    assert page.count("<li>Book") == 5
    assert 'aria-current="page"' in page
    url, seen = "/api/books?sort=-year,title&year__gte=2001&per_page=7", []
    while url:
        answer = client.get(url).json
        seen += answer["items"]
        url = answer["links"]["next"]
    assert len(seen) == len({book["id"] for book in seen}) == 36
    assert client.get("/api/titles?by=Ann").json["items"][0].keys() == {"title"}
    cursor = client.get("/authors/1/books").json["pagination"]["next_cursor"]
    refused = client.get(f"/authors/2/books?cursor={cursor}")
    assert refused.json["errors"][0]["code"] == "query.cursor_mismatch"
    wrong = client.get("/api/books?sort=password&year__gte=soon")
    assert wrong.status_code == 400
    assert [one["code"] for one in wrong.json["errors"]] == [
        "query.unknown_sort",
        "query.bad_value",
    ]
    assert client.get("/cheap").json["pagination"]["total"] == 8
    file = io.StringIO()
    with app.app_context():
        write_all(file)
        assert len(file.getvalue().splitlines()) == 45
        assert BOOKS.openapi_parameters()[0]["name"] == "sort"
        db.engine.dispose()


if __name__ == "__main__":
    check()
