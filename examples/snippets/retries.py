"""Snippets of the page "Replay a transaction after a conflict".

Backends: sqlite-file postgresql mariadb
"""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import (
    Base,
    DBKit,
    OptionMismatch,
    OwnershipError,
    Retry,
    attempts,
    current_transaction,
    run,
    transaction,
)

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
dbkit.init_app(app)


class Account(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int] = mapped_column(default=100)


class Busy(Exception):
    """Raised once, for the sake of the example."""


# start decorator
@transaction(isolation="SERIALIZABLE", retry=5)
def transfer(source_id: int, target_id: int, amount: int) -> None:
    source = db.session.get_one(Account, source_id)
    target = db.session.get_one(Account, target_id)
    source.balance -= amount
    target.balance += amount


# end decorator


# start run
def deposit(account_id: int, amount: int) -> int:
    account = db.session.get_one(Account, account_id)
    account.balance += amount
    return account.balance


def deposit_and_tell(account_id: int, amount: int) -> int:
    return run(deposit, account_id, amount, retry=3)


# end run


# start attempts
def withdraw(account_id: int, amount: int) -> None:
    for attempt in attempts(retry=3):
        with attempt:
            db.session.get_one(Account, account_id).balance -= amount


# end attempts


# start policy
PATIENT = Retry(
    attempts=8,
    base=0.1,  # seconds, doubled after every attempt; a random part of it is waited
    cap=5.0,
    deadline=20.0,
    on=(IntegrityError, Busy, "55P03"),  # replay after these as well
)


@transaction(retry=PATIENT)
def reserve(account_id: int) -> int:
    account = db.session.get_one(Account, account_id)
    account.balance -= 1
    now = current_transaction()
    assert now is not None
    if now.attempt == 1:
        raise Busy
    return now.attempt


# end policy


def check() -> None:
    with app.app_context():
        db.create_all()
        with transaction():
            db.session.add_all([Account(id=1), Account(id=2)])
        transfer(1, 2, 30)
        assert deposit_and_tell(1, 5) == 75
        withdraw(2, 10)
        assert reserve(2) == 2
        assert db.session.get_one(Account, 1).balance == 75
        assert db.session.get_one(Account, 2).balance == 119
        db.session.rollback()

        try:
            with transaction(retry=3):
                pass
        except OptionMismatch:
            pass
        else:
            raise AssertionError("a with block was accepted for replay")

        db.session.add(Account(id=3))
        try:
            run(deposit, 1, 5)
        except OwnershipError:
            db.session.rollback()
        else:
            raise AssertionError("pending work was accepted for replay")
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
