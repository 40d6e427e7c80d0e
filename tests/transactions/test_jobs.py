"""Scripts, jobs, commands and streamed bodies: a clean end for work outside of a view."""

# Models that share one test's metadata mean nothing to a type checker.
# mypy: disable-error-code="name-defined,misc,valid-type,attr-defined"
# mypy: warn-unreachable=False
# pyright: reportGeneralTypeIssues=false, reportCallIssue=false

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, Response, current_app, g, request

from flask_dbkit import (
    OwnershipError,
    ReadOnlyViolation,
    Rollback,
    current_transaction,
    in_transaction,
    job,
    on_rollback,
    session_scope,
    stream,
    transaction,
)
from flask_dbkit import application as state
from flask_dbkit.application import application_of
from flask_dbkit.transactions.options import ScopeDefaults
from tests.support.databases import Database
from tests.support.items import Item, names, prepare


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No application of another test is left in this process."""
    gc.collect()
    for app in list(state._applications):
        state._applications.discard(app)


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    made = make_app()
    prepare(made)
    return made


one_database = pytest.mark.backends("sqlite-file")


# -- session_scope ---------------------------------------------------------------------------


@pytest.mark.parametrize("given", [True, False])
def test_a_script_needs_no_context(app: Flask, given: bool) -> None:
    """It names its application, or there is only one in the process."""
    with session_scope(app if given else None) as session:
        assert in_transaction()
        session.add(Item(name="new"))
    assert names(app) == ["new"]
    with pytest.raises(ZeroDivisionError), session_scope(app if given else None) as session:
        session.add(Item(name="lost"))
        raise ZeroDivisionError
    with session_scope(app) as session:
        session.add(Item(name="lost"))
        raise Rollback
    assert names(app) == ["new"]
    with pytest.raises(RuntimeError, match="application context"):
        in_transaction()


def test_a_dry_run_keeps_nothing(app: Flask) -> None:
    """``commit=False`` runs everything, constraints included, and rolls back."""
    seen: list[BaseException] = []
    with session_scope(app, commit=False) as session:
        session.add(Item(name="new"))
        session.flush()
        on_rollback(seen.append)
    assert names(app) == []
    assert isinstance(seen[0], Rollback)


def test_a_dry_run_inside_a_scope_undoes_itself_alone(app: Flask) -> None:
    """The scope around it has not asked to be rolled back."""
    with session_scope(app) as session:
        session.add(Item(name="outer"))
        with session_scope(commit=False) as inner:
            assert inner is session
            inner.add(Item(name="inner"))
    assert names(app) == ["outer"]


@one_database
def test_it_uses_the_current_context(app: Flask) -> None:
    """Named or not, also by its proxy: one session, and an open scope is joined."""
    proxies: list[Any] = [None, app]
    with app.app_context():
        proxies.append(current_app)
        outer = app.extensions["sqlalchemy"].session()
        with transaction():
            for given in proxies:
                with session_scope(given) as session:
                    assert session is outer
                    info = current_transaction()
                    assert info is not None
                    assert info.depth == 2
        with session_scope() as session:
            assert session is outer
            session.add(Item(name="new"))
    assert names(app) == ["new"]


@one_database
def test_the_context_of_another_application_does_not_do(
    app: Flask, make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    """Asked for by name, the application is the one that was named."""
    other = make_app(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'other.db'}")
    prepare(other)
    with other.app_context(), transaction():
        with session_scope(app) as session:
            session.add(Item(name="here"))
        with session_scope() as session:
            session.add(Item(name="there"))
    assert names(app) == ["here"]
    assert names(other) == ["there"]


@one_database
def test_without_any_application_it_says_so(make_app: Callable[..., Flask]) -> None:
    """None, or several: the error tells how many, and what to do."""
    with pytest.raises(RuntimeError, match="no application with a DBKit"), session_scope():
        pass
    apps = [make_app(), make_app()]
    for one in apps:
        prepare(one)
    with (
        pytest.raises(RuntimeError, match=r"2 applications.*session_scope\(app\)"),
        session_scope(),
    ):
        pass

    @job
    def work() -> str:
        return current_app.name

    with pytest.raises(RuntimeError, match="2 applications"):
        work()
    with apps[0].app_context():
        assert work() == apps[0].name


@one_database
def test_applications_that_nothing_refers_to_do_not_count(tmp_path: Path) -> None:
    """An application for each test is made and dropped; its cycles may still await collection."""
    gc.disable()
    try:
        for number in range(3):
            made = Flask(f"made_{number}")
            made.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'a.db'}"
            prepare(made)

            @job
            def work() -> str:
                return current_app.name

            assert work() == f"made_{number}"
            with session_scope():
                assert current_app.name == f"made_{number}"
    finally:
        gc.enable()


@one_database
def test_an_application_without_the_kit_is_refused(make_app: Callable[..., Flask]) -> None:
    """The error names what is missing."""
    with pytest.raises(RuntimeError, match="no DBKit"), session_scope(make_app()):
        pass


# -- job -------------------------------------------------------------------------------------


def test_a_job_has_context_session_and_commit(app: Flask) -> None:
    """Bare or called, it takes arguments and returns a value, in any thread."""

    @job
    def bare(name: str) -> str:
        app.extensions["sqlalchemy"].session.add(Item(name=name))
        return f"saved {name}"

    @job(retries=2)
    def called(name: str, *, suffix: str) -> str:
        return bare.__wrapped__(name + suffix)  # type: ignore[no-any-return,attr-defined,unused-ignore]

    assert bare("one") == "saved one"
    assert called("two", suffix="!") == "saved two!"
    if application_of(app).part(ScopeDefaults).shared_memory:
        return
    thread = threading.Thread(target=bare, args=("three",))
    thread.start()
    thread.join(10)
    assert names(app) == ["one", "three", "two!"]


def test_a_job_that_fails_leaves_the_next_one_clean(app: Flask) -> None:
    """Nothing of it is saved, and nothing of it is left in a session."""

    @job
    def work(name: str, fail: bool) -> None:
        session = app.extensions["sqlalchemy"].session
        assert list(session) == []
        session.add(Item(name=name))
        session.flush()
        if fail:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work("lost", fail=True)
    work("kept", fail=False)
    assert names(app) == ["kept"]


@one_database
def test_a_job_is_replayed(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """``retries`` counts the further attempts; without them there is one."""
    seen: list[int] = []
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def work() -> int:
        info = current_transaction()
        assert info is not None
        seen.append(info.attempt)
        if len(seen) < 3:
            error: Any = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return info.attempt

    assert job(retries=2)(work)() == 3
    assert seen == [1, 2, 3]
    seen.clear()
    with pytest.raises(sqlite3.OperationalError):
        job(work)()
    seen.clear()
    with pytest.raises(sqlite3.OperationalError):
        job(retries=1)(work)()
    assert seen == [1, 2]


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("fails", [True, False])
def test_no_connection_is_idle_in_transaction_after_a_job(app: Flask, fails: bool) -> None:
    """It would hold back VACUUM, and locks, until the next job comes."""

    @job
    def work() -> None:
        app.extensions["sqlalchemy"].session.scalars(sa.select(Item)).all()
        if fails:
            raise ZeroDivisionError

    try:
        work()
    except ZeroDivisionError:
        assert fails
    with app.app_context():
        engine = app.extensions["sqlalchemy"].engine
        assert engine.pool.checkedout() == 0
        with engine.connect() as connection:
            states = connection.exec_driver_sql(
                "SELECT state FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert "idle in transaction" not in list(states.scalars())


@one_database
def test_a_job_called_inside_a_scope_is_refused(app: Flask) -> None:
    """It is a transaction of its own, and SQLite would let it wait for ever."""
    ran: list[int] = []
    with session_scope(app) as session:
        session.add(Item(name="kept"))
        with pytest.raises(OwnershipError):
            job(lambda: ran.append(1))()
    assert ran == []
    assert names(app) == ["kept"]


@one_database
def test_a_job_refuses_what_it_cannot_do() -> None:
    """At the decoration, before anything runs."""
    retries: Any
    for retries in (-1, True, 1.5, "2", None):
        with pytest.raises(ValueError, match="retries"):
            job(retries=retries)

    def generator() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError):
        job(generator)


# -- commands --------------------------------------------------------------------------------

PROGRAM = textwrap.dedent(
    """
    import os, signal, sys, time
    import click
    from flask import Flask, Blueprint
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy import text
    from flask_dbkit import Base, DBKit, transaction

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["PROGRAM_URL"]
    db = SQLAlchemy(model_class=Base)
    DBKit(app, db=db)
    blueprint = Blueprint("more", __name__)

    def work(name, end):
        with transaction():
            db.session.execute(text("INSERT INTO item (id, name) VALUES (1, :n)"), {"n": name})
            print("inside", flush=True)
            if end == "interrupt":
                time.sleep(30)
            if end == "fail":
                raise ValueError("no")
        print("committed", flush=True)

    @app.cli.command("save")
    @click.argument("name")
    @click.argument("end", default="")
    def save(name, end):
        work(name, end)

    @blueprint.cli.command("save")
    @click.argument("name")
    @click.argument("end", default="")
    def nested(name, end):
        work(name, end)

    app.register_blueprint(blueprint)
    """
)


@pytest.fixture
def program(app: Flask, database: Database, tmp_path: Path) -> Callable[..., Any]:
    """Start ``flask save …`` as a process."""
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PROGRAM_URL": database.url, "FLASK_APP": "program.py"}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flask", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.requires("several_processes")
@pytest.mark.parametrize("command", [["save"], ["more", "save"]])
def test_ctrl_c_rolls_a_command_back_and_exits_with_130(
    app: Flask, program: Callable[..., Any], command: list[str]
) -> None:
    """What shells and supervisors expect after SIGINT; click's own answer would be 1."""
    process = program(*command, "new", "interrupt")
    assert process.stdout.readline() == "inside\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "committed" not in out
    assert "rolled back" in err
    assert "Traceback" not in err
    assert names(app) == []


