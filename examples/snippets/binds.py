"""Snippets of the page "Use several databases"."""

# start models
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


class Order(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]


class PageView(Base):
    __bind_key__ = "metrics"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
    app.config["SQLALCHEMY_BINDS"] = {"metrics": "sqlite:///metrics.db"}
    dbkit.init_app(app)
    return app


# end models


def check() -> None:
    from sqlalchemy import inspect

    with create_app().app_context():
        db.create_all()
        assert inspect(db.engines[None]).get_table_names() == ["order"]
        assert inspect(db.engines["metrics"]).get_table_names() == ["page_view"]
        db.session.add(PageView(path="/"))
        db.session.commit()


if __name__ == "__main__":
    check()
