"""Per-request mode: every view runs in a transaction scope (``DBKIT_TX_PER_REQUEST``)."""

from __future__ import annotations

from flask import Flask, request
from flask.typing import ResponseReturnValue
from werkzeug import Response

from .scopes import NON_TRANSACTIONAL, in_transaction, transaction

__all__ = ["run_views_in_scopes"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def run_views_in_scopes(app: Flask, rollback_status: int | None) -> None:
    """Wrap the call of the view, and nothing else, in a scope.

    ``before_request`` functions run before it, error handlers, ``after_request`` functions and
    the response body after it. The COMMIT is over before the response leaves, and a COMMIT that
    fails is an ordinary exception.

    Args:
        app: Its ``dispatch_request`` is replaced on the instance; subclasses keep theirs.
        rollback_status: A returned status from here on rolls back, as ``abort()`` does.
    """
    plain = app.dispatch_request

    def dispatch_request() -> ResponseReturnValue:
        if _is_left_alone(app) or in_transaction():
            return plain()
        begin = "deferred" if request.method in _SAFE_METHODS else None
        response: Response
        with transaction(begin=begin) as scope:
            response = app.make_response(plain())
            if rollback_status is not None and response.status_code >= rollback_status:
                scope.set_rollback_only()
        return response

    setattr(app, "dispatch_request", dispatch_request)


def _is_left_alone(app: Flask) -> bool:
    view = app.view_functions.get(request.endpoint or "")
    candidates = [view]
    view_class = getattr(view, "view_class", None)
    if view_class is not None:
        method = getattr(view_class, request.method.lower(), None)
        candidates += [view_class, method, getattr(view_class, "dispatch_request", None)]
    return any(getattr(candidate, NON_TRANSACTIONAL, False) for candidate in candidates)
