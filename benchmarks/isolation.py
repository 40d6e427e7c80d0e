"""What the plugin for pytest adds to a test: isolation of its databases.

    python benchmarks/isolation.py [URL ...]

A test sends one request that writes a row in a scope. First the request alone, then in
``isolated(app)``, which is what the plugin puts around a test; then whole runs of pytest with and
without the plugin, whose difference is divided by the tests. The goal is 2 ms a test. Times are
medians; those of the processor do not count what other programs of the machine take.

Then the databases of the processes of a run, which are copies of a first one with 50 tables: the
goal is 300 ms for each, on the clock, for a server does the work. MariaDB has no means to copy.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import DBKit, declarative_base, transaction
from flask_dbkit.testing import isolated
from flask_dbkit.testing.places import drop_databases, make_database, parse_place
from flask_dbkit.testing.runs import Shared

ROUNDS = 300
TESTS = 400
GOAL_MS = 2.0
COPIES = 7
COPY_GOAL_MS = 300.0
TABLES = 50

Base = declarative_base()
db = SQLAlchemy(model_class=Base)

CONFTEST = """
import pytest
from isolation import make_app


@pytest.fixture(scope="session")
def app(dbkit_database_url):
    return make_app(dbkit_database_url)


@pytest.fixture
def client(app):
    return app.test_client()
"""
PLUGIN = 'pytest_plugins = ["flask_dbkit.pytest_plugin"]\n'
PLAIN = """
@pytest.fixture(scope="session")
def dbkit_database_url(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('plain')}/test.db"
"""
TEST = f"""
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_one(client, number):
    assert client.post("/").status_code == 200
"""


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(20))


def make_app(url: str) -> Flask:
    """Make an application with one view, and its table."""
    app = Flask("isolation")
    app.config.update(SQLALCHEMY_DATABASE_URI=url, TESTING=True)
    DBKit(db=db).init_app(app)

    @app.post("/")
    def add() -> str:
        with transaction():
            db.session.add(Note(text="x"))
        return "added"

    with app.app_context():
        db.drop_all()
        db.create_all()
    return app


def times_ms(call: Callable[[], object]) -> tuple[float, float]:
    """Return the medians of wall clock and processor time of a call."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter(), time.process_time()
        call()
        wall.append((time.perf_counter() - begun[0]) * 1000)
        cpu.append((time.process_time() - begun[1]) * 1000)
    return median(wall), median(cpu)


def measure(url: str) -> None:
    """Print what isolation adds on one database."""
    app = make_app(url)
    client = app.test_client()

    def in_isolation() -> None:
        with isolated(app):
            client.post("/")

    client.post("/")
    bare, around = times_ms(lambda: client.post("/")), times_ms(in_isolation)
    added = around[0] - bare[0], around[1] - bare[1]
    name = sa.make_url(url).get_backend_name()
    print(
        f"{name:11} request {bare[0]:6.2f} ms, isolated {around[0]:6.2f} ms:"
        f" {added[0]:+.2f} ms, {added[1]:+.2f} ms of the processor"
        f"  {'ok' if added[1] <= GOAL_MS else 'OVER THE GOAL'}"
    )
    with app.app_context():
        db.drop_all()
        db.engine.dispose()


def fill(url: str) -> None:
    """Make tables with an index and rows."""
    metadata = sa.MetaData()
    tables = [
        sa.Table(
            f"table_{number}",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("text", sa.String(20), index=True),
        )
        for number in range(TABLES)
    ]
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        metadata.create_all(connection)
        for table in tables:
            connection.execute(table.insert(), [{"text": f"row {n}"} for n in range(100)])
    engine.dispose()


def measure_copies(url: str, folder: Path) -> None:
    """Print how long the database of one more process of a run takes."""
    place = parse_place(url)
    name = place.get_backend_name()
    if name in ("mysql", "mariadb"):
        print(f"{name:11} has no copies: each process makes its tables")
        return
    folder.mkdir()
    if name == "sqlite":  # in the folder of the run, as the plugin has it
        place = place.set(database=str(folder / "dbkit.db"))
    shared = Shared(str(folder), "copies")
    took = []
    try:
        make_database(place, shared, "0", fill, lambda _url: None)
        for number in range(1, COPIES + 1):
            begun = time.perf_counter()
            make_database(place, shared, str(number), fill, lambda _url: None)
            took.append((time.perf_counter() - begun) * 1000)
    finally:
        drop_databases(url, shared)
    print(
        f"{name:11} copy of {TABLES} tables {median(took):6.1f} ms, at most {max(took):.1f} ms"
        f"  {'ok' if median(took) <= COPY_GOAL_MS else 'OVER THE GOAL'}"
    )


def run_s(folder: Path, *, with_plugin: bool) -> float:
    """Return the processor time of one run of pytest."""
    shutil.copy(__file__, folder)  # not this folder on the path: one file here is called requests
    (folder / "conftest.py").write_text(CONFTEST + (PLUGIN if with_plugin else PLAIN))
    (folder / "test_it.py").write_text(TEST)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print two lines for each database and one for pytest."""
    with tempfile.TemporaryDirectory() as place:
        for number, url in enumerate(sys.argv[1:] or [f"sqlite:///{place}/test.db"]):
            measure(url)
            measure_copies(url, Path(place, f"copies-{number}"))
        runs: dict[bool, list[float]] = {True: [], False: []}
        for with_plugin in (True, False, True, False):
            folder = Path(tempfile.mkdtemp(dir=place))
            runs[with_plugin].append(run_s(folder, with_plugin=with_plugin))
        added = (min(runs[True]) - min(runs[False])) / TESTS * 1000
        print(f"pytest      {added:+.2f} ms of the processor a test  (goal: {GOAL_MS:.0f} ms)")


if __name__ == "__main__":
    main()
