"""Snippets of the page "Stream a response".

Backends: sqlite-file postgresql
"""

from collections.abc import Iterator

from flask import Flask, Response
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, stream, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
dbkit.init_app(app)


class Word(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(100))


# start stream
def lines() -> Iterator[str]:
    statement = select(Word).order_by(Word.id).execution_options(yield_per=500)
    for word in db.session.scalars(statement):
        yield f"{word.text}\n"


@app.get("/words.txt")
def words() -> Response:
    return Response(stream(lines()), mimetype="text/plain")


# end stream


def check() -> None:
    with app.app_context():
        db.create_all()
        with transaction():
            db.session.add_all(
                [Word(id=number, text=f"word {number}") for number in range(1, 1200)]
            )
    answer = app.test_client().get("/words.txt")
    assert len(answer.text.splitlines()) == 1199
    answer.close()
    with app.app_context():
        assert db.engine.pool.checkedout() == 0
        db.engine.dispose()


if __name__ == "__main__":
    check()
