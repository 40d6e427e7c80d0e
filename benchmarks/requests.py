"""Pages as JSON: whole requests, ours beside what one would write by hand and beside the peers.

One table ``event`` on a SQLite file, twenty rows to a page, newest first. Each call is a whole
request through the test client of its framework: routing, session, statement, JSON. Every
contender has an engine as its user would make it. They take turns, round after round and in
another order each time; the table gives medians and their ratios.

``make benchmarks`` installs the peers into an environment of their own; without one of them its
row says so.

    python benchmarks/requests.py            # two minutes
    python benchmarks/requests.py --quick    # does it run?
"""

# ruff: noqa: E402 - the path is set first

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

# Python looks beside the script first, where requests.py is not the library of that name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]

from flask import Flask, jsonify, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Index, String, create_engine, insert, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from flask_dbkit import Base, DBKit, Filter, FilterAllowlist, Listing, SortAllowlist, UTCDateTime

PER_PAGE = 20
START = datetime(2026, 1, 1, tzinfo=UTC)


class Event(Base):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    owner: Mapped[int]
    username: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(String(200))
    __table_args__ = (Index("ix_event_created", "created_at", "id"),)


EVENTS = Listing(
    Event,
    sort=SortAllowlist(
        {"created": Event.created_at, "owner": Event.owner, "username": Event.username},
        default="-created",
    ),
    filter=FilterAllowlist({"owner": Filter(Event.owner, ops="eq gte"), "user": Event.username}),
    per_page=PER_PAGE,
)

Call = Callable[[], Any]


def fill(path: str, rows: int) -> None:
    """Write the table every contender reads."""
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            insert(Event),
            [
                {
                    "id": n,
                    "created_at": START + timedelta(seconds=n // 4),
                    "owner": n % 5,
                    "username": f"user{n % 1000}",
                    "body": "x" * 100,
                }
                for n in range(1, rows + 1)
            ],
        )
    engine.dispose()


def ours(path: str) -> dict[str, Call]:
    """Return our endpoints, on an application with the library."""
    app = Flask("ours")
    app.config.update(SQLALCHEMY_DATABASE_URI=f"sqlite:///{path}", SECRET_KEY="k" * 32)
    DBKit(app, db=SQLAlchemy(model_class=Base))

    @app.get("/keyset")
    def keyset() -> Any:
        return EVENTS.paginate_keyset().to_response()

    @app.get("/offset")
    def offset() -> Any:
        return EVENTS.paginate(count="none").to_response()

    @app.get("/tenant")
    def tenant() -> Any:
        owner = int(request.args["tenant"])
        narrowed = EVENTS.statement.where(Event.owner >= owner)
        return EVENTS.paginate_keyset(narrowed, bind=owner).to_response()

    client = app.test_client()
    cursor = client.get("/keyset").json["pagination"]["next_cursor"]
    there = client.get("/tenant?tenant=0").json["pagination"]["next_cursor"]
    return {
        "keyset page": lambda: client.get(f"/keyset?cursor={cursor}"),
        "offset page": lambda: client.get("/offset?page=2"),
        "narrowed keyset page": lambda: client.get(f"/tenant?tenant=0&cursor={there}"),
    }


