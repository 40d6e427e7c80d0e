"""A server that stops, in front of an application that goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dbkit import DBKit
from tests.support.postgres import PostgresServer


def test_an_outage_is_a_503_at_once_and_is_over_when_it_is_over(
    postgres_server: Callable[..., PostgresServer],
) -> None:
    """No request waits for a server that refuses, and nothing has to be restarted."""
    server = postgres_server()
    clients: dict[str, Any] = {}
    engines = []
    for driver in ("psycopg", "psycopg2"):
        app = Flask(driver)
        app.config["SQLALCHEMY_DATABASE_URI"] = server.url(driver=driver)
        db = DBKit(app).db
        app.add_url_rule("/", view_func=lambda db=db: str(db.session.scalar(sa.text("SELECT 7"))))
        with app.app_context():
            engines.append(db.engine)
        clients[driver] = app.test_client()
    for client in clients.values():
        assert client.get("/").text == "7"
    server.stop()
    for client in clients.values():
        for _ in range(2):  # with a connection in the pool, and without
            started = time.monotonic()
            answer = client.get("/")
            assert time.monotonic() - started < 5  # generous: a refusal takes milliseconds
            assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
            assert str(server.port) not in answer.text
    server.start()
    for client in clients.values():
        assert client.get("/").text == "7"
    for engine in engines:
        engine.dispose()


def test_too_many_clients_are_unavailable(
    postgres_server: Callable[..., PostgresServer],
) -> None:
    """The drivers have no SQLSTATE for it; the server's text may be in any language."""
    server = postgres_server(
        settings={"max_connections": "4", "superuser_reserved_connections": "0"}
    )
    app = Flask("crowded")
    app.config["SQLALCHEMY_DATABASE_URI"] = server.url()
    db = DBKit(app).db
    app.add_url_rule("/", view_func=lambda: str(db.session.scalar(sa.text("SELECT 7"))))
    crowd = sa.create_engine(server.url(), pool_size=10)
    held: list[sa.Connection] = []
    with pytest.raises(sa.exc.OperationalError):
        held.extend(crowd.connect() for _ in range(10))
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
    for connection in held:
        connection.close()
    crowd.dispose()
    assert app.test_client().get("/").text == "7"
    with app.app_context():
        db.engine.dispose()
