"""What looking at statements costs: counting, N+1, comments, metrics, traces; and what others take.

    python benchmarks/observability.py [postgresql+psycopg://…]

Each row is CPU time of one thread for one statement, and what that is more than an application
without any of it: the best of some rounds, in which all rows take turns, so that a busy machine
slows all of them. ``x`` is that in parts of what Flask-SQLAlchemy's own recording takes. The last
column is a transaction scope with one statement. Statements run on SQLite in memory, scopes on a
file. With a URL: comments and prepared statements on PostgreSQL, and the plans of slow statements.

Flask-SQLAlchemy's recording, queryspy, and OpenTelemetry's instrumentation are rows where they are
installed: ``make benchmarks`` does.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import DBKit, declarative_base, prometheus_collector, transaction
from flask_dbkit.observability.windows import Window, opened

TIMES, ROUNDS = 300, 15
SCOPES = 100
OFF: dict[str, Any] = {
    "DBKIT_STATS": False,
    "DBKIT_SLOW_MS": None,
    "DBKIT_CONNECTION_WARN_S": None,
    "DBKIT_OTEL": False,
}
Around = Callable[[sa.Engine], AbstractContextManager[object]]


def nothing(_engine: sa.Engine) -> AbstractContextManager[object]:
    return nullcontext()


def window(threshold: int | None) -> Around:
    return lambda _engine: opened(Window("request", keep=False, threshold=threshold))


@contextmanager
def spied(_engine: sa.Engine) -> Iterator[None]:
    from queryspy import record  # type: ignore[import-not-found]

    with record():
        yield


@contextmanager
def instrumented(engine: sa.Engine) -> Iterator[None]:
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(engine=engine, skip_dep_check=True)
    with provided(engine):
        yield
    instrumentor.uninstrument()


@contextmanager
def provided(_engine: sa.Engine) -> Iterator[None]:
    """Let there be a provider of traces that keeps nothing."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    yield
    setattr(trace, "_TRACER_PROVIDER", None)


@dataclass
class Row:
    """One way of looking at statements."""

    name: str
    config: dict[str, Any]
    around: Around = nothing
    kit: bool = True
    after: Callable[[Flask], object] = lambda _app: None
    best: list[float] = field(default_factory=lambda: [float("inf")] * 3)
    made: list[tuple[Flask, SQLAlchemy, Any]] = field(default_factory=list)

    def set_up(self, folder: str) -> None:
        """Make its two applications: in memory, and on a file."""
        file = Path(folder, f"{len(list(Path(folder).iterdir()))}.db")
        self.made = [self._make("sqlite://"), self._make(f"sqlite:///{file}")]

    def _make(self, url: str) -> tuple[Flask, SQLAlchemy, Any]:
        base = declarative_base()

        class Item(base):  # type: ignore[misc, valid-type]
            id: Mapped[int] = mapped_column(primary_key=True)

        app = Flask("benchmark")
        app.config.update(SQLALCHEMY_DATABASE_URI=url, **self.config)
        app.add_url_rule("/route/<name>", "route", lambda name: name)
        db = SQLAlchemy(model_class=base)
        if self.kit:
            DBKit(app, db=db)
        else:
            db.init_app(app)
        with app.app_context():
            db.create_all()
            db.session.add(Item(id=1))
            db.session.commit()
        self.after(app)
        return app, db, Item

    def run(self) -> None:
        """Take one turn."""
        (memory, db, model), (on_file, other, _) = self.made
        text, select = sa.text("SELECT 1"), sa.select(model).where(model.id == 1)
        with memory.app_context(), self.around(db.engine):
            self._note(0, TIMES, lambda: db.session.execute(text).all())
            self._note(1, TIMES, lambda: db.session.scalars(select).all())
        if not self.kit:
            return

        def scope() -> None:
            with transaction():
                other.session.execute(text).all()

        with on_file.app_context(), self.around(other.engine):
            self._note(2, SCOPES, scope)

    def _note(self, column: int, times: int, call: Callable[[], object]) -> None:
        call()
        begun = time.thread_time()
        for _ in range(times):
            call()
        took = (time.thread_time() - begun) / times * 1e6
        self.best[column] = min(self.best[column], took)


def baseline() -> list[Row]:
    return [
        Row("off", OFF),
        Row("Flask-SQLAlchemy's recording", {**OFF, "SQLALCHEMY_RECORD_QUERIES": True}),
    ]


