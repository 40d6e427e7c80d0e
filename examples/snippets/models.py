"""Snippets of the page "Define models on Base"."""

import uuid
from decimal import Decimal
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, ForeignKey, Numeric, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


# start models
class Shelf(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(String(50), unique=True)


class BookCopy(Base):  # the table is book_copy
    id: Mapped[int] = mapped_column(primary_key=True)
    barcode: Mapped[uuid.UUID]  # Uuid
    price: Mapped[Decimal]  # Numeric(18, 6)
    notes: Mapped[dict[str, Any]]  # JSON
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))


# end models


# start old-style
class Reader(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


# end old-style


def check() -> None:
    app = Flask(__name__)
    dbkit.init_app(app)
    with app.app_context():
        table: Any = BookCopy.__table__
        shelves: Any = Shelf.__table__
        assert table.name == "book_copy"
        assert isinstance(table.c.barcode.type, Uuid)
        assert isinstance(table.c.price.type, Numeric)
        assert isinstance(table.c.notes.type, JSON)
        assert {key.name for key in table.foreign_key_constraints} == {
            "fk_book_copy_shelf_id_shelf"
        }
        assert {constraint.name for constraint in shelves.constraints} == {
            "pk_shelf",
            "uq_shelf_label",
        }
        db.create_all()
        shelf = Shelf(label="A1")
        copy = BookCopy(barcode=uuid.uuid4(), price=Decimal("9.90"), notes={"signed": True})
        db.session.add_all([shelf, copy, Reader(name="Ada")])
        db.session.commit()
        # start repr
        print(repr(shelf))  # <Shelf 1>
        print(repr(Shelf(label="A2")))  # <Shelf (transient …)>
        # end repr
        assert repr(shelf) == "<Shelf 1>"
        assert copy.notes == {"signed": True}
        assert copy.price == Decimal("9.90")
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
