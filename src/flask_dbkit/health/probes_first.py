"""The layer in front of an application that answers its probes first.

The probes are asked when things go wrong, and that is when a ``before_request`` that loads a
user hangs. So they are answered ahead of the application's request handling. The layer asks the
application's own URL map who is meant: script names, prefixes, hosts and rules of the application
mean what they mean everywhere else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from flask import Flask, Request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, Rule
from werkzeug.wrappers import Response

from .checks import AppHealth
from .report import Report

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = [
    "CONTENT_TYPE",
    "Mounts",
    "answer_probes_first",
    "any_host",
    "is_authorized",
    "mounts_of",
    "render_json",
    "render_report",
]

logger = logging.getLogger("flask_dbkit.health")

CONTENT_TYPE = "application/health+json"
_METHODS = frozenset({"GET", "HEAD"})
_HOST = "dbkit_host"  # the variable of rules for any host


@dataclass
class Mounts:
    """Where the health endpoints of one application are."""

    probes: dict[str, str] = field(default_factory=dict)  # endpoint -> group
    details: set[str] = field(default_factory=set)

    def endpoints(self) -> Iterator[str]:
        """Yield every one of them."""
        yield from self.probes
        yield from self.details


_mounts: WeakKeyDictionary[Flask, Mounts] = WeakKeyDictionary()


def mounts_of(app: Flask) -> Mounts:
    """Return where the health endpoints of an application are; to be added to."""
    return _mounts.setdefault(app, Mounts())


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
        last = environ.get("PATH_INFO", "").rstrip("/").rpartition("/")[2]
        if last in self._last_words or "" in self._last_words:
            mounts = _mounts.get(self._app, Mounts())
            asked = self._app.request_class(environ)
            endpoint = self._match(asked, asked.path) or self._match(asked, asked.path.rstrip("/"))
            if endpoint in mounts.probes and asked.method in _METHODS:
                report = self._health.run(mounts.probes[endpoint])
                response = render_json(report, details=self._may_see_details(asked))
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

    def _match(self, asked: Request, path: str) -> str | None:
        app = self._app
        adapter: MapAdapter | None
        try:
            if app.url_map.host_matching:
                # Not by the request, which refuses a host that TRUSTED_HOSTS does not know.
                adapter = app.url_map.bind_to_environ(asked.environ)
            elif app.subdomain_matching:
                adapter = app.create_url_adapter(asked)
                assert adapter is not None
            else:
                # Whatever host was asked for: an orchestrator asks by the address of a container,
                # which SERVER_NAME and TRUSTED_HOSTS do not know. The answer tells no host.
                adapter = app.url_map.bind(
                    "localhost",
                    script_name=asked.root_path,
                    path_info=path,
                    default_method=asked.method,
                )
            endpoint: str = adapter.match(path)[0]
        except HTTPException:
            return None
        return endpoint

    def _may_see_details(self, asked: Request) -> bool:
        if self._details != "authorized":
            return self._details == "always"
        with self._app.app_context():
            return is_authorized(self._health, asked)


def any_host(app: Any) -> dict[str, Any]:
    """Return the options of a rule that answers whatever host is asked for.

    Empty where the URL map does not look at hosts.
    """
    if app.url_map.host_matching:
        return {"host": f"<{_HOST}>"}
    return {"subdomain": f"<{_HOST}>"} if app.subdomain_matching else {}


def _has_begun(app: Flask) -> bool:
    return bool(getattr(app, "_got_first_request", True))


def _give_way(rule: Rule, others: Iterable[Rule]) -> None:
    """Let a rule of the application for the same path win, in whichever order they were added.

    The URL map takes the first of two equal rules. One that takes no method is passed over, and
    ``url_for()`` still builds it.
    """
    for other in others:
        same = other.rule.rstrip("/") == rule.rule.rstrip("/")
        if same and _same_hosts(other, rule):
            taken = _METHODS | {"OPTIONS"} if other.methods is None else other.methods
            rule.methods = (rule.methods or set()) - taken


def _same_hosts(other: Rule, rule: Rule) -> bool:
    """Tell whether two rules are for the same hosts, both by a variable included."""
    if (other.host, other.subdomain) == (rule.host, rule.subdomain):
        return True
    names = [f"{each.host or ''}{each.subdomain or ''}" for each in (other, rule)]
    return all("<" in name for name in names)


def is_authorized(health: AppHealth, asked: Request) -> bool:
    """Ask the application whether a request may see details."""
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


def render_json(report: Report, *, details: bool) -> Response:
    """Turn a report into JSON, with its checks or the status alone."""
    body = json.dumps(report.as_dict(details=details), separators=(",", ":"))
    return render_report(report, body, CONTENT_TYPE)


def render_report(report: Report, body: str, content_type: str) -> Response:
    """Turn a report that was rendered into the response of its status."""
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
