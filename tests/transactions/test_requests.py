"""Per-request mode: one scope around the view, its COMMIT over before the answer leaves."""

# Models that share one test's metadata mean nothing to a type checker.
# mypy: disable-error-code="name-defined,misc,valid-type,attr-defined,func-returns-value"
# mypy: warn-unreachable=False
# pyright: reportGeneralTypeIssues=false, reportCallIssue=false

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, Response, abort, g, make_response, redirect, request, stream_with_context
from flask.views import MethodView, View
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from flask_dbkit import (
    OwnershipError,
    Retry,
    Rollback,
    UnexpectedRollback,
    after_end,
    before_commit,
    current_transaction,
    in_transaction,
    non_transactional,
    on_commit,
    on_rollback,
    savepoint,
    stream,
    transaction,
)
from flask_dbkit.application import application_of
from flask_dbkit.transactions.options import ScopeDefaults
from tests.support.flask_versions import CONTEXTS_ARE_SHARED
from tests.support.items import Item, prepare


class Site:
    """An application in per-request mode, with a look at the database from outside."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.db = prepare(app)
        with app.app_context(), transaction():
            self.add("user")
        self.client = app.test_client()

    def add(self, name: str) -> None:
        self.db.session.add(Item(name=name))

    def find(self, name: str) -> Any:
        return self.db.session.scalars(sa.select(Item).filter_by(name=name)).one()

    @property
    def names(self) -> list[str]:
        with self.app.app_context(), self.db.engine.connect() as connection:
            found = list(connection.scalars(sa.select(Item.name).order_by(Item.id)))
            assert found.pop(0) == "user"
            return found

    @property
    def engine(self) -> sa.Engine:
        with self.app.app_context():
            return self.db.engine

    @property
    def checked_out(self) -> int:
        pool: Any = self.engine.pool
        return int(pool.checkedout())


@pytest.fixture
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """More configuration, for ``indirect`` parameters."""
    return dict(getattr(request, "param", {}))


@pytest.fixture
def site(make_app: Callable[..., Flask], config: dict[str, Any]) -> Site:
    return Site(make_app(**{"DBKIT_TX_PER_REQUEST": True, "TESTING": False} | config))


@pytest.fixture
def sent(site: Site) -> list[str]:
    """What is sent to the database, transaction control included."""
    statements: list[str] = []
    engine = site.engine

    def note(name: str) -> Callable[..., None]:
        def listener(*args: Any) -> None:
            statements.append(name)

        return listener

    def statement(cursor: Any, text: str, parameters: Any, context: Any) -> None:
        statements.append(text)

    def checkout(*args: Any) -> None:
        statements.append("checkout")

    event.listen(engine, "do_execute", statement)
    event.listen(engine, "checkout", checkout)
    for name in ("begin", "commit", "rollback"):
        event.listen(engine, name, note(name))
    return statements


one_database = pytest.mark.backends("sqlite-file")


# -- what is committed -----------------------------------------------------------------------


def test_work_is_visible_when_the_client_has_the_answer(site: Site) -> None:
    """The COMMIT is over before the response leaves."""
    seen: list[list[str]] = []

    @site.app.post("/")
    def view() -> str:
        site.add("new")
        assert in_transaction()
        return "ok"

    @site.app.after_request
    def look(response: Response) -> Response:
        assert not in_transaction()
        seen.append(site.names)
        return response

    assert site.client.post("/").text == "ok"
    assert seen == [["new"]]
    assert site.names == ["new"]


@pytest.mark.parametrize("way", ["raises", "aborts", "returns"])
@pytest.mark.parametrize("handled", [False, True])
def test_what_ends_a_view_badly_undoes_its_work(site: Site, way: str, handled: bool) -> None:
    """An exception, ``abort()`` and a returned error status; also when a handler answers 200."""
    expected = {"raises": 500, "aborts": 404, "returns": 400}[way]
    if handled:

        @site.app.errorhandler(ValueError)
        @site.app.errorhandler(404)
        def answer(error: Exception) -> str:
            assert not in_transaction()
            return "handled"

        expected = 200 if way != "returns" else 400

    @site.app.post("/")
    def view() -> Any:
        site.add("new")
        site.db.session.flush()
        if way == "raises":
            raise ValueError
        if way == "aborts":
            abort(404)
        return "no", 400

    assert site.client.post("/").status_code == expected
    assert site.names == []
    # And the next request starts clean.
    site.app.view_functions["view"] = lambda: (site.add("next"), "ok")[1]
    assert site.client.post("/").status_code == 200
    assert site.names == ["next"]


@one_database
@pytest.mark.parametrize(
    ("config", "status", "kept"),
    [
        ({}, 399, True),
        ({}, 400, False),
        ({}, 500, False),
        ({"DBKIT_TX_ROLLBACK_STATUS": None}, 400, True),
        ({"DBKIT_TX_ROLLBACK_STATUS": None}, 500, True),
        ({"DBKIT_TX_ROLLBACK_STATUS": 500}, 499, True),
        ({"DBKIT_TX_ROLLBACK_STATUS": 500}, 500, False),
    ],
    indirect=["config"],
)
@pytest.mark.parametrize("form", ["tuple", "response", "dict", "headers"])
def test_the_status_from_which_on_a_view_rolls_back(
    site: Site, status: int, kept: bool, form: str
) -> None:
    """``DBKIT_TX_ROLLBACK_STATUS``, however the status is returned; ``None`` switches it off."""

    @site.app.post("/")
    def view() -> Any:
        site.add("new")
        return {
            "tuple": ("text", status),
            "response": make_response("text", status),
            "dict": ({"a": 1}, status),
            "headers": ("text", f"{status} Odd", {"X-Own": "1"}),
        }[form]

    assert site.client.post("/").status_code == status
    assert site.names == (["new"] if kept else [])


@one_database
@pytest.mark.parametrize("config", [{"DBKIT_TX_ROLLBACK_STATUS": None}], indirect=True)
def test_an_exception_rolls_back_whatever_the_status_rule(site: Site) -> None:
    """The setting is about returned answers."""

    @site.app.post("/")
    def view() -> str:
        site.add("new")
        abort(redirect("/elsewhere"))

    assert site.client.post("/").status_code == redirect("/").status_code
    assert site.names == []


def test_a_caught_database_error_may_be_answered(site: Site) -> None:
    """The view says that it failed, and its work is undone: that is no surprise to anybody."""

    @site.app.post("/")
    def view() -> Any:
        site.add("new")
        try:
            site.add("user")
            site.db.session.flush()
        except IntegrityError:
            return "taken", 409
        return "ok"

    assert site.client.post("/").status_code == 409
    assert site.names == []


def test_a_swallowed_database_error_cannot_look_like_success(site: Site) -> None:
    """Nothing was saved, so the answer is not 200."""

    @site.app.post("/")
    def view() -> str:
        site.add("new")
        with contextlib.suppress(IntegrityError):
            site.db.session.execute(sa.insert(Item).values(name="user"))
        return "ok"

    assert site.client.post("/").status_code == 500
    assert site.names == []


@one_database
def test_rolling_back_silently_keeps_the_answer(site: Site) -> None:
    """A preview: the view answers, and ``set_rollback_only()`` takes its work back."""
    outcomes: list[object] = []

    @site.app.post("/")
    def view() -> str:
        info = current_transaction()
        assert info is not None
        site.add("new")
        on_commit(outcomes.append, "committed")
        on_rollback(outcomes.append)
        after_end(outcomes.append)
        info.set_rollback_only()
        return "preview"

    assert site.client.post("/").text == "preview"
    assert isinstance(outcomes[0], Rollback)
    assert outcomes[1:] == ["rolled_back"]
    assert site.names == []


@one_database
def test_rollback_raised_by_a_view_ends_the_request(site: Site) -> None:
    """It leaves no answer, so it arrives at the error handlers as it is."""
    error = Rollback("stop")
    handled: list[Exception] = []

    @site.app.post("/")
    def view() -> str:
        site.add("new")
        raise error

    assert site.client.post("/").status_code == 500
    site.app._got_first_request = False  # or Flask would refuse a handler now

    @site.app.errorhandler(Rollback)
    def handle(raised: Exception) -> str:
        handled.append(raised)
        return "rolled back"

    assert site.client.post("/").text == "rolled back"
    assert handled == [error]
    assert site.names == []


@one_database
def test_rollback_raised_in_an_inner_block_of_a_view(site: Site) -> None:
    """A savepoint ends there; a joined block belongs to the whole request."""

    @site.app.post("/<kind>")
    def view(kind: str) -> str:
        site.add(f"{kind} outer")
        with savepoint() if kind == "savepoint" else transaction():
            site.add(f"{kind} inner")
            raise Rollback
        return "on"

    assert site.client.post("/savepoint").text == "on"
    assert site.client.post("/joined").status_code == 500
    assert site.names == ["savepoint outer"]


# -- a COMMIT that fails ---------------------------------------------------------------------


def deferred_unique(site: Site) -> None:
    with site.app.app_context(), transaction():
        site.db.session.execute(
            sa.text(
                "CREATE TABLE child (id int, parent int REFERENCES item(id)"
                " DEFERRABLE INITIALLY DEFERRED)"
            )
        )


@pytest.mark.backends("sqlite-file", "sqlite-memory", "postgresql")
@pytest.mark.parametrize("handled", [False, True])
def test_a_commit_that_fails_is_answered_once(site: Site, handled: bool) -> None:
    """The client is not told 200; handlers and ``after_request`` functions run once."""
    deferred_unique(site)
    ran: list[str] = []

    @site.app.post("/")
    def view() -> str:
        ran.append("view")
        site.add("new")
        on_commit(ran.append, "on_commit")
        site.db.session.execute(sa.text("INSERT INTO child VALUES (1, 4711)"))
        return "ok"

    @site.app.after_request
    def after(response: Response) -> Response:
        ran.append("after_request")
        return response

    if handled:

        @site.app.errorhandler(IntegrityError)
        def handle(error: IntegrityError) -> Any:
            ran.append("handler")
            return "broken", 418

    answer = site.client.post("/")
    assert answer.status_code == (418 if handled else 409)
    assert ran == ["view", *(["handler"] if handled else []), "after_request"]
    assert site.names == []


@one_database
def test_a_failing_before_commit_hook_fails_the_request(site: Site) -> None:
    """It is part of the COMMIT."""

    @site.app.post("/")
    def view() -> str:
        site.add("new")
        before_commit(lambda: 1 // 0)
        return "ok"

    assert site.client.post("/").status_code == 500
    assert site.names == []


@one_database
def test_a_failing_hook_after_the_commit_fails_the_answer_and_keeps_the_row(site: Site) -> None:
    """The work is saved; that the receipt was not sent is told all the same."""

    @site.app.post("/")
    def view() -> str:
        site.add("new")
        on_commit(lambda: 1 // 0)
        return "ok"

    assert site.client.post("/").status_code == 500
    assert site.names == ["new"]


def test_an_error_in_after_request_comes_too_late_to_undo(site: Site) -> None:
    """The committed row stays, and nothing is committed a second time."""
    commits: list[int] = []
    event.listen(site.engine, "commit", lambda connection: commits.append(1))

    @site.app.post("/")
    def view() -> str:
        site.add("new")
        return "ok"

    @site.app.after_request
    def fail(response: Response) -> Response:
        site.add("late")
        raise ValueError

    assert site.client.post("/").status_code == 500
    assert site.names == ["new"]
    assert len(commits) == 1


def test_work_done_after_the_view_is_not_committed(site: Site) -> None:
    """Teardown commits nothing: what ``after_request`` adds has to have a scope of its own."""

    @site.app.post("/")
    def view() -> str:
        return "ok"

    @site.app.after_request
    def work(response: Response) -> Response:
        site.add("without")
        site.db.session.flush()
        return response

    @site.app.after_request
    def scoped(response: Response) -> Response:
        with transaction():
            site.add("with")
        return response

    assert site.client.post("/").status_code == 200
    assert site.names == ["with"]


# -- before the view -------------------------------------------------------------------------


def test_a_loader_may_have_read_before_the_view(site: Site) -> None:
    """The usual login: the user is loaded first, and can be used after the COMMIT."""

    @site.app.before_request
    def load() -> None:
        g.user = site.find("user")

    @site.app.post("/")
    def view() -> str:
        assert g.user in site.db.session
        site.add(f"of {g.user.name}")
        return "ok"

    @site.app.after_request
    def use(response: Response) -> Response:
        response.headers["X-User"] = g.user.name
        return response

    answer = site.client.post("/")
    assert answer.headers["X-User"] == "user"
    assert site.names == ["of user"]


def test_work_left_open_before_the_view_is_refused(site: Site) -> None:
    """The view must not commit, or lose, what it knows nothing of."""

    @site.app.before_request
    def forget() -> None:
        site.add("forgotten")

    @site.app.post("/")
    def view() -> str:
        return "ok"

    assert site.client.post("/").status_code == 500
    assert site.names == []


@one_database
@pytest.mark.parametrize("config", [{"DBKIT_TX_STRAY_WORK": "adopt"}], indirect=True)
def test_work_left_open_before_the_view_may_be_adopted(site: Site) -> None:
    """``DBKIT_TX_STRAY_WORK="adopt"``."""

    @site.app.before_request
    def visit() -> None:
        site.add(f"visit of {request.path[1:]}")

    @site.app.post("/<status>")
    def view(status: str) -> Any:
        return "done", int(status)

    site.client.post("/200")
    site.client.post("/400")
    assert site.names == ["visit of 200"]


@one_database
def test_an_answer_of_before_request_needs_no_scope(site: Site, sent: list[str]) -> None:
    """The view is not called, so there is nothing around it."""

    @site.app.before_request
    def answer() -> Any:
        return "maintenance", 503

    @site.app.get("/")
    def view() -> str:
        raise AssertionError

    assert site.client.get("/").status_code == 503
    assert sent == []


# -- what is sent ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
def test_a_request_that_uses_no_database_sends_nothing(
    site: Site, sent: list[str], method: str
) -> None:
    """No statement, no BEGIN, no connection; unknown paths included."""

    @site.app.route("/", methods=["GET", "POST", "DELETE"])
    def view() -> str:
        info = current_transaction()
        assert info is not None
        assert info.depth == 1
        return "ok"

    assert site.client.open("/", method=method).status_code == 200
    assert site.client.open("/nowhere", method=method).status_code == 404
    assert site.client.put("/").status_code == 405
    assert sent == []


@pytest.mark.backends("postgresql", "mariadb")
def test_a_read_before_the_view_is_in_the_same_transaction(site: Site, sent: list[str]) -> None:
    """On a server there is nothing to begin anew: one connection, one transaction."""

    @site.app.before_request
    def load() -> None:
        site.find("user")

    @site.app.post("/")
    def view() -> str:
        site.add("new")
        return "ok"

    assert site.client.post("/").status_code == 200
    assert [word for word in sent if word.islower()] == ["checkout", "begin", "commit"]


def modes(site: Site) -> Callable[[], str]:
    """Return a function that tells how far the transaction of the session is."""

    def mode() -> str:
        # Another connection can take the write lock only if this one does not have it.
        raw: Any = site.db.session.connection().connection.dbapi_connection
        assert raw.in_transaction
        path = site.engine.url.database
        assert path is not None
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return "writing"
        else:
            return "reading"
        finally:
            other.close()

    return mode


@one_database
@pytest.mark.parametrize("loads", [True, False])
@pytest.mark.parametrize(
    ("config", "method", "expected"),
    [
        ({}, "GET", ["reading", "writing"]),
        ({}, "HEAD", ["reading", "writing"]),
        ({}, "POST", ["writing", "writing"]),
        ({}, "PUT", ["writing", "writing"]),
        ({}, "PATCH", ["writing", "writing"]),
        ({}, "DELETE", ["writing", "writing"]),
        ({"DBKIT_SQLITE_BEGIN": "deferred"}, "POST", ["reading", "writing"]),
        ({"DBKIT_SQLITE_BEGIN": "deferred"}, "GET", ["reading", "writing"]),
    ],
    indirect=["config"],
)
def test_how_a_request_begins_on_sqlite(
    site: Site, method: str, expected: list[str], loads: bool
) -> None:
    """Writing methods take the write lock first, safe ones only when they write after all."""
    seen: list[str] = []
    mode = modes(site)

    @site.app.before_request
    def load() -> None:
        if loads:
            site.find("user")

    @site.app.route("/", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def view() -> str:
        site.find("user")
        seen.append(mode())
        site.add("new")
        site.db.session.flush()
        seen.append(mode())
        return "ok"

    assert site.client.open("/", method=method).status_code == 200
    assert seen == expected
    assert site.names == ["new"]


@one_database
def test_a_safe_request_keeps_what_the_loader_read(site: Site, sent: list[str]) -> None:
    """A page that only reads is one transaction, and the user is not read twice."""

    @site.app.before_request
    def load() -> None:
        g.user = site.find("user")

    @site.app.get("/")
    def view() -> str:
        name: str = g.user.name
        return name

    assert site.client.get("/").text == "user"
    assert [text.split()[0] for text in sent] == ["checkout", "begin", "SELECT", "commit"]


@one_database
def test_scopes_inside_the_view_join_it(site: Site, sent: list[str]) -> None:
    """Of any method: they ask for nothing that is not in force."""

    @site.app.route("/", methods=["GET", "POST"])
    def view() -> str:
        with transaction() as inner:
            assert inner.depth == 2
            site.add(request.method)
        return "ok"

    for method in ("GET", "POST"):
        assert site.client.open("/", method=method).status_code == 200
    assert not [text for text in sent if "SAVEPOINT" in text]
    assert site.names == ["GET", "POST"]


# -- without a scope -------------------------------------------------------------------------


@one_database
def test_marked_views_have_no_scope(site: Site) -> None:  # noqa: C901 - a list of views
    """Functions, classes, single methods, ``decorators``, methods of objects and partials."""
    seen: dict[str, bool] = {}

    def look() -> str:
        seen[request.endpoint or ""] = in_transaction()
        return "ok"

    def passed_on(view: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(view)(functools.partial(view))

    @site.app.get("/function")
    @non_transactional
    def function() -> str:
        return look()

    @site.app.get("/decorated")
    @passed_on
    @non_transactional
    def decorated() -> str:
        return look()

    @non_transactional
    class Whole(MethodView):
        def get(self) -> str:
            return look()

    class Part(MethodView):
        @non_transactional
        def get(self) -> str:
            return look()

        def post(self) -> str:
            return look()

    class Listed(View):
        decorators = [non_transactional]  # noqa: RUF012

        def dispatch_request(self) -> str:
            return look()

    class Single(View):
        @non_transactional
        def dispatch_request(self) -> str:
            return look()

    class Plain(MethodView):
        def get(self) -> str:
            return look()

    class Thing:
        def view(self) -> str:
            return look()

    view_classes: tuple[Any, ...] = (Whole, Part, Listed, Single, Plain)
    for view_class in view_classes:
        name = view_class.__name__.lower()
        site.app.add_url_rule(f"/{name}", view_func=view_class.as_view(name))
    thing = Thing()
    site.app.add_url_rule("/bound", "bound", non_transactional(thing.view))
    site.app.add_url_rule("/joined", "joined", thing.view)
    site.app.add_url_rule("/partial", "partial", non_transactional(functools.partial(look)))

    def ask(path: str, method: str = "GET") -> bool:
        assert site.client.open(path, method=method).status_code == 200
        return seen.popitem()[1]

    for path in (
        *("/function", "/decorated", "/whole", "/part", "/listed", "/single"),
        *("/bound", "/partial"),
    ):
        assert not ask(path), path
        assert not ask(path, "HEAD"), path
    assert ask("/part", "POST")
    assert ask("/plain")
    assert ask("/plain", "HEAD")
    assert ask("/joined")


@one_database
def test_a_marked_view_keeps_its_own_scopes(site: Site) -> None:
    """It decides itself what is committed."""

    @site.app.post("/")
    @non_transactional
    def view() -> Any:
        with transaction():
            site.add("first")
        with transaction(durable=True):
            site.add("second")
        return "still", 400

    assert site.client.post("/").status_code == 400
    assert site.names == ["first", "second"]


@one_database
@pytest.mark.parametrize("config", [{"DBKIT_TX_PER_REQUEST": False}], indirect=True)
def test_without_the_setting_views_have_no_scope(site: Site) -> None:
    """Per-request mode is off by default."""

    @site.app.post("/")
    def view() -> str:
        assert not in_transaction()
        site.add("lost")
        return "ok"

    assert site.client.post("/").status_code == 200
    assert site.names == []


# -- replay ----------------------------------------------------------------------------------


@one_database
def test_a_view_with_retry_is_replayed_as_a_whole(site: Site) -> None:
    """The scope of the request is the outermost one, so it takes over the view's policy."""
    numbers: list[int] = []

    class Conflict(Exception):
        pass

    def flaky() -> Any:
        info = current_transaction()
        assert info is not None
        numbers.append(info.attempt)
        site.add("new")
        site.db.session.flush()
        if info.attempt == 1:
            raise Conflict
        return "done"

    policy = Retry(on=(Conflict,), base=0)

    class ByMethod(MethodView):
        @transaction(retry=policy)
        def post(self) -> Any:
            site.db.session.execute(sa.delete(Item).filter_by(name="new"))
            return flaky()

    site.app.add_url_rule(
        "/function", "function", transaction(retry=policy)(flaky), methods=["POST"]
    )
    site.app.add_url_rule("/method", view_func=ByMethod.as_view("method"))
    site.app.add_url_rule("/plain", "plain", flaky, methods=["POST"])
    assert site.client.post("/function").text == "done"
    assert site.client.post("/method").text == "done"
    assert numbers == [1, 2, 1, 2]
    assert site.client.post("/plain").status_code == 409  # there is one of that name
    assert site.names == ["new"]


