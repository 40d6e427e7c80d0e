"""What is behind each page: the same as JSON, the health page, the source, a conflict.

An application for visitors would have none of this. A demo of a library is looked at from behind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from flask import Blueprint, Flask, abort, current_app, render_template, request, url_for

from .extensions import db
from .models import Place
from .places import find_place

__all__ = ["blueprint", "install"]

blueprint = Blueprint("behind", __name__, url_prefix="/behind")


def install(app: Flask) -> None:
    """Show the strip of links on each page."""
    app.context_processor(_strip)


@blueprint.get("/source/<name>")
def source(name: str) -> str:
    """Show the view function of an endpoint as it is written."""
    view = _view(name)
    if view is None:
        abort(404, "There is no such view.")
    path = Path(inspect.getfile(view)).relative_to(Path(current_app.root_path).parent)
    return render_template(
        "behind/source.html", name=name, path=path.as_posix(), text=inspect.getsource(view)
    )


@blueprint.get("/two-tabs")
@blueprint.get("/two-tabs/<int(max=2147483647):place_id>")
def two_tabs(place_id: int | None = None) -> str:
    """Tell how to see two editors meet."""
    if place_id is None:
        place_id = db.session.scalar(
            sa.select(Place.id).order_by(Place.population.desc(), Place.id.desc()).limit(1)
        )
    if place_id is None:
        abort(404, "There is no place to edit.")
    return render_template("behind/two_tabs.html", place=find_place(place_id))


def _strip() -> dict[str, Any]:
    links = [_json_link(), ("OpenAPI", url_for("api.openapi"))]
    if "dbkit_health.details" in current_app.view_functions:
        links.append(("Health", url_for("dbkit_health.details")))
    if request.endpoint is not None and _view(request.endpoint) is not None:
        links.append(("Source of this view", url_for("behind.source", name=request.endpoint)))
    links.append(("Conflict in two tabs", url_for("behind.two_tabs", place_id=_place_id())))
    return {"behind": links}


def _json_link() -> tuple[str, str]:
    endpoint = {"places.index": "api.places", "places.feed": "api.feed"}.get(request.endpoint or "")
    if endpoint is not None:
        query = urlencode(list(request.args.items(multi=True)))
        return "This list as JSON", url_for(endpoint) + (f"?{query}" if query else "")
    place_id = _place_id()
    if place_id is not None:
        return "This place as JSON", url_for("api.place", place_id=place_id)
    return "Places as JSON", url_for("api.places")


def _place_id() -> int | None:
    return (request.view_args or {}).get("place_id")


def _view(endpoint: str) -> Callable[..., Any] | None:
    view = current_app.view_functions.get(endpoint)
    view = inspect.unwrap(view) if view is not None else None
    ours = inspect.isfunction(view) and view.__module__.partition(".")[0] == __package__
    return view if ours else None
