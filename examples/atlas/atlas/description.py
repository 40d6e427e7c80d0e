"""What the API can do, in the words of OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["describe"]

_PROBLEM: dict[str, Any] = {"application/problem+json": {}}
_PLACE_ID = {
    "name": "place_id",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The ETag of the place that is to be replaced.",
}
_CODE = {"name": "code", "in": "path", "required": True, "schema": {"type": "string"}}
_EDIT = {
    "type": "object",
    "required": ["name", "population"],
    "properties": {
        "name": {"type": "string"},
        "population": {"type": "integer"},
        "region_code": {"type": ["string", "null"]},
    },
}
_ISO3 = {
    "type": "object",
    "required": ["iso3"],
    "properties": {"iso3": {"type": "string", "pattern": "^[A-Z]{3}$"}},
}


def describe(parameters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI description.

    Args:
        parameters: Those of the list, as ``Listing.openapi_parameters()`` makes them.
    """
    by_number = [item for item in parameters if item["name"] != "cursor"]
    by_cursor = [item for item in parameters if item["name"] != "page"]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Atlas", "version": "1.0.0"},
        "paths": {
            "/api/places": {"get": _operation("Places, page by page", by_number, 400)},
            "/api/places/feed": {"get": _operation("Places, cursor by cursor", by_cursor, 400)},
            "/api/places/{place_id}": {
                "get": _operation("One place", [_PLACE_ID], 404),
                "put": _operation(
                    "Edit a place", [_PLACE_ID, _IF_MATCH], 400, 404, 409, 412, 422, body=_EDIT
                ),
            },
            "/api/countries/{code}": {
                "patch": _operation(
                    "Change the code of a country", [_CODE], 400, 404, 409, 422, body=_ISO3
                )
            },
        },
    }


def _operation(
    summary: str,
    parameters: Sequence[dict[str, Any]],
    *problems: int,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": "Done.", "content": {"application/json": {}}}
    }
    for status in problems:
        responses[str(status)] = {"description": "A problem.", "content": _PROBLEM}
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": list(parameters),
        "responses": responses,
    }
    if body is not None:
        content = {"application/json": {"schema": body}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