@one_database
def test_the_decorator_marks_functions_however_they_are_named(site: Site) -> None:
    """Wrapping keeps name and signature."""

    @transaction(retry=2)
    def named(first: int, *, second: str = "x") -> None:
        """Says something."""

    assert (named.__name__, named.__doc__) == ("named", "Says something.")


# -- contexts --------------------------------------------------------------------------------


def test_a_request_inside_a_scope_joins_it(site: Site) -> None:
    """With an application context pushed, a test's request has the test's session.

    Flask 3.2 gives each request a context of its own: there its scope is refused as in any nested
    context.
    """

    @site.app.post("/<name>")
    def view(name: str) -> str:
        site.add(name)
        return "ok"

    status = 200 if CONTEXTS_ARE_SHARED else 500
    with site.app.app_context():
        with transaction() as outer:
            assert site.client.post("/undone").status_code == status
            outer.set_rollback_only()
        with transaction():
            assert site.client.post("/kept").status_code == status
    assert site.names == (["kept"] if CONTEXTS_ARE_SHARED else [])


@one_database
@pytest.mark.parametrize("way", ["raises", "aborts", "returns", "rollback"])
def test_a_request_that_fails_inside_a_scope_takes_it_along(site: Site, way: str) -> None:
    """Its work cannot be undone alone, and the scope around it must not end as if it were."""

    @site.app.post("/")
    def view() -> Any:
        site.add("new")
        if way == "raises":
            raise ValueError
        if way == "rollback":
            raise Rollback
        if way == "aborts":
            abort(404)
        return "no", 404

    with site.app.app_context():
        statuses: list[int] = []
        alone = nullcontext() if not CONTEXTS_ARE_SHARED else pytest.raises(UnexpectedRollback)
        with alone, transaction():
            statuses.append(site.client.post("/").status_code)
        answered = CONTEXTS_ARE_SHARED and way in {"aborts", "returns"}
        assert statuses == [404 if answered else 500]
    assert site.names == []


