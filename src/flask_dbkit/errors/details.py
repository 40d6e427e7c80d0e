"""Problem details (RFC 9457), and who gets a page instead.

References:
    https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import HTTP_STATUS_CODES, parse_accept_header, parse_options_header
from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = [
    "BASE_KEY",
    "REQUEST_ID_KEY",
    "head_of_problem",
    "prefers_page",
    "render_problem",
]

BASE_KEY = "flask_dbkit.problem_base"
"""Where the WSGI environment of a request holds ``DBKIT_PROBLEM_BASE``."""

REQUEST_ID_KEY = "flask_dbkit.request_id"
"""Where it holds the id of the request."""

_PROBLEM_JSON = "application/problem+json"
_FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def head_of_problem(code: str, status: int, detail: str, base: str | None) -> dict[str, Any]:
    """Return the members every problem details object begins with.

    Args:
        code: What programs look at.
        status: Of the response.
        detail: One or two sentences for a person.
        base: What the type is made of, with the code behind it; ``None`` for ``about:blank``.
    """
    return {
        "type": "about:blank" if base is None else base + code,
        "title": HTTP_STATUS_CODES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
    }


def prefers_page(environ: WSGIEnvironment | None) -> bool:
    """Tell whether an error should be shown as a page, from what the client sent.

    A JSON body asks for JSON. Otherwise the ``Accept`` header decides; where it has no
    preference, a form asks for a page and everything else for JSON.
    """
    headers = environ or {}
    body = parse_options_header(headers.get("CONTENT_TYPE"))[0].lower()
    if body == "application/json" or body.endswith("+json"):
        return False
    accept = parse_accept_header(headers.get("HTTP_ACCEPT"), MIMEAccept)
    page = accept.quality("text/html")
    data = max(accept.quality("application/json"), accept.quality(_PROBLEM_JSON))
    return page > data or (page == data and body in _FORMS)


def render_problem(members: Mapping[str, Any]) -> Response:
    """Turn a problem details object into the response of its status."""
    body = json.dumps(members, ensure_ascii=False) + "\n"
    return Response(body, members["status"], mimetype=_PROBLEM_JSON)
