"""Abrupt ends: nothing half persisted, the pool balanced, the next scope clean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import DBAPIError, OperationalError

from flask_dbkit import (
    CommitOutcomeUnknown,
    DBKit,
    TransactionError,
    UnexpectedRollback,
    after_end,
    on_commit,
    on_rollback,
    savepoint,
    session_scope,
    transaction,
)
from tests.support.databases import Database


class Store:
    """An application with one table of numbers."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.db = SQLAlchemy()
        DBKit(app, db=self.db)
        with app.app_context():
            self.engine = self.db.engine
        with self.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE item (id int PRIMARY KEY, name varchar(200))")

    @property
    def session(self) -> Any:
        return self.db.session

    def insert(self, number: int, name: str = "") -> None:
        self.session.execute(
            sa.text("INSERT INTO item (id, name) VALUES (:id, :name)"), {"id": number, "name": name}
        )

    def stored(self) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.text("SELECT id FROM item ORDER BY id")))

    def check(self, expected: list[int]) -> None:
        """Compare what is stored, look at the pool, and let the next scope show that it works."""
        pool: Any = self.engine.pool
        assert pool.checkedout() == 0
        assert self.stored() == expected
        with transaction():
            self.insert(999)
        assert self.stored() == [*expected, 999]
        assert pool.checkedout() == 0

    def kill(self, pid: int) -> None:
        """End the server's side of a connection, from another one."""
        statement = {"postgresql": f"SELECT pg_terminate_backend({pid})"}.get(
            self.engine.dialect.name, f"KILL {pid}"
        )
        other = sa.create_engine(self.engine.url, isolation_level="AUTOCOMMIT")
        with other.connect() as connection:
            connection.exec_driver_sql(statement)
        other.dispose()

    def own_pid(self) -> int:
        name = self.engine.dialect.name
        asked = "pg_backend_pid()" if name == "postgresql" else "CONNECTION_ID()"
        return int(self.session.scalar(sa.text(f"SELECT {asked}")))


@pytest.fixture
def store(make_app: Callable[..., Flask]) -> Iterator[Store]:
    made = Store(make_app())
    with made.app.app_context():
        yield made


# -- processes that die ----------------------------------------------------------------------

WRITER = textwrap.dedent(
    """
    import os, resource, signal, sys, time
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy import text
    from flask_dbkit import DBKit, savepoint, transaction

    app = Flask("writer")
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["WRITER_URL"]
    db = SQLAlchemy()
    DBKit(app, db=db)

    def insert(number, name=""):
        db.session.execute(
            text("INSERT INTO item (id, name) VALUES (:id, :name)"), {"id": number, "name": name}
        )

    with app.app_context():
        with transaction():
            insert(1)
        """
)

MID_SCOPE = textwrap.indent(
    textwrap.dedent(
        """
        try:
            with transaction():
                insert(2)
                with savepoint():
                    insert(3)
                print("inside", flush=True)
                time.sleep(60)
        except KeyboardInterrupt:
            pool = db.engine.pool
            print("interrupted", pool.checkedout(), flush=True)
            with transaction():
                insert(4)
        """
    ),
    "    ",
)


