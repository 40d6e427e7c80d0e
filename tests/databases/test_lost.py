"""Connections that are of no use, and servers that cannot be reached."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dbkit import DBKit, classify, transaction
from tests.support.databases import Database

READS_ONLY = sa.text("SELECT nextval('n')")  # only the server can see that this writes


def silent(peer: socket.socket) -> None:
    """Take the connection, and never say a word."""
    peer.recv(1)  # the client's first packet, or its end


def closing(peer: socket.socket) -> None:
    """Hang up at once."""


def talking_nonsense(peer: socket.socket) -> None:
    """Say something that no server says."""
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4)


def greeting_by_half(peer: socket.socket) -> None:
    """Begin as a MariaDB does, and stop in the middle of a packet that says it is whole."""
    body = b"\x0a5.5.5-10.11\0\x01\x02\x03"
    peer.sendall(len(body).to_bytes(3, "little") + b"\0" + body)


@contextmanager
def server(behaviour: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a port, and treat whoever comes in one way."""
    listening = socket.create_server(("127.0.0.1", 0))
    peers: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            peers.append(peer)
            if behaviour is not silent:
                behaviour(peer)
                peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for peer in peers:
        peer.close()
    thread.join(5)


@pytest.mark.parametrize("behaviour", [silent, closing, talking_nonsense, greeting_by_half])
@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql"])
def test_a_server_that_cannot_be_spoken_to_is_unavailable(
    driver: str, behaviour: Callable[[socket.socket], None]
) -> None:
    """Whatever class the driver has for it, and whatever it can make of the answer."""
    with server(behaviour) as port:
        app = Flask("unreachable")
        app.config["SQLALCHEMY_DATABASE_URI"] = f"{driver}://u:pw@127.0.0.1:{port}/x"
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": {"connect_timeout": 2}}
        db = DBKit(app).db
        app.add_url_rule("/", view_func=lambda: str(db.session.scalar(sa.text("SELECT 1"))))
        answer = app.test_client().get("/")
        assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        with app.app_context(), pytest.raises(sa.exc.DBAPIError) as caught:
            db.session.scalar(sa.text("SELECT 1"))
        problem = classify(caught.value)
        assert problem is not None
        assert problem.code == "unavailable"
        assert caught.value.connection_invalidated


def make_writer(url: str, **config: Any) -> tuple[Flask, Any, list[int]]:
    """Return an application that writes, its database, and a count of its connections."""
    app = Flask("writer")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config.update(config)
    db = DBKit(app).db

    @app.post("/")
    def write() -> tuple[str, int]:
        with transaction():
            db.session.execute(sa.text("INSERT INTO thing VALUES (1)"))
        return "", 201

    @app.post("/reader")
    def read() -> tuple[str, int]:
        with transaction(read_only=True):
            db.session.execute(READS_ONLY)
        return "", 201

    opened: list[int] = []
    with app.app_context():
        with db.engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE thing (n INTEGER)"))
        sa.event.listen(db.engine, "connect", lambda *_: opened.append(1))
    return app, db, opened


