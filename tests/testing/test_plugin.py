"""The plugin for pytest, in the tests of a small application of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
def dbkit_schema():
    def make(url):
        app = create_app(url)
        with app.app_context():
            database.create_all()
        with open("filled", "a") as file:
            print(url, file=file)

    return make


@pytest.fixture(scope="session")
def app(dbkit_database_url):
    return create_app(dbkit_database_url)


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
    assert left, "tests that empty the tables are the last ones"

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


PARALLEL = """
import os
import time
from pathlib import Path

import pytest

from conftest import Author

WORKER = os.environ["PYTEST_XDIST_WORKER"]


@pytest.mark.db(transaction=True)
@pytest.mark.parametrize("turn", range(4))
def test_together(client, db, turn):
    Path(f"used-{WORKER}").write_text(db.engine.url.render_as_string(False))
    while len(list(Path().glob("used-*"))) < 2:
        time.sleep(0.01)
    assert client.post("/Ann").json == {"names": ["Ann"]}
    Path(f"passed-{WORKER}-{turn}").touch()


@pytest.mark.db(transaction=True)
def test_until_the_end(client):
    client.post("/Ben")
    Path("waiting").touch()
    time.sleep(60)
"""


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    return kept | {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(*arguments),
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _databases(database: Database) -> list[str]:
    """Name the databases that runs have made beside this one."""
    engine = create_engine(database.url)
    with engine.connect() as connection:
        names = connection.scalars(
            text("SELECT schema_name FROM information_schema.schemata")
            if database.name == "mariadb"
            else text("SELECT datname FROM pg_database")
        ).all()
    return [name for name in names if name.startswith(f"{make_url(database.url).database}_test")]


def _wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


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
    (filled,) = (project / "filled").read_text().split()
    if database.name == "sqlite-file":
        assert not Path(str(make_url(filled).database)).parent.exists()
    else:
        assert _databases(database) == []


@pytest.mark.backends("sqlite-file", "postgresql")
def test_processes_of_a_run_have_databases_of_their_own(project: Path, database: Database) -> None:
    """Made once and copied, where databases can be copied; gone however the run ends."""
    (project / "test_small.py").write_text(PARALLEL)
    asked = "sqlite" if database.name == "sqlite-file" else database.url
    killed = subprocess.Popen(
        _command("-n", "2", "--dist", "load", "--dbkit-database", asked),
        cwd=project,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait(
            lambda: (
                killed.poll() is not None
                or ((project / "waiting").exists() and len(list(project.glob("passed-*"))) == 4)
            )
        )
        killed.kill()
    finally:
        killed.kill()
        printed = killed.communicate()[0].decode()
    assert killed.returncode == -signal.SIGKILL, printed
    used = {path.read_text() for path in project.glob("used-*")}
    assert len(used) == 2
    filled = (project / "filled").read_text().split()
    assert len(filled) == 1
    assert filled[0] not in used
    if database.name == "sqlite-file":
        folder = Path(str(make_url(filled[0]).database)).parent
        _wait(lambda: not folder.exists())
    else:
        _wait(lambda: _databases(database) == [])


def test_a_private_server_is_started_for_the_tests(project: Path) -> None:
    """With the programs of a system or a wheel, whoever runs the tests; one for all processes."""
    with (project / "conftest.py").open("a") as conftest:
        conftest.write(
            "\n\ndef pytest_runtest_teardown(item):\n"
            "    url = item.funcargs['app'].config['SQLALCHEMY_DATABASE_URI']\n"
            "    with open('servers', 'a') as file:\n"
            "        print(url.rpartition('/')[0], file=file)\n"
        )
    done = _run(project, "-n", "2", "--dbkit-database", "postgresql", "-k", "requests or session")
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert len(set((project / "servers").read_text().split())) == 1
    assert len((project / "filled").read_text().split()) == 1


def test_a_database_that_is_not_for_tests_is_refused(project: Path) -> None:
    """Nobody's data is worth less than a typo in a URL."""
    folder = tempfile.mkdtemp(prefix="dbkit-production-", dir="/var/tmp")  # no "test" in it
    with (project / "conftest.py").open("a") as conftest:
        conftest.write(
            "\n\n@pytest.fixture(scope='session')\ndef dbkit_database_url(dbkit_schema):\n"
            f"    url = 'sqlite:///{folder}/shop.db'\n"
            "    dbkit_schema(url)\n"
            "    return url\n"
        )
    chosen = ("-k", "session")
    try:
        refused = _run(project, *chosen)
        assert "no 'test' in its name" in refused.stdout, refused.stdout
        allowed = _run(project, "--dbkit-allow-any-db", *chosen)
        assert "2 passed" in allowed.stdout, allowed.stdout
    finally:
        shutil.rmtree(folder)
