"""What the page on testing shows."""

import threading

import pytest
from shop import Customer, mails, welcome
from sqlalchemy import func, select


# start isolation
def test_a_customer_registers_once(client, db):
    assert client.post("/customers", data={"email": "ann@example.org"}).status_code == 201
    assert client.post("/customers", data={"email": "ann@example.org"}).status_code == 409
    assert db.session.scalars(select(Customer.email)).all() == ["ann@example.org"]


def test_nobody_is_left(client):
    assert client.get("/customers").json == {"customers": 0}


# end isolation


# start threads
@pytest.mark.db(transaction=True)
def test_two_customers_register_at_once(app, db):
    def register(email):
        app.test_client().post("/customers", data={"email": email})

    threads = [threading.Thread(target=register, args=(f"{n}@example.org",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.session.scalar(select(func.count()).select_from(Customer)) == 2


# end threads


# start queries
def test_the_count_is_one_statement(client, assert_queries):
    with assert_queries(max=1, no_n_plus_one=True):
        client.get("/customers")


# end queries


# start hooks
def test_a_customer_is_welcomed_after_the_commit(client, captured_on_commit):
    mails.clear()
    with captured_on_commit() as calls:
        client.post("/customers", data={"email": "ann@example.org"})
    assert [(call.function, call.args) for call in calls] == [(welcome, ("ann@example.org",))]
    assert mails == []  # nothing was sent


# end hooks


# start faults
def test_an_outage_is_answered(client, break_connection, freeze_pool):
    break_connection()
    assert client.get("/customers").status_code == 503
    assert client.get("/customers").status_code == 200  # on a new connection
    with freeze_pool():
        assert client.get("/customers").json["code"] == "unavailable.pool"


# end faults
