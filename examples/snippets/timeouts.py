"""Snippets of the page "Limit how long things may take".

Backends: sqlite-file postgresql mariadb
"""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


class Sale(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column(default=0)


def create_app() -> Flask:
    app = Flask(__name__)
    # start settings
    app.config.update(
        DBKIT_STATEMENT_TIMEOUT_MS=5_000,
        DBKIT_LOCK_TIMEOUT_MS=2_000,
        DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS=60_000,
        DBKIT_SQLITE_BUSY_TIMEOUT_MS=2_000,
    )
    # end settings
    dbkit.init_app(app)
    return app


# start scope
def total() -> int:
    with transaction(read_only=True, statement_timeout=0.5):
        amount = db.session.scalar(select(func.sum(Sale.amount)))
    return amount or 0


def reprice(factor: int) -> None:
    with transaction(lock_timeout=0.2):
        for sale in db.session.scalars(select(Sale).with_for_update()):
            sale.amount *= factor


# end scope

SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(30)",
    "mysql": "SELECT count(*) FROM information_schema.columns a, information_schema.columns b,"
    " information_schema.columns c",
}


def check() -> None:
    with create_app().app_context():
        db.create_all()
        with transaction():
            db.session.add(Sale(amount=7))
        reprice(2)
        assert total() == 14
        try:
            with transaction(statement_timeout=0.2):
                db.session.execute(text(SLOW[db.engine.dialect.name]))
        except DBAPIError as error:
            print(type(error.orig).__name__, error.orig)
        else:
            raise AssertionError("nothing stopped the statement")
        assert total() == 14
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
