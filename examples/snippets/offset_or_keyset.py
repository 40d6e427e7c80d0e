"""Snippets of the explanation "Offset or keyset".

Backends: sqlite-file postgresql mariadb
"""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, Listing, SortAllowlist, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
app.config["SECRET_KEY"] = "not a secret: this is a test"
dbkit.init_app(app)


class Message(Base):
    id: Mapped[int] = mapped_column(primary_key=True)


MESSAGES = Listing(Message, sort=SortAllowlist({"id": Message.id}, default="-id"), per_page=3)


def check() -> None:
    with app.app_context():
        db.create_all()
        with transaction():
            db.session.add_all([Message(id=number) for number in range(1, 8)])

        # start shift
        by_number = MESSAGES.paginate(args={})
        by_cursor = MESSAGES.paginate_keyset(args={})
        assert [message.id for message in by_number] == [7, 6, 5]
        assert [message.id for message in by_cursor] == [7, 6, 5]

        with transaction():
            db.session.add(Message(id=8))  # while the reader looks at the first page

        by_number = MESSAGES.paginate(page=2, args={})
        by_cursor = MESSAGES.paginate_keyset(cursor=by_cursor.next_cursor, args={})
        assert [message.id for message in by_number] == [5, 4, 3]  # 5 again
        assert [message.id for message in by_cursor] == [4, 3, 2]
        # end shift

        with transaction():
            for number in (8, 7):
                db.session.delete(db.session.get_one(Message, number))
        assert [message.id for message in MESSAGES.paginate(page=2, args={})] == [3, 2, 1]
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
