"""Snippets of the page "Store points in time in UTC".

Backends: sqlite-file postgresql mariadb
"""

# ruff: noqa: DTZ001 - the page shows it as a reader would write it

# start model
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, UTCDateTime

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


class Meeting(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    begins_at: Mapped[datetime]  # a UTCDateTime column, by the type map of Base
    ends_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # the same, on any base


# end model


def check() -> None:
    app = Flask(__name__)
    dbkit.init_app(app)
    with app.app_context():
        db.create_all()
        # start use
        berlin = ZoneInfo("Europe/Berlin")
        meeting = Meeting(begins_at=datetime(2026, 7, 1, 9, 30, tzinfo=berlin))
        db.session.add(meeting)
        db.session.commit()

        assert meeting.begins_at == datetime(2026, 7, 1, 7, 30, tzinfo=UTC)
        assert meeting.begins_at.tzinfo is UTC
        assert meeting.begins_at.astimezone(berlin).hour == 9

        week = datetime(2026, 6, 29, tzinfo=berlin)
        in_week = Meeting.begins_at.between(week, week + timedelta(days=7))
        assert db.session.scalars(select(Meeting).where(in_week)).all() == [meeting]
        # end use

        # start naive
        db.session.add(Meeting(begins_at=datetime(2026, 7, 1, 9, 30)))
        try:
            db.session.commit()
        except StatementError as error:
            assert "The UTCDateTime column meeting.begins_at" in str(error)
            db.session.rollback()
        # end naive
        assert len(db.session.scalars(select(Meeting)).all()) == 1
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
