"""How long ``flask dbkit doctor`` takes: the static part alone, and with one database.

    python benchmarks/doctor.py [--tables 50] [--rounds 5]
    python benchmarks/doctor.py --quick    # does it run?

An application is written with so many tables, in as many modules: each has columns of several
types, an index, and a foreign key to the one before; each module has a listing and a view. The
checks are run in this process, all of them, as ``--deploy`` does. The command is run as a program
of its own, too, which has to import Flask and the application first: how long that takes alone is
the first line. SQLite is a file; PostgreSQL and MariaDB are those the tests find, and without one
its lines are left out.

Goals at 50 tables: 2 s for the static part, 5 s with a database.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.databases import MariaDB, PostgreSQL, SQLiteFile, close_servers  # noqa: E402

BACKENDS = (SQLiteFile, PostgreSQL, MariaDB)
STATIC_S, WITH_DATABASE_S = 2.0, 5.0

FACTORY = """
import os
from flask import Flask
from .extensions import dbkit
{imports}

def create_app():
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["SHOP_URL"]
    dbkit.init_app(app)
{registered}
    return app
"""
EXTENSIONS = """
from flask_sqlalchemy import SQLAlchemy
from flask_dbkit import DBKit, declarative_base

Base = declarative_base()
db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
"""
MODULE = '''
"""Things of kind {n}."""

from datetime import datetime

from flask import Blueprint, request
from sqlalchemy import ForeignKey, Index, String, select, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from flask_dbkit import Filter, FilterAllowlist, Listing, SortAllowlist

from .extensions import Base, db

blueprint = Blueprint("things{n}", __name__)


class Thing{n}(Base):
    __table_args__ = (Index(None, "title", "id"), Index(None, "made", "id"))
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(80))
    note: Mapped[str | None] = mapped_column(String(200))
    made: Mapped[datetime]
    count: Mapped[int]
    good: Mapped[bool] = mapped_column(default=True)
{key}

THINGS = Listing(
    Thing{n},
    sort=SortAllowlist({{"title": Thing{n}.title, "made": Thing{n}.made}}, default="title"),
    filter=FilterAllowlist({{"title": Filter(Thing{n}.title, ops="eq icontains")}}),
)


@blueprint.get("/things{n}")
def list_things():
    return THINGS.paginate().to_response()


@blueprint.get("/things{n}/best")
def best():
    wanted = request.args.get("title", "")
    known = text("SELECT id FROM thing{n} WHERE title = :title")
    rows = db.session.execute(known, {{"title": wanted}})
    others = db.session.scalars(select(Thing{n}).where(Thing{n}.title == wanted).limit(5))
    return {{"known": [row.id for row in rows], "others": [one.id for one in others]}}
'''
KEY = """    before_id: Mapped[int] = mapped_column(
        ForeignKey("thing{before}.id", ondelete="CASCADE"), index=True
    )
    before = relationship("Thing{before}")
"""


def write_shop(folder: Path, tables: int) -> None:
    """Write the application."""
    package = folder / "shop"
    package.mkdir()
    names = range(tables)
    imports = "\n".join(f"from . import things{n}" for n in names)
    registered = "\n".join(f"    app.register_blueprint(things{n}.blueprint)" for n in names)
    (package / "__init__.py").write_text(FACTORY.format(imports=imports, registered=registered))
    (package / "extensions.py").write_text(EXTENSIONS)
    for n in names:
        key = KEY.format(before=n - 1) if n else ""
        (package / f"things{n}.py").write_text(MODULE.format(n=n, key=key))


def timed(work: Callable[[], object], rounds: int) -> list[float]:
    """Return the seconds of each round."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def command(folder: Path, *arguments: str) -> Callable[[], object]:
    """Return what runs the command as a program; findings are no failure."""
    run = [sys.executable, "-m", "flask", "--app", "shop", "dbkit", "doctor", *arguments]

    def work() -> None:
        done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr

    return work


def print_line(
    what: str, taken: list[float], found: tuple[int, int] | None = None, goal_s: float | None = None
) -> bool:
    """Print one line; return whether the goal, if there is one, was met in the median."""
    middle = statistics.median(taken)
    met = goal_s is None or middle <= goal_s
    verdict = "" if goal_s is None else f"{goal_s:g} s: {'holds' if met else '**missed**'}"
    counts = " | " if found is None else f"{found[0]} | {found[1]}"
    print(f"| {what} | {counts} | {min(taken):.2f} | {middle:.2f} | {verdict} |")
    return met


def measure(folder: Path, rounds: int, tables: int) -> int:
    """Measure and print; return the exit code."""
    print(f"## flask dbkit doctor, {tables} tables, {rounds} rounds\n")
    print("| what | checks | findings | min s | median s | goal |\n|---|--:|--:|--:|--:|---|")
    met = True
    for kind in BACKENDS:
        backend = kind()
        if not backend.available():
            continue
        database = backend.create(folder)
        os.environ["SHOP_URL"] = database.url
        shop = importlib.import_module("shop")
        extensions = importlib.import_module("shop.extensions")
        doctor = extensions.dbkit.doctor
        with shop.create_app().app_context():
            extensions.db.create_all()
            if kind is SQLiteFile:
                alone = timed(command(folder, "--explain", "DK000"), rounds)
                print_line("a program that looks at nothing", alone)
                found = (
                    len(doctor.checks(deploy=True, db=False)),
                    len(doctor.run(deploy=True, db=False)),
                )
                taken = timed(lambda: doctor.run(deploy=True, db=False), rounds)  # noqa: B023
                met &= print_line("without a database", taken, found, STATIC_S)
                print_line("  as a program", timed(command(folder, "--no-db", "--deploy"), rounds))
            found = len(doctor.checks(deploy=True)), len(doctor.run(deploy=True))
            taken = timed(lambda: doctor.run(deploy=True), rounds)  # noqa: B023
            met &= print_line(f"with {database.name}", taken, found, WITH_DATABASE_S)
            print_line("  as a program", timed(command(folder, "--deploy"), rounds))
            extensions.db.engine.dispose()
        database.drop()
    return 0 if met else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dbkit-doctor-") as made:
        folder = Path(made)
        write_shop(folder, options.tables)
        sys.path.insert(0, str(folder))
        try:
            return measure(folder, 1 if options.quick else options.rounds, options.tables)
        finally:
            close_servers()


if __name__ == "__main__":
    sys.exit(main())
