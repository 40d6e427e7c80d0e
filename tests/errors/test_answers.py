"""Who answers a database error, with what, and what happens beside it."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import sqlalchemy as sa
from flask import (
    Blueprint,
    Flask,
    Response,
    got_request_exception,
    make_response,
    stream_with_context,
)
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from werkzeug.exceptions import Conflict, HTTPException, InternalServerError

from flask_dbkit import (
    ConfigError,
    ConflictProblem,
    DBKitError,
    DBProblem,
    InternalProblem,
    QueryError,
    RetryProblem,
    UnavailableProblem,
    UnexpectedRollback,
    classify,
    db_error,
    get_or_create,
    stream,
    transaction,
)
from flask_dbkit.lists.exceptions import mistake
from tests.errors.faults import FAULTS, MAIL, SECRET, Site
from tests.support.flask_versions import CONTEXTS_ARE_SHARED

pytestmark = pytest.mark.backends("sqlite-file")
NewSite = Callable[..., Site]
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
JSON = {"Accept": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def site(new_site: NewSite) -> Site:
    return new_site()


def code_of(answer: Any) -> object:
    return (answer.get_json(silent=True) or {}).get("code")


# -- who gets what -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "is_page"),
    [
        ({}, False),
        ({"Accept": "*/*"}, False),
        (JSON, False),
        ({"Accept": "application/problem+json"}, False),
        ({"Accept": "text/html;q=0.5, application/json;q=0.9"}, False),
        ({"Accept": "image/png"}, False),
        (HTML, True),
        ({"Accept": "text/html"}, True),
        (FORM, True),
        ({"Content-Type": "multipart/form-data; boundary=x"}, True),
        ({**FORM, **JSON}, False),
        ({**FORM, "Accept": "*/*"}, True),
        ({"Content-Type": "application/json"}, False),
        ({"Content-Type": "application/json; charset=utf-8", **HTML}, False),
        ({"Content-Type": "application/vnd.api+json"}, False),
    ],
)
def test_a_page_is_for_browsers_and_forms(
    site: Site, headers: dict[str, str], is_page: bool
) -> None:
    """Programs get a problem document; so does who does not say what it wants."""
    answer = site.app.test_client().post("/unique", headers=headers)
    assert answer.status_code == 409
    expected = "text/html" if is_page else "application/problem+json"
    assert answer.mimetype == expected
    assert "Accept" in answer.headers["Vary"]
    assert (code_of(answer) == "conflict.unique") == (not is_page)


def test_the_problem_document_has_the_members_of_rfc_9457(site: Site) -> None:
    """And the ones that programs and people need: code, fields, request_id."""
    answer = site.app.test_client().post("/unique", headers={"X-Request-ID": "abcd-1234"})
    assert answer.get_json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "A record with this value exists already.",
        "code": "conflict.unique",
        "fields": ["mail"],
        "request_id": "abcd-1234",
    }


@pytest.mark.parametrize("sent", ["short", "x" * 129, "with space", "a\u00e4" * 8, ""])
def test_a_request_id_that_cannot_be_trusted_is_replaced(site: Site, sent: str) -> None:
    """What a client sends would end up in a log line."""
    client = site.app.test_client()
    answer = client.get("/unique", headers={"X-Request-ID": sent})
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.get_json()["request_id"])


def test_flask_may_hand_its_context_before_the_exception(site: Site) -> None:
    """As it does from 3.2 on: what is wrapped takes both, and hands on what it was given."""
    error = IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed: member.email"))
    handle: Any = site.app.handle_user_exception
    with site.app.test_request_context(headers=JSON) as context:
        answer = handle(context, error)
        assert (answer.status_code, answer.get_json()) == handle_plainly(site.app, error)


def handle_plainly(app: Flask, error: Exception) -> tuple[int, Any]:
    answer: Any = app.handle_user_exception(error)
    return answer.status_code, answer.get_json()


def test_the_type_is_made_of_the_base_and_the_code(new_site: NewSite) -> None:
    """Mistakes in a query string have it as well: one format for all."""
    site = new_site(DBKIT_PROBLEM_BASE="https://example.org/problems/")

    @site.app.get("/list")
    def books() -> str:
        raise QueryError([mistake("sort", "unknown_sort", "colour", ["title"])])

    client = site.app.test_client()
    assert client.get("/unique").get_json()["type"].endswith("/problems/conflict.unique")
    answer = client.get("/list")
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert answer.get_json()["type"] == "https://example.org/problems/query.invalid"


# -- statuses and words --------------------------------------------------------------------


def test_a_stale_edit_is_a_failed_precondition_if_the_request_had_one(site: Site) -> None:
    """RFC 9110: a request with If-Match that does not match is a 412."""
    client = site.app.test_client()
    assert client.get("/stale").status_code == 409
    answer = client.get("/stale", headers={"If-Match": '"1"'})
    assert (answer.status_code, code_of(answer)) == (412, "conflict.stale")
    assert client.get("/unique", headers={"If-Match": '"1"'}).status_code == 409


def test_statuses_can_be_changed_by_code(new_site: NewSite) -> None:
    """For an API that promised others."""
    site = new_site(
        DBKIT_ERROR_STATUS={"conflict.unique": 400, "internal": 503},
        DBKIT_ERROR_VALIDATION_STATUS=422,
    )
    client = site.app.test_client()
    statuses = {name: client.get(f"/{name}").status_code for name in ("unique", "null", "check")}
    assert statuses == {"unique": 400, "null": 422, "check": 422}
    answer = client.get("/typo")
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("DBKIT_ERROR_STATUS", {"conflict.uniqe": 400}, "Did you mean 'conflict.unique'?"),
        ("DBKIT_ERROR_STATUS", {"conflict.unique": 200}, "from 400 to 599"),
        ("DBKIT_ERROR_STATUS", {"conflict.unique": True}, "from 400 to 599"),
        ("DBKIT_ERROR_STATUS", 409, "a dict such as"),
        ("DBKIT_ERROR_VALIDATION_STATUS", 500, "400 to 499"),
        ("DBKIT_ERROR_RETRY_AFTER", -1, "from 0"),
        ("DBKIT_PROBLEM_BASE", "", "a URL such as"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(
    new_site: NewSite, key: str, value: object, part: str
) -> None:
    """At start-up, with what is allowed."""
    with pytest.raises(ConfigError, match=re.escape(part)):
        new_site(create=False, **{key: value})


def test_an_application_gives_its_own_words_for_a_constraint(site: Site) -> None:
    """The name is the model's on every database; words on the model are for those without."""
    site.kit.errors.constraint("uq_account_email", "Taken.", field="address", status=422)
    (key,) = site.models.note.__table__.foreign_keys
    key.info["dbkit"] = {"message": "There is no such account.", "field": "account"}
    site.models.account.__table__.c.email.info["dbkit"] = {"message": "Say an address."}
    client = site.app.test_client()
    got = client.get("/unique").get_json()
    assert (got["status"], got["detail"], got["fields"]) == (422, "Taken.", ["address"])
    got = client.get("/reference").get_json()
    assert (got["status"], got["detail"]) == (409, "There is no such account.")
    assert got["fields"] == ["account"]
    got = client.get("/null").get_json()
    assert (got["detail"], got["fields"]) == ("Say an address.", ["mail"])


