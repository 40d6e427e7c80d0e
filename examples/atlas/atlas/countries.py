"""Countries: one page, by continent."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, render_template
from sqlalchemy.orm import selectinload

from .extensions import db
from .models import Continent, Place

__all__ = ["blueprint"]

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
