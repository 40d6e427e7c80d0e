"""The integration in the README and on the first page of the documentation."""

# ruff: noqa: E402 - the page shows it as a reader would write it

# start integration
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import Base, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)

app = Flask(__name__)
dbkit.init_app(app)
# end integration

# start first-use
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Timestamps, transaction


class Book(Timestamps, Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


@app.post("/books/<title>")
def add_book(title: str) -> str:
    with transaction():
        db.session.add(Book(title=title))
    return "Saved."


# end first-use


def check() -> None:
    with app.app_context():
        db.create_all()
    assert app.test_client().post("/books/Solaris").text == "Saved."
    with app.app_context():
        book = db.session.scalars(db.select(Book)).one()
        assert book.title == "Solaris"
        assert book.created_at.tzinfo is not None


if __name__ == "__main__":
    check()