def test_words_without_a_status_of_their_own_leave_it_to_the_settings(new_site: NewSite) -> None:
    """409 is what a broken constraint is anyway."""
    site = new_site(DBKIT_ERROR_VALIDATION_STATUS=422, DBKIT_ERROR_STATUS={"conflict.unique": 400})
    site.kit.errors.constraint("ck_account_age", "Not so young.")
    site.kit.errors.constraint("uq_account_email", "Taken.", status=403)
    client = site.app.test_client()
    answer = client.get("/check")
    assert (answer.status_code, answer.get_json()["detail"]) == (422, "Not so young.")
    assert client.get("/unique").status_code == 403


@pytest.mark.parametrize(
    "arguments", [("", "Taken."), ("uq_x", ""), ("uq_x", "Taken.", {"status": 200})]
)
def test_words_that_cannot_be_used_are_refused(site: Site, arguments: tuple[Any, ...]) -> None:
    """Where they are given, not at the first conflict."""
    *words, options = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    with pytest.raises(ValueError):
        site.kit.errors.constraint(*words, **options)


def test_fields_can_be_left_out(new_site: NewSite) -> None:
    """An answer that names the field tells who has an account."""
    site = new_site(DBKIT_ERROR_FIELDS=False)
    assert "fields" not in site.app.test_client().get("/unique").get_json()


