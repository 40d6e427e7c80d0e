"""Pages of a large table: ours, by hand, and every library one could take instead.

One table ``event`` with a million rows, twenty to a page, newest first, a primary key to break
ties. Each call is a fresh application context: session, connection, ``BEGIN`` and ``ROLLBACK``
included, and returns mapped objects. The limit is the bare driver running the same keyset
query on an open connection in autocommit. The methods take turns, round after round and in
another order each time, so that whatever else the machine does meets all of them and none always
runs after the same other one, whose count may have emptied the caches; the table gives the median
and, in brackets, the fastest sample in milliseconds, and both as multiples of the limit.

``make benchmarks`` installs the peers into an environment of their own. A method that needs more
than a second for a page is asked for it once, and one that cannot do a page says why.

    python benchmarks/pagination.py                      # ten minutes
    python benchmarks/pagination.py --quick              # does it run?
    python benchmarks/pagination.py --database postgresql
"""

# ruff: noqa: SLF001, E402 - the plans of a list are looked at, the path is set first

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

# Python looks beside the script first, where requests.py is not the library of that name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Index, String, event, func, insert, or_, select, text, tuple_
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import (
    Base,
    DBKit,
    Filter,
    FilterAllowlist,
    Listing,
    SortAllowlist,
    UTCDateTime,
)
from flask_dbkit.lists.cursor import fingerprint
from flask_dbkit.pagination import Keyset, Signer

PER_PAGE = 20
URLS = {
    "sqlite": None,
    "postgresql": os.environ.get(
        "DBKIT_TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1/postgres"
    ),
    "mariadb": os.environ.get("DBKIT_TEST_MYSQL_URL", "mysql+pymysql://root@127.0.0.1/test"),
}


class Event(Base):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    score: Mapped[int | None]
    kind: Mapped[int]
    username: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(String(200))
    __table_args__ = (
        Index("ix_event_created", "created_at", "id"),
        Index("ix_event_score", "score", "id"),
        Index("ix_event_kind", "kind", "id"),
    )


SORT = SortAllowlist(
    {"created": Event.created_at, "score": Event.score, "kind": Event.kind}, default="-created"
)
FILTER = FilterAllowlist({"score": Filter(Event.score, ops="gte lt"), "user": Event.username})
EVENTS = Listing(Event, sort=SORT, filter=FILTER, per_page=PER_PAGE)
db = SQLAlchemy(model_class=Base)

Method = Callable[[], Any]


class Effort(NamedTuple):
    """How many rounds, and how many seconds at most for each page."""

    rounds: int
    budget_s: float


def fill(database: str, rows: int) -> None:
    """Write the rows with the means each database has for many."""
    engine = db.engine
    if database == "sqlite":
        draw, start = random.Random(1), datetime(2026, 1, 1, tzinfo=UTC)
        for first in range(1, rows + 1, 50_000):
            batch = [
                {
                    "id": n,
                    "created_at": start + timedelta(seconds=n / 4 + draw.uniform(-3600, 3600)),
                    "score": None if draw.random() < 0.1 else draw.randrange(100_000),
                    "kind": n % 5,
                    "username": f"user{draw.randrange(50_000)}",
                    "body": "x" * 200,
                }
                for n in range(first, min(first + 50_000, rows + 1))
            ]
            with engine.begin() as connection:
                connection.execute(insert(Event), batch)
        with engine.begin() as connection:
            connection.execute(text("ANALYZE"))
        return
    numbers = f"generate_series(1, {rows}) AS s(n)"
    point = "timestamptz '2026-01-01' + (n / 4.0 + random() * 7200 - 3600) * interval '1 second'"
    if database == "mariadb":
        numbers = f"(SELECT seq AS n FROM seq_1_to_{rows}) s"
        point = "timestamp('2026-01-01') + INTERVAL (n / 4.0 + rand() * 7200 - 3600) SECOND"
    rand = "random()" if database == "postgresql" else "rand()"
    user = f"concat('user', floor({rand} * 50000))"
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO event (id, created_at, score, kind, username, body) SELECT n,"
                f" {point}, CASE WHEN {rand} < 0.1 THEN NULL ELSE floor({rand} * 100000) END,"
                f" n % 5, {user}, repeat('x', 200) FROM {numbers}"
            )
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text("VACUUM ANALYZE event" if database == "postgresql" else "ANALYZE TABLE event")
        )


