"""What lists raise: at the developer who declared one, or at the client who asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from werkzeug.exceptions import BadRequest

from ..errors.details import (
    BASE_KEY,
    REQUEST_ID_KEY,
    head_of_problem,
    prefers_page,
    render_problem,
)
from ..exceptions import DBKitError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["PlanError", "QueryError", "mistake"]

_ECHO_LIMIT = 64


class PlanError(DBKitError, TypeError):
    """A listing that cannot be right, found when its statement is first looked at.

    Attributes:
        listing: The name of the listing.
        key: The name of the sort or filter entry, or ``None`` when it is the statement itself.

    .. versionadded:: 0.1
    """

    def __init__(self, reason: str, *, listing: str | None = None, key: str | None = None) -> None:
        self.reason, self.listing, self.key = reason, listing, key
        where = [f"Listing {listing!r}"] if listing else []
        where += [f"entry {key!r}"] if key else []
        super().__init__(f"{', '.join(where)}: {reason}" if where else reason)


class QueryError(DBKitError, BadRequest):
    """A query string with parameters the endpoint does not understand. Clients see a 400.

    Collects every mistake of one request. Renders itself: RFC 9457 problem details, or for a
    browser that prefers HTML the page Flask makes of any ``BadRequest``, which the application
    replaces with ``@app.errorhandler(400)``.

    Attributes:
        errors: One dict per mistake, with ``parameter``, ``code``, ``value`` (what was sent,
            cut to 64 characters) and ``allowed`` (the published names or limits, or ``None``).

    .. versionadded:: 0.1

    References:
        https://www.rfc-editor.org/rfc/rfc9457
    """

    def __init__(self, errors: Iterable[Mapping[str, Any]]) -> None:
        self.errors: list[dict[str, Any]] = [dict(error) for error in errors]
        count = len(self.errors)
        lead = f"{count} parameters were" if count != 1 else "1 parameter was"
        super().__init__("\n".join([f"{lead} not understood.", *map(_sentence, self.errors)]))

    def problem(self, base: str | None = None) -> dict[str, Any]:
        """Return the members of the problem details object.

        Args:
            base: What the type is made of: ``DBKIT_PROBLEM_BASE``.
        """
        detail = (self.description or "").partition("\n")[0]
        return {**head_of_problem("query.invalid", 400, detail, base), "errors": self.errors}

    def get_response(
        self,
        environ: WSGIEnvironment | Any = None,
        scope: dict[str, Any] | None = None,
    ) -> Any:
        """Render the problem, or HTML for a client that prefers it.

        Args:
            environ: The WSGI environment, which tells what the client prefers. Without one
                the answer is problem details.
            scope: Passed on to Werkzeug.
        """
        environ = getattr(environ, "environ", environ)
        if self.response is None and not prefers_page(environ):
            known = environ or {}
            members = self.problem(known.get(BASE_KEY))
            if (request_id := known.get(REQUEST_ID_KEY)) is not None:
                members["request_id"] = request_id
            response = render_problem(members)
        else:
            response = cast("Any", super()).get_response(environ, scope)
        # One address, two representations: a cache must tell them apart.
        response.vary.add("Accept")
        return response


def mistake(
    parameter: str, code: str, value: object = None, allowed: Sequence[object] | object = None
) -> dict[str, Any]:
    """Build one entry of :attr:`QueryError.errors`.

    Args:
        parameter: The name in the query string.
        code: Without the prefix ``query.``.
        value: What the client sent.
        allowed: Published names, or a limit.
    """
    text = value if value is None or isinstance(value, str) else str(value)
    if text is not None:
        # A lone surrogate has no UTF-8 form, so the answer could not be encoded.
        text = text[:_ECHO_LIMIT].encode("utf-8", "replace").decode()
    return {
        "parameter": parameter[:_ECHO_LIMIT].encode("utf-8", "replace").decode(),
        "code": f"query.{code}",
        "value": text,
        "allowed": allowed,
    }


def _sentence(error: Mapping[str, Any]) -> str:
    allowed = error["allowed"]
    if isinstance(allowed, (list, tuple)):
        allowed = ", ".join(map(str, allowed))
    hint = f" Allowed: {allowed}." if allowed not in (None, "") else ""
    return f"{error['parameter']}: {error['code']}.{hint}"
