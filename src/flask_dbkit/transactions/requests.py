"""Per-request mode: every view runs in a transaction scope (``DBKIT_TX_PER_REQUEST``)."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from contextlib import nullcontext

from flask import Flask, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session
from werkzeug import Response

from ..application import current_application, current_session
from .current import NON_TRANSACTIONAL, RETRY, input_read
from .exceptions import Rollback
from .opening import hook_target
from .options import PLAIN, Retry, Surroundings
from .retrying import run_in_scope

__all__ = ["run_views_in_scopes"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_ONCE = Retry(attempts=1)


class _RefusedAnswer(Exception):
    """Carries an answer out of a scope that joins another one, and undoes that one's work too."""

    def __init__(self, answer: Response | Rollback) -> None:
        self.answer = answer
        super().__init__(f"a request inside this scope ended with {answer!r}")


def run_views_in_scopes(app: Flask, rollback_status: int | None) -> None:
    """Wrap the call of the view, and nothing else, in a scope.

    ``before_request`` functions run before it, error handlers, ``after_request`` functions and
    the response body after it. The COMMIT is over before the response leaves, and a COMMIT that
    fails is an ordinary exception. A view decorated with ``transaction(retry=...)`` is replayed
    as a whole, unless it has streamed the body of its request.

    Args:
        app: Its ``dispatch_request`` is replaced on the instance; subclasses keep theirs.
        rollback_status: A returned status from here on rolls back, as ``abort()`` does.
    """
    plain = app.dispatch_request

    def dispatch_request() -> ResponseReturnValue:
        views = _views(app)
        if any(getattr(view, NON_TRANSACTIONAL, False) for view in views):
            return plain()
        retry = next((getattr(view, RETRY) for view in views if hasattr(view, RETRY)), _ONCE)
        lends = any(inspect.iscoroutinefunction(inspect.unwrap(view)) for view in views)
        try:
            answer = run_in_scope(
                _find, PLAIN, retry, lambda: answer_in_scope(lends=lends), input_read
            )
        except _RefusedAnswer as refused:
            answer = refused.answer
        if isinstance(answer, Rollback):
            # Raised in the view, it leaves no answer: the request ends as with any exception.
            raise answer
        return answer

    def answer_in_scope(*, lends: bool) -> Response | Rollback:
        tree = hook_target(current_session())
        assert tree is not None
        answer: Response | Rollback
        try:
            with tree.lent() if lends else nullcontext():
                answer = app.make_response(plain())
        except Rollback as rollback:
            answer = rollback
        else:
            if rollback_status is None or answer.status_code < rollback_status:
                return answer
        frame = tree.frames[-1]
        if frame.index > 0:
            # Whoever opened the scope around the request has to be told.
            raise _RefusedAnswer(answer)
        frame.set_rollback_only()
        return answer

    setattr(app, "dispatch_request", dispatch_request)


def _find() -> tuple[Session, Surroundings]:
    state = current_application()
    surroundings = state.part(Surroundings)
    if request.method in _SAFE_METHODS and surroundings.sqlite_begin != "deferred":
        # As a plain session does: what was read before the view stays read, and the first
        # write takes the lock.
        surroundings = dataclasses.replace(surroundings, sqlite_begin="deferred")
    return state.db.session(), surroundings


def _views(app: Flask) -> list[Callable[..., object]]:
    """Return the view, and what a class-based one calls, the most specific first."""
    view = app.view_functions.get(request.endpoint or "")
    if view is None:
        return []
    view_class = getattr(view, "view_class", None)
    if view_class is None:
        return [view]
    name = request.method.lower()
    if name == "head" and not hasattr(view_class, name):
        name = "get"
    found = [getattr(view_class, name, None), getattr(view_class, "dispatch_request", None)]
    return [*(method for method in found if method is not None), view_class, view]
