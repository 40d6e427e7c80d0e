"""Places: the list, one place, its edit form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import joinedload, undefer
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from flask_dbkit import KeysetPage, OffsetPage, QueryError, on_commit, transaction

from .extensions import db
from .forms import PlaceForm
from .lists import PLACES
from .models import Country, Place

__all__ = ["PLACE", "blueprint", "find_place", "select_namesakes"]

blueprint = Blueprint("places", __name__)

# The largest id any of the databases can hold in its INTEGER: beyond it there is no place.
PLACE = "/places/<int(max=2147483647):place_id>"


@blueprint.get("/")
def index() -> str | Response | tuple[str, int]:
    """List the places by page number; sorted and filtered as :mod:`atlas.lists` allows."""
    return _render_list(lambda args: PLACES.paginate(error_out=True, args=args))


@blueprint.get("/feed")
def feed() -> str | Response | tuple[str, int]:
    """List the places by cursor: no count, and as fast at the end as at the beginning."""
    return _render_list(lambda args: PLACES.paginate_keyset(args=args))


def _render_list(
    fetch: Callable[[MultiDict[str, str]], OffsetPage[Place] | KeysetPage[Place]],
) -> str | Response | tuple[str, int]:
    filled = [(name, value) for name, value in request.args.items(multi=True) if value]
    if len(filled) < len(list(request.args.items(multi=True))):
        # A form sends its empty fields too; the address does without them.
        query = urlencode(filled)
        return redirect(f"{request.path}?{query}" if query else request.path)
    country = _find_country()
    wrong: dict[str, str] = {}
    try:
        page = fetch(request.args)
    except QueryError as error:
        # The list without what was not understood, the visitor's input as it was typed, and
        # what is wrong with it beside the field.
        wrong = {one["parameter"]: _explain(one) for one in error.errors}
        page = fetch(MultiDict(item for item in filled if item[0] not in wrong))
    html = render_template(
        "places/index.html",
        page=page,
        country=country,
        countries=_fetch_countries(),
        wrong=wrong,
        filtered=any(name in request.args for name in _FIELDS),
    )
    return (html, 400) if wrong else html


_FIELDS = ("country", "name__icontains", "population__gte", "population__lte")


def _explain(mistake: Mapping[str, Any]) -> str:
    """Say in a visitor's words what one mistake in the address is."""
    if mistake["code"] == "query.bad_value" and mistake["parameter"].startswith("population"):
        return "Write a whole number in digits only, such as 1000000."
    return f"{mistake['parameter']}={mistake['value']} was not understood."


def _fetch_countries() -> Sequence[Country]:
    return db.session.scalars(sa.select(Country).order_by(Country.name)).all()


@blueprint.get(PLACE)
def show(place_id: int) -> str:
    """Show one place and the places next to it by population in its country."""
    place = find_place(place_id)
    return render_template(
        "places/show.html",
        place=place,
        neighbours=_fetch_neighbours(place),
        namesakes=db.session.scalar(
            sa.select(sa.func.count()).select_from(select_namesakes(place).subquery())
        ),
    )


@blueprint.get(PLACE + "/edit")
def edit(place_id: int) -> str:
    """Show the edit form."""
    place = find_place(place_id)
    return render_template("places/edit.html", place=place, form=PlaceForm.of(place))


@blueprint.post(PLACE + "/edit")
def save(place_id: int) -> Response | tuple[str, int]:
    """Save the edit form, or show it again with what is wrong.

    The form carries the version of the place its editor saw. When somebody saved in between,
    nothing is written and the page shows both (409): the next save is made knowing that.
    """
    form = PlaceForm.parse(request.form)
    if form.errors:
        return render_template("places/edit.html", place=find_place(place_id), form=form), 422
    try:
        _store(place_id, form)
    except (Outdated, StaleDataError):
        return _show_conflict(find_place(place_id), form)
    flash(f"{form.name} is saved.")
    return redirect(url_for(".show", place_id=place_id), 303)


class Outdated(Exception):
    """The form was filled from an older version of the place."""


@transaction
def _store(place_id: int, form: PlaceForm) -> None:
    # On SQLite the scope takes the write lock before it reads, and everywhere the version in
    # the UPDATE's WHERE clause notices who saved between the two (StaleDataError).
    place = find_place(place_id)
    if form.version != str(place.version):
        raise Outdated
    form.apply(place)
    # Said only when it is true, and once: not if the COMMIT fails.
    on_commit(current_app.logger.info, "Place %d was edited.", place_id)


def _show_conflict(place: Place, form: PlaceForm) -> tuple[str, int]:
    return render_template("places/edit.html", place=place, form=form, conflict=True), 409


def find_place(place_id: int) -> Place:
    """Load one place with all that its pages show, or answer 404."""
    options = (
        joinedload(Place.country).joinedload(Country.continent),
        undefer(Place.alternate_names),
    )
    return db.get_or_404(Place, place_id, options=options, description="There is no such place.")


def select_namesakes(place: Place) -> sa.Select[Any]:
    """Select the other places of the same name in the same country, which may be duplicates."""
    return sa.select(Place).where(
        Place.country_code == place.country_code, Place.name == place.name, Place.id != place.id
    )


def _find_country() -> Country | None:
    code = request.args.get("country", "")
    if not code:
        return None
    if not (len(code) == 2 and code.isascii() and code.isalpha()):
        abort(404, "There is no such country.")
    return db.get_or_404(Country, code.upper(), description="There is no such country.")


def _fetch_neighbours(place: Place, count: int = 3) -> list[Place]:
    """Fetch the ``count`` places just above and just below by population, largest first."""
    rank = sa.tuple_(Place.population, Place.id)
    own_rank = sa.tuple_(sa.literal(place.population), sa.literal(place.id))
    same_country = sa.select(Place).where(Place.country_code == place.country_code)
    above = db.session.scalars(
        same_country.where(rank > own_rank).order_by(Place.population, Place.id).limit(count)
    )
    below = db.session.scalars(
        same_country.where(rank < own_rank)
        .order_by(Place.population.desc(), Place.id.desc())
        .limit(count)
    )
    return [*reversed(above.all()), place, *below.all()]
