"""After a fork, parent and children each work on connections of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, Integer, String, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, deferred
from sqlalchemy.orm.exc import DetachedInstanceError

from flask_dbkit import DBKit
from tests.databases import fork_orders
from tests.support.databases import Database
from tests.support.forks import fork, succeeded


@pytest.fixture
def forked_app(make_app: Callable[..., Flask]) -> tuple[Flask, SQLAlchemy]:
    """An application that has used its database before the fork."""
    return prepare(make_app())


def prepare(app: Flask) -> tuple[Flask, SQLAlchemy]:
    db = SQLAlchemy()
    DBKit(app, db=db)
    with app.app_context():
        db.session.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER)"))
        db.session.execute(text("INSERT INTO item VALUES (1, 0)"))
        db.session.commit()
    return app, db


def ask(db: SQLAlchemy, times: int = 40) -> None:
    """Ask for answers that only this process can get."""
    for n in range(times):
        expected = os.getpid() * 1000 + n
        assert db.session.execute(text(f"SELECT {expected}")).scalar() == expected
        assert db.session.execute(text("SELECT n FROM item WHERE id = 1")).scalar() == 0
        db.session.rollback()


def assert_refused(session: Any) -> None:
    with pytest.raises(OperationalError, match="was in use when this process was forked"):
        session.execute(text("SELECT count(*) FROM item"))
    session.rollback()


@pytest.mark.requires("several_processes")
def test_children_and_parent_all_get_their_own_answers(
    forked_app: tuple[Flask, SQLAlchemy],
) -> None:
    """Nobody speaks on anybody else's connection."""
    app, db = forked_app

    def work() -> None:
        with app.app_context():
            ask(db)

    with app.app_context():
        ask(db, 1)
    children = [fork(work) for _ in range(4)]
    with app.app_context():
        ask(db)
    assert [succeeded(child) for child in children] == [True] * 4


@pytest.mark.backends("postgresql")
def test_psycopg2_children_get_their_own_answers(
    make_app: Callable[..., Flask], database: Database
) -> None:
    """The same with the older driver."""
    url = database.url.replace("+psycopg:", "+psycopg2:")
    test_children_and_parent_all_get_their_own_answers(
        prepare(make_app(SQLALCHEMY_DATABASE_URI=url))
    )


@pytest.mark.requires("several_processes")
def test_a_session_that_is_open_at_the_fork_stays_the_parents(
    forked_app: tuple[Flask, SQLAlchemy],
) -> None:
    """The child's ``db.session`` is a new one; the parent's transaction goes on unharmed.

    On SQLite the child is refused the file that the parent has in use, and told what to do.
    """
    app, db = forked_app
    with app.app_context():
        db.session.execute(text("INSERT INTO item VALUES (2, 2)"))

        def work() -> None:
            if db.engine.dialect.name == "sqlite":
                assert_refused(db.session)
                return
            assert db.session.execute(text("SELECT count(*) FROM item")).scalar() == 1
            db.session.rollback()
            db.session.remove()

        assert succeeded(fork(work))
        assert db.session.execute(text("SELECT count(*) FROM item")).scalar() == 2
        db.session.commit()
        assert db.session.execute(text("SELECT count(*) FROM item")).scalar() == 2


SCRIPT = """
import os, sys
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from flask_dbkit import DBKit

app = Flask("forker", instance_path=sys.argv[2])
app.config["SQLALCHEMY_DATABASE_URI"] = sys.argv[1]
# So little that a SQLite transaction has to write to the file before it commits.
app.config["DBKIT_SQLITE_PRAGMAS"] = {"cache_size": 10}
db = SQLAlchemy()
DBKit(app, db=db)
with app.app_context():
    db.session.execute(text("CREATE TABLE item (n VARCHAR(3000))"))
    db.session.commit()
    db.session.execute(text("INSERT INTO item VALUES ('first')"))
    for n in range(300):
        db.session.execute(text("INSERT INTO item VALUES (:n)"), {"n": "x" * 2000})
    for child in ("work", "nothing"):
        if os.fork() == 0:
            if child == "work":
                try:
                    db.session.execute(text("SELECT count(*) FROM item")).all()
                except OperationalError as refused:
                    assert "was in use when this process was forked" in str(refused)
            sys.exit(0)  # the interpreter tidies up what it inherited
        os.wait()
    db.session.execute(text("INSERT INTO item VALUES ('last')"))
    db.session.commit()
    print(db.session.execute(text("SELECT count(*) FROM item")).scalar())
"""


