"""Snippets of the page "Turn database errors into good answers".

Backends: sqlite-file postgresql mariadb
"""

import logging
from typing import Any

from flask import Flask, render_template_string
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.exceptions import HTTPException

from flask_dbkit import (
    Base,
    ConflictProblem,
    DBKit,
    DBProblem,
    UnavailableProblem,
    classify,
    db_error,
    transaction,
)

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
dbkit.init_app(app)


# start model
class Reader(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)


class Loan(Base):
    __table_args__ = (
        UniqueConstraint(
            "book",
            "copy_number",
            info={"dbkit": {"message": "Somebody has this copy.", "field": "copy_number"}},
        ),
        CheckConstraint("days > 0", name="days"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    reader_id: Mapped[int] = mapped_column(ForeignKey("reader.id"))
    book: Mapped[str] = mapped_column(String(100))
    copy_number: Mapped[int] = mapped_column(default=1)
    days: Mapped[int] = mapped_column(default=28)


# end model


# start words
dbkit.errors.constraint("uq_reader_email", "That address is taken.", field="email")
dbkit.errors.constraint("ck_loan_days", "Lend it for a day at least.", status=422)
# end words


@app.post("/readers/<email>")
def add_reader(email: str) -> str:
    with transaction():
        db.session.add(Reader(email=email))
    return "Added."


@app.post("/loans/<int:reader_id>/<book>/<int:days>")
def lend(reader_id: int, book: str, days: int) -> str:
    with transaction():
        db.session.add(Loan(reader_id=reader_id, book=book, days=days))
    return "Lent."


# start pages
@app.errorhandler(409)
@app.errorhandler(503)
def show(error: HTTPException) -> tuple[str, int]:
    page = "<h1>{{ error.name }}</h1><p>{{ error.description }}</p>"
    return render_template_string(page, error=error), error.code or 500


# end pages


# start handler
@app.errorhandler(ConflictProblem)
def explain(problem: ConflictProblem) -> tuple[dict[str, Any], int]:
    return {"message": problem.detail, "fields": problem.fields}, problem.status


# end handler


# start signal
@db_error.connect_via(app)
def count(app: Flask, problem: DBProblem, exception: Exception) -> None:
    counted[problem.code] = counted.get(problem.code, 0) + 1


# end signal

counted: dict[str, int] = {}


# start classify
def import_readers(emails: list[str]) -> list[str]:
    """Add readers one by one, and return the addresses that were there already."""
    known = []
    for email in emails:
        try:
            with transaction():
                db.session.add(Reader(email=email))
        except SQLAlchemyError as error:
            problem = classify(error)
            if problem is None or problem.code != "conflict.unique":
                raise
            known.append(email)
    return known


# end classify


# start log
def add_quietly(email: str) -> bool:
    try:
        with transaction():
            db.session.add(Reader(email=email))
    except IntegrityError as error:
        app.logger.info("The reader was not added: %s", error)
        return False
    return True


# end log


class Kept(logging.Handler):
    """Keeps the lines it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def check() -> None:
    with app.app_context():
        db.create_all()
    client = app.test_client()
    assert client.post("/readers/emma@example.org").status_code == 200

    taken = client.post("/readers/emma@example.org")
    assert taken.status_code == 409
    assert taken.get_json() == {"message": "That address is taken.", "fields": ["email"]}
    assert client.post("/loans/1/Persuasion/28").status_code == 200
    again = client.post("/loans/1/Persuasion/28").get_json()
    assert again == {"message": "Somebody has this copy.", "fields": ["copy_number"]}

    answer = client.post("/loans/1/Emma/0", headers={"X-Request-ID": "0123-abcd"})
    assert answer.status_code == 422
    # start problem
    assert answer.mimetype == "application/problem+json"
    assert answer.get_json() == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "Lend it for a day at least.",
        "code": "invalid.check",
        "fields": ["days"],
        "request_id": "0123-abcd",
    }
    # end problem
    del app.error_handler_spec[None][None][ConflictProblem]
    page = client.post("/readers/emma@example.org", headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (409, "text/html")
    assert "That address is taken." in page.text
    assert counted == {"conflict.unique": 3, "invalid.check": 1}

    kept = Kept()
    app.logger.addHandler(kept)
    app.logger.setLevel(logging.INFO)
    with app.app_context():
        assert import_readers(["jane@example.org", "emma@example.org"]) == ["emma@example.org"]
        assert not add_quietly("jane@example.org")
        db.session.remove()
        db.engine.dispose()
    assert "uq_reader_email" in kept.lines[0] or "columns email" in kept.lines[0]
    assert "jane@example.org" not in kept.lines[0]
    assert issubclass(UnavailableProblem, DBProblem)


if __name__ == "__main__":
    check()