@pytest.mark.parametrize(("wait_s", "allowed"), [(0, {1, 2}), (2, {2, 3, 4}), (30, {30, 31, 32})])
def test_a_client_is_told_when_to_come_back(
    new_site: NewSite, wait_s: int, allowed: set[int]
) -> None:
    """A whole number of at least a second, and not the same for all."""
    site = new_site(DBKIT_ERROR_RETRY_AFTER=wait_s)
    client = site.app.test_client()
    told = {client.get("/locked").headers["Retry-After"] for _ in range(6)}
    assert all(text.isdecimal() for text in told)
    assert {int(text) for text in told} <= allowed


# -- the application's handlers ------------------------------------------------------------


@pytest.mark.parametrize("kind", [IntegrityError, SQLAlchemyError, sa.exc.DBAPIError])
def test_handlers_for_the_exception_itself_come_first(site: Site, kind: type[Exception]) -> None:
    """They did so before there was a DBKit, and nothing of ours is done."""
    sent: list[object] = []
    with db_error.connected_to(lambda app, **facts: sent.append(facts), site.app):

        @site.app.errorhandler(DBProblem)
        def never(problem: DBProblem) -> Any:
            raise AssertionError

        @site.app.errorhandler(kind)
        def own(error: Exception) -> Any:
            return f"own {type(error).__name__}", 418

        answer = site.app.test_client().get("/unique")
    assert (answer.status_code, answer.text) == (418, "own IntegrityError")
    assert sent == []


def test_a_handler_of_a_blueprint_is_asked_before_those_of_the_application(site: Site) -> None:
    """As Flask does it; a blueprint's handler for every exception is none for ours."""
    part = Blueprint("part", __name__)

    @part.get("/part/<name>")
    def view(name: str) -> str:
        return str(FAULTS[name].provoke(site))

    part.register_error_handler(IntegrityError, lambda error: ("of the blueprint", 418))
    part.register_error_handler(Exception, lambda error: ("every exception", 418))
    site.app.register_error_handler(IntegrityError, lambda error: ("of the application", 418))
    site.app.register_blueprint(part)
    client = site.app.test_client()
    assert client.get("/part/unique").text == "of the blueprint"
    assert code_of(client.get("/part/typo")) == "internal"


def test_handlers_for_kinds_of_problems_get_the_problem(site: Site) -> None:
    """The most specific class first, with the original as its cause."""

    @site.app.errorhandler(DBProblem)
    def any_problem(problem: DBProblem) -> Any:
        return {"any": problem.code}, problem.status

    @site.app.errorhandler(ConflictProblem)
    def conflict(problem: ConflictProblem) -> Any:
        assert isinstance(problem.__cause__, IntegrityError)
        return {"conflict": problem.fields}, problem.status

    client = site.app.test_client()
    assert client.get("/unique", headers=HTML).get_json() == {"conflict": ["mail"]}
    answer = client.get("/typo")
    assert (answer.status_code, answer.get_json()) == (500, {"any": "internal"})