@pytest.mark.requires("several_processes")
def test_a_child_that_ends_normally_does_not_damage_its_parents_transaction(
    database: Database, tmp_path: Path
) -> None:
    """Closing an inherited SQLite connection, if only on exit, damages the parent's work."""
    done = subprocess.run(
        # From Python 3.12 on a fork beside a thread is warned of: ours has stopped by then.
        [
            *(sys.executable, "-W", "error::DeprecationWarning"),
            *("-c", SCRIPT, database.url, str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout == "302\n"


@pytest.mark.backends("sqlite-file")
def test_a_connection_of_the_parent_refuses_to_work_in_the_child(
    forked_app: tuple[Flask, SQLAlchemy],
) -> None:
    """A session that was passed into the child by hand is told that it is the parent's."""
    app, db = forked_app
    with app.app_context():
        engine = db.engine
        with Session(engine) as session:
            session.execute(text("UPDATE item SET n = 5"))

            def work() -> None:
                with pytest.raises(OperationalError, match="belongs to the parent"):
                    session.execute(text("SELECT 1"))
                with pytest.raises(OperationalError, match="belongs to the parent"):
                    session.commit()
                session.close()
                with Session(engine) as own:  # a new one is no way out: the file itself is in use
                    assert_refused(own)

            assert succeeded(fork(work))
            session.commit()
            assert session.execute(text("SELECT n FROM item")).scalar() == 5


@pytest.mark.backends("sqlite-file")
def test_a_connection_without_a_transaction_refuses_too(
    forked_app: tuple[Flask, SQLAlchemy],
) -> None:
    """Whether it was in a transaction when the process forked makes no difference."""
    app, db = forked_app
    with app.app_context(), db.engine.connect() as connection:

        def work() -> None:
            with pytest.raises(OperationalError, match="belongs to the parent"):
                connection.execute(text("SELECT 1"))

        assert succeeded(fork(work))
        assert connection.execute(text("SELECT 1")).scalar() == 1


@pytest.mark.backends("sqlite-file")
def test_child_and_parent_write_in_turns(
    forked_app: tuple[Flask, SQLAlchemy], database: Database
) -> None:
    """The gate of the child is its own, and the file's lock is shared."""
    app, db = forked_app

    def work() -> None:
        with app.app_context():
            for _ in range(30):
                db.session.execute(text("UPDATE item SET n = n + 1"))
                db.session.commit()

    children = [fork(work) for _ in range(3)]
    work()
    assert [succeeded(child) for child in children] == [True] * 3
    path = database.url.removeprefix("sqlite:///")
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT n FROM item").fetchone() == (120,)
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()


IN_USE = (
    "reading",
    "writing",
    "checked_out",
    "in_a_thread",
    "backed_up",
    "by_the_driver",
    "by_another_engine",
)
HOW, THEN = ("by_fork", "by_multiprocessing", "grandchild"), ("closes", "goes_on", "exits")
ORDERS = [f"idle-{how}-{then}" for how in HOW for then in THEN] + [
    # Every state with two ways of forking, and with two things that the parent does.
    *(f"{state}-{HOW[n % 3]}-{THEN[n % 3]}" for n, state in enumerate(IN_USE)),
    *(f"{state}-{HOW[(n + 1) % 3]}-{THEN[(n + 2) % 3]}" for n, state in enumerate(IN_USE)),
    *("probed-by_fork-closes", "probed-grandchild-exits"),
]


@pytest.mark.parametrize(
    ("journal", "orders"),
    [("WAL", ORDERS), ("DELETE", ORDERS[::4])],  # without a log there is less to lose
    ids=["WAL", "DELETE"],
)
def test_no_order_of_fork_write_close_and_exit_loses_an_acknowledged_row(
    tmp_path: Path, journal: str, orders: list[str]
) -> None:
    """What is acknowledged is stored, whoever wrote it; what could be lost is refused in words."""
    for order in orders:
        (tmp_path / order).mkdir()
        fork_orders.main(tmp_path / order, journal, order)
    for order in orders:
        acknowledged = lines(tmp_path / order / "acknowledged")
        refused = lines(tmp_path / order / "refused")
        stored = {name: read_back(tmp_path / order / f"{name}.db") for name in ("main", "other")}
        assert stored == {name: (acknowledged.count(name), "ok") for name in stored}, order
        assert "other" in acknowledged, order  # the file that nobody used is used as ever
        if order.partition("-")[0] in IN_USE:
            assert all("was in use when this process was forked" in each for each in refused)
            assert len(refused) == (6 if "grandchild" in order else 2), order
        else:
            assert refused == []
            assert len(acknowledged) >= 15, order


SHOP = """
import os
from flask import Flask
from flask_dbkit import DBKit, transaction
from sqlalchemy import text

app = Flask("shop", instance_path=os.environ["SHOP"])
db = DBKit(app).db
with app.app_context():  # imported by the first process, before it forks
    db.session.execute(text("CREATE TABLE item (n INTEGER)"))
    db.session.commit()


@app.post("/")
def add():
    with transaction():
        db.session.execute(text("INSERT INTO item VALUES (1)"))
    return str(os.getpid())
"""


def test_preloaded_workers_lose_nothing_when_one_of_them_is_replaced(tmp_path: Path) -> None:
    """The first process has used the database, and forks once more when a worker was killed."""
    (tmp_path / "shop.py").write_text(SHOP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Handed over open, so that nobody else can take the port.
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "shop:app"]
        # A worker that is told to end before it listens to signals never hears it: gunicorn
        # waits for the grace and kills it.
        command += ["--graceful-timeout", "2", "--log-level", "error"]
        server = subprocess.Popen(
            [*command, "--bind", f"fd://{listener.fileno()}"],
            cwd=tmp_path,
            env={**os.environ, "SHOP": str(tmp_path)},
            pass_fds=[listener.fileno()],
        )
        try:
            for n in range(12):
                with urllib.request.urlopen(address, data=b"", timeout=30) as answer:
                    if n == 5:
                        os.kill(int(answer.read()), signal.SIGKILL)
        finally:
            server.terminate()
            try:
                ended = server.wait(30)
            finally:
                server.kill()
                server.wait()
        assert ended == 0
    assert read_back(tmp_path / "shop.db") == (12, "ok")


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def read_back(path: Path) -> tuple[int, str]:
    with contextlib.closing(sqlite3.connect(path)) as raw:
        stored = raw.execute("SELECT count(*) FROM item").fetchone()[0]
        return stored, raw.execute("PRAGMA integrity_check").fetchone()[0]


@pytest.mark.backends("sqlite-memory")
def test_a_child_goes_on_with_a_copy_of_the_memory(forked_app: tuple[Flask, SQLAlchemy]) -> None:
    """What was committed is there, what was not is gone, and nobody holds a lock."""
    app, db = forked_app
    with app.app_context():
        db.session.execute(text("INSERT INTO item VALUES (2, 2)"))
        foreign = Session(db.engine)

        def work() -> None:
            assert db.session.execute(text("SELECT count(*) FROM item")).scalar() == 1
            db.session.execute(text("INSERT INTO item VALUES (3, 3)"))
            db.session.commit()
            with pytest.raises(OperationalError, match="belongs to the parent"):
                foreign.execute(text("SELECT 1"))
            foreign.rollback()
            assert foreign.execute(text("SELECT count(*) FROM item")).scalar() == 2

        foreign.execute(text("SELECT 1"))
        assert succeeded(fork(work))
        foreign.close()
        db.session.commit()
        assert db.session.execute(text("SELECT count(*) FROM item")).scalar() == 2


@pytest.mark.backends("sqlite-memory")
def test_a_lock_that_a_thread_held_at_the_fork_is_free_in_the_child(
    forked_app: tuple[Flask, SQLAlchemy],
) -> None:
    """The thread is not there to release it."""
    app, db = forked_app
    with app.app_context():
        with db.engine.connect() as connection:
            control = connection.connection.info["flask_dbkit.sqlite"]
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with control._changed:
                held.set()
                done.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(30)
        child = fork(lambda: ask(db, 1))
        assert succeeded(child)
        done.set()
        thread.join()


@pytest.mark.requires("several_processes")
def test_objects_of_the_parents_session_are_detached_in_the_child(
    make_app: Callable[..., Flask],
) -> None:
    """What is loaded can be read; loading more would speak on the parent's connection."""
    app, db = make_app(), SQLAlchemy()

    class Item(db.Model):  # type: ignore[name-defined,misc]
        id = Column(Integer, primary_key=True)
        name = Column(String(20))
        note = deferred(Column(String(20)))

    DBKit(app, db=db)
    with app.app_context():
        db.create_all()
        db.session.add(Item(id=1, name="sea", note="deep"))
        db.session.commit()
        item = db.session.get(Item, 1)
        assert item is not None

        def work() -> None:
            assert item.name == "sea"
            with pytest.raises(DetachedInstanceError):
                item.note  # noqa: B018 - loads
            if db.engine.dialect.name == "sqlite":
                assert_refused(db.session)
                return
            own = db.session.get(Item, 1)
            assert own is not None
            assert own is not item
            assert own.note == "deep"

        assert succeeded(fork(work))
        assert item.note == "deep"
