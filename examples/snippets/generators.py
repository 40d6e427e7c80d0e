"""Snippets of the page "Transactions": scopes and generators."""

from collections.abc import Iterator

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, OwnershipError, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


class Order(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    paid: Mapped[bool] = mapped_column(default=False)


# start wrong
def open_orders() -> Iterator[Order]:
    with transaction():
        yield from db.session.scalars(select(Order).where(~Order.paid))


def pay_each() -> None:
    for order in open_orders():
        with transaction():  # OwnershipError: the scope around it is the generator's
            order.paid = True


# end wrong


# start right
def list_of_open_orders() -> list[Order]:
    with transaction():
        return list(db.session.scalars(select(Order).where(~Order.paid)))


def pay_all() -> None:
    with transaction():
        for order in list_of_open_orders():
            order.paid = True


# end right


def create_app() -> Flask:
    app = Flask(__name__)
    dbkit.init_app(app)
    with app.app_context():
        db.create_all()
    return app


if __name__ == "__main__":
    with create_app().app_context():
        with transaction():
            db.session.add_all([Order(), Order()])
        try:
            pay_each()
        except OwnershipError:
            pass
        else:
            raise AssertionError("the block has joined the generator's scope")
        db.session.remove()
        pay_all()
        assert all(db.session.scalars(select(Order.paid)))