def test_a_handler_for_every_error_of_the_library_is_one_for_problems(site: Site) -> None:
    """``DBProblem`` is a ``DBKitError``."""
    site.app.register_error_handler(DBKitError, lambda error: (type(error).__name__, 418))
    assert site.app.test_client().get("/null").text == "InvalidProblem"


def test_a_browser_gets_the_page_of_the_status(site: Site) -> None:
    """It sees an HTTPException as for ``abort(409)``, with a description that is safe."""
    seen: list[HTTPException] = []

    @site.app.errorhandler(409)
    def page(error: HTTPException) -> Any:
        seen.append(error)
        return f"<h1>{error.description}</h1>", 409

    client = site.app.test_client()
    answer = client.get("/unique", headers=HTML)
    assert answer.text == "<h1>A record with this value exists already.</h1>"
    assert isinstance(seen[0], Conflict)
    assert isinstance(seen[0].__cause__, ConflictProblem)
    assert code_of(client.get("/unique")) == "conflict.unique"
    assert len(seen) == 1


def test_a_page_of_a_503_keeps_its_retry_after(site: Site) -> None:
    """The application's page knows nothing of it."""
    site.app.register_error_handler(503, lambda error: ("<h1>Busy</h1>", 503))
    answer = site.app.test_client().get("/locked", headers=HTML)
    assert answer.text == "<h1>Busy</h1>"
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_page_of_a_500_finds_the_original_exception(site: Site) -> None:
    """As it does for an error that nobody handles."""
    seen: list[Any] = []

    @site.app.errorhandler(500)
    def page(error: InternalServerError) -> Any:
        seen.append(error.original_exception)
        return "<h1>Ours</h1>", 500

    assert site.app.test_client().get("/typo", headers=HTML).text == "<h1>Ours</h1>"
    assert isinstance(seen[0], OperationalError)


def test_a_handler_for_every_exception_comes_last(site: Site) -> None:
    """A browser without a page gets it; programs get the problem."""
    seen: list[Exception] = []

    @site.app.errorhandler(Exception)
    def every(error: Exception) -> Any:
        seen.append(error)
        return "every", 418

    client = site.app.test_client()
    assert code_of(client.get("/unique")) == "conflict.unique"
    assert client.get("/unique", headers=HTML).text == "every"
    assert isinstance(seen[0], Conflict)


def test_a_handler_for_http_errors_comes_before_it(site: Site) -> None:
    """As for any other HTTP error."""
    site.app.register_error_handler(Exception, lambda error: ("every", 418))
    site.app.register_error_handler(HTTPException, lambda error: ("http", error.code))
    answer = site.app.test_client().get("/unique", headers=HTML)
    assert (answer.status_code, answer.text) == (409, "http")


def test_a_page_that_asks_the_database_too_is_replaced(site: Site) -> None:
    """The page for "the database is away" shows the name of the user, perhaps."""

    @site.app.errorhandler(503)
    def page(error: HTTPException) -> Any:
        return FAULTS["away"].provoke(site)

    answer = site.app.test_client().get("/away", headers=HTML)
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert "cannot reach its data" in answer.text


def test_a_page_with_a_mistake_of_its_own_is_a_500(site: Site) -> None:
    """It is not hidden behind the error it was for."""

    @site.app.errorhandler(409)
    def page(error: HTTPException) -> Any:
        raise ZeroDivisionError

    assert site.app.test_client().get("/unique", headers=HTML).status_code == 500


def test_an_error_inside_a_handler_is_answered(site: Site) -> None:
    """A handler that asks a database that is away does not end in a traceback."""

    @site.app.errorhandler(IntegrityError)
    def own(error: IntegrityError) -> Any:
        site.db.session.rollback()
        return FAULTS["away"].provoke(site)

    assert code_of(site.app.test_client().get("/unique")) == "unavailable"


