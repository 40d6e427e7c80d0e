"""Countries: one page, by continent; and the edit form of one."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import selectinload
from werkzeug.wrappers import Response

from flask_dbkit import ConflictProblem, transaction

from .extensions import db
from .models import Continent, Country, Place

__all__ = ["blueprint", "check_iso3", "find_country"]

blueprint = Blueprint("countries", __name__)


@blueprint.get("/countries")
def index() -> str:
    """List every country with the number of its places."""
    continents = db.session.scalars(
        sa.select(Continent).options(selectinload(Continent.countries)).order_by(Continent.name)
    ).all()
    rows = db.session.execute(
        sa.select(Place.country_code, sa.func.count()).group_by(Place.country_code)
    )
    counts: dict[str, int] = {code: count for code, count in rows}  # noqa: C416 (rows, not pairs)
    return render_template("countries/index.html", continents=continents, counts=counts)


@blueprint.get("/countries/<code>/edit")
def edit(code: str) -> str:
    """Show the edit form."""
    country = find_country(code)
    return _show_form(country, country.iso3)


@blueprint.post("/countries/<code>/edit")
def save(code: str) -> Response | tuple[str, int]:
    """Store another ISO code.

    Whether another country has it, only the database knows for sure: :func:`show_conflict`.
    """
    iso3 = request.form.get("iso3", "").strip().upper()
    mistake = check_iso3(iso3)
    if mistake:
        return _show_form(find_country(code), iso3, mistake), 422
    with transaction():
        country = find_country(code)
        country.iso3 = iso3
    flash(f"{country.name} is saved.")
    return redirect(url_for(".index", _anchor=country.continent_code), 303)


@blueprint.errorhandler(ConflictProblem)
def show_conflict(problem: ConflictProblem) -> tuple[str, int]:
    """Show the form again, with what the database refused beside its field.

    The library tells which field it is; the words are in :mod:`atlas.errors`.
    """
    code = (request.view_args or {}).get("code")
    if code is None or "iso3" not in problem.fields:
        raise problem
    iso3 = request.form.get("iso3", "").strip().upper()
    return _show_form(find_country(code), iso3, problem.detail), problem.status


def _show_form(country: Country, iso3: str, error: str = "") -> str:
    return render_template("countries/edit.html", country=country, iso3=iso3, error=error)


def find_country(code: str) -> Country:
    """Load one country, or answer 404."""
    known = code if len(code) == 2 and code.isascii() and code.isalpha() else ""
    return db.get_or_404(Country, known.upper(), description="There is no such country.")


def check_iso3(text: str) -> str:
    """Return what is wrong with an ISO 3166-1 alpha-3 code."""
    good = len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()
    return "" if good else "Use three capital letters, such as ISL."
