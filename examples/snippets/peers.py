"""Lazy attributes that load for the whole page."""

from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, event, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from flask_dbkit import Base, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


class Author(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
# start setting
app.config["DBKIT_LAZY"] = "peers"
# end setting
dbkit.init_app(app)

sent: list[str] = []


def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
    sent.append(statement)


with app.app_context():
    db.create_all()
    for number in range(100):
        db.session.add(Author(name=f"author {number}", books=[Book(title="one")]))
    db.session.commit()
    event.listen(db.engine, "before_cursor_execute", note)

    # start page
    authors = db.session.scalars(select(Author)).all()
    titles = [book.title for author in authors for book in author.books]
    # end page
    assert len(titles) == 100
    assert len(sent) == 2, sent

    sent.clear()
    db.session.commit()
    names = [author.name for author in authors]
    assert len(sent) == 1, sent

    # start option
    from flask_dbkit import peerload

    statement = select(Author).options(peerload(Author.books))
    # end option
    db.session.expunge_all()
    assert [author.books for author in db.session.scalars(statement)]

    authors = db.session.scalars(select(Author)).all()

    # start block
    from flask_dbkit import lazy_loading

    with lazy_loading("peers") as loads:
        titles = [book.title for author in authors for book in author.books]
    print(loads.batches, loads.objects, loads.plain)  # 1 100 Counter()
    # end block
    assert loads.plain == {}
