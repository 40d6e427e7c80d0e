"""Snippets of the page "Add the kit to an existing application"."""

# start extensions
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import DBKit

db = SQLAlchemy()
dbkit = DBKit(db=db)


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    dbkit.init_app(app)  # in the place of db.init_app(app)
    return app


# end extensions


# start old-model
class Customer(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String(100), nullable=False)


# end old-model


def check() -> None:
    from sqlalchemy import select, text

    from flask_dbkit import transaction

    # start bottom-up
    def correct_name(customer: Customer) -> None:
        with transaction():
            customer.name = customer.name.strip()

    def take_order(customer: Customer) -> None:
        correct_name(customer)
        db.session.commit()  # as before; it is the next one to get a scope

    # end bottom-up
    app = create_app()
    with app.app_context():
        db.create_all()
        with transaction():
            db.session.add(Customer(name="Ada "))
        assert db.session.scalar(select(Customer.name)) == "Ada "
        take_order(db.session.scalars(select(Customer)).one())
        assert db.session.scalar(select(Customer.name)) == "Ada"
        # start violations
        for violation in db.session.execute(text("PRAGMA foreign_key_check")):
            print(violation)
        # end violations
        assert db.session.scalar(text("PRAGMA foreign_keys")) == 1


if __name__ == "__main__":
    check()
