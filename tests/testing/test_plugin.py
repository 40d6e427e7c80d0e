"""The plugin for pytest, in the tests of a small application of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.support.databases import Database

CONFTEST = """
import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy import ForeignKey

from flask_dbkit import DBKit, declarative_base, on_commit, transaction

pytest_plugins = ["flask_dbkit.pytest_plugin"]

Base = declarative_base()
database = SQLAlchemy(model_class=Base)
mails = []


class Author(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)
    books: Mapped[list["Book"]] = relationship()


class Book(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


def create_app(url):
    app = Flask("small")
    app.config.update(SQLALCHEMY_DATABASE_URI=url, TESTING=True, DBKIT_ERROR_DEBUG=False)
    app.config["DBKIT_N_PLUS_ONE"] = "off"  # assert_queries() looks for them here
    DBKit(db=database).init_app(app)

    @app.get("/")
    def index():
        return [len(author.books) for author in database.session.scalars(select(Author))]

    @app.post("/<name>")
    def add(name):
        with transaction():
            database.session.add(Author(name=name))
            on_commit(mails.append, name)
        return {"names": list(database.session.scalars(select(Author.name)))}

    return app


@pytest.fixture(scope="session")
def app(dbkit_database_url):
    app = create_app(dbkit_database_url)
    with app.app_context():
        database.create_all()
    return app


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def db(app):
    with app.app_context():
        yield database
"""

TESTS = """
import threading

import pytest
from sqlalchemy import func, select

from conftest import Author, Book, mails
from flask_dbkit.testing import NeedsRealTransactions


@pytest.mark.parametrize("turn", [1, 2])
def test_requests_leave_nothing(client, turn):
    assert client.post("/Ann").json == {"names": ["Ann"]}
    assert client.post("/Ben").json == {"names": ["Ann", "Ben"]}
    assert client.post("/Ben").status_code == 409
    assert mails[-2:] == ["Ann", "Ben"]


@pytest.mark.parametrize("turn", [1, 2])
def test_a_session_leaves_nothing(db, turn):
    db.session.add(Author(name="Ann"))
    db.session.commit()
    with db.engine.begin() as connection:
        assert connection.scalar(select(func.count()).select_from(Author)) == 1


@pytest.mark.db(transaction=True)
@pytest.mark.parametrize("turn", [1, 2])
def test_threads_leave_nothing(app, db, turn):
    def work():
        assert app.test_client().post("/Ann").json == {"names": ["Ann"]}

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert db.session.scalar(select(func.count()).select_from(Author)) == 1


def test_a_thread_is_told(app, client):
    statuses = []

    def work():
        try:
            app.test_client().post("/Ann")
        except NeedsRealTransactions as error:
            statuses.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "transaction=True" in statuses[0]


def test_queries_are_counted(client, db, assert_queries):
    db.session.add_all(Author(name=str(number)) for number in range(6))
    db.session.commit()
    with assert_queries(exact=7, max=7) as sent:
        assert client.get("/").json == [0] * 6
    assert sent[0].sql.startswith("SELECT author")
    with assert_queries(exact=1, match="FROM author"):
        client.get("/")
    with pytest.raises(AssertionError, match=r"(?s)7 statements were sent, and at most 2 expected:"
                       r".*1\\. .*conftest\\.py:\\d+: SELECT author.*7\\. "):
        with assert_queries(max=2):
            client.get("/")
    with pytest.raises(AssertionError, match=r"6 times at .*conftest\\.py:\\d+: SELECT book"):
        with assert_queries(no_n_plus_one=True):
            client.get("/")
    with assert_queries(exact=0), pytest.raises(ZeroDivisionError):
        1 / 0


def test_hooks_are_captured(client, captured_on_commit):
    mails.clear()
    with captured_on_commit() as calls:
        client.post("/Ann")
    assert mails == []
    assert [call.args for call in calls] == [("Ann",)]
    calls[0]()
    assert mails == ["Ann"]
    with captured_on_commit(execute=True) as calls:
        client.post("/Ben")
    assert (mails, len(calls)) == (["Ann", "Ben"], 1)


def test_faults_are_answered(client, break_connection, freeze_pool):
    assert client.get("/").json == []
    break_connection()
    assert client.get("/").status_code == 503
    assert client.get("/").json == []
    with break_connection():
        pass
    assert client.get("/").status_code == 200
    with freeze_pool():
        answer = client.get("/")
        assert (answer.status_code, answer.json["code"]) == (503, "unavailable.pool")
    assert client.get("/").status_code == 200
    freeze_pool()
    assert client.get("/").status_code == 503


def test_a_test_without_the_application_is_left_alone():
    assert True


left = []


def test_a_leak_is_told(db):
    left.append(db.engine.connect())
"""


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    root = Path(__file__).resolve().parents[2]
    environment["PYTHONPATH"] = str(root / "src")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_small.py").write_text(TESTS)
    return tmp_path


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_an_application_tests_with_the_plugin(project: Path, database: Database) -> None:
    """Isolation, threads, counted statements, hooks, faults and leaks, in one run each.

    The database of the run is made on the server of a URL, and is gone afterwards.
    """
    asked = "sqlite" if database.name == "sqlite-file" else database.url
    done = _run(project, "--dbkit-database", asked)
    assert "12 passed, 1 warning" in done.stdout, done.stdout + done.stderr
    assert "test_small.py::test_a_leak_is_told" in done.stdout
    assert "A connection was not given back" in done.stdout
    if database.name != "sqlite-file":
        engine = create_engine(database.url)
        with engine.connect() as connection:
            names = connection.scalars(
                text("SELECT schema_name FROM information_schema.schemata")
                if database.name == "mariadb"
                else text("SELECT datname FROM pg_database")
            ).all()
        ours = make_url(database.url).database
        assert [name for name in names if name.startswith(f"{ours}_test")] == []


def test_a_private_server_is_started_for_the_tests(project: Path) -> None:
    """With the programs of a system or of a wheel, whoever runs the tests."""
    done = _run(project, "--dbkit-database", "postgresql", "-k", "requests or session")
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_a_database_that_is_not_for_tests_is_refused(project: Path, tmp_path: Path) -> None:
    """Nobody's data is worth less than a typo in a URL."""
    with (project / "conftest.py").open("a") as conftest:
        conftest.write(
            "\n\n@pytest.fixture(scope='session')\ndef dbkit_database_url():\n"
            "    return 'sqlite:////var/tmp/dbkit_production.db'\n"
        )
    chosen = ("-k", "session")
    refused = _run(project, *chosen)
    assert "no 'test' in its name" in refused.stdout, refused.stdout
    allowed = _run(project, "--dbkit-allow-any-db", *chosen)
    Path("/var/tmp/dbkit_production.db").unlink(missing_ok=True)
    assert "2 passed" in allowed.stdout, allowed.stdout
