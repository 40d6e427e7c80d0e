"""Extensions that take errors by wrapping the application's methods, as Flask-RESTX does.

Their ``Api`` puts ``partial(api.error_router, app.handle_user_exception)`` in place of the
application's method, and answers whatever a resource of its raises. It is known here by its shape,
not by its class, so nothing of it is imported: Flask-RESTX and Flask-RESTful have the same.

References:
    * https://flask-restx.readthedocs.io/en/latest/errors.html
    * https://flask-restful.readthedocs.io/en/latest/extending.html#custom-error-handlers
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from werkzeug.exceptions import HTTPException

__all__ = ["claims", "owner_of", "renders_itself"]


def claims(wrapped: Callable[..., Any], endpoint: str | None, error: Exception) -> bool:
    """Tell whether the API that the request belongs to has a handler for an exception.

    One for every ``Exception`` does not count: it comes last, as the application's does.

    Args:
        wrapped: What the application's method was when it was wrapped by us.
        endpoint: Of the request.
        error: What was raised.
    """
    api = owner_of(wrapped, endpoint)
    if api is None:
        return False
    handlers: Any = getattr(api, "_own_and_child_error_handlers", None)
    if handlers is None:
        handlers = getattr(api, "error_handlers", None) or {}
    by_class = any(
        isinstance(error, kind) for kind in handlers if kind not in (Exception, BaseException)
    )
    # Flask-RESTful: Api(errors={"IntegrityError": {"message": …, "status": 409}})
    by_name = getattr(api, "errors", None)
    return by_class or (isinstance(by_name, Mapping) and type(error).__name__ in by_name)


def owner_of(wrapped: Callable[..., Any], endpoint: str | None) -> object | None:
    """Return the API among those that wrap a method that an endpoint belongs to."""
    if endpoint is None:
        return None
    for api in _apis(wrapped):
        if api.owns_endpoint(endpoint):
            return api  # type: ignore[no-any-return]
    return None


def _apis(wrapped: Any) -> Iterator[Any]:
    while isinstance(wrapped, partial):
        owner = getattr(wrapped.func, "__self__", None)
        if callable(getattr(owner, "owns_endpoint", None)):
            yield owner
        wrapped = wrapped.args[0] if wrapped.args else None


def renders_itself(error: HTTPException) -> bool:
    """Tell whether an HTTP exception has a body of its own, which an API would replace."""
    return type(error).get_response is not HTTPException.get_response
