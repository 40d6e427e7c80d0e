"""Snippets of the page "Use transactions in routes".

Backends: sqlite-file postgresql mariadb
"""

from flask import Flask, abort, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import (
    Base,
    DBKit,
    Rollback,
    UnexpectedRollback,
    on_commit,
    on_rollback,
    require_transaction,
    savepoint,
    transaction,
)

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
dbkit.init_app(app)


class Customer(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)


class Order(Base):
    __tablename__ = "customer_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    item: Mapped[str] = mapped_column(String(100))


sent: list[int] = []
undone: list[str] = []


def send_receipt(order_id: int) -> None:
    sent.append(order_id)


# start route
@app.post("/customers/<int:customer_id>/orders")
def place_order(customer_id: int) -> str:
    with transaction():
        customer = db.session.get(Customer, customer_id) or abort(404)
        order = Order(customer_id=customer.id, item=request.form["item"])
        db.session.add(order)
        db.session.flush()  # gives the order its id
        on_commit(send_receipt, order.id)
    return "Thank you."


# end route


# start service
@transaction
def register(email: str) -> Customer:
    customer = Customer(email=email)
    db.session.add(customer)
    return customer


@require_transaction
def order_samples(customer: Customer) -> None:
    db.session.flush()
    db.session.add(Order(customer_id=customer.id, item="samples"))


@app.post("/customers")
def sign_up() -> str:
    with transaction():
        customer = register(request.form["email"])  # joins: sends no BEGIN and no COMMIT
        order_samples(customer)
    return "Welcome."


# end service


# start savepoints
def register_all(emails: list[str]) -> list[str]:
    refused = []
    with transaction():
        for email in emails:
            try:
                with savepoint():
                    db.session.add(Customer(email=email))
            except IntegrityError:
                refused.append(email)
    return refused


# end savepoints


# start silent
def try_out(email: str) -> int:
    with transaction():
        customer = Customer(email=email)
        db.session.add(customer)
        db.session.flush()
        number = customer.id
        raise Rollback  # leaves the block quietly; nothing is saved
    return number


# end silent


# start set-rollback-only
def preview(email: str) -> bool:
    with transaction() as scope:
        db.session.add(Customer(email=email))
        db.session.flush()
        scope.set_rollback_only()
    return scope.rollback_only


# end set-rollback-only


# start read-only
@app.get("/customers")
def list_customers() -> list[str]:
    with transaction(read_only=True):
        emails = db.session.scalars(select(Customer.email).order_by(Customer.email)).all()
    return list(emails)


# end read-only


# start rollback-hook
def import_file(path: str) -> None:
    with transaction():
        on_rollback(lambda error: undone.append(path))
        raise ValueError("line 3 is not valid")


# end rollback-hook


def count() -> int:
    return len(list_customers())


def check() -> None:
    client = app.test_client()
    with app.app_context():
        db.create_all()
    assert client.post("/customers", data={"email": "ada@example.org"}).text == "Welcome."
    assert client.post("/customers/1/orders", data={"item": "tea"}).text == "Thank you."
    assert sent == [2]
    assert client.post("/customers/9/orders", data={"item": "tea"}).status_code == 404
    assert client.get("/customers").json == ["ada@example.org"]
    with app.app_context():
        assert register_all(["grace@example.org", "ada@example.org"]) == ["ada@example.org"]
        assert count() == 2
        assert try_out("nobody@example.org")
        assert preview("nobody@example.org")
        assert count() == 2

        # start swallowed
        try:
            with transaction():
                db.session.add(Customer(email="new@example.org"))
                try:
                    db.session.add(Customer(email="ada@example.org"))
                    db.session.flush()
                except IntegrityError:
                    pass  # the database has undone the work of the whole transaction
        except UnexpectedRollback as error:
            assert isinstance(error.__cause__, IntegrityError)
        # end swallowed
        assert count() == 2
        try:
            import_file("orders.csv")
        except ValueError:
            assert undone == ["orders.csv"]
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