@pytest.mark.backends("sqlite-file")
def test_a_command_commits_or_rolls_back_as_any_block(
    app: Flask, program: Callable[..., Any]
) -> None:
    """An error keeps its own exit code."""
    failed = program("save", "lost", "fail")
    failed.communicate(timeout=20)
    assert failed.returncode == 1
    assert names(app) == []
    saved = program("save", "kept")
    out, _ = saved.communicate(timeout=20)
    assert (saved.returncode, out) == (0, "inside\ncommitted\n")
    assert names(app) == ["kept"]


@one_database
def test_an_interrupt_in_a_command_that_is_tested(app: Flask) -> None:
    """Click's runner sees the same exit code; a command looked up twice is wrapped once."""

    @app.cli.command("stop")
    def stop() -> None:
        raise KeyboardInterrupt

    runner = app.test_cli_runner()
    for _ in range(2):
        assert runner.invoke(args=["stop"]).exit_code == 130
    assert runner.invoke(args=["missing"]).exit_code == 2


# -- stream ----------------------------------------------------------------------------------


def test_a_stream_commits_when_it_is_exhausted(app: Flask) -> None:
    """Also outside of a request, where an application context is enough."""
    session = app.extensions["sqlalchemy"].session

    def rows() -> Iterator[str]:
        for name in ("one", "two"):
            session.add(Item(name=name))
            session.flush()
            yield name

    with app.app_context():
        streamed = stream(rows(), read_only=False)
        assert not in_transaction()
        assert next(streamed) == "one"
        assert list(streamed) == ["two"]
    assert names(app) == ["one", "two"]


