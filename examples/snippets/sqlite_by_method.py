"""Begin by the request's method: every POST, PUT, PATCH and DELETE begins for writing."""

from typing import Any

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
# start config
app.config["DBKIT_SQLITE_BEGIN_BY_METHOD"] = True
# end config
dbkit.init_app(app)


class Counter(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(default=0)


@app.route("/", methods=["GET", "POST"])
def count() -> str:
    counter = db.session.get_one(Counter, 1)
    if request.method == "POST":
        counter.value += 1
        db.session.commit()
    return str(counter.value)


def check() -> None:
    with app.app_context():
        db.create_all()
        db.session.add(Counter(id=1))
        db.session.commit()
        sent: list[str] = []
        raw: Any = db.engine.raw_connection()
        raw.set_trace_callback(sent.append)
        raw.close()
    client = app.test_client()
    assert client.get("/").text == "0"
    assert sent[0] == "BEGIN", sent
    sent.clear()
    assert client.post("/").text == "1"
    assert sent[0] == "BEGIN IMMEDIATE", sent


if __name__ == "__main__":
    check()
