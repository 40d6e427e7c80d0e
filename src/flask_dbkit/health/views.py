"""The health endpoints: a blueprint, and the layer that answers its probes first.

The probes are asked when things go wrong, and that is when a ``before_request`` that loads a
user hangs. So they are answered by a small WSGI layer in front of the application's request
handling. It asks the application's own URL map who is meant: script names, prefixes, hosts and
rules of the application mean what they mean everywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from flask import Blueprint, Flask, Request, current_app, render_template, request
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, Rule
from werkzeug.wrappers import Response

from ..application import current_application
from .checks import AppHealth
from .codes import CODES
from .report import Report
from .settings import PROBES, HealthSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["answer_probes_first", "health_blueprint", "register_health"]

logger = logging.getLogger("flask_dbkit.health")

_NAME = "dbkit_health"
_TYPE = "application/health+json"
_GROUPS = {"live": "liveness", "ready": "readiness", "startup": "startup"}
_METHODS = frozenset({"GET", "HEAD"})
_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1b1f24; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #d0d7de;
  vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; }
.pass { color: #116329; } .warn { color: #7d4e00; } .fail { color: #b31d28; }
.status { font-weight: 600; }
td.code small { display: block; color: #57606a; max-width: 24rem; }
td.number, td.code > code { white-space: nowrap; }
.wide { overflow-x: auto; }
footer { color: #57606a; margin-top: 2rem; font-size: .875rem; }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #0d1117; } th, td { border-color: #30363d; }
  .pass { color: #56d364; } .warn { color: #e3b341; } .fail { color: #ff7b72; }
  footer, td.code small { color: #8b949e; } }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


@dataclass
class _Mounts:
    """Where the health endpoints of one application are."""

    probes: dict[str, str] = field(default_factory=dict)  # endpoint -> group
    details: set[str] = field(default_factory=set)

    def endpoints(self) -> Iterator[str]:
        yield from self.probes
        yield from self.details


_mounts: WeakKeyDictionary[Flask, _Mounts] = WeakKeyDictionary()


def health_blueprint(name: str = _NAME, *, url_prefix: str = "/health") -> Blueprint:
    """Make a blueprint with the health endpoints, to mount by hand.

    Its endpoints are ``live``, ``ready``, ``startup`` and ``details``; its probes are answered
    ahead of the application's request hooks, wherever it is mounted. With
    ``DBKIT_HEALTH_PREFIX`` set to ``None`` it is the only one.

    Args:
        name: Another one for a second blueprint in the same application.
        url_prefix: Where it is, unless ``register_blueprint(url_prefix=...)`` says otherwise.

    .. code-block:: python

        app.register_blueprint(health_blueprint(name="internal_health"), url_prefix="/internal")

    .. versionadded:: 0.1
    """
    blueprint = Blueprint(name, __name__, url_prefix=url_prefix)

    @blueprint.record
    def note(state: BlueprintSetupState) -> None:
        app: Any = state.app  # a Flask; its types say what it shares with Quart
        mounts = _mounts.setdefault(app, _Mounts())
        prefix = f"{state.name_prefix}.{state.name}".lstrip(".")
        mounts.probes.update({f"{prefix}.{probe}": _GROUPS[probe] for probe in PROBES})
        mounts.details.add(f"{prefix}.details")

    for probe in PROBES:
        blueprint.add_url_rule(
            f"/{probe}", endpoint=probe, view_func=partial(_probe_view, _GROUPS[probe])
        )
    blueprint.add_url_rule("", endpoint="details", view_func=_details_view)
    return blueprint


def register_health(app: Flask, prefix: str | None, aliases: Iterable[tuple[str, str]]) -> None:
    """Register the health endpoints of an application.

    Args:
        app: The application.
        prefix: Where they are; ``None`` registers none, and no aliases.
        aliases: Further paths, each with the endpoint it stands for.
    """
    if prefix is None or _NAME in app.blueprints:  # the application had another database before
        return
    app.register_blueprint(health_blueprint(url_prefix=prefix))
    for path, probe in aliases:
        endpoint = f"{_NAME}.{probe}"
        # Behind the first rule of its endpoint, which url_for() goes on to build.
        app.add_url_rule(path, endpoint=endpoint, view_func=app.view_functions[endpoint])


def answer_probes_first(app: Flask, health: AppHealth, details: str) -> None:
    """Put the layer in front of an application's request handling.

    Args:
        app: The application.
        health: Its checks.
        details: The value of ``DBKIT_HEALTH_DETAILS``.
    """
    setattr(app, "wsgi_app", _ProbeLayer(app, app.wsgi_app, health, details))


class _ProbeLayer:
    """Answers the probes; everything else goes on to the application."""

    def __init__(self, app: Flask, inner: WSGIApplication, health: AppHealth, details: str) -> None:
        self._app, self._inner, self._health, self._details = app, inner, health, details
        self._rules: list[Rule] = []
        self._last_words: set[str] = set()
        self._known = (-1, False)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self._look_at_rules()
        last = environ.get("PATH_INFO", "").rpartition("/")[2]
        if last in self._last_words or "" in self._last_words:
            mounts = _mounts.get(self._app, _Mounts())
            asked = self._app.request_class(environ)
            endpoint = self._match(asked)
            if endpoint in mounts.probes and asked.method in _METHODS:
                report = self._health.run(mounts.probes[endpoint])
                response = _as_json(report, details=self._may_see_details(asked))
                return response(environ, start_response)
            if endpoint in mounts.details:
                start_response = _without_cookies(start_response)
        return self._inner(environ, start_response)

    def _look_at_rules(self) -> None:
        """Find the rules of the health endpoints, and give way to the application's own.

        Again until the application has handled its first request: no rule is added after that.
        """
        mounts = _mounts.get(self._app)
        if mounts is None or self._known == (len(mounts.probes), True):
            return
        self._known = (len(mounts.probes), _has_begun(self._app))
        own = set(mounts.endpoints())
        others = [rule for rule in self._app.url_map.iter_rules() if rule.endpoint not in own]
        self._rules = [rule for rule in self._app.url_map.iter_rules() if rule.endpoint in own]
        for rule in self._rules:
            _give_way(rule, others)
        words = {rule.rule.rpartition("/")[2] for rule in self._rules}
        # A prefix may end with a variable, and then anything may be its last word.
        self._last_words = {"" if "<" in word else word for word in words}

    def _match(self, asked: Request) -> str | None:
        app = self._app
        adapter: MapAdapter | None
        try:
            if app.url_map.host_matching or app.subdomain_matching:
                adapter = app.create_url_adapter(asked)
                assert adapter is not None
            else:
                # Whatever host was asked for: an orchestrator asks by the address of a container,
                # which SERVER_NAME and TRUSTED_HOSTS do not know. The answer tells no host.
                adapter = app.url_map.bind(
                    "localhost",
                    script_name=asked.root_path,
                    path_info=asked.path,
                    default_method=asked.method,
                )
            endpoint: str = adapter.match()[0]
        except HTTPException:
            return None
        return endpoint

    def _may_see_details(self, asked: Request) -> bool:
        if self._details != "authorized":
            return self._details == "always"
        with self._app.app_context():
            return _is_authorized(self._health, asked)


def _has_begun(app: Flask) -> bool:
    return bool(getattr(app, "_got_first_request", True))


def _give_way(rule: Rule, others: Iterable[Rule]) -> None:
    """Let a rule of the application for the same path win, in whichever order they were added.

    The URL map takes the first of two equal rules. One that takes no method is passed over, and
    ``url_for()`` still builds it.
    """
    for other in others:
        same = other.rule.rstrip("/") == rule.rule.rstrip("/")
        if same and (other.host, other.subdomain) == (rule.host, rule.subdomain):
            taken = _METHODS | {"OPTIONS"} if other.methods is None else other.methods
            rule.methods = (rule.methods or set()) - taken


def _probe_view(group: str) -> Response:
    """Answer a probe that came past the layer, as any view does."""
    health = current_application().part(AppHealth)
    return _as_json(health.run(group), details=_shows_details(health))


def _details_view() -> Response:
    """Show every check: to a browser as a page, to everybody else as JSON."""
    health = current_application().part(AppHealth)
    report = health.examine()
    details = _shows_details(health)
    if not details or not _wants_page():
        response = _as_json(report, details=details)
        response.headers["Vary"] = "Accept"
        return response
    page = render_template(
        "flask_dbkit/health.html",
        app_name=current_app.name,
        report=report,
        incidents=health.incidents(),
        codes=CODES,
        style=_STYLE,
    )
    response = _answer(report, page, "text/html; charset=utf-8")
    response.headers["Vary"] = "Accept"
    response.headers["Content-Security-Policy"] = _POLICY
    return response


def _shows_details(health: AppHealth) -> bool:
    wanted = current_application().settings(HealthSettings).health_details
    if wanted != "authorized":
        return wanted == "always"
    return _is_authorized(health, request)


def _is_authorized(health: AppHealth, asked: Request) -> bool:
    authorizer: Callable[[Any], bool] | None = health.registry.authorizer
    if authorizer is None:
        return False
    try:
        return bool(authorizer(asked))
    except Exception as error:
        logger.info(
            "The function given to dbkit.health.authorize() raised %s", type(error).__name__
        )
        return False


def _wants_page() -> bool:
    accepted = request.accept_mimetypes
    html = accepted.quality("text/html")
    return html > 0 and html > max(accepted.quality(_TYPE), accepted.quality("application/json"))


def _as_json(report: Report, *, details: bool) -> Response:
    body = json.dumps(report.as_dict(details=details), separators=(",", ":"))
    return _answer(report, body, _TYPE)


def _answer(report: Report, body: str, content_type: str) -> Response:
    response = Response(body, status=503 if report.status == "fail" else 200)
    response.headers["Content-Type"] = content_type
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _without_cookies(start_response: StartResponse) -> StartResponse:
    """Leave the cookies out that a session would like to set."""

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        kept = [(name, value) for name, value in headers if name.lower() != "set-cookie"]
        return start_response(status, kept, *rest)

    return start
