"""A model with one table, and an application that has it: for tests of what is around a table."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import DBKit, declarative_base

__all__ = ["Item", "names", "prepare"]

_Base: Any = declarative_base()


class Item(_Base):  # type: ignore[misc]
    """A name that is there once."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(40), unique=True)


def prepare(app: Flask) -> SQLAlchemy:
    """Give an application the kit, and its database the table."""
    db = SQLAlchemy(model_class=_Base)
    DBKit(app, db=db)
    with app.app_context():
        _Base.metadata.create_all(db.engine)
    return db


def names(app: Flask) -> list[str]:
    """Read what is saved, outside every session."""
    with app.app_context(), app.extensions["sqlalchemy"].engine.connect() as connection:
        return sorted(connection.scalars(sa.select(Item.name)))