@pytest.mark.parametrize("end", ["close", "collected", "error"])
def test_a_stream_that_is_not_exhausted_rolls_back(app: Flask, end: str) -> None:
    """The client went away, or an error ended the generator; it is closed in any case."""
    session = app.extensions["sqlalchemy"].session
    seen: list[str] = []

    def rows() -> Iterator[str]:
        try:
            session.add(Item(name="new"))
            session.flush()
            yield "one"
            if end == "error":
                raise ZeroDivisionError
            yield "two"
        except GeneratorExit:
            seen.append(f"closed in a scope: {in_transaction()}")
            raise

    with app.app_context():
        streamed: Any = stream(rows(), read_only=False)
        assert next(streamed) == "one"
        if end == "error":
            with pytest.raises(ZeroDivisionError):
                next(streamed)
        elif end == "close":
            streamed.close()
        else:
            del streamed
    assert names(app) == []
    assert seen == ([] if end == "error" else ["closed in a scope: True"])


def test_a_client_that_goes_away_rolls_back(app: Flask) -> None:
    """The server closes the body; the connection is back in the pool."""
    db = app.extensions["sqlalchemy"]
    torn_down: list[object] = []

    @app.get("/")
    def view() -> Response:
        g.word = "of g"

        def rows() -> Iterator[str]:
            db.session.add(Item(name=request.args["name"]))
            db.session.flush()
            yield g.word
            yield request.args["name"]

        return Response(stream(rows(), read_only=False))

    @app.teardown_appcontext
    def note(error: object) -> None:
        torn_down.append(error)

    client = app.test_client()
    with client.get("/?name=lost", buffered=False) as left:
        assert next(iter(left.response)) == b"of g"
    with client.get("/?name=kept") as read:
        assert read.get_data(as_text=True) == "of gkept"
    assert names(app) == ["kept"]
    with app.app_context():
        if not application_of(app).part(ScopeDefaults).shared_memory:
            assert db.engine.pool.checkedout() == 0
        assert not db.session.registry.has()