def by_hand(path: str) -> dict[str, Call]:
    """Return the same rows by the ORM and dicts made by hand, on Flask-SQLAlchemy alone."""
    app = Flask("hand")
    # With the key that ours has: with one, Flask looks for a session in each request.
    app.config.update(SQLALCHEMY_DATABASE_URI=f"sqlite:///{path}", SECRET_KEY="k" * 32)
    db = SQLAlchemy(model_class=Base)
    db.init_app(app)

    def dump(event: Event) -> dict[str, Any]:
        return {
            "id": event.id,
            "created_at": event.created_at.isoformat(),
            "owner": event.owner,
            "username": event.username,
            "body": event.body,
        }

    @app.get("/keyset")
    def keyset() -> Any:
        at, key = datetime.fromisoformat(request.args["at"]), int(request.args["id"])
        statement = (
            select(Event)
            .where(
                Event.created_at <= at,
                or_(Event.created_at < at, (Event.created_at == at) & (Event.id < key)),
            )
            .order_by(Event.created_at.desc(), Event.id.desc())
            .limit(PER_PAGE + 1)
        )
        rows = db.session.scalars(statement).all()
        shown = rows[:PER_PAGE]
        after = {"at": shown[-1].created_at.isoformat(), "id": shown[-1].id}
        return jsonify(
            items=[dump(row) for row in shown],
            next=after if len(rows) > PER_PAGE else None,
        )

    @app.get("/offset")
    def offset() -> Any:
        ordered = select(Event).order_by(Event.created_at.desc(), Event.id.desc())
        page = db.paginate(ordered, per_page=PER_PAGE, count=False)
        return jsonify(
            items=[dump(row) for row in page],
            page=page.page,
            has_prev=page.has_prev,
        )

    client = app.test_client()
    last = 10**9
    with app.app_context():
        newest = db.session.scalars(
            select(Event).order_by(Event.created_at.desc(), Event.id.desc()).limit(PER_PAGE)
        ).all()[-1]
        last, at = newest.id, newest.created_at.isoformat().replace("+", "%2B")
    return {
        "keyset page": lambda: client.get(f"/keyset?at={at}&id={last}"),
        "offset page": lambda: client.get("/offset?page=2"),
    }


class Answer(NamedTuple):
    """What an ASGI application answered."""

    status_code: int
    body: bytes


async def asgi(app: Any, path: str, query: str) -> Answer:
    """Ask an ASGI application without a client library's own cost."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(one.get("body", b"") for one in sent)
    return Answer(sent[0]["status"], body)


def fastapi(path: str) -> dict[str, Call]:
    """Return the cursor page of FastAPI with fastapi-pagination."""
    from fastapi import FastAPI
    from fastapi_pagination import add_pagination
    from fastapi_pagination.cursor import CursorPage
    from fastapi_pagination.customization import CustomizedPage, UseIncludeTotal
    from fastapi_pagination.ext.sqlalchemy import paginate
    from pydantic import BaseModel, ConfigDict

    class Out(BaseModel):
        model_config = ConfigDict(from_attributes=True)
        id: int
        created_at: datetime
        owner: int
        username: str
        body: str

    app, engine = FastAPI(), create_engine(f"sqlite:///{path}")
    page: Any = CustomizedPage[CursorPage[Out], UseIncludeTotal(False)]

    def events() -> Any:
        with Session(engine) as session:
            ordered = select(Event).order_by(Event.created_at.desc(), Event.id.desc())
            return paginate(session, ordered)

    app.get("/keyset", response_model=page)(events)
    add_pagination(app)
    loop = asyncio.new_event_loop()

    def ask(query: str) -> Answer:
        return loop.run_until_complete(asgi(app, "/keyset", query))

    cursor = json.loads(ask(f"size={PER_PAGE}").body)["next_page"]
    return {"keyset page": lambda: ask(f"size={PER_PAGE}&cursor={cursor}")}


def rest_framework(path: str) -> dict[str, Call]:
    """Return the cursor page of Django's REST framework."""
    import django
    from django.conf import settings

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}},
        INSTALLED_APPS=["rest_framework"],
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "DEFAULT_PERMISSION_CLASSES": [],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "UNAUTHENTICATED_USER": None,
        },
    )
    django.setup()
    from django.db import models
    from django.test import Client
    from django.urls import path as route
    from rest_framework import generics, pagination, serializers

    class Row(models.Model):
        created_at = models.DateTimeField()
        owner = models.IntegerField()
        username = models.CharField(max_length=40)
        body = models.CharField(max_length=200)

        class Meta:
            app_label = "rows"
            db_table = "event"
            managed = False

    class RowSerializer(serializers.ModelSerializer):  # type: ignore[misc]
        class Meta:
            model = Row
            fields = ("id", "created_at", "owner", "username", "body")

    class Cursor(pagination.CursorPagination):  # type: ignore[misc]
        page_size = PER_PAGE
        ordering = ("-created_at", "-id")

    class Rows(generics.ListAPIView):  # type: ignore[misc]
        queryset = Row.objects.all()
        serializer_class = RowSerializer
        pagination_class = Cursor

    globals()["urlpatterns"] = [route("keyset", Rows.as_view())]
    client = Client()
    following = client.get("/keyset").json()["next"].partition("testserver")[2]
    return {"keyset page": lambda: client.get(following)}


