"""The same list for programs: by page number, and by cursor."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from .lists import PLACES
from .models import Place

__all__ = ["blueprint"]

blueprint = Blueprint("api", __name__, url_prefix="/api")


@blueprint.get("/places")
def places() -> Response:
    """Answer one page by its number: ``?page=2&sort=-population``."""
    response: Response = PLACES.paginate().to_response(_dump)
    return response


@blueprint.get("/places/feed")
def feed() -> Response:
    """Answer the page behind a cursor: as fast on the last page as on the first."""
    response: Response = PLACES.paginate_keyset().to_response(_dump)
    return response


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Describe both."""
    parameters = PLACES.openapi_parameters()
    by_number = [item for item in parameters if item["name"] != "cursor"]
    by_cursor = [item for item in parameters if item["name"] != "page"]
    return jsonify(
        openapi="3.1.0",
        info={"title": "Atlas", "version": "1.0.0"},
        paths={
            "/api/places": {"get": _operation("Places, page by page", by_number)},
            "/api/places/feed": {"get": _operation("Places, cursor by cursor", by_cursor)},
        },
    )


def _operation(summary: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "A page.", "content": {"application/json": {}}},
            "400": {
                "description": "A parameter that is not understood.",
                "content": {"application/problem+json": {}},
            },
        },
    }


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
