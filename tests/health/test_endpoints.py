"""The health endpoints: where they are, what they answer, and whom they give way to."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, redirect, request, session, url_for
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from flask_dbkit import ConfigError, DBKit, health_blueprint
from flask_dbkit.health import AppHealth
from tests.health.conftest import MakeKit
from tests.support.flask_versions import CONTEXTS_ARE_SHARED

PROBES = ["/health/live", "/health/ready", "/health/startup", "/livez", "/readyz", "/healthz"]


@pytest.mark.parametrize("path", [*PROBES, "/health"])
def test_every_endpoint_answers_with_its_status_and_is_not_cached(
    make_kit: MakeKit, path: str
) -> None:
    """An orchestrator needs a status code; everybody else gets no stale answer."""
    client = make_kit(DBKIT_HEALTH_DETAILS="never").client
    response = client.get(path)
    assert response.status_code == 200
    assert response.get_json(force=True) == {"status": "pass"}
    assert response.headers["Content-Type"] == "application/health+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers
    head = client.head(path)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == response.headers["Content-Length"]
    assert client.post(path).status_code == 405


def test_the_names_of_the_endpoints_build_their_paths(make_kit: MakeKit) -> None:
    """It is a blueprint: ``url_for`` works, and does not build an alias."""
    with make_kit().app.test_request_context():
        assert url_for("dbkit_health.live") == "/health/live"
        assert url_for("dbkit_health.ready") == "/health/ready"
        assert url_for("dbkit_health.startup") == "/health/startup"
        assert url_for("dbkit_health.details") == "/health"


def test_the_prefix_and_the_aliases_are_settings(make_kit: MakeKit) -> None:
    """``live*`` and ``startup*`` are those probes, every other alias is ready."""
    made = make_kit(
        DBKIT_HEALTH_PREFIX="/ops/health/", DBKIT_HEALTH_ALIASES=["/up", "/liveness", "/startupz"]
    )
    made.app.extensions["dbkit"].part(AppHealth).drain()
    assert made.client.get("/ops/health/live").status_code == 200
    assert made.client.get("/ops/health/ready").status_code == 503
    assert made.client.get("/up").status_code == 503
    assert made.client.get("/liveness").status_code == 200
    assert made.client.get("/startupz").status_code == 200
    for gone in ("/health", "/healthz", "/livez"):
        assert made.client.get(gone).status_code == 404


def test_an_alias_may_name_its_probe(make_kit: MakeKit) -> None:
    """A path that says nothing can stand for any probe."""
    made = make_kit(DBKIT_HEALTH_ALIASES={"/ping": "live"})
    made.kit.health.drain()
    assert made.client.get("/ping").status_code == 200


def test_the_settings_may_come_as_text(make_kit: MakeKit) -> None:
    """As environment variables do, when they are no JSON."""
    made = make_kit(DBKIT_HEALTH_ALIASES="/livez, /up", DBKIT_HEALTH_BINDS="all")
    for path in ("/livez", "/up"):
        assert made.client.get(path).status_code == 200
    assert made.client.get("/healthz").status_code == 404
    none = make_kit(DBKIT_HEALTH_ALIASES=None)
    assert none.client.get("/livez").status_code == 404


def test_without_a_prefix_nothing_is_registered(make_kit: MakeKit) -> None:
    """``None`` leaves the paths to the application."""
    made = make_kit(DBKIT_HEALTH_PREFIX=None)
    for path in [*PROBES, "/health"]:
        assert made.client.get(path).status_code == 404
    assert "dbkit_health" not in made.app.blueprints


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DBKIT_HEALTH_PREFIX", "health"),
        ("DBKIT_HEALTH_PREFIX", "/"),
        ("DBKIT_HEALTH_PREFIX", "/he alth"),
        ("DBKIT_HEALTH_ALIASES", ["livez"]),
        ("DBKIT_HEALTH_ALIASES", {"/up": "redy"}),
        ("DBKIT_HEALTH_ALIASES", 5),
        ("DBKIT_HEALTH_TIMEOUT", 0),
        ("DBKIT_HEALTH_TIMEOUT", "fast"),
        ("DBKIT_HEALTH_TTL", -1),
        ("DBKIT_HEALTH_TTL", float("nan")),
        ("DBKIT_HEALTH_READINESS_DB", "ignore"),
        ("DBKIT_HEALTH_BINDS", {"audti": {}}),
        ("DBKIT_HEALTH_BINDS", {"default": {"critcal": False}}),
        ("DBKIT_HEALTH_BINDS", {"default": {"timeout": 0}}),
        ("DBKIT_HEALTH_BINDS", {"default": False}),
        ("DBKIT_HEALTH_BINDS", ["default"]),
        ("DBKIT_HEALTH_FAIL_AFTER", 0),
        ("DBKIT_HEALTH_PASS_AFTER", "x"),
        ("DBKIT_HEALTH_DETAILS", "sometimes"),
        ("DBKIT_HEALTH_POOL_WARN", 1.5),
        ("DBKIT_HEALTH_DISK_WARN", "110 %"),
        ("DBKIT_HEALTH_DISK_FAIL", "64 parsecs"),
        ("DBKIT_HEALTH_WAL_WARN", -1),
        ("DBKIT_HEALTH_REPLICA_LAG_WARN", "soon"),
        ("DBKIT_HEALTH_DRAIN_ON_SIGTERM", "perhaps"),
        ("DBKIT_HEALTH_SQLITE_QUICK_CHECK", -5),
    ],
)
def test_a_bad_setting_is_refused_at_start(make_kit: MakeKit, key: str, value: Any) -> None:
    """The error names the key, and nothing is registered."""
    with pytest.raises(ConfigError) as caught:
        make_kit(**{key: value})
    assert key in str(caught.value)


def test_a_hook_that_hangs_does_not_hang_the_probes(make_kit: MakeKit) -> None:
    """A ``before_request`` that loads the user is where a frozen database is felt first."""
    made = make_kit()
    reached = []

    @made.app.before_request
    def load_user() -> None:
        reached.append(request.path)
        threading.Event().wait()

    for path in PROBES:
        assert made.client.get(path).status_code == 200
    assert reached == []


def test_a_probe_opens_no_session(make_kit: MakeKit) -> None:
    """A server-side session may live in the database that is asked about."""
    made = make_kit()

    class Sessions(type(made.app.session_interface)):  # type: ignore[misc]
        def open_session(self, app: Flask, request: Any) -> None:
            raise AssertionError("a session was opened")

    made.app.session_interface = Sessions()
    for path in PROBES:
        assert made.client.get(path).status_code == 200


def test_the_details_never_set_a_cookie(make_kit: MakeKit) -> None:
    """They are an ordinary view, and a hook of the application may touch the session."""
    made = make_kit(SECRET_KEY="a key")

    @made.app.before_request
    def touch() -> None:
        session["seen"] = True

    @made.app.get("/page")
    def page() -> str:
        return "page"

    assert "Set-Cookie" in made.client.get("/page").headers
    assert "Set-Cookie" not in made.client.get("/health").headers


def _own(name: str) -> Any:
    def view(**_: Any) -> str:
        return "the application's own"

    view.__name__ = name
    return view


@pytest.mark.parametrize("when", ["before", "after", "blueprint"])
def test_a_rule_of_the_application_wins_whenever_it_was_added(when: str, tmp_path: Any) -> None:
    """An application that has a health endpoint keeps it."""
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"

    def add() -> None:
        app.add_url_rule("/health/ready", view_func=_own("own_ready"))
        app.add_url_rule("/livez", view_func=_own("own_livez"))
        app.add_url_rule("/health/", view_func=_own("own_health"))

    if when == "before":
        add()
    DBKit(app)
    if when == "after":
        add()
    if when == "blueprint":
        blueprint = Blueprint("own", __name__, url_prefix="/health")
        blueprint.add_url_rule("/ready", view_func=_own("own_ready"))
        blueprint.add_url_rule("/", view_func=_own("own_health"))
        app.register_blueprint(blueprint)
        app.add_url_rule("/livez", view_func=_own("own_livez"))
    client = app.test_client()
    for path in ("/health/ready", "/livez", "/health/"):
        assert client.get(path).text == "the application's own", path
    assert client.get("/health", follow_redirects=True).text == "the application's own"
    assert client.get("/health/live").get_json(force=True) == {"status": "pass"}
    assert client.get("/healthz").get_json(force=True) == {"status": "pass"}
    with app.test_request_context():
        assert url_for("dbkit_health.ready") == "/readyz"  # where the probe still is


def test_a_rule_for_another_method_or_a_catch_all_takes_nothing_away(make_kit: MakeKit) -> None:
    """A page for everything else is not a rule for this path."""
    made = make_kit()
    made.app.add_url_rule("/<path:page>", view_func=_own("catch_all"))
    made.app.add_url_rule("/health/ready", view_func=_own("post_ready"), methods=["POST"])
    assert made.client.get("/other/page").text == "the application's own"
    assert made.client.get("/health/ready").get_json(force=True)["status"] == "pass"
    assert made.client.post("/health/ready").text == "the application's own"


def test_a_blueprint_mounted_by_hand_answers_early_at_its_own_prefix(make_kit: MakeKit) -> None:
    """Also inside another blueprint, and beside the one of ``init_app``."""
    made = make_kit()
    made.client.get("/health/live")
    made.app.register_blueprint(health_blueprint(name="internal"), url_prefix="/internal")
    outer = Blueprint("outer", __name__, url_prefix="/tenants/<tenant>")
    outer.register_blueprint(health_blueprint(name="inner"))
    made.app.register_blueprint(outer)

    @made.app.before_request
    def refuse() -> Response:
        return redirect("/login")  # type: ignore[return-value]

    for prefix in ("/health", "/internal", "/tenants/a/health"):
        for probe in ("live", "ready", "startup"):
            assert made.client.get(f"{prefix}/{probe}").status_code == 200, prefix
        assert made.client.get(prefix).status_code == redirect("/").status_code, prefix
    with made.app.test_request_context():
        assert url_for("internal.ready") == "/internal/ready"
        assert url_for("outer.inner.ready", tenant="a") == "/tenants/a/health/ready"


def test_one_mounted_by_hand_is_enough(make_kit: MakeKit) -> None:
    """With the prefix ``None`` the default name is free."""
    made = make_kit(DBKIT_HEALTH_PREFIX=None)
    made.app.register_blueprint(health_blueprint(), url_prefix="/_/h")
    assert made.get("/_/h/ready")[0] == 200
    assert made.get("/_/h")[0] == 200


def test_a_second_one_needs_another_name(make_kit: MakeKit) -> None:
    """Flask's own rule, and its own error."""
    made = make_kit()
    with pytest.raises(ValueError, match="dbkit_health"):
        made.app.register_blueprint(health_blueprint(), url_prefix="/second")