def test_a_request_in_a_context_without_a_scope_has_its_own(site: Site) -> None:
    """The session is shared, the scope is the request's."""

    @site.app.post("/")
    def view() -> str:
        site.add("new")
        return "ok"

    with site.app.app_context():
        site.find("user")
        assert site.client.post("/").status_code == 200
        assert not in_transaction()
        site.db.session.rollback()
    assert site.names == ["new"]


@pytest.mark.requires("several_connections")
def test_requests_in_threads_are_independent(site: Site) -> None:
    """Each thread has its context, session and scope."""
    inside = threading.Barrier(2, timeout=10)
    statuses: list[int] = []

    @site.app.get("/<name>")
    def view(name: str) -> str:
        inside.wait()  # both are in their scopes
        site.add(name)
        return "ok"

    def get(name: str) -> None:
        statuses.append(site.app.test_client().get(f"/{name}").status_code)

    threads = [threading.Thread(target=get, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [200, 200]
    assert sorted(site.names) == ["one", "two"]


class InThread:
    """Runs a view's coroutine in another thread, with a copy of the context, as asgiref does."""

    def __init__(self, here: bool) -> None:
        self.here = here

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            context = contextvars.copy_context()
            result: list[Any] = []
            errors: list[BaseException] = []

            def work() -> None:
                try:
                    result.append(asyncio.run(function(*args, **kwargs)))
                except BaseException as error:
                    errors.append(error)

            if self.here:
                work()
            else:
                thread = threading.Thread(target=context.run, args=(work,))
                thread.start()
                thread.join(20)
            if errors:
                raise errors[0]
            return result[0]

        return run


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("as_class", [True, False])
def test_async_views_run_in_the_scope_of_their_request(
    site: Site, monkeypatch: pytest.MonkeyPatch, here: bool, as_class: bool
) -> None:
    """Their thread is another one, and has the scope while the request waits for it."""
    monkeypatch.setattr(site.app, "async_to_sync", InThread(here))
    ran: list[str] = []

    async def view() -> Any:
        site.add(request.args["name"])
        on_commit(ran.append, request.args["name"])
        with transaction() as inner:
            assert inner.depth == 2
            await asyncio.sleep(0)
            with savepoint():
                site.db.session.flush()
        return "ok", int(request.args["status"])

    if as_class:

        class Async(MethodView):
            async def post(self) -> Any:
                return await view()

        site.app.add_url_rule("/", view_func=Async.as_view("async"))
    else:
        site.app.add_url_rule("/", view_func=view, methods=["POST"])
    assert site.client.post("/?name=kept&status=200").status_code == 200
    assert site.client.post("/?name=undone&status=404").status_code == 404
    assert site.names == ran == ["kept"]
    if application_of(site.app).part(ScopeDefaults).shared_memory:
        return
    assert site.checked_out == 0


@one_database
def test_another_thread_of_an_async_view_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scope went to the view's thread; a pool thread that shares the context is a third."""
    monkeypatch.setattr(site.app, "async_to_sync", InThread(here=False))

    @site.app.post("/")
    async def view() -> str:
        def work() -> None:
            with transaction():
                pass

        with transaction():
            pass
        with pytest.raises(OwnershipError, match="another thread"):
            await asyncio.to_thread(work)
        site.add("new")
        return "ok"

    assert site.client.post("/").status_code == 200
    assert site.names == ["new"]


# -- bodies ----------------------------------------------------------------------------------


def test_the_scope_does_not_span_a_streamed_body(site: Site) -> None:
    """The COMMIT is over when the first piece is made; ``stream()`` gives the body its own."""

    @site.app.get("/<kind>")
    def view(kind: str) -> Any:
        site.add(kind)

        def pieces() -> Iterator[str]:
            yield f"in a scope: {in_transaction()}\n"
            yield from site.db.session.scalars(sa.select(Item.name).order_by(Item.id))

        return Response(stream(pieces()) if kind == "own" else stream_with_context(pieces()))

    assert site.client.get("/plain").text == "in a scope: False\nuserplain"
    assert site.client.get("/own").text == "in a scope: True\nuserplainown"


@pytest.mark.requires("several_connections")
def test_two_bodies_may_be_streamed_in_turns(site: Site) -> None:
    """A body that is half sent is in nobody's way, not even in the same thread."""

    @site.app.get("/")
    def read() -> Response:
        def pieces() -> Iterator[str]:
            for name in site.db.session.scalars(sa.select(Item.name).order_by(Item.id)):
                yield f"{name} {request.args['n']}\n"
                yield "more\n"

        return Response(stream(pieces()))

    @site.app.post("/")
    def write() -> str:
        info = current_transaction()
        assert info is not None
        assert info.depth == 1
        site.add("new")
        return "ok"

    first = site.client.get("/?n=1", buffered=False)
    one = iter(first.response)
    assert next(one) == b"user 1\n"
    second = site.client.get("/?n=2", buffered=False)
    two = iter(second.response)
    assert next(two) == b"user 2\n"
    assert next(one) == b"more\n"
    first.close()
    assert site.client.post("/").text == "ok"
    assert next(two) == b"more\n"
    second.close()
    assert site.checked_out == 0
    assert site.names == ["new"]
