"""See what an application asks the database."""

from __future__ import annotations

import logging

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

from flask_dbkit import (
    Base,
    DBKit,
    allow_n_plus_one,
    query_budget,
    query_stats,
    record_queries,
)

db = SQLAlchemy(model_class=Base)
app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
dbkit = DBKit(app, db=db)


class Author(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


# start loop
def titles_one_by_one() -> list[list[str]]:
    authors = db.session.scalars(select(Author))
    return [[book.title for book in author.books] for author in authors]


# end loop


# start fixed
def titles() -> list[list[str]]:
    authors = db.session.scalars(select(Author).options(selectinload(Author.books)))
    return [[book.title for book in author.books] for author in authors]


# end fixed


# start record
def report() -> str:
    with record_queries() as stats:
        titles_one_by_one()
    return "\n".join(f"{each.count} x {each.call_site}: {each.fix}" for each in stats.repeats)


# end record


# start budget
@app.get("/titles")
@query_budget(queries=3)
def show_titles() -> list[list[str]]:
    return titles()


# end budget


# start allow
@app.get("/export")
@allow_n_plus_one("one author at a time keeps memory small")
def export() -> list[list[str]]:
    return titles_one_by_one()


# end allow


# start stats
@app.after_request
def tell(response):  # type: ignore[no-untyped-def]
    stats = query_stats()
    if stats is not None:
        logging.getLogger(__name__).info("%s queries, %s ms", stats.queries, stats.time_ms)
    return response


# end stats


def check() -> None:
    with app.app_context():
        db.create_all()
        for number in range(6):
            db.session.add(Author(name=f"a{number}", books=[Book(title=f"b{number}")]))
        db.session.commit()
        assert "6 x " in report()
        assert "selectinload(Author.books)" in report()
        with record_queries() as stats:
            titles()
        assert (stats.queries, stats.repeats) == (2, ())
    client = app.test_client()
    assert client.get("/titles").status_code == 200
    app.config["TESTING"] = True
    assert client.get("/export").status_code == 200


if __name__ == "__main__":
    check()