def anchors(rows: int) -> dict[str, tuple[int, tuple[Any, Any] | None]]:
    """Return, per page, its number and the keys of the row before it, as stored."""
    last = (rows - 1) // PER_PAGE + 1
    wanted = {"1": 1, "100": 100, "10,000": 10_000, "last": last}
    found: dict[str, tuple[int, tuple[Any, Any] | None]] = {}
    with db.engine.connect() as connection:
        for label, page in wanted.items():
            if page > last:
                continue
            offset = (page - 1) * PER_PAGE - 1
            order = "ORDER BY created_at DESC, id DESC"
            sql = f"SELECT created_at, id FROM event {order} LIMIT 1 OFFSET {offset}"
            found[label] = (
                page,
                tuple(connection.exec_driver_sql(sql).one()) if page > 1 else None,
            )
    return found


def bare_driver(database: str) -> Callable[[tuple[Any, Any] | None], Method]:
    columns = "id, created_at, score, kind, username, body"
    tail = f"ORDER BY created_at DESC, id DESC LIMIT {PER_PAGE + 1}"
    mark = "?" if database == "sqlite" else "%s"
    where = f"WHERE (created_at, id) < ({mark}, {mark})"
    if database == "mariadb":
        where = "WHERE created_at <= %s AND (created_at < %s OR (created_at = %s AND id < %s))"
    url = db.engine.url
    if database == "sqlite":
        connection: Any = sqlite3.connect(str(url.database), isolation_level=None)
    elif database == "postgresql":
        import psycopg

        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg.connect(plain, autocommit=True)
    else:
        import pymysql

        connection = pymysql.connect(
            host=url.host, user=url.username, password=url.password or "", port=url.port or 3306,
            database=url.database, autocommit=True,
        )  # fmt: skip
    cursor = connection.cursor()

    def make(after: tuple[Any, Any] | None) -> Method:
        sql = f"SELECT {columns} FROM event {where if after else ''} {tail}"
        values: tuple[Any, ...] = after or ()
        if after and database == "mariadb":
            values = (after[0], after[0], after[0], after[1])

        def call() -> Any:
            cursor.execute(sql, values)
            return cursor.fetchall()

        return call

    return make


def in_context(app: Flask, call: Method) -> Method:
    def run() -> Any:
        with app.app_context():
            return call()

    return run


def pinging(call: Method) -> Method:
    """What a call costs with ``DBKIT_POOL_PING_AFTER_S = 0``, on the same engine."""

    def run() -> Any:
        methods: dict[str, Any] = db.engine.dialect.__dict__
        spared = methods.pop("do_ping")
        try:
            return call()
        finally:
            methods["do_ping"] = spared

    return run


def own_methods(app: Flask, database: str, page: int, after: Any) -> dict[str, Method]:
    """Ours, and what one would write by hand."""
    signer = Signer([app.config["SECRET_KEY"]])
    args = {}
    if after is not None:
        terms = SORT.parse()
        session = db.session()
        dialect = EVENTS._planner.check(session)
        plan, _ = EVENTS._planner.keyset(session, dialect, terms)
        constants = EVENTS._planner.constants
        mark = fingerprint(EVENTS.name, plan.signature, constants)
        args["cursor"] = signer.dumps(Keyset(tuple(after)), mark)
    aware = None
    if after is not None:
        with app.app_context():
            aware = (db.session.get_one(Event, after[1]).created_at, after[1])

    def by_hand() -> Any:
        statement = select(Event).order_by(Event.created_at.desc(), Event.id.desc())
        if aware is not None:
            point, key = aware
            if database == "mariadb":
                same = (Event.created_at == point) & (Event.id < key)
                statement = statement.where(
                    Event.created_at <= point, or_(Event.created_at < point, same)
                )
            else:
                statement = statement.where(tuple_(Event.created_at, Event.id) < aware)
        return db.session.scalars(statement.limit(PER_PAGE + 1)).all()

    ordered = select(Event).order_by(Event.created_at.desc(), Event.id.desc())
    pinged = {
        "ours: keyset, a ping at each checkout": pinging(lambda: EVENTS.paginate_keyset(args=args))
    }
    return {
        "by hand: ORM keyset": by_hand,
        "**ours: keyset**": lambda: EVENTS.paginate_keyset(args=args),
        **(pinged if database != "sqlite" else {}),
        "by hand: ORM offset, limit n+1": lambda: db.session.scalars(
            ordered.limit(PER_PAGE + 1).offset((page - 1) * PER_PAGE)
        ).all(),
        "**ours: offset, no count**": lambda: EVENTS.paginate(page=page, count="none", args={}),
        "**ours: offset, count to 10,000**": lambda: EVENTS.paginate(
            page=page, count=10_000, args={}
        ),
        "**ours: offset, exact count**": lambda: EVENTS.paginate(page=page, args={}),
        "Flask-SQLAlchemy paginate(count=False)": lambda: db.paginate(
            ordered, page=page, per_page=PER_PAGE, count=False, error_out=False
        ),
        "Flask-SQLAlchemy paginate()": lambda: db.paginate(
            ordered, page=page, per_page=PER_PAGE, error_out=False
        ),
    }


