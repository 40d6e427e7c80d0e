"""The health endpoints: a blueprint with the probes and a page that shows every check."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import partial
from typing import Any

from flask import Blueprint, Flask, current_app, render_template, request
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.wrappers import Response

from ..application import current_application
from ..support.calls import explained
from .checks import AppHealth
from .codes import CODES
from .probes_first import (
    CONTENT_TYPE,
    any_host,
    is_authorized,
    mounts_of,
    render_json,
    render_report,
)
from .settings import PROBES, HealthSettings

__all__ = ["health_blueprint", "register_health"]

_NAME = "dbkit_health"
_GROUPS = {"live": "liveness", "ready": "readiness", "startup": "startup"}
_POLICY = (
    "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


@explained()
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
        mounts = mounts_of(app)
        prefix = f"{state.name_prefix}.{state.name}".lstrip(".")
        mounts.probes.update({f"{prefix}.{probe}": _GROUPS[probe] for probe in PROBES})
        mounts.details.add(f"{prefix}.details")

    for probe in PROBES:
        blueprint.add_url_rule(
            f"/{probe}", endpoint=probe, view_func=partial(_probe_view, _GROUPS[probe])
        )
    blueprint.add_url_rule("", endpoint="details", view_func=_details_view)
    blueprint.record(_answer_any_host)
    return blueprint


def _answer_any_host(state: BlueprintSetupState) -> None:
    """Add each rule once more for whatever host, behind the one that url_for() builds.

    Where the URL map looks at hosts, an orchestrator asks by the address of a container, which no
    rule knows.
    """
    for path, endpoint in ((f"/{probe}", probe) for probe in PROBES):
        _add_for_any_host(state, path, endpoint)
    _add_for_any_host(state, "", "details")


def _add_for_any_host(state: BlueprintSetupState, path: str, endpoint: str) -> None:
    options = any_host(state.app)
    if options:
        state.add_url_rule(path, endpoint, **options)


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
        if options := any_host(app):
            app.add_url_rule(path, endpoint=endpoint, **options)


def _probe_view(group: str, **_host: str) -> Response:
    """Answer a probe that came past the layer, as any view does."""
    health = current_application().part(AppHealth)
    return render_json(health.run(group), details=_shows_details(health))


def _details_view(**_host: str) -> Response:
    """Show every check: to a browser as a page, to everybody else as JSON."""
    health = current_application().part(AppHealth)
    report = health.examine()
    details = _shows_details(health)
    if not details or not _wants_page():
        response = render_json(report, details=details)
        response.headers["Vary"] = "Accept"
        return response
    style = render_template("flask_dbkit/health.css")
    page = render_template(
        "flask_dbkit/health.html",
        app_name=current_app.name,
        report=report,
        incidents=health.incidents(),
        codes=CODES,
        style=style,
    )
    response = render_report(report, page, "text/html; charset=utf-8")
    response.headers["Vary"] = "Accept"
    response.headers["Content-Security-Policy"] = _POLICY.format(style=_digest(style))
    return response


def _shows_details(health: AppHealth) -> bool:
    wanted = current_application().settings(HealthSettings).health_details
    if wanted != "authorized":
        return wanted == "always"
    return is_authorized(health, request)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _wants_page() -> bool:
    accepted = request.accept_mimetypes
    html = accepted.quality("text/html")
    data = max(accepted.quality(CONTENT_TYPE), accepted.quality("application/json"))
    return html > 0 and html > data
