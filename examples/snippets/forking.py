"""A forked child uses the engines of its parent: each side has its own connections.

Backends: sqlite-file postgresql
"""

import multiprocessing

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
dbkit.init_app(app)


class Visit(Base):
    id: Mapped[int] = mapped_column(primary_key=True)


# start child
def child() -> None:
    with app.app_context(), transaction():  # a connection of its own
        db.session.add(Visit())


# end child


def report() -> None:
    assert db.session.scalar(select(func.count()).select_from(Visit)) == 4
    # start session
    db.session.commit()  # or rollback(): its connection goes back to the pool
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    # end session
    process.join()
    assert process.exitcode == 0


def check() -> None:
    with app.app_context():
        db.create_all()
        with transaction():
            db.session.add(Visit())
        children = [multiprocessing.get_context("fork").Process(target=child) for _ in range(3)]
        for each in children:
            each.start()
        for each in children:
            each.join()
            assert each.exitcode == 0
        report()
        assert db.session.scalar(select(func.count()).select_from(Visit)) == 5
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
