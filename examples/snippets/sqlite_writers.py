"""Snippets of the page "Write concurrently on SQLite"."""

from flask import Flask, Response, abort
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
dbkit.init_app(app)


class Account(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int] = mapped_column(default=0)


# start scope
@app.post("/accounts/<int:account_id>/deposit/<int:amount>")
def deposit(account_id: int, amount: int) -> str:
    with transaction():  # BEGIN IMMEDIATE: from here on nobody else writes
        account = db.session.get(Account, account_id) or abort(404)
        account.balance += amount
    return "Done."


# end scope


# start plain
@app.post("/accounts/<int:account_id>/close")
def close(account_id: int) -> str:
    account = db.session.get(Account, account_id) or abort(404)  # BEGIN, for reading
    db.session.delete(account)
    db.session.commit()  # the DELETE takes the write lock, if the row is still the same
    return "Closed."


# end plain


# start busy
@app.errorhandler(OperationalError)
def database_is_busy(error: OperationalError) -> Response:
    name = getattr(error.orig, "sqlite_errorname", "")
    if not name.startswith("SQLITE_BUSY"):
        raise error
    db.session.rollback()
    return Response("Too many writers. Try again.", 503, {"Retry-After": "1"})


# end busy


def check() -> None:
    import sqlite3
    import threading

    with app.app_context():
        db.create_all()
        db.session.add(Account(id=1))
        db.session.add(Account(id=2))
        db.session.commit()
        path = db.engine.url.database

    def many() -> None:
        client = app.test_client()
        for _ in range(20):
            assert client.post("/accounts/1/deposit/1").status_code == 200

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.test_client().post("/accounts/2/close").text == "Closed."
    with app.app_context():
        assert db.session.get_one(Account, 1).balance == 80
        assert db.session.get(Account, 2) is None
        db.session.rollback()

        # A program that does not know of the gate holds the lock for longer than the timeout.
        assert path is not None
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with db.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 50")
            connection.rollback()
    app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = app.test_client().post("/accounts/1/deposit/1")
    assert answer.status_code == 503, answer.text
    other.execute("ROLLBACK")
    other.close()


if __name__ == "__main__":
    check()
