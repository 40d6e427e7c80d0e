"""Snippets of the page "Write to several databases in one scope"."""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import (
    Base,
    DBKit,
    OptionMismatch,
    PartialCommit,
    TransactionError,
    on_commit,
    transaction,
)

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
app.config["SQLALCHEMY_BINDS"] = {"audit": "sqlite:///audit.db"}
dbkit.init_app(app)


class Order(Base):
    __tablename__ = "customer_order"

    id: Mapped[int] = mapped_column(primary_key=True)


class Event(Base):
    __bind_key__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(100))


# start best-effort
def place_order() -> None:
    try:
        with transaction(multi_bind="best_effort"):
            db.session.add(Order())
            db.session.add(Event(text="an order"))
    except PartialCommit as error:
        app.logger.error("Committed: %s. Failed: %r.", error.committed, error.failed)
        raise


# end best-effort


# start two-phase
def place_order_on_postgresql() -> None:
    with transaction(multi_bind="two_phase"):
        db.session.add(Order())
        db.session.add(Event(text="an order"))


# end two-phase


# start outbox
def write_event(text: str) -> None:
    with transaction():
        db.session.add(Event(text=text))


def place_order_then_tell() -> None:
    with transaction():
        db.session.add(Order())
        on_commit(write_event, "an order", robust=True)


# end outbox


def check() -> None:
    with app.app_context():
        db.create_all()

        # start refused
        try:
            with transaction():
                db.session.add(Order())
                db.session.add(Event(text="an order"))
        except TransactionError as error:
            assert "several databases" in str(error)  # nothing was committed anywhere
        # end refused
        assert db.session.scalars(select(Order)).all() == []
        assert db.session.scalars(select(Event)).all() == []
        db.session.rollback()

        place_order()
        place_order_then_tell()
        assert len(db.session.scalars(select(Order)).all()) == 2
        assert len(db.session.scalars(select(Event)).all()) == 2
        db.session.rollback()

        try:
            place_order_on_postgresql()
        except OptionMismatch:
            pass
        else:
            raise AssertionError("SQLite cannot prepare a transaction")


if __name__ == "__main__":
    check()