def measure(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the median of each call in milliseconds, all of them in turns."""
    for name, call in calls.items():
        for _ in range(20):
            answer = call()
        assert answer.status_code == 200, (name, answer.status_code)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    r = random.Random(1)
    gc.disable()
    for _ in range(rounds):
        r.shuffle(order)
        for name in order:
            start = time.perf_counter()
            calls[name]()
            samples[name].append((time.perf_counter() - start) * 1000)
        gc.collect(0)
    gc.enable()
    return {name: statistics.median(times) for name, times in samples.items()}


def memory(path: str, lists: int) -> list[tuple[int, int]]:
    """Ask for many different lists, filters and cursors; return the peak memory as it grows.

    Of a small table: what is kept of a list does not depend on its rows.
    """
    fill(path, 500)
    engine = create_engine(f"sqlite:///{path}")
    grown: list[tuple[int, int]] = []
    with Session(engine) as session:
        for n in range(lists):
            sort = ["created", "-owner", "username,-created"][n % 3]
            args = {"sort": sort, "owner__gte": str(n % 7), "per_page": str(1 + n % 9)}
            if n % 2:
                args["user"] = f"user{n}"
            narrowed = EVENTS.statement.where(Event.id > n) if n % 5 == 0 else None
            page = EVENTS.paginate_keyset(narrowed, args=args, session=session, secret="s")
            if page.next_cursor:
                EVENTS.paginate_keyset(
                    narrowed,
                    args=args | {"cursor": page.next_cursor},
                    session=session,
                    secret="s",
                )
            session.expunge_all()
            if (n + 1) in (lists // 10, lists):
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                grown.append((n + 1, peak // 1024))
    engine.dispose()
    return grown


GOALS = (
    ("ours: keyset page", "by hand: keyset page", 1.10),
    ("ours: keyset page", "REST framework: keyset page", 0.90),
    ("ours: keyset page", "FastAPI: keyset page", 0.90),
    ("ours: offset page", "by hand: offset page", 1.00),
    ("ours: narrowed keyset page", "ours: keyset page", 1.15),
)


def main() -> int:
    """Measure, print the table, and tell which goals hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few rounds only")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "events.db")
        fill(path, 2_000 if quick else 100_000)
        calls: dict[str, Call] = {}
        makers = {
            "ours": ours,
            "by hand": by_hand,
            "FastAPI": fastapi,
            "REST framework": rest_framework,
        }
        for title, make in makers.items():
            try:
                found = make(path)
            except ImportError as error:
                print(f"{title}: not installed ({error.name})")
                continue
            calls |= {f"{title}: {name}": call for name, call in found.items()}
        medians = measure(calls, 20 if quick else 600)
        print("\n| whole request | median, ms |\n|---|---|")
        for name, value in medians.items():
            print(f"| {name} | {value:.3f} |")
        print("\n| ratio of medians | | goal |\n|---|---|---|")
        for one, other, goal in GOALS:
            if one in medians and other in medians:
                ratio = medians[one] / medians[other]
                held = "" if ratio <= goal else " (missed)"
                print(f"| {one} / {other} | {ratio:.2f}{held} | {goal:.2f} |")
        small = str(Path(folder) / "small.db")
        for count, peak in memory(small, 200 if quick else 10_000):
            print(f"peak memory after {count} different lists: {peak} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