def turn_read_only(db: Any, *, how_many: int = 1) -> None:
    """Do to each open connection what a switchover does."""
    raws = [db.engine.raw_connection() for _ in range(how_many)]
    for raw in raws:
        raw.cursor().execute("SET default_transaction_read_only = on")
        raw.commit()
    for raw in raws:
        raw.close()


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_connections_to_a_server_that_turned_read_only_are_given_up(
    database: Database, driver: str
) -> None:
    """One refusal, for a whole pool of them; what this process asked for empties nothing."""
    app, db, opened = make_writer(database.url.replace("psycopg", driver, 1))
    client = app.test_client()
    with app.app_context():
        with db.engine.begin() as connection:
            connection.execute(sa.text("CREATE SEQUENCE n"))
        turn_read_only(db, how_many=3)
        opened.clear()
        answers = [client.post("/") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [503, 201, 201, 201]
        assert answers[0].get_json()["code"] == "readonly"
        assert "Retry-After" in answers[0].headers

        opened.clear()
        assert {client.post("/reader").status_code for _ in range(3)} == {503}
        with db.engine.connect() as connection:
            connection.execute(sa.text("SET TRANSACTION READ ONLY"))
            with pytest.raises(sa.exc.DBAPIError) as caught:
                connection.execute(READS_ONLY)
            assert not caught.value.connection_invalidated
        assert opened == []


@pytest.mark.backends("postgresql")
def test_a_bind_that_is_not_writable_keeps_its_connections(database: Database) -> None:
    """A write there is a mistake of the application's, and no switchover."""
    standby = {"default": {"writable": False}}
    app, db, opened = make_writer(database.url, DBKIT_HEALTH_BINDS=standby)
    with app.app_context():
        turn_read_only(db)
        opened.clear()
        assert {app.test_client().post("/").status_code for _ in range(3)} == {503}
        assert opened == []


@pytest.mark.backends("postgresql")
def test_a_server_that_stays_read_only_is_not_connected_to_again_and_again(
    database: Database,
) -> None:
    """Once a second is enough to notice that it takes writes again."""
    app, db, opened = make_writer(database.url)

    @sa.event.listens_for(db_engine(app, db), "connect")
    def connect(dbapi_connection: Any, record: Any) -> None:
        dbapi_connection.execute("SET default_transaction_read_only = on")
        dbapi_connection.commit()

    turn_read_only_in(app, db)
    statuses = [app.test_client().post("/").status_code for _ in range(10)]
    assert statuses == [503] * 10
    assert len(opened) <= 2


def db_engine(app: Flask, db: Any) -> Any:
    with app.app_context():
        return db.engine


def turn_read_only_in(app: Flask, db: Any) -> None:
    with app.app_context():
        turn_read_only(db)


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize(
    ("number", "text", "code", "given_up"),
    [
        (1047, "WSREP has not yet prepared node for application use", "unavailable", True),
        (1053, "Server shutdown in progress", "unavailable", True),
        (1180, "Got error 5 during COMMIT", "unavailable", False),
        (1290, "The server is running with the --read-only option", "readonly", True),
        (1290, "The server is running with the --secure-file-priv option", "internal", False),
        (1836, "Running in read-only mode", "readonly", True),
        (1114, "The table 'thing' is full", "unavailable", False),
        (1030, 'Got error 28 "No space left on device" from storage engine', "unavailable", False),
        (1030, "Got error 1 from storage engine", "internal", False),
        (3, "Error writing file '/tmp/x' (Errcode: 28)", "unavailable", False),
    ],
)
def test_a_node_that_cannot_serve_says_so_by_its_code(
    database: Database, number: int, text: str, code: str, given_up: bool
) -> None:
    """Another node may be able to; and a full disk is no mistake of the application's."""
    app, db, opened = make_writer(database.url)

    @app.get("/")
    def fail() -> str:
        db.session.execute(
            sa.text("SIGNAL SQLSTATE '08S01' SET MYSQL_ERRNO = :number, MESSAGE_TEXT = :text"),
            {"number": number, "text": text},
        )
        return ""

    answer = app.test_client().get("/")
    assert answer.get_json()["code"] == code
    assert ("Retry-After" in answer.headers) == (answer.status_code == 503)
    with app.app_context():
        db.session.execute(sa.text("SELECT 1"))
        db.session.remove()
    assert len(opened) == given_up


@pytest.mark.requires("several_connections")
def test_a_full_disk_is_unavailable(database: Database) -> None:
    """It has room again some day; the client comes back then."""
    app, db, _ = make_writer(database.url)

    @app.get("/")
    def fill() -> str:
        if database.name.startswith("sqlite"):
            pages = db.session.scalar(sa.text("PRAGMA page_count"))
            db.session.execute(sa.text(f"PRAGMA max_page_count = {pages}"))
            db.session.execute(sa.text("CREATE TABLE more AS SELECT zeroblob(99999) AS b"))
        elif database.name == "postgresql":
            raising = "RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'"
            db.session.execute(sa.text(f"DO $$ BEGIN {raising}; END $$"))
        else:
            db.session.execute(sa.text("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021"))
        return ""

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
    assert "Retry-After" in answer.headers
