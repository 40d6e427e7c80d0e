"""What is counted, and told of it: statistics, budgets, the slow log, ids, headers, comments."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Response, stream_with_context
from sqlalchemy import event

from flask_dbkit import (
    QueryBudgetExceeded,
    QueryError,
    job,
    query_budget,
    query_stats,
    record_queries,
    request_id,
    savepoint,
    transaction,
)
from flask_dbkit.observability import RequestIdFilter, slow
from flask_dbkit.observability.comments import comment
from flask_dbkit.observability.watchdog import Watchdog
from tests.observability.shop import COUNT, Shop

NewShop = Callable[..., Shop]
ON_DISK = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
SQLITE = pytest.mark.backends("sqlite-file")


def work(shop: Shop) -> None:
    """Send statements of every kind: ORM, Core, driver, many at once, savepoints."""
    session = shop.db.session
    session.scalars(sa.select(shop.User)).all()
    session.execute(sa.select(shop.Post.title)).all()
    session.connection().exec_driver_sql("SELECT 1").all()
    rows = [{"id": 500 + n, "name": "x", "bio": "b"} for n in range(3)]
    session.execute(sa.insert(shop.User.__table__), rows)
    with transaction(adopt=True), savepoint():
        session.add(shop.User(id=600, name="x"))
    session.execute(sa.delete(shop.User).where(shop.User.id >= 500))
    session.commit()


@ON_DISK
def test_a_window_counts_what_the_driver_was_sent(shop: Shop) -> None:
    """Executions of a cursor, whoever sent them; an outer window counts what an inner one does."""
    sent: list[str] = []
    with shop.app.app_context():

        @event.listens_for(shop.db.engine, "before_cursor_execute")
        def before(_c: object, _k: object, statement: str, *_rest: object) -> None:
            sent.append(statement)

        assert query_stats() is None
        with record_queries() as outer:
            work(shop)
            with record_queries() as inner:
                shop.db.session.scalars(sa.select(shop.User)).all()
                with pytest.raises(sa.exc.DBAPIError):
                    shop.db.session.execute(sa.text("SELECT nothing FROM nowhere"))
            shop.db.session.rollback()
        event.remove(shop.db.engine, "before_cursor_execute", before)
    assert outer.queries == len(sent)
    assert inner.queries == 2
    assert outer.writes == 3
    assert outer.checkouts >= 1
    assert outer.time_ms > 0
    assert len(outer.statements) == outer.queries
    assert outer.slowest is not None
    assert outer.slowest in outer.statements
    first = outer.statements[0]
    assert first.bind == "default"
    assert (first.call_site or "").startswith(__file__)
    assert len(first.fingerprint) == 12
    assert not [each for each in outer.statements if "500" in each.sql]


@SQLITE
def test_windows_of_threads_and_tasks_are_their_own(shop: Shop) -> None:
    """A thread counts for itself; a task sees the block it was started in."""
    with shop.app.app_context(), record_queries() as stats:

        def other() -> None:
            with shop.app.app_context(), record_queries() as own:
                shop.db.session.execute(sa.text("SELECT 1"))
                assert own.queries == 1

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert stats.queries == 0

        async def task() -> None:
            shop.db.session.execute(sa.text("SELECT 1"))

        asyncio.run(task())
        assert stats.queries == 1


@SQLITE
def test_requests_and_jobs_are_windows(new_shop: NewShop) -> None:
    """Each its own, streamed bodies to their end, all of them in a block around; none left open."""
    shop = new_shop(DBKIT_SERVER_TIMING="always")
    seen: list[Any] = []

    @shop.app.get("/three")
    def three() -> str:
        for number in range(3):
            shop.db.session.execute(sa.text(f"SELECT {number}"))
        seen.append(query_stats())
        return "ok"

    @shop.app.get("/stream")
    def stream_view() -> Response:
        def rows() -> Any:
            for number in range(4):
                shop.db.session.execute(sa.text(f"SELECT {number}"))
                yield str(number)
            seen.append(query_stats())

        return Response(stream_with_context(rows()))

    @job
    def piece() -> None:
        shop.db.session.execute(sa.text("SELECT 1"))
        seen.append(query_stats())

    client = shop.app.test_client()
    with record_queries() as around:
        answer = client.get("/three")
        assert "3 queries" in answer.headers["Server-Timing"]
        assert "db;dur=" in answer.headers["Server-Timing"]
        assert client.get("/stream").text == "0123"
        with shop.app.app_context():
            piece()
    assert [each.queries for each in seen] == [3, 4, 1]
    assert around.queries >= 8
    assert query_stats() is None
    plain = new_shop()
    plain.app.add_url_rule("/", view_func=lambda: "ok")
    assert "Server-Timing" not in plain.app.test_client().get("/").headers


@SQLITE
@pytest.mark.parametrize("action", ["log", "raise", "header"])
def test_a_budget_that_is_exceeded_is_told(
    new_shop: NewShop, caplog: pytest.LogCaptureFixture, action: str
) -> None:
    """For every request, or a view's own in its place; an exception of the view is not replaced."""
    shop = new_shop(DBKIT_QUERY_BUDGET=3, DBKIT_BUDGET_ACTION=action, PROPAGATE_EXCEPTIONS=True)

    def ask(count: int) -> str:
        for number in range(count):
            shop.db.session.execute(sa.text(f"SELECT {number}"))
        return "ok"

    def broken() -> str:
        with query_budget(queries=1):
            ask(9)
            raise KeyError("of the view")

    shop.app.add_url_rule("/few", "few", lambda: ask(3))
    shop.app.add_url_rule("/many", "many", lambda: ask(4))
    shop.app.add_url_rule("/own", "own", query_budget(queries=10)(lambda: ask(9)))
    shop.app.add_url_rule("/over", "over", query_budget(queries=8, ms=60_000)(lambda: ask(9)))
    shop.app.add_url_rule("/broken", "broken", broken)
    client = shop.app.test_client()
    for path, over in {"/few": False, "/many": True, "/own": False, "/over": True}.items():
        caplog.clear()
        if action == "raise" and over:
            with pytest.raises(QueryBudgetExceeded, match="queries, the budget is"):
                client.get(path)
            continue
        answer = client.get(path)
        assert answer.status_code == 200
        lines = [each for each in caplog.records if each.name == "flask_dbkit.budget"]
        assert bool(lines) == (over and action == "log"), path
        told = answer.headers.get("X-Query-Budget", "")
        assert ("queries" in told) == (over and action == "header"), path
    with pytest.raises(KeyError):
        client.get("/broken")


