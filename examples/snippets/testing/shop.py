"""The application that the page on testing tests."""

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, func, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, on_commit, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
mails: list[str] = []


class Customer(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)


def welcome(email: str) -> None:
    mails.append(email)


def create_app(url: str) -> Flask:
    app = Flask("shop")
    app.config.update(SQLALCHEMY_DATABASE_URI=url, TESTING=True)
    dbkit.init_app(app)

    @app.get("/customers")
    def count() -> dict[str, int | None]:
        return {"customers": db.session.scalar(select(func.count()).select_from(Customer))}

    @app.post("/customers")
    def register() -> tuple[dict[str, str], int]:
        with transaction():
            db.session.add(Customer(email=request.form["email"]))
            on_commit(welcome, request.form["email"])
        return {"email": request.form["email"]}, 201

    return app
