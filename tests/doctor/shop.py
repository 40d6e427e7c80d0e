"""A small application without a fault, as text, so that one fault can be put into it."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask

from flask_dbkit import DBKit
from flask_dbkit.doctor import Finding

SOURCE = """
import uuid
from datetime import UTC, datetime
from threading import Thread

import sqlalchemy as sa
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, Text, func, select, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from flask_dbkit import DBKit, Listing, SortAllowlist, declarative_base

Base = declarative_base()
db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


class Author(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), index=True)
    born: Mapped[datetime | None]
    books: Mapped[list["Book"]] = relationship(
        back_populates="author", cascade="all, delete-orphan", passive_deletes=True
    )


class Book(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(80), index=True)
    author_id: Mapped[int] = mapped_column(
        ForeignKey("author.id", ondelete="CASCADE"), index=True
    )
    author: Mapped[Author] = relationship(back_populates="books")
    added: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))
    is_new: Mapped[bool] = mapped_column(default=True)
    # columns


BOOKS = Listing(Book, sort=SortAllowlist({"title": Book.title}, default="title"))
TABLES = ("author", "book")
# module


def views(app):
    @app.get("/books")
    def books():
        wanted = request.args.get("q", "")
        rows = db.session.execute(text("SELECT id FROM book WHERE title = :q"), {"q": wanted})
        return [row.id for row in rows]

    @app.get("/count/<int:number>")
    def count(number):
        table = TABLES[number]
        total = db.session.scalar(text(f"SELECT count(*) FROM {table}"))
        return {"total": total, "limit": f"select at most {number}"}

    # views
"""

_made: list[Any] = []
_numbers = itertools.count()


@dataclass(frozen=True)
class Defect:
    """One fault.

    Attributes:
        id: Of the check that has to find it.
        about: What stands in the object or the message of the finding.
        config: Settings besides those of the shop.
        code: What is written at a mark of :data:`SOURCE`, by the mark; or in place of a text.
        environ: Variables of the server's environment.
        after: Called with the application when it is made.
    """

    id: str
    about: str
    config: dict[str, Any] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    after: Any = None


GOOD = {
    "SECRET_KEY": "3f0c2a9d5b7e4c1f8a6d",
    "DBKIT_STATEMENT_TIMEOUT_MS": 15_000,
    "DBKIT_LOCK_TIMEOUT_MS": 5_000,
    "DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS": 60_000,
}


def source_with(code: dict[str, str]) -> str:
    text = SOURCE
    for place, put in code.items():
        assert place in text, place
        if place.startswith("# "):
            line = next(each for each in text.splitlines() if each.strip() == place)
            indent = line[: len(line) - len(line.lstrip())]
            written = "\n".join(indent + each if each else each for each in put.splitlines())
            text = text.replace(line, f"{written}\n{line}")
        else:
            text = text.replace(place, put)
    return text


def close_shops() -> None:
    """Forget the lists and models of the shops that were made: some can never be configured."""
    while _made:
        module = _made.pop()
        del sys.modules[module.__name__]
        vars(module).clear()
        del module
    gc.collect()


def make_shop(folder: Path, defect: Defect | None = None, **config: Any) -> tuple[Flask, DBKit]:
    """Write the shop into a folder, import it, and initialise it."""
    name = f"shop_{next(_numbers)}"
    place = folder / name
    place.mkdir()
    (place / f"{name}.py").write_text(source_with(defect.code if defect else {}))
    spec = importlib.util.spec_from_file_location(name, place / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    app = Flask(name, instance_path=str(place / "instance"), root_path=str(place))
    app.config.update(SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / name}.db")
    app.config.update(GOOD)
    app.config.update(config)
    app.config.update(defect.config if defect else {})
    module.views(app)
    _made.append(module)
    module.dbkit.init_app(app)
    if defect is not None and defect.after is not None:
        defect.after(app)
    return app, module.dbkit


def found_by(findings: list[Finding], defect: Defect) -> list[Finding]:
    return [
        each
        for each in findings
        if each.id == defect.id and defect.about in f"{each.object} {each.message}"
    ]
