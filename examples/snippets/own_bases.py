"""A base of one's own, and mapped dataclasses."""

# ruff: noqa: E402 - the page shows it as a reader would write it

from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from flask_dbkit import Base, DBKit, Timestamps, UUIDPrimaryKey


# start dataclass
class Tag(UUIDPrimaryKey, Timestamps, MappedAsDataclass, Base):
    name: Mapped[str]
    colour: Mapped[str] = mapped_column(default="grey")


tag = Tag(name="urgent")  # id, created_at and updated_at are set at the INSERT
# end dataclass

# start own-base
from flask_dbkit.models import BaseMixin


class AuditBase(BaseMixin, DeclarativeBase):
    """A second base: its own metadata, the same conventions."""


audit_db = SQLAlchemy(model_class=AuditBase)


class Entry(AuditBase):
    id: Mapped[int] = mapped_column(primary_key=True)
    details: Mapped[dict[str, Any]]


# end own-base


def check() -> None:
    db = SQLAlchemy(model_class=Base)
    app = Flask(__name__)
    DBKit(db=db).init_app(app)
    with app.app_context():
        db.create_all()
        db.session.add(tag)
        db.session.commit()
        assert tag.id.version == 7
        assert tag.created_at == tag.updated_at
    assert set(Base.metadata.tables) == {"tag"}
    assert set(AuditBase.metadata.tables) == {"entry"}


if __name__ == "__main__":
    check()
