"""The same for programs: lists by page number and by cursor, and edits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import UnprocessableEntity

from flask_dbkit import ConflictProblem, transaction

from . import description
from .countries import check_iso3, find_country
from .forms import PlaceForm
from .lists import PLACES
from .models import Country, Place
from .places import PLACE, find_place

__all__ = ["blueprint"]

blueprint = Blueprint("api", __name__, url_prefix="/api")


@blueprint.get("/places")
def places() -> Response:
    """Answer one page by its number: ``?page=2&sort=-population``."""
    return PLACES.paginate().to_response(_dump)


@blueprint.get("/places/feed")
def feed() -> Response:
    """Answer the page behind a cursor: as fast on the last page as on the first."""
    return PLACES.paginate_keyset().to_response(_dump)


@blueprint.get(PLACE)
def place(place_id: int) -> Response:
    """Answer one place, with its version as the entity tag."""
    return _answer(find_place(place_id))


@blueprint.put(PLACE)
def replace(place_id: int) -> Response:
    """Store name, population and region code.

    With ``If-Match`` it is the place the client saw, or a 412; without, a 409 when somebody saves
    at the same moment. What is wrong with the values is a 422, by field.
    """
    body = _read_body()
    form = PlaceForm.parse(body)
    if form.errors:
        raise _wrong(form.errors)
    return _answer(_store(place_id, form))


@blueprint.patch("/countries/<code>")
def change_country(code: str) -> Response:
    """Give a country another ISO 3166-1 alpha-3 code, which no other may have (409)."""
    body = _read_body()
    mistake = check_iso3(body.get("iso3", ""))
    if mistake:
        raise _wrong({"iso3": mistake})
    country = _rename(code, body["iso3"])
    return jsonify(code=country.code, iso3=country.iso3, name=country.name)


@transaction
def _store(place_id: int, form: PlaceForm) -> Place:
    stored = find_place(place_id)
    if request.if_match and not request.if_match.contains(str(stored.version)):
        raise ConflictProblem("conflict.stale")
    form.apply(stored)
    return stored


@transaction
def _rename(code: str, iso3: str) -> Country:
    country = find_country(code)
    country.iso3 = iso3
    return country


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Describe all of it."""
    return jsonify(description.describe(PLACES.openapi_parameters()))


def _read_body() -> Mapping[str, str]:
    """Read a JSON object; what is neither text nor number counts as missing."""
    body = request.get_json()
    if not isinstance(body, dict):
        raise _wrong({"": "Send an object."})
    return {
        key: str(value)
        for key, value in body.items()
        if isinstance(value, (str, int)) and not isinstance(value, bool)
    }


def _wrong(errors: Mapping[str, str]) -> UnprocessableEntity:
    problem = {"title": "Unprocessable Entity", "status": 422, "errors": dict(errors)}
    body = json.dumps(problem)
    return UnprocessableEntity(response=Response(body, 422, mimetype="application/problem+json"))


def _answer(place: Place) -> Response:
    response = jsonify(_dump(place))
    response.set_etag(str(place.version))
    return response


def _dump(place: Place) -> dict[str, Any]:
    return {
        "id": place.id,
        "name": place.name,
        "country": {"code": place.country_code, "name": place.country.name},
        "region_code": place.region_code,
        "population": place.population,
        "latitude": place.latitude,
        "longitude": place.longitude,
        "time_zone": place.time_zone,
    }