def test_an_error_in_after_request_is_answered(site: Site) -> None:
    """Applications commit there."""
    once: list[int] = []

    @site.app.after_request
    def commit(response: Response) -> Response:
        if not once:
            once.append(1)
            FAULTS["unique"].provoke(site)
        return response

    site.app.add_url_rule("/fine", view_func=lambda: "fine")
    answer = site.app.test_client().get("/fine")
    assert (answer.status_code, code_of(answer)) == (409, "conflict.unique")


def test_an_error_that_is_no_database_error_is_left_alone(site: Site) -> None:
    """Flask's own 500, and the application's pages for it."""

    @site.app.get("/zero")
    def zero() -> str:
        raise ZeroDivisionError

    answer = site.app.test_client().get("/zero", headers=JSON)
    assert (answer.status_code, answer.mimetype) == (500, "text/html")
    site.app.testing = True
    with pytest.raises(ZeroDivisionError):
        site.app.test_client().get("/zero")


def test_a_problem_can_be_raised_by_the_application(site: Site) -> None:
    """The result of ``classify()``, or one made by hand."""

    @site.app.get("/by-hand")
    def by_hand() -> str:
        raise UnavailableProblem("unavailable", detail="The archive is closed.")

    answer = site.app.test_client().get("/by-hand")
    assert (answer.status_code, code_of(answer)) == (503, "unavailable")
    assert answer.get_json()["detail"] == "The archive is closed."


# -- what happens beside the answer --------------------------------------------------------


def test_error_trackers_hear_of_every_5xx_once(site: Site) -> None:
    """Flask sends the signal for unhandled errors only, and trackers live on it."""
    heard: list[Exception] = []

    def hear(app: Flask, exception: Exception, **_: object) -> None:
        heard.append(exception)

    with got_request_exception.connected_to(hear, site.app):
        client = site.app.test_client()
        for name in ("unique", "null", "typo", "away"):
            client.get(f"/{name}")
        client.get("/missing_table", headers=HTML)
    assert [type(error) for error in heard] == [OperationalError] * 3


def test_a_problem_raised_again_by_its_handler_is_reported_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler looked, and left it to the library."""

    @site.app.errorhandler(DBProblem)
    def look(problem: DBProblem) -> Any:
        raise problem

    heard: list[Exception] = []
    with got_request_exception.connected_to(lambda app, **_: heard.append(app), site.app):
        answer = site.app.test_client().get("/typo")
    assert code_of(answer) == "internal"
    assert len(heard) == 1
    assert [record.name for record in caplog.records].count("flask_dbkit.errors") == 1


def test_an_error_is_one_line_in_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """With what an operator looks for, and the id that the client was given."""
    caplog.set_level(logging.INFO)
    answer = site.app.test_client().get("/unique")
    (record,) = [record for record in caplog.records if record.name == "flask_dbkit.errors"]
    assert record.levelno == logging.WARNING
    line = record.getMessage()
    for part in (
        "code=conflict.unique",
        "vendor_code=SQLITE_CONSTRAINT_UNIQUE",
        "constraint=uq_account_email",
        "endpoint=unique",
        f"request_id={answer.get_json()['request_id']}",
    ):
        assert part in line
    assert re.search(r"statement=[0-9a-f]{12} ", line)
    assert record.exc_info is None
    caplog.clear()
    site.app.test_client().get("/typo")
    (record,) = [record for record in caplog.records if record.name == "flask_dbkit.errors"]
    assert record.levelno == logging.ERROR
    assert "Traceback" in str(record.exc_text)


def test_the_session_is_clean_for_the_handler(site: Site) -> None:
    """A page that shows the user's name can read it."""

    @site.app.errorhandler(ConflictProblem)
    def read(problem: ConflictProblem) -> Any:
        return str(site.db.session.get_one(site.models.account, 1).mail)

    assert site.app.test_client().get("/unique").text == MAIL