def counting() -> list[Row]:
    """Return the ways to count, measure and trace."""
    on = {"DBKIT_OTEL": False}
    found = [
        *baseline(),
        Row("bare Flask-SQLAlchemy", {}, kit=False),
        Row("on, outside a window", on),
        Row("statistics", on, window(None)),
        Row("comments", {**OFF, "DBKIT_SQL_COMMENTS": "route"}, requested),
    ]
    if find_spec("prometheus_client"):
        found.append(Row("Prometheus", OFF, after=prometheus_collector))
    if find_spec("opentelemetry.instrumentation") and find_spec("opentelemetry.sdk"):
        found.append(Row("OpenTelemetry, ours", {**OFF, "DBKIT_OTEL": True}, provided))
        found.append(Row("OpenTelemetry's instrumentation", OFF, instrumented))
    return found


def finding() -> list[Row]:
    """Return the ways to find N+1: from the first on the process listens to the ORM."""
    found = [*baseline(), Row("statistics and N+1", {"DBKIT_OTEL": False}, window(5))]
    if find_spec("queryspy"):
        found.append(Row("queryspy", OFF, spied))
    return found


@contextmanager
def requested(_engine: sa.Engine) -> Iterator[None]:
    """Be in a request, where there is a route."""
    with current_app.test_request_context("/route/x"):
        yield


def main() -> None:
    """Print a row for each way of looking at statements."""
    logging.disable()
    for ways in (counting(), finding()):
        measure(ways)
    if len(sys.argv) > 1:
        measure_server(sys.argv[1])


def measure(ways: list[Row]) -> None:
    """Print a table of rows that take turns."""
    with tempfile.TemporaryDirectory() as folder:
        for row in ways:
            row.set_up(folder)
        for _ in range(ROUNDS):
            for row in ways:
                row.run()
    off, recording = (row.best for row in ways[:2])
    unit = [there - without for there, without in zip(recording, off, strict=True)]
    head = f"{'µs':>8} {'more':>7} {'x':>6}"
    print(f"{'':32} {'Core':^23} {'ORM':^23} {'scope':^23}")
    print(f"{'':32} {head} {head} {head}")
    for row in ways:
        cells = [
            f"{best:8.1f} {best - without:7.1f} {(best - without) / one:6.2f}"
            for best, without, one in zip(row.best, off, unit, strict=True)
            if best != float("inf")
        ]
        print(f"{row.name:32}", *cells)
    print()


def measure_server(url: str) -> None:
    """Print what comments and plans cost on PostgreSQL, over the time of the statements."""
    tables = ", ".join(f"(VALUES (1), (2)) AS t{number}(a)" for number in range(4))
    joined = "t0.a = t1.a AND t1.a = t2.a AND t2.a = t3.a"
    join = sa.text(f"SELECT count(*) FROM {tables} WHERE {joined}")
    kept = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%t3(a)%%'"
    best = {None: float("inf"), "route": float("inf")}
    prepared: dict[str | None, int] = {}
    made = {each: connected(url, {"DBKIT_SQL_COMMENTS": each}) for each in best}
    for _ in range(2 * ROUNDS):
        for comments, (app, db) in made.items():
            with app.test_request_context("/route/x"), db.engine.connect() as connection:
                for _ in range(10):
                    connection.execute(join).all()
                begun = time.perf_counter()
                for _ in range(60):
                    connection.execute(join).all()
                took = (time.perf_counter() - begun) / 60 * 1e6
                best[comments] = min(best[comments], took)
                prepared[comments] = connection.exec_driver_sql(kept).scalar() or 0
    for comments, took in best.items():
        more = (took / best[None] - 1) * 100
        print(
            f"{'comments' if comments else 'none':10} {took:8.1f} µs, {more:+5.1f} %,"
            f" {prepared[comments]} prepared statement kept"
        )
    took_s: dict[str, list[float]] = {"off": [], "select": []}
    slow = {
        each: connected(url, {"DBKIT_SLOW_MS": 5, "DBKIT_SLOW_EXPLAIN": each}) for each in took_s
    }
    for number in range(3):
        for explain, (app, db) in slow.items():
            with app.app_context(), db.engine.connect() as connection:
                begun = time.perf_counter()
                for each in range(100):
                    name = f"n{number}_{each}"
                    connection.exec_driver_sql(f"SELECT pg_sleep(0.01) AS {name}").all()
                took_s[explain].append(time.perf_counter() - begun)
    for explain, seconds in took_s.items():
        more = (min(seconds) / min(took_s["off"]) - 1) * 100
        print(
            f"100 slow statements, plans {explain:8} {min(seconds) * 1000:8.1f} ms, {more:+5.1f} %"
        )


def connected(url: str, config: dict[str, Any]) -> tuple[Flask, SQLAlchemy]:
    """Return an application on a server, which makes no table."""
    app = Flask("benchmark")
    app.config.update({"SQLALCHEMY_DATABASE_URI": url, **OFF, **config})
    app.add_url_rule("/route/<name>", "route", lambda name: name)
    db = SQLAlchemy()
    DBKit(app, db=db)
    return app, db


if __name__ == "__main__":
    main()
