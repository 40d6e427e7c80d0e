"""Places: the list, one place, its edit form."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from flask_sqlalchemy.pagination import Pagination
from sqlalchemy.orm import contains_eager, joinedload, undefer
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.wrappers import Response

from flask_dbkit import on_commit, transaction

from .extensions import db
from .forms import PlaceForm
from .models import Country, Place

__all__ = ["PLACE", "blueprint", "find_place", "select_namesakes"]

PER_PAGE = 25

blueprint = Blueprint("places", __name__)

# The largest id any of the databases can hold in its INTEGER: beyond it there is no place.
PLACE = "/places/<int(max=2147483647):place_id>"


@blueprint.get("/")
def index() -> str:
    """List the places, of one country with ``?country=``, page by page with ``?page=``."""
    country = _find_country()
    return render_template("places/index.html", page=_fetch_page(country), country=country)


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


def _fetch_page(country: Country | None) -> Pagination:
    statement = (
        sa.select(Place)
        .join(Place.country)
        .options(contains_eager(Place.country))
        .order_by(Place.name, Place.id)
    )
    if country is not None:
        statement = statement.where(Place.country_code == country.code)
    page = db.paginate(statement, page=_parse_page(), per_page=PER_PAGE, error_out=False)
    if not page.items and page.page > 1:
        abort(404, f"The list ends at page {page.pages:,}.")
    return page


def _parse_page() -> int:
    text = request.args.get("page", "1")
    if not (text.isascii() and text.isdecimal() and text.strip("0")):
        abort(400, "A page number is a whole number from 1 up.")
    # More digits than any list has pages, and in the end more than a database's integer can hold.
    if len(text.lstrip("0")) > 9:
        abort(404, "The list has no such page.")
    return int(text)


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