def test_a_scope_around_the_request_keeps_its_transaction(site: Site) -> None:
    """A test that calls the client inside a scope of its own rolls back itself.

    From Flask 3.2 on the request is a transaction of its own, and takes nothing along.
    """
    with site.app.app_context():
        alone = nullcontext() if not CONTEXTS_ARE_SHARED else pytest.raises(UnexpectedRollback)
        with alone:
            with transaction():
                site.db.session.add(site.models.note(id=5, account_id=1))
                assert site.app.test_client().get("/unique").status_code == 409
        kept = site.db.session.get(site.models.note, 5) is not None
        assert kept is not CONTEXTS_ARE_SHARED


@pytest.mark.parametrize("per_request", [False, True])
def test_per_request_mode_answers_the_same(new_site: NewSite, per_request: bool) -> None:
    """The scope has rolled back before the error is looked at."""
    site = new_site(DBKIT_TX_PER_REQUEST=per_request)
    client = site.app.test_client()
    for name in ("unique", "null", "stale", "typo", "away"):
        code = FAULTS[name].codes["sqlite"]
        assert code_of(client.post(f"/{name}")) == code
    with site.app.app_context():
        assert site.db.session.get(site.models.account, 50) is None


def test_a_view_that_is_replayed_in_vain_is_told_to_come_back(site: Site) -> None:
    """The last error arrives as it is, and is a 503."""
    runs: list[int] = []

    @site.app.post("/replayed")
    @transaction(retry=3)
    def replayed() -> str:
        runs.append(1)
        raise classify_busy()

    answer = site.app.test_client().post("/replayed")
    assert (answer.status_code, code_of(answer)) == (503, "retry")
    assert runs == [1, 1, 1]


def classify_busy() -> Exception:
    """Make the error SQLite raises for a lock, as SQLAlchemy wraps it."""
    import sqlite3

    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.sqlite_errorname = "SQLITE_BUSY"
    wrapped = OperationalError("INSERT", {}, error)
    assert isinstance(classify(wrapped), RetryProblem)
    return wrapped


def test_helpers_of_the_library_are_answered_too(site: Site) -> None:
    """``get_or_create`` lets what it cannot cure through."""

    @site.app.post("/create")
    def create() -> str:
        get_or_create(site.models.note, id=9, account_id=4711)
        site.db.session.commit()
        return "made"

    assert code_of(site.app.test_client().post("/create")) == "conflict.reference"


# -- debugging -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"TESTING": True, "DBKIT_ERROR_DEBUG": False},
        {"DEBUG": True},
        {"PROPAGATE_EXCEPTIONS": True},
        {"DBKIT_ERROR_DEBUG": True},
    ],
)
def test_answers_are_the_same_in_tests_and_in_debug_mode(
    new_site: NewSite, config: dict[str, Any]
) -> None:
    """As for every error that has a handler; but for mistakes of the code, see below."""
    site = new_site(**config)
    client = site.app.test_client()
    assert code_of(client.get("/unique")) == "conflict.unique"
    assert code_of(client.get("/typo")) == "internal"


@pytest.mark.parametrize("config", [{"TESTING": True}, {"DEBUG": True, "DBKIT_ERROR_DEBUG": True}])
def test_a_mistake_of_the_code_is_raised_to_a_test_and_to_the_debugger(
    new_site: NewSite, config: dict[str, Any]
) -> None:
    """And nothing else; the SQL is in it."""
    site = new_site(**config)
    part = Blueprint("part", __name__)
    part.add_url_rule("/part", view_func=lambda: str(FAULTS["typo"].provoke(site)))
    part.register_error_handler(InternalProblem, lambda problem: ("own", 500))
    site.app.register_blueprint(part)
    client = site.app.test_client()
    assert code_of(client.get("/unique")) == "conflict.unique"
    assert code_of(client.get("/away")) == "unavailable"
    with pytest.raises(OperationalError, match=r"\[SQL: SELEC '…'\]"):
        client.get("/typo")
    assert client.get("/part").text == "own"
    assert client.get("/no_row").status_code == 404