def test_probes_answer_below_a_script_name_and_behind_proxies(make_kit: MakeKit) -> None:
    """Where the application is mounted is the server's affair."""
    made = make_kit(APPLICATION_ROOT="/shop")
    made.app.wsgi_app = ProxyFix(made.app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]

    @made.app.before_request
    def refuse() -> tuple[str, int]:
        return "no", 403

    mounted = Client(DispatcherMiddleware(Flask("root"), {"/shop": made.app}))
    assert mounted.get("/shop/health/ready").status_code == 200
    assert mounted.get("/shop/livez").status_code == 200
    assert mounted.get("/shop/health").status_code == 403
    direct = made.client.get("/health/ready", headers={"X-Forwarded-Prefix": "/shop"})
    assert direct.status_code == 200


def test_hosts_mean_what_they_mean_elsewhere(tmp_path: Any) -> None:
    """On a subdomain of its own, the probe is not answered on another one."""
    app = Flask("shop", instance_path=str(tmp_path), subdomain_matching=True)
    app.config.update(
        SQLALCHEMY_DATABASE_URI="sqlite://",
        DBKIT_HEALTH_PREFIX=None,
        SERVER_NAME="shop.example",
    )
    DBKit(app)
    app.register_blueprint(health_blueprint(), subdomain="ops")

    @app.before_request
    def refuse() -> tuple[str, int]:
        return "no", 403

    client = app.test_client()
    assert client.get("/health/ready", base_url="http://ops.shop.example").status_code == 200
    assert client.get("/health/ready", base_url="http://shop.example").status_code == 403
    app.config["TRUSTED_HOSTS"] = ["shop.example"]
    assert client.get("/health/ready", base_url="http://elsewhere.example").status_code == 403


