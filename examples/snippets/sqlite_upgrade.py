"""What automatic mode does when somebody else writes between a read and a write."""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, transaction

db = SQLAlchemy(model_class=Base)
app = Flask(__name__)
DBKit(db=db).init_app(app)


class Account(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int] = mapped_column(default=0)


def somebody_else_changes(account_id: int) -> None:
    with app.app_context(), transaction(independent=True):
        db.session.get_one(Account, account_id).balance += 1


def check() -> None:
    with app.app_context():
        db.create_all()
        db.session.add(Account(id=1))
        db.session.add(Account(id=2))
        db.session.commit()

        # start other-row
        account = db.session.get_one(Account, 1)
        somebody_else_changes(2)
        account.balance += 10
        db.session.commit()  # fine: what this session had read still holds
        # end other-row

        # start same-row
        account = db.session.get_one(Account, 1)
        somebody_else_changes(1)
        account.balance += 10
        try:
            db.session.commit()
        except OperationalError as error:  # SQLITE_BUSY_SNAPSHOT, in place of a lost update
            assert "changed by another one" in str(error)
            db.session.rollback()
        # end same-row
        assert db.session.get_one(Account, 1).balance == 11
        assert db.session.get_one(Account, 2).balance == 1


if __name__ == "__main__":
    check()
