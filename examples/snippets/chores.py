"""Snippets of the page "Everyday chores".

Backends: sqlite-file postgresql mariadb
"""

from datetime import UTC, datetime
from typing import Any

import click
from flask import Flask, session
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, Column, ForeignKey, String, Table, select
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from flask_dbkit import (
    Base,
    DBKit,
    Listing,
    SortAllowlist,
    get_or_create,
    paginate,
    transaction,
    upsert,
)

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
app.config["SECRET_KEY"] = "not a secret: this is a test"
dbkit.init_app(app)

# start many-to-many
book_tag = Table(
    "book_tag",
    Base.metadata,
    Column("book_id", ForeignKey("book.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id", ondelete="CASCADE"), primary_key=True),
)


class Tag(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)


class Book(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200), unique=True)
    facts: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    removed_at: Mapped[datetime | None]

    tags: Mapped[list[Tag]] = relationship(secondary=book_tag)


def tag_book(book: Book, name: str) -> None:
    tag, _ = get_or_create(Tag, name=name)
    if tag not in book.tags:
        book.tags.append(tag)


# end many-to-many


# start password
class User(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255), deferred=True)
    last_seen: Mapped[datetime | None]

    def set_password(self, password: str) -> None:
        self.password_hash = generate_password_hash(password)

    def has_password(self, password: str) -> bool:
        return check_password_hash(self.password_hash, password)


# end password


# start last-seen
@app.before_request
def remember_visit() -> None:
    if "user" in session:
        with transaction():
            user = db.session.get(User, session["user"])
            if user is not None:
                user.last_seen = datetime.now(UTC)


# end last-seen


# start seed
TAGS = [{"name": "novel"}, {"name": "essay"}, {"name": "poem"}]


@app.cli.command("seed")
def seed() -> None:
    """Add what every installation needs; a second run changes nothing."""
    with transaction():
        upsert(Tag, TAGS, by="name")
        _, made = get_or_create(
            User, name="admin", defaults={"password_hash": generate_password_hash("change me")}
        )
    click.echo("Made the account admin." if made else "Nothing to do.")


# end seed

# start soft-delete
SHOWN = select(Book).where(Book.removed_at.is_(None))
BOOKS = Listing(SHOWN, sort=SortAllowlist({"title": Book.title}, default="title"))


def remove(book: Book) -> None:
    book.removed_at = datetime.now(UTC)


# end soft-delete


# start row-lock
@transaction
def rename(book_id: int, title: str) -> None:
    book = db.session.scalars(select(Book).where(Book.id == book_id).with_for_update()).one()
    book.title = title


# end row-lock


# start shell
@app.shell_context_processor
def names_for_the_shell() -> dict[str, Any]:
    return {"db": db, "Book": Book, "Tag": Tag, "select": select, "transaction": transaction}


# end shell


@app.get("/books")
def books() -> Any:
    return BOOKS.paginate().to_response(lambda book: {"title": book.title})


@app.get("/login/<int:user_id>")
def login(user_id: int) -> str:
    session["user"] = user_id
    return "Welcome."


def check() -> None:
    runner, client = app.test_cli_runner(), app.test_client()
    with app.app_context():
        db.create_all()
    assert runner.invoke(args=["seed"]).output == "Made the account admin.\n"
    assert runner.invoke(args=["seed"]).output == "Nothing to do.\n"
    with app.app_context():
        with transaction():
            user = db.session.scalars(select(User)).one()
            assert user.has_password("change me")
            user.set_password("changed")
            solaris, eden = Book(title="Solaris", facts={"pages": 200}), Book(title="Eden")
            db.session.add_all([solaris, eden])
            tag_book(solaris, "novel")
            tag_book(solaris, "novel")
        with transaction():
            solaris.facts["pages"] = 204
            remove(eden)
        rename(solaris.id, "Solaris, again")
        db.session.expire_all()
        assert user.has_password("changed")
        assert not user.has_password("change me")
        assert solaris.facts == {"pages": 204}
        assert [tag.name for tag in solaris.tags] == ["novel"]
        user_id = user.id
    assert [book["title"] for book in client.get("/books").json["items"]] == ["Solaris, again"]
    with app.test_request_context("/"):
        query = db.session.query(Book).order_by(Book.id)
        assert [book.title for book in paginate(query.statement)] == ["Solaris, again", "Eden"]
    client.get(f"/login/{user_id}")
    client.get("/books")
    with app.app_context():
        user = db.session.get_one(User, user_id)
        assert user.last_seen is not None
        assert {"Book", "transaction"} <= set(app.make_shell_context())
        db.engine.dispose()


if __name__ == "__main__":
    check()
