"""What is behind each page: what the library does there, the source, the same as JSON, queries.

An application for visitors would have none of this. A demo of a library is looked at from behind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from flask import Blueprint, Flask, abort, current_app, render_template, request, url_for
from markupsafe import Markup
from sqlalchemy.orm import undefer

from flask_dbkit import allow_n_plus_one, lazy_loading, query_stats, record_queries

from . import countries, forms, lists, merging, models, places
from .extensions import db
from .models import Place
from .places import find_place

__all__ = ["ON_ERRORS", "blueprint", "install"]

blueprint = Blueprint("behind", __name__, url_prefix="/behind")


@dataclass(frozen=True)
class Note:
    """What the library does on a page.

    Attributes:
        text: One or two sentences.
        parts: What else to read beside the view, in this order.
    """

    text: Markup
    parts: tuple[Any, ...] = ()


_LISTED = (places._render_list, lists)  # noqa: SLF001 (shown to whoever asks how it works)
_SAVED = (places.save, places._store, places._show_conflict, forms.PlaceForm, models.Place)  # noqa: SLF001
_MERGED = (merging.merge, merging._merge, merging._absorb)  # noqa: SLF001
_NOTES = {
    "places.index": Note(
        Markup(
            "One <code>Listing</code> filters, sorts and pages these rows, by names it publishes"
            " and no others. Column heads and pager are its macros."
        ),
        _LISTED,
    ),
    "places.feed": Note(
        Markup(
            "The same <code>Listing</code>, paged by cursor: no count and no <code>OFFSET</code>,"
            " and no row twice or missed while others write."
        ),
        _LISTED,
    ),
    "places.show": Note(
        Markup(
            "<code>Timestamps</code> keeps the last change, in UTC. <code>db.get_or_404</code> and"
            " all other queries are as Flask-SQLAlchemy has them."
        ),
        (models.Place,),
    ),
    "places.edit": Note(
        Markup(
            "<code>transaction()</code> saves all of it or nothing, and <code>Versioned</code>"
            " notices an edit that began from an older version: try it in two tabs."
        ),
        _SAVED,
    ),
    "merging.choose": Note(
        Markup(
            "Each duplicate is merged in a <code>savepoint()</code>: one that somebody changed"
            " meanwhile is left alone, the others are merged. <code>run()</code> tries again"
            " after a conflict with another transaction."
        ),
        _MERGED,
    ),
    "countries.index": Note(
        Markup(
            "Plain SQLAlchemy. Edit a code to one that another country has: the database refuses"
            " it, and the library says which field it was."
        ),
        (models.Country,),
    ),
    "countries.edit": Note(
        Markup(
            "Only the database knows whether another country has this code. The library turns its"
            " refusal into a <code>ConflictProblem</code> with the name of the field."
        ),
        (countries.save, countries.show_conflict),
    ),
    "behind.two_tabs": Note(
        Markup("<code>Versioned</code> and <code>transaction()</code>, seen from both sides."),
        _SAVED,
    ),
    "behind.n_plus_one": Note(
        Markup(
            "<code>record_queries()</code> looks at the statements of this view, and finds the one"
            " that is sent for each row."
        ),
        (models.Place,),
    ),
}
_NOTES |= {
    "places.save": _NOTES["places.edit"],
    "merging.merge": _NOTES["merging.choose"],
    "countries.save": _NOTES["countries.edit"],
}
ON_ERRORS = Note(
    Markup(
        "Errors of the database become pages such as this one, or problem details for programs:"
        " never with SQL or a value in them."
    )
)


def install(app: Flask) -> None:
    """Show the strip of links on each page, and in debug mode what it asked the database."""
    app.context_processor(_strip)
    app.add_template_global(query_stats)


@blueprint.get("/source/<name>")
def source(name: str) -> str:
    """Show how the view function of an endpoint is written, and what it stands on."""
    view = _view(name)
    if view is None:
        abort(404, "There is no such view.")
    note = _NOTES.get(name, ON_ERRORS)
    parts = list(_parts(view, note))
    return render_template("behind/source.html", name=name, parts=parts, note=note.text)


def _parts(view: Callable[..., Any], note: Note) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the file and the text of each part of the source."""
    for part in dict.fromkeys(map(inspect.unwrap, (view, *note.parts))):
        path = Path(inspect.getfile(part)).relative_to(Path(current_app.root_path).parent)
        yield part.__name__.rpartition(".")[2], path.as_posix(), inspect.getsource(part)


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


@blueprint.get("/n-plus-one")
@allow_n_plus_one("this page shows what it looks like")
def n_plus_one() -> str:
    """Load the other names of ten places one by one, and show what the library finds.

    There are two cures: to ask for them with the places, or to let the first touch load them for
    all of its peers.
    """
    statement = sa.select(Place).order_by(Place.population.desc(), Place.id.desc()).limit(10)
    cure = request.args.get("cure")
    if cure == "option":
        statement = statement.options(undefer(Place.alternate_names))
    with record_queries() as stats, lazy_loading("peers" if cure == "peers" else "select"):
        places = db.session.scalars(statement).all()
        for place in places:
            place.alternate_names  # noqa: B018 - what a template would do
    return render_template("behind/n_plus_one.html", places=places, stats=stats, cure=cure)


def _strip() -> dict[str, Any]:
    links = [_json_link(), ("OpenAPI", url_for("api.openapi"))]
    if "dbkit_health.details" in current_app.view_functions:
        links.append(("Health", url_for("dbkit_health.details")))
    if request.endpoint is not None and _view(request.endpoint) is not None:
        links.append(("Source of this view", url_for("behind.source", name=request.endpoint)))
    links.append(("Conflict in two tabs", url_for("behind.two_tabs", place_id=_place_id())))
    links.append(("One query for each row", url_for("behind.n_plus_one")))
    return {"behind": links, "note": _NOTES.get(request.endpoint or "", ON_ERRORS).text}


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