def start(url: str, tmp_path: Path, body: str) -> subprocess.Popen[str]:
    """Run the writer as a process."""
    program = tmp_path / "writer.py"
    program.write_text(WRITER.rstrip() + "\n" + body)
    return subprocess.Popen(
        [sys.executable, str(program)],
        env={**os.environ, "WRITER_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_inside(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    if line != "inside\n":
        _, err = process.communicate(timeout=10)
        raise AssertionError(err)


@pytest.mark.requires("several_processes")
def test_a_writer_that_is_killed_leaves_what_it_had_committed(
    store: Store, database: Database, tmp_path: Path
) -> None:
    """``kill -9`` in the middle: its first scope is there, of the second nothing."""
    process = start(database.url, tmp_path, MID_SCOPE)
    wait_inside(process)
    process.kill()
    process.communicate(timeout=10)
    deadline = time.monotonic() + 10  # a server notices a little later
    while time.monotonic() < deadline:
        try:
            with transaction(lock_timeout=2):
                store.insert(2)
            break
        except OperationalError:
            pass
    store.check([1, 2])


@pytest.mark.requires("several_processes")
def test_ctrl_c_in_a_scope_rolls_back_and_the_process_can_go_on(
    store: Store, database: Database, tmp_path: Path
) -> None:
    """The interrupt passes through; the connection is back and the next scope commits."""
    process = start(database.url, tmp_path, MID_SCOPE)
    wait_inside(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert out == "interrupted 0\n"
    store.check([1, 4])


@pytest.mark.requires("several_connections")
def test_ctrl_c_during_a_statement_rolls_back(store: Store, database: Database) -> None:
    """A real signal in the main thread, while the driver waits."""
    statement = {
        "postgresql": "SELECT pg_sleep(10)",
        "mariadb": "SELECT SLEEP(10)",
    }.get(
        database.name,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000)"
        " SELECT count(*) FROM n",
    )
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    ran: list[object] = []

    def block() -> None:
        with transaction():
            on_commit(ran.append, "committed")
            store.insert(1)
            timer.start()
            store.session.execute(sa.text(statement))
            time.sleep(10)  # SQLite lets the signal through when the statement is over

    with pytest.raises(KeyboardInterrupt):
        block()
    timer.join()
    assert ran == []
    store.check([])


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("swallow", [False, True])
def test_a_full_disk_leaves_nothing_half_done(
    store: Store, database: Database, tmp_path: Path, swallow: bool
) -> None:
    """SQLite may roll back by itself; the block ends with an error all the same."""
    body = textwrap.indent(
        textwrap.dedent(
            f"""
            import contextlib
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead of a signal
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            try:
                with transaction():
                    insert(2)
                    try:
                        for number in range(10, 9000):
                            insert(number, "x" * 200)
                        db.session.flush()
                    except Exception:
                        if not {swallow}:
                            raise
                print("ended normally", flush=True)
            except Exception as error:
                print(type(error).__name__, db.engine.pool.checkedout(), flush=True)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            with transaction():
                insert(3)
            """
        ),
        "    ",
    )
    process = start(database.url, tmp_path, body)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "ended normally" not in out, out
    assert out.strip().endswith(" 0"), (out, err)
    store.check([1, 3])


# -- servers that go away --------------------------------------------------------------------


@pytest.mark.backends("postgresql", "mariadb")
@pytest.mark.parametrize("swallow", [False, True])
def test_a_connection_lost_in_the_block_is_a_rollback(store: Store, swallow: bool) -> None:
    """Before COMMIT was sent the outcome is known: nothing was saved."""
    ran: list[object] = []

    def block() -> None:
        with transaction():
            on_commit(ran.append, "on_commit")
            on_rollback(lambda error: ran.append("on_rollback"))
            after_end(ran.append)
            store.insert(1)
            store.kill(store.own_pid())
            try:
                store.insert(2)
            except DBAPIError:
                if not swallow:
                    raise

    with pytest.raises(UnexpectedRollback if swallow else DBAPIError):
        block()
    assert ran == ["on_rollback", "rolled_back"]
    store.check([])


@pytest.mark.backends("postgresql")
def test_a_connection_lost_in_a_savepoint_is_the_end_of_everything(store: Store) -> None:
    """There is nothing left to go on with, so the outer block cannot end normally."""

    def block() -> None:
        with transaction():
            store.insert(1)
            with pytest.raises(DBAPIError), savepoint():
                store.kill(store.own_pid())
                store.insert(2)
            with pytest.raises(TransactionError):
                store.insert(3)

    with pytest.raises(UnexpectedRollback):
        block()
    store.check([])


@pytest.mark.backends("postgresql", "mariadb")
def test_a_connection_lost_just_before_commit_leaves_the_outcome_unknown(store: Store) -> None:
    """COMMIT was on its way: only the server knows. Here it had not arrived."""
    ran: list[object] = []

    def block() -> None:
        with transaction():
            on_commit(ran.append, "on_commit")
            on_rollback(ran.append)
            after_end(ran.append)
            store.insert(1)
            store.kill(store.own_pid())
            time.sleep(0.05)

    with pytest.raises(CommitOutcomeUnknown) as caught:
        block()
    assert isinstance(caught.value.__cause__, DBAPIError)
    assert ran == ["unknown"]
    store.check([])


@pytest.mark.backends("postgresql")
def test_a_backend_killed_during_commit_leaves_the_outcome_unknown(store: Store) -> None:
    """A deferred trigger keeps COMMIT busy while the backend is terminated."""
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(20); RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION wait()"
        )
    ran: list[object] = []
    threads: list[threading.Timer] = []

    def block() -> None:
        with transaction():
            on_commit(ran.append, "on_commit")
            on_rollback(ran.append)
            after_end(ran.append)
            store.insert(1)
            threads.append(threading.Timer(0.5, store.kill, (store.own_pid(),)))
            threads[0].start()

    begun = time.monotonic()
    with pytest.raises(CommitOutcomeUnknown):
        block()
    assert time.monotonic() - begun >= 0.4
    threads[0].join()
    assert ran == ["unknown"]
    store.check([])


# -- conflicts -------------------------------------------------------------------------------


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize("way", ["savepoint", "begin_nested"])
def test_a_deadlock_in_a_savepoint_cannot_be_swallowed(store: Store, way: str) -> None:
    """The server undoes the whole transaction; the rest of the block must not be committed."""
    with transaction():
        store.insert(1)
        store.insert(2)
    both_hold_one = threading.Barrier(2, timeout=15)
    outcomes: list[BaseException | None] = []

    def update(number: int) -> None:
        store.session.execute(sa.text(f"UPDATE item SET name = 'x' WHERE id = {number}"))

    def work(first: int, second: int) -> None:
        with store.app.app_context():
            try:
                with transaction():
                    store.insert(10 + first)
                    update(first)
                    try:
                        with savepoint() if way == "savepoint" else store.session.begin_nested():
                            both_hold_one.wait()
                            update(second)
                    except DBAPIError:
                        pass
                    store.insert(20 + first)
                outcomes.append(None)
            except BaseException as error:
                outcomes.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    failed = [error for error in outcomes if error is not None]
    assert len(failed) == 1
    assert isinstance(failed[0], TransactionError)
    winner = next(number for number in (1, 2) if 10 + number in store.stored())
    store.check([1, 2, 10 + winner, 20 + winner])


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("contained", [False, True])
def test_a_serialization_failure_at_a_statement_ends_the_scope(
    store: Store, contained: bool
) -> None:
    """Also from inside a savepoint: no retry in there could ever succeed."""
    with transaction():
        store.insert(1, "before")

    def update() -> None:
        store.session.execute(sa.text("UPDATE item SET name = 'mine' WHERE id = 1"))

    def block() -> None:
        with transaction(isolation="REPEATABLE READ"):
            store.session.scalars(sa.text("SELECT id FROM item")).all()
            with store.engine.begin() as other:
                other.exec_driver_sql("UPDATE item SET name = 'theirs'")
            if contained:
                with pytest.raises(DBAPIError), savepoint():
                    update()
            else:
                update()

    with pytest.raises(UnexpectedRollback if contained else DBAPIError):
        block()
    store.check([1])


@pytest.mark.backends("postgresql")
def test_a_serialization_failure_at_commit_is_a_rollback(store: Store) -> None:
    """The error arrives as it is, hooks know, and the session can be used at once."""
    ran: list[object] = []

    def skew(connection: Any, number: int) -> None:
        connection.execute(sa.text("SELECT count(*) FROM item"))
        connection.execute(sa.text(f"INSERT INTO item (id) VALUES ({number})"))

    def block() -> None:
        with transaction(isolation="SERIALIZABLE"):
            on_commit(ran.append, "on_commit")
            on_rollback(ran.append)
            skew(store.session, 1)
            with store.engine.connect().execution_options(isolation_level="SERIALIZABLE") as other:
                with other.begin():
                    skew(other, 2)

    with pytest.raises(OperationalError) as caught:
        block()
    assert (getattr(caught.value.orig, "sqlstate", None) or caught.value.orig.pgcode) == "40001"  # type: ignore[union-attr]
    assert ran == [caught.value]
    store.check([2])


# -- the other driver of PostgreSQL ----------------------------------------------------------

FAULTS: dict[str, Callable[[Store], None]] = {
    "lost in the block": lambda store: test_a_connection_lost_in_the_block_is_a_rollback(
        store, False
    ),
    "lost and swallowed": lambda store: test_a_connection_lost_in_the_block_is_a_rollback(
        store, True
    ),
    "lost in a savepoint": test_a_connection_lost_in_a_savepoint_is_the_end_of_everything,
    "lost before COMMIT": test_a_connection_lost_just_before_commit_leaves_the_outcome_unknown,
    "lost during COMMIT": test_a_backend_killed_during_commit_leaves_the_outcome_unknown,
    "a conflict": lambda store: test_a_serialization_failure_at_a_statement_ends_the_scope(
        store, True
    ),
    "a conflict at COMMIT": test_a_serialization_failure_at_commit_is_a_rollback,
}


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("fault", FAULTS)
def test_psycopg2_tells_of_faults_as_psycopg_does(
    make_app: Callable[..., Flask], database: Database, fault: str
) -> None:
    """Its errors have other classes, and its connections other states."""
    driver = "psycopg" if "psycopg2" in database.url else "psycopg2"
    url = sa.make_url(database.url).set(drivername=f"postgresql+{driver}")
    store = Store(make_app(SQLALCHEMY_DATABASE_URI=url.render_as_string(hide_password=False)))
    with store.app.app_context():
        FAULTS[fault](store)


@pytest.mark.backends("postgresql", "mariadb")
@pytest.mark.parametrize("how", ["alone", "joined", "joined, and written outside"])
def test_the_outcome_of_a_scope_that_could_only_read_is_never_unknown(
    store: Store, how: str
) -> None:
    """A connection that is lost behind its reads takes no work along."""
    ran: list[str] = []

    def block() -> None:
        with session_scope() if how != "alone" else nullcontext():
            if how == "joined, and written outside":
                store.insert(1)
            with transaction(read_only=True):
                after_end(ran.append)
                pid = store.own_pid()
            store.kill(pid)
            time.sleep(0.05)

    if how == "alone":
        block()
        assert ran == ["committed"]
    else:
        written = how != "joined"
        with pytest.raises(CommitOutcomeUnknown if written else DBAPIError):
            block()
        assert ran == ["unknown" if written else "rolled_back"]
    store.check([])
