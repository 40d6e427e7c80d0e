"""A shop with users, posts and tags, on any database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, deferred, mapped_column, relationship

from flask_dbkit import DBKit, declarative_base

COUNT = 10


@dataclass
class Shop:
    app: Flask
    db: SQLAlchemy
    User: Any
    Post: Any
    db_name: str


def make_shop(url: str, **config: Any) -> Shop:
    base = declarative_base()

    class User(base):  # type: ignore[misc, valid-type]
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(40))
        bio: Mapped[str] = deferred(mapped_column(sa.String(40), default="bio"))
        posts = relationship("Post", back_populates="user")

    class Post(base):  # type: ignore[misc, valid-type]
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(sa.String(40))
        user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
        user = relationship("User", back_populates="posts")

    app = Flask("dbkit_shop")
    app.config.update(
        SQLALCHEMY_DATABASE_URI=url, DBKIT_HEALTH_PREFIX=None, DBKIT_NOTICED_FILE=None
    )
    app.config.update(config)
    db = SQLAlchemy(model_class=base)
    DBKit(app, db=db)
    with app.app_context():
        base.metadata.create_all(db.engine)
        if db.session.scalar(sa.select(sa.func.count()).select_from(User)) == 0:
            for number in range(1, COUNT + 1):
                db.session.add(User(id=number, name=f"u{number}"))
            db.session.flush()
            for number in range(1, 2 * COUNT + 1):
                db.session.add(
                    Post(id=number, title=f"t{number}", user_id=(number - 1) % COUNT + 1)
                )
            db.session.commit()
        name = db.engine.dialect.name
    return Shop(app, db, User, Post, name)