def test_a_stream_is_read_only_unless_it_says_otherwise(app: Flask) -> None:
    """A streamed answer that writes is a mistake nobody would see."""
    db = app.extensions["sqlalchemy"]

    def rows() -> Iterator[str]:
        db.session.add(Item(name="new"))
        db.session.flush()
        yield "not reached"

    with app.app_context(), pytest.raises(ReadOnlyViolation):
        list(stream(rows()))
    assert names(app) == []


@one_database
def test_a_stream_refuses_what_it_cannot_iterate_over(app: Flask) -> None:
    """At the call, not when the status line has been sent already."""

    async def pieces() -> Any:
        yield 1

    wrong: Any
    with app.app_context():
        for wrong in (pieces(), pieces, 7):
            with pytest.raises(TypeError):
                stream(wrong)
        assert list(stream([1, 2])) == [1, 2]  # any iterable will do
        assert list(stream(iter([1, 2]))) == [1, 2]
    with pytest.raises(RuntimeError, match="application context"):
        stream(iter([]))


@one_database
def test_a_stream_that_never_starts_opens_nothing(app: Flask) -> None:
    """A HEAD request, say."""
    ran: list[int] = []

    def rows() -> Iterator[int]:
        ran.append(1)
        yield 1

    with app.app_context():
        streamed: Any = stream(rows())
        streamed.close()
        assert list(streamed) == []
    assert ran == []


@one_database
def test_a_stream_read_inside_a_scope_joins_it(app: Flask) -> None:
    """Read at once, it is a part of the block."""
    db = app.extensions["sqlalchemy"]

    def rows() -> Iterator[str]:
        yield from db.session.scalars(sa.select(Item.name))

    with app.app_context(), transaction():
        db.session.add(Item(name="new"))
        assert list(stream(rows())) == ["new"]
        db.session.add(Item(name="more"))
    assert names(app) == ["more", "new"]


@pytest.mark.parametrize("ends", ["at its end", "early", "with an error"])
def test_a_stream_may_be_read_inside_a_test_client_s_block(app: Flask, ends: str) -> None:
    """The client keeps the request's contexts, and pushes them again, while the body is read."""

    def pieces() -> Iterator[str]:
        yield request.path
        if ends == "with an error":
            raise LookupError
        yield g.word

    def view() -> Response:
        g.word = "end"
        return Response(stream(pieces()))

    app.add_url_rule("/s", "s", view)
    with app.test_client() as outer, app.test_client() as client:
        for read in (outer, client):
            answer = read.get("/s", buffered=False)
            body = iter(answer.response)
            assert next(body) == b"/s"
            if ends == "at its end":
                assert list(body) == [b"end"]
            elif ends == "with an error":
                with pytest.raises(LookupError):
                    next(body)
            answer.close()
        assert request.path == "/s"
