"""What a migration costs whom: rows lost, halves left behind, deploys that fail, readers that wait.

    python benchmarks/migrations.py [--rounds 20] [--block 6]

Each measurement is made twice: with an application as the guides write it (Flask-Migrate's own
env.py, ``PRAGMA foreign_keys=ON``), and with ``flask dbkit migrate``:

    rows        what is left of three child rows after their parent table was rebuilt on SQLite
    half        whether a revision whose second operation fails leaves its first one behind
    deploys     of 4 processes that upgrade an empty database at once, in so many rounds, how many
                fail, and how often a revision was applied twice
    readers     the longest time a SELECT takes while ALTER TABLE waits for a transaction that
                stays open for so many seconds, and whether the upgrade succeeds in the end
    linter      how many bad and good revisions of the test suite are flagged, and how long it takes

PostgreSQL and MariaDB are those the tests find; without one its lines are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import flask_migrate  # noqa: E402
import sqlalchemy as sa  # noqa: E402
from flask import Flask  # noqa: E402
from flask_sqlalchemy import SQLAlchemy  # noqa: E402

from flask_dbkit import DBKit, declarative_base  # noqa: E402
from flask_dbkit.migrations import Limits, find_folder, upgrade  # noqa: E402
from flask_dbkit.migrations.lint import lint  # noqa: E402
from tests.migrations import test_lint  # noqa: E402
from tests.support.databases import MariaDB, PostgreSQL, SQLiteFile  # noqa: E402

BACKENDS = (SQLiteFile, PostgreSQL, MariaDB)
TABLE = "op.create_table({!r}, sa.Column('id', sa.Integer, primary_key=True))"
REBUILD = (
    "with op.batch_alter_table('team') as batch:\n"
    "    batch.alter_column('name', type_=sa.String(80), existing_type=sa.String(50))"
)


class Project:
    """An application with a migrations folder, as the guides write it or with the kit."""

    def __init__(self, url: str, folder: Path, *, kit: bool) -> None:
        self.kit, self.folder, self.count = kit, folder, 0
        self.app = Flask("shop")
        self.app.config.update(SQLALCHEMY_DATABASE_URI=url, DBKIT_MIGRATIONS_DIR=folder)
        db = SQLAlchemy(model_class=declarative_base())
        if kit:
            DBKit(self.app, db=db)
        else:
            db.init_app(self.app)
            with self.app.app_context():
                if db.engine.dialect.name == "sqlite":

                    @sa.event.listens_for(db.engine, "connect")
                    def foreign_keys(connection: Any, _: Any) -> None:
                        connection.execute("PRAGMA foreign_keys=ON")

        flask_migrate.Migrate(self.app, db, directory=str(folder))
        with self.app.app_context():
            self.engine: sa.Engine = db.engine
            if not folder.exists():
                if kit:
                    self.app.test_cli_runner().invoke(args=["dbkit", "migrate", "init"])
                else:
                    with contextlib.redirect_stdout(io.StringIO()):
                        flask_migrate.init()

    def write(self, body: str) -> None:
        """Write one more revision."""
        before, self.count = self.count, self.count + 1
        indented = body.replace("\n", "\n    ")
        (self.folder / "versions" / f"r{self.count}.py").write_text(
            f"import sqlalchemy as sa\nfrom alembic import op\nrevision = 'r{self.count}'\n"
            f"down_revision = {f'r{before}' if before else None!r}\n"
            f"def upgrade():\n    {indented}\ndef downgrade(): pass\n"
        )

    def upgrade(self) -> None:
        """Upgrade, as ``flask db upgrade`` or ``flask dbkit migrate upgrade`` does."""
        with self.app.app_context():
            if self.kit:
                upgrade(limits=Limits(wait_s=60))
            else:
                flask_migrate.upgrade()

    def tables(self) -> set[str]:
        """Return the names of the tables."""
        return set(sa.inspect(self.engine).get_table_names())


@contextmanager
def project(backend: Any, *, kit: bool) -> Iterator[Project]:
    """Make a project on a fresh database."""
    with tempfile.TemporaryDirectory() as folder:
        database = backend.create(Path(folder))
        made = Project(database.url, Path(folder) / "migrations", kit=kit)
        try:
            yield made
        finally:
            made.engine.dispose()
            database.drop()


def succeeds(call: Callable[[], object]) -> bool:
    """Tell whether a call raises nothing."""
    try:
        call()
    except (Exception, SystemExit):
        return False
    return True


def name(kit: bool) -> str:
    return "flask dbkit migrate" if kit else "Flask-Migrate"


def rows(backend: Any) -> None:
    print("\nrows: three children before, after the parent was rebuilt (SQLite)")
    for action in ("CASCADE", "SET NULL", "NO ACTION"):
        for kit in (False, True):
            with project(backend, kit=kit) as made:
                parent = f"INTEGER REFERENCES team (id) ON DELETE {action}"
                with made.engine.begin() as connection:
                    for statement in (
                        "CREATE TABLE team (id INTEGER PRIMARY KEY, name VARCHAR(50))",
                        "INSERT INTO team VALUES (1, 'red')",
                        f"CREATE TABLE child (id INTEGER PRIMARY KEY, team_id {parent})",
                        "INSERT INTO child VALUES (1, 1), (2, 1), (3, 1)",
                    ):
                        connection.exec_driver_sql(statement)
                made.write(REBUILD)
                good = succeeds(made.upgrade)
                with made.engine.connect() as connection:
                    found = connection.exec_driver_sql("SELECT count(*), count(team_id) FROM child")
                    left, known = found.one()
                ended = "done" if good else "FAILED"
                print(f"  {action:<10} {name(kit):<20} {left} rows, {known} know it, {ended}")


def half(backends: list[Any]) -> None:
    print("\nhalf: is the first operation left behind when the second fails?")
    for backend in backends:
        for kit in (False, True):
            with project(backend, kit=kit) as made:
                made.write(TABLE.format("half") + "\nop.execute('INSERT INTO nowhere VALUES (1)')")
                succeeds(made.upgrade)
                left = "left behind" if "half" in made.tables() else "no trace"
                print(f"  {backend.name:<12} {name(kit):<20} {left}")


def deploy_at_once(made: Project, processes: int) -> list[str]:
    """Upgrade from several processes; return what went wrong in each."""
    made.engine.dispose()
    start, pipes = time.monotonic() + 0.3, []
    for _ in range(processes):
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            time.sleep(max(0.0, start - time.monotonic()))
            try:
                made.upgrade()
                problem = ""
            except BaseException:
                problem = traceback.format_exc().strip().splitlines()[-1]
            os.write(write, json.dumps(problem).encode())
            os._exit(0)
        os.close(write)
        pipes.append(read)
    problems = []
    for read in pipes:
        with os.fdopen(read, "rb") as stream:
            problems.append(json.loads(stream.read()))
        os.wait()
    return problems


def deploys(backends: list[Any], rounds: int) -> None:
    print(f"\ndeploys: 4 upgrades at once, {rounds} rounds, 3 revisions")
    for backend in backends:
        for kit in (False, True):
            failed = wrong = 0
            for _ in range(rounds):
                with project(backend, kit=kit) as made:
                    for number in range(3):
                        made.write(TABLE.format(f"t{number}"))
                    made.write("op.execute('INSERT INTO t0 VALUES (1)')")
                    failed += sum(map(bool, deploy_at_once(made, 4)))
                    with made.engine.connect() as connection:
                        applied = 0
                        with contextlib.suppress(sa.exc.DBAPIError):
                            found = connection.exec_driver_sql("SELECT count(*) FROM t0")
                            applied = int(found.scalar_one())
                    wrong += applied != 1
            print(
                f"  {backend.name:<12} {name(kit):<20} {failed} of {4 * rounds} processes failed,"
                f" {wrong} of {rounds} databases wrong"
            )


def readers(backends: list[Any], block_s: float) -> None:
    print(f"\nreaders: the slowest SELECT while ALTER waits for a transaction of {block_s:g} s")
    for backend in backends:
        for kit in (False, True):
            with project(backend, kit=kit) as made:
                with made.engine.begin() as connection:
                    connection.exec_driver_sql("CREATE TABLE book (id INTEGER PRIMARY KEY)")
                made.write("op.add_column('book', sa.Column('title', sa.String(20)))")
                slowest, good = time_readers(made, block_s)
                ended = "done" if good else "FAILED"
                print(f"  {backend.name:<12} {name(kit):<20} {slowest * 1000:>6.0f} ms, {ended}")


def time_readers(made: Project, block_s: float) -> tuple[float, bool]:
    """Read all the time while an upgrade waits for an open transaction."""
    outcome: list[bool] = []
    times: list[float] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            began = time.monotonic()
            with made.engine.connect() as connection:
                connection.exec_driver_sql("SELECT * FROM book").fetchall()
            times.append(time.monotonic() - began)
            time.sleep(0.005)

    with made.engine.connect() as blocker:
        blocker.exec_driver_sql("SELECT * FROM book").fetchall()
        threads = [
            threading.Thread(target=lambda: outcome.append(succeeds(made.upgrade))),
            threading.Thread(target=read),
        ]
        threads[1].start()
        time.sleep(0.2)
        threads[0].start()
        time.sleep(block_s)
        blocker.rollback()
        threads[0].join()
        stop.set()
        threads[1].join()
    return max(times), outcome[0]


def linter(backend: Any) -> None:
    print("\nlinter: revisions of tests/migrations/test_lint.py")
    for title, cases in (("bad", test_lint.BAD), ("good", test_lint.GOOD)):
        flagged = total = 0
        spent_s = 0.0
        for case in cases:
            for dialect in case.dialects:
                with tempfile.TemporaryDirectory() as folder:
                    hit, seconds = lint_one(case, dialect, Path(folder))
                total, flagged, spent_s = total + 1, flagged + hit, spent_s + seconds
        print(
            f"  {title:<5} {len(cases)} revisions, {total} with each database they are for:"
            f" {flagged} flagged, {spent_s / total * 20:.2f} s per 20"
        )


def lint_one(case: test_lint.Case, dialect: str, folder: Path) -> tuple[bool, float]:
    """Lint one revision of the suite behind its first one."""
    app = Flask("shop")
    path = folder / "migrations"
    app.config.update(SQLALCHEMY_DATABASE_URI=test_lint.URLS[dialect], DBKIT_MIGRATIONS_DIR=path)
    DBKit(app, db=SQLAlchemy(model_class=test_lint.models()))
    app.test_cli_runner().invoke(args=["dbkit", "migrate", "init"])
    made = test_lint.Project(app, app.extensions["sqlalchemy"], path)
    test_lint.write(made, case)
    with app.app_context():
        began = time.process_time()
        findings = lint(find_folder(), since="first")
        spent_s = time.process_time() - began
    hits = [one for one in findings if case.rule in ("", one.rule)]
    return bool(hits), spent_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--block", type=float, default=6.0, help="seconds")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    backends = [made for kind in BACKENDS if (made := kind()).available()]
    print("databases:", ", ".join(backend.name for backend in backends))
    rows(backends[0])
    half(backends)
    deploys(backends, arguments.rounds)
    readers([one for one in backends if "server" in one.capabilities], arguments.block)
    linter(backends[0])
    for backend in backends:
        backend.close()


if __name__ == "__main__":
    main()
