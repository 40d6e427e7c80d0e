"""A reading list."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click
from flask import Blueprint, Flask, render_template
from flask.cli import with_appcontext
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, UniqueConstraint, select
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from flask_dbkit import Base, DBKit, Timestamps, Versioned

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
pages = Blueprint("pages", __name__)


class Author(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)


class Book(Timestamps, Versioned, Base):
    __table_args__ = (UniqueConstraint("author_id", "title"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    finished_at: Mapped[datetime | None]

    author: Mapped[Author] = relationship()


@pages.get("/")
def index() -> str:
    newest_first = select(Book).options(joinedload(Book.author)).order_by(Book.created_at.desc())
    return render_template("index.html", books=db.session.scalars(newest_first).all())


@click.command("init-db")
@with_appcontext
def init_db() -> None:
    """Create the tables that are not there yet."""
    db.create_all()
    click.echo("The tables are there.")


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config or {})
    dbkit.init_app(app)
    app.register_blueprint(pages)
    app.cli.add_command(init_db)
    return app