def peer_methods(page: int, aware: tuple[Any, Any] | None) -> dict[str, Method]:
    """The libraries on SQLAlchemy."""
    from advanced_alchemy.filters import LimitOffset, OrderBy
    from advanced_alchemy.repository import SQLAlchemySyncRepository
    from fastapi_pagination import Page, Params, set_page
    from fastapi_pagination.cursor import CursorPage
    from fastapi_pagination.customization import CustomizedPage, UseIncludeTotal
    from fastapi_pagination.ext.sqlalchemy import paginate as fastapi_paginate
    from sqlakeyset import select_page, serialize_bookmark

    ordered = select(Event).order_by(Event.created_at.desc(), Event.id.desc())
    place = None if aware is None else (aware, False)

    without_total: Any = CustomizedPage[CursorPage[Any], UseIncludeTotal(False)]
    cursor = None
    if place is not None:
        cursor = quote(b64encode(serialize_bookmark(place).encode()).decode())

    def fastapi_cursor() -> Any:
        set_page(without_total)
        params = without_total.__params_type__(cursor=cursor, size=PER_PAGE)
        return fastapi_paginate(db.session(), ordered, params)

    def fastapi_offset() -> Any:
        set_page(Page[Any])
        return fastapi_paginate(db.session(), ordered, Params(page=page, size=PER_PAGE))

    class Events(SQLAlchemySyncRepository[Event]):  # type: ignore[type-var]
        model_type = Event

    def advanced(*, window: bool) -> Any:
        return Events(session=db.session(), auto_expunge=False).list_and_count(
            OrderBy("created_at", "desc"),
            OrderBy("id", "desc"),
            LimitOffset(PER_PAGE, (page - 1) * PER_PAGE),
            count_with_window_function=window,
        )

    return {
        "sqlakeyset select_page": lambda: select_page(
            db.session, ordered, per_page=PER_PAGE, page=place
        ),
        "fastapi-pagination CursorPage, no total": fastapi_cursor,
        "fastapi-pagination Page": fastapi_offset,
        "advanced-alchemy list_and_count, two statements": lambda: advanced(window=False),
        "advanced-alchemy list_and_count": lambda: advanced(window=True),
    }


def django_methods(database: str, page: int, aware: tuple[Any, Any] | None) -> dict[str, Method]:
    """Django's paginator and the cursor of its REST framework, on a persistent connection."""
    import django
    from django.conf import settings

    url = db.engine.url
    if not settings.configured:
        engines = {"sqlite": "sqlite3", "postgresql": "postgresql", "mariadb": "mysql"}
        if database == "mariadb":
            import pymysql

            # Django asks for mysqlclient by its version; PyMySQL has the same interface.
            pymysql.version_info = (2, 2, 7, "final", 0)
            pymysql.install_as_MySQLdb()
        settings.configure(
            DATABASES={
                "default": {
                    "ENGINE": f"django.db.backends.{engines[database]}",
                    "NAME": url.database,
                    "USER": url.username or "",
                    "PASSWORD": url.password or "",
                    "HOST": url.host or "",
                    "PORT": str(url.port or ""),
                    "CONN_MAX_AGE": None,
                }
            },
            USE_TZ=True,
            ALLOWED_HOSTS=["*"],
            INSTALLED_APPS=[],
        )
        django.setup()
    model = _django_model()
    ordered = model.objects.order_by("-created_at", "-id")
    from django.core.paginator import Paginator
    from rest_framework.pagination import CursorPagination
    from rest_framework.request import Request
    from rest_framework.test import APIRequestFactory

    class Cursor(CursorPagination):  # type: ignore[misc]
        page_size = PER_PAGE
        ordering = ("-created_at", "-id")

    query = {}
    if aware is not None:
        query["cursor"] = b64encode(urlencode({"p": str(aware[0])}).encode()).decode()
    request = Request(APIRequestFactory().get("/", query))
    return {
        "Django Paginator": lambda: list(Paginator(ordered, PER_PAGE).page(page).object_list),
        "DRF CursorPagination": lambda: Cursor().paginate_queryset(model.objects.all(), request),
    }