def test_without_answers_flask_does_what_it_does(new_site: NewSite) -> None:
    """One setting switches all of it off; classify() works on."""
    site = new_site(DBKIT_ERRORS=False, TESTING=True)
    with pytest.raises(IntegrityError) as caught:
        site.app.test_client().get("/unique")
    problem = classify(caught.value)
    assert problem is not None
    assert problem.constraint == "uq_account_email"
    with pytest.raises(OverflowError):
        site.app.test_client().get("/too_large")


def test_async_views_and_handlers_are_answered(site: Site) -> None:
    """Where Flask has its extra for them; handlers go through ``ensure_sync``."""
    called: list[str] = []
    plain = site.app.ensure_sync

    def ensure_sync(function: Callable[..., Any]) -> Callable[..., Any]:
        called.append(getattr(function, "__name__", ""))
        return plain(function)

    setattr(site.app, "ensure_sync", ensure_sync)

    @site.app.errorhandler(ConflictProblem)
    def handle(problem: ConflictProblem) -> Any:
        return make_response("handled", 409)

    assert site.app.test_client().get("/unique").text == "handled"
    assert "handle" in called


# -- streamed bodies -----------------------------------------------------------------------


@pytest.mark.parametrize("by_stream", [True, False], ids=["stream()", "a plain generator"])
def test_the_server_sees_a_stand_in_when_a_body_breaks_off(
    new_site: NewSite, caplog: pytest.LogCaptureFixture, by_stream: bool
) -> None:
    """Its code and the request's id; what happened is in our log, once."""
    site = new_site()

    @site.app.get("/stream")
    def stream_view() -> Response:
        def rows() -> Any:
            yield "first"
            site.db.session.execute(sa.text("SELECT * FROM nowhere WHERE a = 's3cr3t-hash'"))

        return Response(stream(rows()) if by_stream else stream_with_context(rows()))

    client = site.app.test_client()
    answer = client.get("/stream", headers={"X-Request-ID": "request-0815"}, buffered=False)
    with pytest.raises(InternalProblem) as caught:
        list(answer.response)
    told = "".join(traceback.format_exception(caught.value))
    assert "internal: the body broke off, request request-0815" in told
    assert "nowhere" not in told
    assert "SELECT" not in told
    assert SECRET not in told
    (record,) = [each for each in caplog.records if each.name == "flask_dbkit.errors"]
    assert "code=internal" in record.getMessage()
    assert "request_id=request-0815" in record.getMessage()


# -- rows that are not there ---------------------------------------------------------------


def test_a_row_that_is_not_there_is_a_404(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """``get_one()``, ``one()`` and ``scalar_one()``; one line at INFO; two rows are a mistake."""
    account = site.models.account
    views: dict[str, Callable[[], object]] = {
        "get_one": lambda: site.db.session.get_one(account, 4711),
        "one": lambda: site.db.session.scalars(sa.select(account).filter_by(id=4711)).one(),
        "scalar_one": lambda: site.db.session.execute(
            sa.select(account).filter_by(id=4711)
        ).scalar_one(),
        "two": lambda: site.db.session.scalars(sa.select(account)).one(),
    }
    for name, view in views.items():
        site.app.add_url_rule(f"/row/{name}", f"row_{name}", lambda view=view: str(view()))
    site.app.register_error_handler(404, lambda error: ("own page", 404))
    client = site.app.test_client()
    caplog.set_level(logging.INFO, "flask_dbkit.errors")
    for name in ("get_one", "one", "scalar_one"):
        caplog.clear()
        answer = client.get(f"/row/{name}", headers=JSON)
        assert (answer.status_code, code_of(answer)) == (404, "missing"), name
        (record,) = caplog.records
        assert (record.levelname, record.exc_info) == ("INFO", None)
    assert client.get("/row/two", headers=JSON).status_code == 500
    assert client.get("/row/one", headers=HTML).text == "own page"
