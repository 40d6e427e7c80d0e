"""What visitors may sort, filter and page: declared once, used by the pages and by the API."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import contains_eager

from flask_dbkit import Filter, FilterAllowlist, Listing, SortAllowlist, SortKey

from .models import Country, Place

__all__ = ["PLACES", "PLACE_FILTER", "PLACE_SORT"]

PLACE_SORT = SortAllowlist(
    {
        "name": Place.name,
        "country": Country.name,
        # Numbers are most often wanted largest first.
        "population": SortKey(Place.population, descending_first=True),
        "time_zone": Place.time_zone,
    },
    default="-population",  # who opens it sees names they know
)


def _in_country(statement: sa.Select[Any], code: str) -> sa.Select[Any]:
    return statement.where(Place.country_code == code.upper())


PLACE_FILTER = FilterAllowlist(
    {
        "country": Filter(_in_country, type=str),
        "name": Filter(Place.name, ops="eq icontains startswith"),
        "population": Filter(Place.population, ops="eq gte lte"),
    }
)

PLACES: Listing[Place] = Listing(
    sa.select(Place).join(Place.country).options(contains_eager(Place.country)),
    sort=PLACE_SORT,
    filter=PLACE_FILTER,
    per_page=25,
    max_per_page=100,
)
