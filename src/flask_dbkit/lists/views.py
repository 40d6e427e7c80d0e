"""The JSON answer of a page, made as the application makes its others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from flask import Response, current_app, has_app_context

__all__ = ["Response", "respond"]


def respond(payload: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """Return a JSON response; without an application at hand, a plain one.

    Args:
        payload: The body.
        headers: Further headers.
    """
    if has_app_context():
        response = cast("Response", current_app.json.response(dict(payload)))
    else:
        body = json.dumps(payload, default=str, ensure_ascii=False) + "\n"
        response = Response(body, mimetype="application/json")
    response.headers.update(dict(headers))
    return response
