"""What the page quotes from Flask, SQLAlchemy and the drivers is what they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import DBKit, declarative_base
from tests.docs.pages import DOCS

_SECTION = (
    (DOCS / "how-to/errors.md").read_text(encoding="utf-8").partition("## Messages of others")[2]
)
QUOTED = re.findall(r"^\| `(.+?)` \|", _SECTION, re.MULTILINE)


@pytest.fixture
def situations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], object]]:
    """What to do to be told each of them."""
    monkeypatch.chdir(tmp_path)
    base = declarative_base()
    db = SQLAlchemy(model_class=base)

    class Book(base):  # type: ignore[misc, valid-type]
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(unique=True)

    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
    DBKit(app, db=db)

    def detached() -> object:
        with app.app_context():
            db.create_all()
            book = Book(title="Emma")
            db.session.add(book)
            db.session.commit()
        return book.title

    def rolled_back() -> None:
        with app.app_context():
            db.create_all()
            for _ in range(2):
                db.session.add(Book(title="Emma"))
            try:
                db.session.flush()
            except Exception as error:
                db.session.execute(text("SELECT 1"))
                raise AssertionError("the session may be used on") from error

    def keyless() -> None:
        class Nameless(base):  # type: ignore[misc, valid-type]
            name: Mapped[str]

    def in_app(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with app.app_context():
                return call()

        return run

    def command(*args: str, create_app: Callable[[], Flask] | None = None) -> Callable[[], object]:
        def run() -> None:
            done = CliRunner().invoke(FlaskGroup(create_app=create_app), args)
            raise RuntimeError(done.output)

        return run

    return {
        "Working outside of application context": lambda: db.session.execute(text("SELECT 1")),
        "is not bound to a Session": detached,
        "This Session's transaction has been rolled back": rolled_back,
        "no such table": in_app(lambda: db.session.get(Book, 1)),
        "could not assemble any primary key columns": keyless,
        "should be explicitly declared as text(": in_app(lambda: db.session.execute("SELECT 1")),  # type: ignore[call-overload]
        "Could not locate a Flask application": command("routes"),
        "No such command 'db'": command("db", "upgrade", create_app=lambda: app),
    }


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_message_that_is_explained_is_said(
    situations: dict[str, Callable[[], object]], quoted: str
) -> None:
    """A beginner can search for the words they see."""
    with pytest.raises(Exception, match=re.escape(quoted)):
        situations[quoted]()
