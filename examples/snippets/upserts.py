"""Snippets of the page "Get or create, and upsert".

Backends: sqlite-file postgresql mariadb
"""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, get_or_create, transaction, upsert

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
dbkit.init_app(app)


# start models
class Tag(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    colour: Mapped[str] = mapped_column(String(20), default="grey")


class Price(Base):
    __table_args__ = (UniqueConstraint("product", "currency"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(String(50))
    currency: Mapped[str] = mapped_column(String(3))
    cents: Mapped[int]


# end models


def check() -> None:
    with app.app_context():
        db.create_all()

        # start get-or-create
        with transaction():
            tag, created = get_or_create(Tag, name="urgent", defaults={"colour": "red"})
            assert created
            again, created = get_or_create(Tag, name="urgent")
            assert again is tag
            assert not created
        # end get-or-create

        # start upsert
        rows = [
            {"product": "tea", "currency": "EUR", "cents": 350},
            {"product": "tea", "currency": "USD", "cents": 400},
        ]
        with transaction():
            euro, dollar = upsert(Price, rows, by=("product", "currency"))
        # end upsert
        assert (euro.cents, dollar.cents) == (350, 400)

        # start keep
        with transaction():
            upsert(Price, rows, by=("product", "currency"), update=())  # insert what is missing
        # end keep
        with transaction():
            rows[0]["cents"] = 360
            upsert(Price, rows, by=("product", "currency"), update="cents")
        assert db.session.scalar(select(func.count()).select_from(Price)) == 2
        assert db.session.scalar(select(Price.cents).where(Price.currency == "EUR")) == 360
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