def test_a_container_is_asked_by_its_address_whatever_hosts_are_trusted(
    make_kit: MakeKit,
) -> None:
    """Otherwise a setting for the public host name would stop every pod."""
    made = make_kit(TRUSTED_HOSTS=["shop.example"], SERVER_NAME="shop.example")
    made.app.add_url_rule("/", view_func=_own("front"))
    trusted = made.client.get("/health/ready", headers={"Host": "shop.example"})
    assert trusted.status_code == 200
    assert made.client.get("/", headers={"Host": "10.0.0.7"}).status_code == 400
    assert made.client.get("/health/ready", headers={"Host": "10.0.0.7"}).status_code == 200


def test_the_views_answer_as_well_when_the_layer_is_passed_by(make_kit: MakeKit) -> None:
    """The endpoints are ordinary ones: whoever dispatches a request by hand gets an answer."""
    made = make_kit()
    dispatch: Any = made.app.full_dispatch_request
    with made.app.test_request_context("/health/ready") as context:
        response = dispatch() if CONTEXTS_ARE_SHARED else dispatch(context)
    assert response.status_code == 200
    assert json.loads(response.get_data())["checks"]["db:default"]


def test_two_applications_of_one_kit_are_apart(tmp_path: Any) -> None:
    """Draining and what was found belong to an application, the checks to the kit."""
    kit = DBKit()
    apps = []
    for name in ("one", "two"):
        app = Flask(name, instance_path=str(tmp_path))
        app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", DBKIT_HEALTH_DETAILS="always")
        kit.init_app(app)
        apps.append(app)
    one, two = apps
    with one.app_context():
        kit.health.drain()
        assert kit.health.run("readiness").status == "fail"
    assert one.test_client().get("/readyz").status_code == 503
    assert two.test_client().get("/readyz").status_code == 200
    with pytest.raises(RuntimeError, match="2 applications"):
        kit.health.run("readiness")
    kit.health.drain()
    assert two.test_client().get("/readyz").status_code == 503
    other = Flask("other", instance_path=str(tmp_path))
    other.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    DBKit(other)
    with other.app_context():
        kit.health.drain()
    assert other.test_client().get("/readyz").status_code == 200
    assert two.test_client().get("/livez").status_code == 200