@ON_DISK
def test_a_slow_statement_is_logged_once_with_its_plan(
    new_shop: NewShop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Route, request id, line, rows and plan, without values; a plan not again within minutes."""
    monkeypatch.setattr(slow, "_PAUSE_S", 0)
    shop = new_shop(DBKIT_SLOW_MS=0)
    statement = sa.select(shop.User).where(shop.User.name == "s3cr3t")

    @shop.app.get("/slow/<int:number>")
    def slow_view(number: int) -> str:
        shop.db.session.scalars(statement).all()
        with shop.db.session.begin_nested():
            shop.db.session.execute(sa.text("SELECT 's3cr3t'"))
        return "ok"

    client = shop.app.test_client()
    with record_queries() as stats:
        answer = client.get("/slow/1", headers={"X-Request-ID": "request-0815"})
    assert answer.headers["X-Request-ID"] == "request-0815"
    sent = stats.queries
    client.get("/slow/2")
    records: list[Any] = [each for each in caplog.records if each.name == "flask_dbkit.slow"]
    mine = [each for each in records if each.route and "FROM" in each.getMessage()]
    assert [each.plan is not None for each in mine] == [True, False]
    first = mine[0]
    assert first.route == "/slow/<int:number>"
    assert first.request_id == "request-0815"
    assert first.bind == "default"
    assert first.call_site.startswith(__file__)
    assert first.time_ms >= 0
    assert first.fingerprint == mine[1].fingerprint
    assert "user" in first.plan
    assert "s3cr3t" not in caplog.text
    assert not [each for each in records if "s3cr3t" in str(vars(each))]
    assert sent <= 4  # EXPLAIN is not counted


@SQLITE
def test_plans_are_asked_for_seldom(
    new_shop: NewShop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One a second, and one in ten minutes of the same statement; never of many rows at once."""
    now = [1000.0]
    monkeypatch.setattr(slow, "monotonic", lambda: now[0])
    shop = new_shop(DBKIT_SLOW_MS=0)
    table = shop.User.__table__

    def plans(*statements: Any) -> int:
        caplog.clear()
        for statement in statements:
            shop.db.session.execute(statement).all()
        shop.db.session.rollback()
        records: list[Any] = [each for each in caplog.records if each.name == "flask_dbkit.slow"]
        return len([each for each in records if each.plan is not None])

    names = sa.select(table.c.name)
    with shop.app.app_context():
        now[0] += 2
        assert plans(*[names] * 100, sa.select(table.c.id)) == 1
        now[0] += 2
        assert plans(names, sa.select(table.c.id)) == 1
        now[0] += 599
        assert plans(sa.select(table.c.id)) == 0
        now[0] += 2
        assert plans(names) == 1
        now[0] += 2
        assert plans(sa.insert(table).values(id=900, name="x").returning(table.c.id)) == 0


@pytest.mark.backends("postgresql")
def test_a_plan_that_takes_too_long_is_given_up(
    new_shop: NewShop, caplog: pytest.LogCaptureFixture
) -> None:
    """After 200 ms, with the application's transaction and its own time limit as they were."""
    shop = new_shop(DBKIT_SLOW_MS=250, DBKIT_STATEMENT_TIMEOUT_MS=5000)
    with shop.app.app_context():
        session = shop.db.session
        # The planner works it out, and so would EXPLAIN.
        body = "BEGIN PERFORM pg_sleep(0.3); RETURN 1; END"
        session.execute(
            sa.text(f"CREATE FUNCTION dawdle() RETURNS int IMMUTABLE LANGUAGE plpgsql AS '{body}'")
        )
        assert session.scalar(sa.text("SELECT dawdle()")) == 1
        assert session.scalar(sa.text("SHOW statement_timeout")) == "5s"
        assert session.scalar(sa.text("SELECT count(*) FROM pg_proc WHERE proname = 'dawdle'")) == 1
    (record,) = [each for each in caplog.records if each.name == "flask_dbkit.slow"]
    assert record.__dict__["plan"] is None


@pytest.mark.backends("postgresql", "mariadb")
def test_a_plan_outside_a_transaction_leaves_none_open(
    new_shop: NewShop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every statement commits by itself, a plan is asked for just so."""
    monkeypatch.setattr(slow, "_PAUSE_S", 0)
    shop = new_shop(DBKIT_SLOW_MS=0)
    with shop.app.app_context():
        caplog.clear()
        engine = shop.db.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            table = shop.User.__table__
            assert connection.scalar(sa.select(sa.func.max(table.c.id))) == COUNT
            connection.execute(sa.update(table).values(bio="changed"))
        with shop.db.engine.connect() as connection:
            assert set(connection.scalars(sa.select(table.c.bio))) == {"changed"}
    records: list[Any] = [each for each in caplog.records if each.name == "flask_dbkit.slow"]
    assert records[0].plan


@SQLITE
def test_a_request_has_one_id_everywhere(
    new_shop: NewShop, caplog: pytest.LogCaptureFixture
) -> None:
    """What was sent if it is one, else a new one: in headers, problems, and any record."""
    shop = new_shop()
    ids: list[str | None] = []

    @shop.app.get("/missing")
    def missing() -> str:
        ids.append(request_id())
        shop.app.logger.warning("here")
        shop.db.session.get_one(shop.User, 4711)
        return "never"

    filter_ = RequestIdFilter()
    shop.app.logger.addFilter(filter_)
    client = shop.app.test_client()
    for sent in ("request-0815", "short", "with blanks in it", "x" * 1000, None):
        answer = client.get("/missing", headers={"X-Request-ID": sent} if sent else {})
        known = answer.headers["X-Request-ID"]
        assert (known == sent) == (sent == "request-0815")
        assert answer.get_json()["request_id"] == known == ids[-1]
        assert [each for each in caplog.records if getattr(each, "request_id", None) == known]
    assert request_id() is None
    other = new_shop(DBKIT_REQUEST_ID_HEADER="X-Trace", DBKIT_REQUEST_ID_TRUST=False)
    other.app.add_url_rule("/", view_func=lambda: str(request_id()))
    answer = other.app.test_client().get("/", headers={"X-Trace": "request-0815"})
    assert answer.text == answer.headers["X-Trace"] != "request-0815"
    assert issubclass(QueryError, Exception)


@ON_DISK
def test_comments_name_the_route_and_nothing_ends_them(new_shop: NewShop) -> None:
    """Behind the statement, in requests only; the traceparent of sampled requests if asked for."""
    for comments in ("route", "trace"):
        _check_comments(new_shop(DBKIT_SQL_COMMENTS=comments), traced=comments == "trace")
    assert comment((("route", "*/ DROP --"),)) == "/*route='%2A%2F%20DROP%20--'*/"


def _check_comments(shop: Shop, *, traced: bool) -> None:
    sent: list[str] = []
    shop.app.add_url_rule(
        "/users/<name>", "users", lambda name: str(shop.db.session.scalar(sa.text("SELECT 1")))
    )
    with shop.app.app_context():
        dialect = shop.db.engine.dialect
    for method in ("do_execute", "do_execute_no_params"):
        _record(dialect, method, sent)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client = shop.app.test_client()
    assert client.get("/users/x", headers={"traceparent": parent}).text == "1"
    with shop.app.app_context():
        shop.db.session.execute(sa.text("SELECT 2"))
    inside = next(each for each in sent if "SELECT 1" in each)
    assert "route='%2Fusers%2F%3Cname%3E'" in inside.replace("%%", "%")
    assert ("traceparent=" in inside) == traced
    assert "/*" not in next(each for each in sent if "SELECT 2" in each)


def _record(dialect: Any, method: str, sent: list[str]) -> None:
    plain = getattr(dialect, method)

    def execute(cursor: Any, *arguments: Any) -> None:
        plain(Recorded(cursor, sent), *arguments)

    setattr(dialect, method, execute)


class Recorded:
    """A cursor that notes what it is given."""

    def __init__(self, cursor: Any, sent: list[str]) -> None:
        self.__dict__["_cursor"], self.__dict__["_sent"] = cursor, sent

    def execute(self, statement: str, *parameters: Any) -> Any:
        self._sent.append(statement)
        return self._cursor.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


@ON_DISK
def test_a_connection_that_is_held_for_too_long_is_told_once(
    new_shop: NewShop, caplog: pytest.LogCaptureFixture
) -> None:
    """With the line that took it; one that comes back in time is not."""
    shop = new_shop(DBKIT_CONNECTION_WARN_S=0.5)
    with shop.app.app_context():
        shop.db.session.execute(sa.text("SELECT 1"))  # connects, which may take long
        shop.db.session.rollback()
        caplog.clear()
        shop.db.session.execute(sa.text("SELECT 1"))
        shop.db.session.rollback()
        with shop.db.engine.connect():  # this line
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline and not _held(caplog):
                time.sleep(0.05)
            time.sleep(0.3)
    (record,) = _held(caplog)
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.endswith("# this line"))
    assert f"{__file__}:{number}" in record.getMessage()


@SQLITE
def test_the_line_that_took_a_connection_is_known_every_time(new_shop: NewShop) -> None:
    """However deep in calls it is, and whichever came before: a walk is not made for each."""
    shop = new_shop()
    execute, query = shop.db.session.execute, sa.text("SELECT 1")

    def deeper() -> None:
        execute(query)

    def at_two_lines(first: bool) -> None:
        if first:
            execute(query)
        else:
            execute(query)

    def taken_at(ask: Callable[[], object]) -> list[tuple[str, int]]:
        ask()
        found = [each.place for each in dog.held.values() if each.place is not None]
        shop.db.session.rollback()
        return [(Path(name).name, line) for name, line in found]

    first_line, two = deeper.__code__.co_firstlineno, at_two_lines.__code__.co_firstlineno
    with shop.app.app_context():
        dog = Watchdog(shop.db.engine, "default", 60)
        for _ in range(3):
            for ask, line in (
                (deeper, first_line + 1),
                (lambda: deeper(), first_line + 1),
                (partial(at_two_lines, True), two + 2),
                (partial(at_two_lines, False), two + 4),
                (partial(execute, query), taken_at.__code__.co_firstlineno + 1),
            ):
                assert taken_at(ask) == [(Path(__file__).name, line)]


def _held(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == "flask_dbkit.connections"]


@SQLITE
def test_without_statistics_nothing_is_counted(new_shop: NewShop) -> None:
    """One setting switches the windows of requests and jobs off; a block asks for itself."""
    shop = new_shop(DBKIT_STATS=False, DBKIT_SLOW_MS=None, TESTING=True)
    seen: list[Any] = []

    @shop.app.get("/")
    def view() -> str:
        for number in range(COUNT):
            shop.db.session.get(shop.User, number + 1)
        seen.append(query_stats())
        return "ok"

    assert shop.app.test_client().get("/").text == "ok"
    assert seen == [None]
