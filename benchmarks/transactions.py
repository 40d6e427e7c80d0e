"""What a transaction scope costs, beside everything it could be compared with.

    python benchmarks/transactions.py             # four minutes
    python benchmarks/transactions.py --quick     # a few seconds, for a first look

CPU microseconds per transaction, the best of many short rounds. The contenders take turns
round by round, in another order each time, so that neither a busy machine nor whoever came just
before favours any of them. `pip install django` adds
Django's `atomic` to the tables.

"Same application" is the plain session of an application with the kit: same engine, same
listeners, no scope. "Bare engine" has nothing of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import random
import sqlite3
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from flask_dbkit import DBKit, savepoint, transaction

CASES = (
    "empty",
    "one statement",
    "one ORM insert",
    "join, empty",
    "join, ORM insert",
    "savepoint and insert",
)
GOALS_US = {"outermost": 10.0, "joined": 5.0, "driver state": 1.0}

Case = Callable[[], object]


class Base(DeclarativeBase):
    """The benchmark's own."""


class Row(Base):
    """One small table."""

    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))


INSERT = sa.insert(Row.__table__).values(name="x")
CREATE = "CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL)"
TEXT = "INSERT INTO row (name) VALUES ('x')"


def raw_sqlite3(path: str) -> dict[str, Case]:
    """The driver alone."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(CREATE)
    execute = connection.execute

    def around(*statements: str) -> Case:
        def run() -> None:
            execute("BEGIN IMMEDIATE")
            for statement in statements:
                execute(statement)
            execute("COMMIT")

        return run

    return {
        "empty": around(),
        "one statement": around(TEXT),
        "savepoint and insert": around("SAVEPOINT s", TEXT, "RELEASE s"),
    }


def bare_engine(path: str) -> sa.Engine:
    """SQLAlchemy with a BEGIN that SQLite respects, and nothing else."""
    memory = path == ":memory:"
    options: dict[str, Any] = {"poolclass": StaticPool} if memory else {}
    engine = sa.create_engine("sqlite://" if memory else f"sqlite:///{path}", **options)

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    Base.metadata.create_all(engine)
    return engine


def core(engine: sa.Engine) -> dict[str, Case]:
    """``engine.begin()``."""

    def empty() -> None:
        with engine.begin():
            pass

    def statement() -> None:
        with engine.begin() as connection:
            connection.execute(INSERT)

    def in_savepoint() -> None:
        with engine.begin() as connection, connection.begin_nested():
            connection.execute(INSERT)

    return {"empty": empty, "one statement": statement, "savepoint and insert": in_savepoint}


def begin_blocks(session: Session) -> dict[str, Case]:
    """``with session.begin()`` on one session."""

    def empty() -> None:
        with session.begin():
            pass

    def statement() -> None:
        with session.begin():
            session.execute(INSERT)

    def orm() -> None:
        with session.begin():
            session.add(Row(name="x"))

    def in_savepoint() -> None:
        with session.begin(), session.begin_nested():
            session.add(Row(name="x"))

    return {
        "empty": empty,
        "one statement": statement,
        "one ORM insert": orm,
        "join, empty": empty,
        "join, ORM insert": orm,
        "savepoint and insert": in_savepoint,
    }


def commits(session: Session) -> dict[str, Case]:
    """``db.session.add()`` and ``db.session.commit()``."""

    def statement() -> None:
        session.execute(INSERT)
        session.commit()

    def orm() -> None:
        session.add(Row(name="x"))
        session.commit()

    return {"empty": session.commit, "one statement": statement, "one ORM insert": orm}


def scopes(session: Session) -> dict[str, Case]:
    """Ours."""

    def empty() -> None:
        with transaction():
            pass

    def statement() -> None:
        with transaction():
            session.execute(INSERT)

    def orm() -> None:
        with transaction():
            session.add(Row(name="x"))

    def joined() -> None:
        with transaction(), transaction():
            pass

    def nested() -> None:
        with transaction(), transaction():
            session.add(Row(name="x"))

    def in_savepoint() -> None:
        with transaction(), savepoint():
            session.add(Row(name="x"))

    return {
        "empty": empty,
        "one statement": statement,
        "one ORM insert": orm,
        "join, empty": joined,
        "join, ORM insert": nested,
        "savepoint and insert": in_savepoint,
    }


def django(path: str) -> dict[str, Case]:
    """``atomic()`` with a cursor and with a model, if Django can be imported."""
    if importlib.util.find_spec("django") is None:
        return {}
    import django as package
    from django.conf import settings

    alias = "memory" if path == ":memory:" else "file"
    if not settings.configured:
        settings.configure(
            DATABASES={
                "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
                "memory": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
                "file": {"ENGINE": "django.db.backends.sqlite3", "NAME": ""},
            }
        )
        package.setup()
    from django.db import connections, models
    from django.db.transaction import atomic

    connection: Any = connections[alias]
    connection.close()  # of the setting before; the one in memory stays
    connection.settings_dict["NAME"] = path
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute(CREATE)
    meta = type("Meta", (), {"app_label": "bench", "db_table": "row"})
    fields = {"name": models.CharField(max_length=20), "Meta": meta, "__module__": __name__}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model is registered once per database
        model: Any = type("Row", (models.Model,), fields)

    def empty() -> None:
        with atomic(alias):
            connection.ensure_connection()

    def statement() -> None:
        with atomic(alias), connection.cursor() as cursor:
            cursor.execute(TEXT)

    def orm() -> None:
        with atomic(alias):
            model(name="x").save(using=alias, force_insert=True)

    def joined() -> None:
        with atomic(alias), atomic(alias, savepoint=False):
            connection.ensure_connection()

    def nested() -> None:
        with atomic(alias), atomic(alias, savepoint=False):
            model(name="x").save(using=alias, force_insert=True)

    def in_savepoint() -> None:
        with atomic(alias), atomic(alias):
            model(name="x").save(using=alias, force_insert=True)

    return {
        "empty": empty,
        "one statement": statement,
        "one ORM insert": orm,
        "join, empty": joined,
        "join, ORM insert": nested,
        "savepoint and insert": in_savepoint,
    }


def best_of(runs: dict[tuple[str, str], Case], *, rounds: int, count: int) -> dict[Any, float]:
    """Measure every run in turns; return the best round of each in microseconds."""
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        for _ in range(50):
            run()
    gc.collect()
    gc.disable()
    order = random.Random(1)
    turns = list(runs.items())
    for _ in range(rounds):
        order.shuffle(turns)  # whoever comes just before leaves caches warm or cold
        for name, run in turns:
            begin = time.process_time_ns()
            for _ in range(count):
                run()
            best[name] = min(best[name], (time.process_time_ns() - begin) / count / 1000)
        gc.collect()
    gc.enable()
    return best


def measure(path: str, stack: ExitStack, *, rounds: int, count: int) -> dict[Any, float]:
    """Set everybody up on databases of their own and measure them."""

    def own(name: str) -> str:
        return path if path == ":memory:" else f"{path}-{name}"

    app = Flask(__name__)
    mine = own("kit")
    app.config["SQLALCHEMY_DATABASE_URI"] = (
        "sqlite://" if mine == ":memory:" else f"sqlite:///{mine}"
    )
    db = SQLAlchemy(model_class=Base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kit warns of databases in memory
        DBKit(app, db=db)
    stack.enter_context(app.app_context())
    Base.metadata.create_all(db.engine)
    engine = bare_engine(own("bare"))
    stack.callback(engine.dispose)
    stack.callback(db.engine.dispose)
    contenders: dict[str, dict[str, Case]] = {
        "raw `sqlite3`": raw_sqlite3(own("raw")),
        "Core `engine.begin()`, bare engine": core(engine),
        "`Session.begin()`, bare engine": begin_blocks(Session(engine)),
        "`Session.begin()`, same application": begin_blocks(db.session()),
        "`db.session`, add and commit, same application": commits(db.session()),
        "Django `atomic()`": django(own("django")),
        "`transaction()`": scopes(db.session()),
    }
    runs = {(name, case): run for name, cases in contenders.items() for case, run in cases.items()}
    return best_of(runs, rounds=rounds, count=count)


def driver_state(*, rounds: int, count: int) -> dict[str, float]:
    """Measure the question whether the transaction is still there, per reachable driver."""
    from flask_dbkit.databases import database_of

    found: dict[str, float] = {}
    for name, url in (
        ("SQLite", "sqlite://"),
        ("PostgreSQL", "postgresql+psycopg://postgres@127.0.0.1/postgres"),
        ("MariaDB", "mysql+pymysql://root@127.0.0.1/test"),
    ):
        with contextlib.suppress(sa.exc.SQLAlchemyError, ImportError):
            engine = sa.create_engine(url)
            with engine.connect() as connection:
                if name == "SQLite":
                    connection.exec_driver_sql("CREATE TEMPORARY TABLE t (a int)")
                    connection.exec_driver_sql("INSERT INTO t VALUES (1)")
                else:
                    connection.exec_driver_sql("SELECT count(*) FROM information_schema.tables")
                database = database_of(connection).scopes
                wrote = name != "MariaDB"
                raw = connection.connection.dbapi_connection
                run = {("", name): lambda r=raw, d=database, w=wrote: d.loss(r, wrote=w)}
                found[name] = best_of(run, rounds=rounds, count=count)["", name]
            engine.dispose()
    return found


def print_table(best: dict[Any, float]) -> None:
    """Print one Markdown table, with ratios to the driver alone."""
    print(f"| | {' | '.join(CASES)} |")
    print("|---" * (len(CASES) + 1) + "|")
    raw = {case: best.get(("raw `sqlite3`", case)) for case in CASES}
    raw["join, empty"] = raw["empty"]
    raw["one ORM insert"] = raw["join, ORM insert"] = raw["one statement"]
    for name in dict.fromkeys(name for name, _ in best):
        cells = []
        for case in CASES:
            value, base = best.get((name, case)), raw[case]
            cells.append(
                "" if value is None or base is None else f"{value:.1f} ({value / base:.1f}x)"
            )
        print(f"| {name} | {' | '.join(cells)} |")


def print_goals(best: dict[Any, float], states: dict[str, float]) -> None:
    """Print what a scope adds, and whether that is within the goals."""
    ours, same = "`transaction()`", "`Session.begin()`, same application"
    bare = "`Session.begin()`, bare engine"
    rows: list[tuple[str, float, float | None]] = []
    for case in ("empty", "one statement", "one ORM insert"):
        added = best[ours, case] - best[same, case]
        rows.append((f"outermost, {case}", added, GOALS_US["outermost"]))
        rows.append(
            (f"outermost, {case}, over a bare engine", best[ours, case] - best[bare, case], None)
        )
    # Of empty ones: it does the same around a statement, whose own time varies by more than this.
    joined = best[ours, "join, empty"] - best[ours, "empty"]
    rows.append(("joined", joined, GOALS_US["joined"]))
    rows += [(f"driver state, {name}", us, GOALS_US["driver state"]) for name, us in states.items()]
    print("\n| what a scope adds | us | goal |")
    print("|---|---|---|")
    for name, value, goal in rows:
        verdict = (
            "" if goal is None else f"{'met' if value <= goal else 'MISSED'} (at most {goal:g})"
        )
        print(f"| {name} | {value:+.2f} | {verdict} |")


def main() -> None:
    """Measure in memory and in a WAL file, and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    settings, rounds = (1, 8) if parser.parse_args().quick else (4, 25)
    print(
        f"CPU microseconds per transaction, best of {settings * rounds} interleaved rounds."
        f" Python {sys.version.split()[0]}, SQLAlchemy {sa.__version__},"
        f" SQLite {sqlite3.sqlite_version}."
    )
    if importlib.util.find_spec("django") is None:
        print("\nDjango is not installed: `pip install django` adds its `atomic()`.")
    states = driver_state(rounds=rounds, count=2000)
    with tempfile.TemporaryDirectory() as directory:
        for title, path in (("`:memory:`", ":memory:"), ("WAL file", str(Path(directory) / "db"))):
            best: dict[Any, float] = {}
            for setting in range(settings):
                # Set up anew: where in memory something happens to be is worth a microsecond.
                where = path if path == ":memory:" else f"{path}-{setting}"
                with ExitStack() as stack:
                    again = measure(where, stack, rounds=rounds, count=300)
                best = {run: min(us, best.get(run, us)) for run, us in again.items()}
            print(f"\n**{title}**\n")
            print_table(best)
            print_goals(best, states)


if __name__ == "__main__":
    main()
