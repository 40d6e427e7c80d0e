"""What the edit form accepts."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from .models import Place

__all__ = ["PlaceForm"]

_MAX_NAME = 200
_MAX_REGION = 20
_MAX_INTEGER = 2**31 - 1


@dataclass(frozen=True)
class PlaceForm:
    """The fields as text, as they stand in the page, and what is wrong with them.

    Attributes:
        name: The place's name.
        population: How many people live there.
        region_code: The first-level administrative division; empty when there is none.
        version: The version of the place that the editor saw.
        errors: One message per field that cannot be saved.
    """

    name: str
    population: str
    region_code: str
    version: str
    errors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, place: Place) -> PlaceForm:
        """Fill the form with what is stored."""
        return cls(place.name, str(place.population), place.region_code or "", str(place.version))

    @classmethod
    def parse(cls, form: Mapping[str, str]) -> PlaceForm:
        """Read a submitted form; nothing is raised for bad input, see ``errors``."""
        name, population, region_code, version = (
            form.get(key, "").strip() for key in ("name", "population", "region_code", "version")
        )
        errors = {
            "name": _check_name(name),
            "population": _check_integer(population),
            "region_code": _check_text(region_code, _MAX_REGION),
        }
        return cls(
            name,
            population,
            region_code,
            version,
            {key: message for key, message in errors.items() if message},
        )

    def apply(self, place: Place) -> None:
        """Write the fields to ``place``. Only for a form without errors."""
        place.name = self.name
        place.population = int(self.population)
        place.region_code = self.region_code or None


def _check_name(text: str) -> str:
    return _check_text(text, _MAX_NAME) if text else "A place needs a name."


def _check_text(text: str, limit: int) -> str:
    if len(text) > limit:
        return f"Use at most {limit} characters; this has {len(text)}."
    # Control characters: PostgreSQL stores no NUL in text, and a line break is no part of a name.
    # https://www.postgresql.org/docs/current/datatype-character.html
    if any(unicodedata.category(character) == "Cc" for character in text):
        return "Use letters, digits and punctuation only."
    return ""


def _check_integer(text: str) -> str:
    # isdecimal() alone would let ٣ through, and int() also takes "1_000".
    if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _MAX_INTEGER:
        return ""
    return f"Use a whole number from 0 to {_MAX_INTEGER:,}, digits only."
