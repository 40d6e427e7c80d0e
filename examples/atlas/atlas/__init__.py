"""An atlas of the world's populated places, built on Flask, Flask-SQLAlchemy and Flask-DBKit.

Read it in this order: :mod:`atlas.extensions`, :mod:`atlas.models`, :mod:`atlas.lists` (what may
be sorted and filtered), :mod:`atlas.places` and :mod:`atlas.merging` (the views),
:mod:`atlas.loader` (how the data gets in).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, current_app

from . import (
    api,
    behind,
    cli,
    countries,
    csrf,
    errors,
    filters,
    health,
    merging,
    places,
    secret_key,
)
from .extensions import dbkit

__all__ = ["create_app"]


def create_app(
    config: Mapping[str, Any] | None = None, *, instance_path: str | None = None
) -> Flask:
    """Build the application.

    Touches no database: that happens at the first request, or in ``flask --app atlas load``.

    Args:
        config: Settings that win over the environment (``FLASK_*`` variables), for tests.
        instance_path: The folder of the database file and the secret key; ``None`` is
            ``instance`` beside the package.
    """
    app = Flask(__name__, instance_path=instance_path)
    app.config.from_mapping(SESSION_COOKIE_SAMESITE="Lax", DBKIT_HEALTH_DETAILS="authorized")
    app.config.from_prefixed_env()
    app.config.update(config or {})
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = secret_key.read_or_create(app.instance_path)

    dbkit.init_app(app)

    csrf.install(app)
    errors.install(app)
    health.install()
    filters.install(app)
    behind.install(app)
    app.cli.add_command(cli.load)
    app.register_blueprint(places.blueprint)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(merging.blueprint)
    app.register_blueprint(countries.blueprint)
    app.register_blueprint(behind.blueprint)
    app.add_url_rule("/favicon.ico", "favicon", _send_icon)
    app.after_request(_forbid_foreign_assets)
    return app


def _send_icon() -> Response:
    # Browsers ask for it at pages without a head of ours, such as JSON.
    return current_app.send_static_file("icon.svg")


def _forbid_foreign_assets(response: Response) -> Response:
    response.headers.setdefault(
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    )
    return response