def test_draining_fails_readiness_and_nothing_else(make_kit: MakeKit) -> None:
    """The process is alive, and says so."""
    made = make_kit()
    made.kit.health.drain()
    status, body = made.get("/health/ready")
    assert status == 503
    (entry,) = body["checks"]["draining"]
    assert (entry["status"], entry["code"]) == ("fail", "draining")
    assert made.get("/health/live") == (200, {"status": "pass", "checks": {}})
    assert made.get("/health/startup")[0] == 200


# -- details ------------------------------------------------------------------------------


def test_details_are_hidden_by_default(make_kit: MakeKit) -> None:
    """Who may ask is not known, so the status is all there is."""
    made = make_kit(DBKIT_HEALTH_DETAILS="never")
    made.kit.health.authorize(lambda _request: True)
    for path in [*PROBES, "/health"]:
        assert made.get(path)[1] == {"status": "pass"}


def test_details_are_shown_to_whom_the_application_lets(make_kit: MakeKit) -> None:
    """At the probes as well as at the details."""
    made = make_kit(DBKIT_HEALTH_DETAILS="authorized")
    assert made.get("/health")[1] == {"status": "pass"}  # nobody said who may
    assert made.kit.health.authorize(_has_token) is _has_token
    for path in ("/health", "/health/ready"):
        assert made.get(path)[1] == {"status": "pass"}
        assert made.get(path, **{"X-Probe": "wrong"})[1] == {"status": "pass"}
        assert made.get(path, **{"X-Probe": "token"})[1]["checks"]["db:default"]


def _has_token(asked: Any) -> bool:
    return bool(asked.headers.get("X-Probe") == "token")


def test_a_function_that_raises_has_allowed_nothing(make_kit: MakeKit) -> None:
    """There is no user ahead of the application's hooks, and no session."""
    made = make_kit(DBKIT_HEALTH_DETAILS="authorized")
    made.kit.health.authorize(lambda _request: session["admin"])
    assert made.get("/health/ready") == (200, {"status": "pass"})


def test_a_browser_gets_a_page(make_kit: MakeKit) -> None:
    """Whoever prefers HTML and may see details reads a page; everybody else JSON."""
    made = make_kit(DBKIT_HEALTH_DETAILS="authorized")
    made.kit.health.authorize(_has_token)
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    page = made.client.get("/health", headers={**browser, "X-Probe": "token"})
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Vary"] == "Accept"
    for text in ("db:default", "pool:default", "0 of 32 connections", "Last errors"):
        assert text in page.text
    assert "style-src 'sha256-" in page.headers["Content-Security-Policy"]
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert made.client.get("/health", headers={**headers, "X-Probe": "token"}).is_json
    assert made.client.get("/health", headers=browser).get_json(force=True) == {"status": "pass"}
    assert made.client.get("/health/ready", headers={**browser, "X-Probe": "token"}).is_json


def test_the_page_shows_the_last_errors(make_kit: MakeKit) -> None:
    """What went wrong an hour ago, and is over."""
    made = make_kit()
    moved = made.path.rename(made.path.with_suffix(".away"))
    assert made.get()[0] == 503
    moved.rename(made.path)
    page = made.client.get("/health", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "db.missing" in page.text


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_nothing_tells_where_the_database_is(make_kit: MakeKit, path: str) -> None:
    """No host, port, user, password, database, path or text of an exception, at any level."""
    secrets = ("db.internal.invalid", "5439", "admiral", "s3cr3t", "ledger")
    url = "postgresql+psycopg://admiral:s3cr3t@db.internal.invalid:5439/ledger"
    made = make_kit(url, tables=False)

    @made.kit.health.check("own")
    def own() -> None:
        raise RuntimeError(f"cannot reach {url}")

    for accept in ("*/*", "text/html"):
        response = made.client.get(path, headers={"Accept": accept})
        assert response.status_code == 503
        shown = response.text + str(response.headers)
        assert [secret for secret in secrets if secret in shown] == []