@cache
def _django_model() -> Any:
    from django.db import models

    class DjangoEvent(models.Model):  # type: ignore[misc]
        created_at = models.DateTimeField()
        score = models.IntegerField(null=True)
        kind = models.IntegerField()
        username = models.CharField(max_length=40)
        body = models.CharField(max_length=200)

        class Meta:
            app_label = "bench"
            db_table = "event"

    return DjangoEvent


def measure(methods: dict[str, Method], effort: Effort) -> dict[str, list[float]]:
    """Let the methods take turns; slow ones get fewer rounds."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for name, call in methods.items():
        begin = time.perf_counter()
        call()
        first = time.perf_counter() - begin
        if first > 1:
            times[name].append(first)
        else:
            call()
    end = time.perf_counter() + effort.budget_s
    draw, turns = random.Random(1), list(methods.items())
    for number in range(effort.rounds):
        draw.shuffle(turns)
        for name, call in turns:
            least = min(times[name], default=0)
            if least > 1 or (number % 10 and least > 0.02):
                continue
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
        if time.perf_counter() > end:
            break
    return times


def cell(samples: list[float], limit: list[float]) -> str:
    middle, least = statistics.median(samples), min(samples)
    ratio = middle / statistics.median(limit), least / min(limit)
    return f"{middle * 1e3:.3g} ({least * 1e3:.3g}) {ratio[0]:.3g}x ({ratio[1]:.3g}x)"


def ratio(times: dict[str, list[float]], one: str, other: str) -> str:
    a, b = times.get(one), times.get(other)
    if not a or not b:
        return "-"
    return f"{statistics.median(a) / statistics.median(b):.2f}x ({min(a) / min(b):.2f}x)"


def run(database: str, url: str, rows: int, effort: Effort, directory: Path) -> None:
    app = Flask("bench", instance_path=str(directory))
    app.config.update(SQLALCHEMY_DATABASE_URI=url, SECRET_KEY="bench", DBKIT_MAX_PAGE_SIZE=1000)
    DBKit(app, db=db)
    with app.app_context():
        db.drop_all()
        db.create_all()
        begin = time.perf_counter()
        fill(database, rows)
        print(f"\n## {database}: {rows:,} rows, written in {time.perf_counter() - begin:.0f} s\n")
        try:
            report(app, database, rows, effort)
        finally:
            db.session.remove()
            db.drop_all()
            db.engine.dispose()


def report(app: Flask, database: str, rows: int, effort: Effort) -> None:
    make_limit = bare_driver(database)
    table: dict[str, dict[str, list[float]]] = {}
    for label, (page, after) in anchors(rows).items():
        aware = None
        if after is not None:
            aware = (db.session.get_one(Event, after[1]).created_at, after[1])
            db.session.remove()
        methods: dict[str, Method] = {"*bare driver, keyset*": make_limit(after)}
        ours = own_methods(app, database, page, after) | peer_methods(page, aware)
        methods |= {name: in_context(app, call) for name, call in ours.items()}
        methods |= django_methods(database, page, aware)
        table[label] = measure(methods, effort)
    names = list(table["1"])
    print("| method | " + " | ".join(f"page {label}" for label in table) + " |")
    print("|---|" + "---|" * len(table))
    for name in names:
        cells = [cell(times[name], times["*bare driver, keyset*"]) for times in table.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    goals(app, database, table, rows, effort)


def goals(
    app: Flask, database: str, table: dict[str, dict[str, list[float]]], rows: int, effort: Effort
) -> None:
    """Print the ratios that are promised, medians first, fastest samples in brackets."""
    deep = "10,000" if "10,000" in table else "last"
    keyset, hand = "**ours: keyset**", "by hand: ORM keyset"
    print("\nours, medians (fastest samples)")
    for label, times in table.items():
        print(
            f"- keyset page {label}: {ratio(times, keyset, '*bare driver, keyset*')} the driver,"
            f" {ratio(times, keyset, hand)} by hand,"
            f" {ratio(times, keyset, 'sqlakeyset select_page')} sqlakeyset"
        )
    walks = {
        "D4 -created, page 2": ("-created", 1),
        "D5 score, a nullable key": ("score", 1),
        "D5 kind, within a run of ties": ("kind", 1),
    }
    for label, (sort, _) in walks.items():
        signer, args, far = Signer(["bench"]), {"sort": sort}, 0
        with app.app_context():
            first = EVENTS.paginate_keyset(args=args)
            page_2 = {**args, "cursor": first.next_cursor}
            plan, _values = EVENTS._planner.keyset(
                db.session(),
                EVENTS._planner.check(db.session()),
                SORT.parse(sort),
            )
            offset = min(rows * 7 // 10, 720_000) if sort != "kind" else rows * 15 // 100
            at = plan.statement.add_columns(
                *(k.form.read.label(f"k{n}") for n, k in enumerate(plan.keys))
            ).order_by(*(key.order() for key in plan.keys))
            row = db.session.execute(at.offset(offset).limit(1)).one()
            far = offset // PER_PAGE
            ties = 1 if sort == "kind" else 0
            mark = fingerprint(EVENTS.name, plan.signature, EVENTS._planner.constants)
            cursor = signer.dumps(Keyset(tuple(row[1:]), ties=ties), mark)
        there = {**args, "cursor": cursor}
        times = measure(
            {
                "near": in_context(app, lambda a=page_2: EVENTS.paginate_keyset(args=a)),
                "far": in_context(app, lambda a=there: EVENTS.paginate_keyset(args=a)),
            },
            effort._replace(budget_s=4),
        )
        print(f"- {label}: page {far:,} {ratio(times, 'far', 'near')} page 2")
    statements: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    with app.app_context():
        cursor, pages = None, 0
        while pages < 500:
            found = EVENTS.paginate_keyset(cursor=cursor, args={})
            cursor, pages = found.next_cursor, pages + 1
    selects = sum(one.lstrip().startswith("SELECT") for one in statements)
    print(f"- D6: {selects / pages:.3f} statements per page over {pages} pages")
    first, deep_times = table["1"], table[deep]
    plain = "by hand: ORM offset, limit n+1"
    capped = ratio(first, "**ours: offset, count to 10,000**", plain)
    print(f"- D7: count to 10,000, page 1: {capped} limit n+1")
    theirs = "Flask-SQLAlchemy paginate(count=False)"
    skipping = ratio(deep_times, "**ours: offset, no count**", theirs)
    print(f"- D8: offset page {deep}: {skipping} db.paginate(count=False)")
    signer = Signer(["bench"])
    keyset_value = Keyset((datetime(2026, 1, 1, tzinfo=UTC), 1_000_000))
    token = signer.dumps(keyset_value, "AAAAAAAA")
    print(
        f"- D9: cursor of {len(token)} characters: made in"
        f" {best(lambda: signer.dumps(keyset_value, 'AAAAAAAA')):.1f} us, read in"
        f" {best(lambda: signer.loads(token, 'AAAAAAAA', 2)):.1f} us"
    )
    filters = {"score__gte": "5", "score__lt": "90000"}
    pairs = tuple(filters.items())

    def parse() -> Any:
        return SORT.read("-created,score"), FILTER.read(pairs)

    def parse_and_build() -> Any:
        return FILTER.apply(SORT.apply(select(Event), "-created,score"), filters)

    print(
        f"- D10: two sorts and two filters read in {best(parse):.1f} us,"
        f" and made into a statement in {best(parse_and_build):.1f} us"
    )
    if database != "sqlite":
        pinged = "ours: keyset, a ping at each checkout"
        print(f"- Pings: without one at each checkout: {ratio(first, keyset, pinged)} of a page")
    print(f"- D11: at most {PER_PAGE + 1} rows held; count of rows now {_count():,}")


def best(call: Method, number: int = 500) -> float:
    """Microseconds of processor time per call, the best of ten."""
    found = []
    for _ in range(10):
        begin = time.process_time()
        for _ in range(number):
            call()
        found.append((time.process_time() - begin) / number * 1e6)
    return min(found)


def _count() -> int:
    return int(db.session.scalar(select(func.count()).select_from(Event)) or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--budget", type=float, default=15, help="seconds per page and database")
    parser.add_argument("--database", choices=list(URLS), action="append")
    parser.add_argument("--quick", action="store_true", help="few rows, few rounds")
    arguments = parser.parse_args()
    rows = 5_000 if arguments.quick else arguments.rows
    effort = Effort(5 if arguments.quick else arguments.rounds, arguments.budget)
    # Django wants aware times of SQLite, which keeps none; Numeric warnings are not of interest.
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as directory:
        for database in arguments.database or list(URLS):
            url = URLS[database] or f"sqlite:///{directory}/bench.sqlite3"
            # One Django set-up per process, so each database runs in its own.
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                try:
                    run(database, url, rows, effort, Path(directory))
                except Exception as error:
                    print(f"{database}: {type(error).__name__}: {error}")
                finally:
                    sys.stdout.flush()
                    os._exit(0)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
