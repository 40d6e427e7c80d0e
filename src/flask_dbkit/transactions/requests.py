"""Per-request mode: every view runs in a transaction scope (``DBKIT_TX_PER_REQUEST``)."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

from flask import Flask, has_request_context, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session
from werkzeug import Response

from ..application import current_application, current_session
from ..support.calls import explained
from .exceptions import Rollback
from .opening import hook_target
from .options import PLAIN, RETRY, Retry, ScopeDefaults
from .retrying import Replay, run_in_scope
from .state import UnitOfWork

__all__ = ["input_read", "non_transactional", "run_views_in_scopes"]

P = ParamSpec("P")
R = TypeVar("R")

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_ONCE = Retry(attempts=1)
_NON_TRANSACTIONAL = "__dbkit_non_transactional__"
"""Attribute of a view that per-request mode leaves alone."""


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
        if any(getattr(view, _NON_TRANSACTIONAL, False) for view in views):
            return plain()
        retry = next((getattr(view, RETRY) for view in views if hasattr(view, RETRY)), _ONCE)
        lends = any(inspect.iscoroutinefunction(inspect.unwrap(view)) for view in views)
        try:
            answer = run_in_scope(_REPLAY, PLAIN, retry, lambda: answer_in_scope(lends=lends))
        except _RefusedAnswer as refused:
            answer = refused.answer
        if isinstance(answer, Rollback):
            # Raised in the view, it leaves no answer: the request ends as with any exception.
            raise answer
        return answer

    def answer_in_scope(*, lends: bool) -> Response | Rollback:
        unit = hook_target(current_session())
        assert unit is not None
        answer: Response | Rollback
        try:
            with _lent(unit) if lends else nullcontext():
                answer = app.make_response(plain())
        except Rollback as rollback:
            answer = rollback
        else:
            if rollback_status is None or answer.status_code < rollback_status:
                return answer
        block = unit.blocks[-1]
        if block.index > 0:
            # Whoever opened the scope around the request has to be told.
            raise _RefusedAnswer(answer)
        block.set_rollback_only()
        return answer

    setattr(app, "dispatch_request", dispatch_request)


def _find() -> tuple[Session, ScopeDefaults]:
    state = current_application()
    defaults = state.part(ScopeDefaults)
    if request.method in _SAFE_METHODS and defaults.sqlite_begin != "deferred":
        # As a plain session does: what was read before the view stays read, and the first
        # write takes the lock.
        defaults = dataclasses.replace(defaults, sqlite_begin="deferred")
    return state.db.session(), defaults


def input_read() -> object:
    """Tell how far the body of the current request was read that cannot be read again.

    JSON and form fields are kept by the request; its stream and uploaded files are not.
    """
    if not has_request_context():
        return None
    read = vars(_current_request())
    if getattr(request, "_cached_data", None) is not None:
        return None
    if "files" in read:
        positions = [_position(file.stream) for _, file in read["files"].items(multi=True)]
    else:
        positions = [_position(read["stream"])] if "stream" in read else []
    return positions if any(positions) else None


def _current_request() -> Any:
    proxy: Any = request
    return proxy._get_current_object()  # noqa: SLF001 - documented, whatever its name


def _position(stream: Any) -> int:
    """Return how many bytes of a stream were read, -1 when it does not say."""
    try:
        return int(stream.tell())
    except (AttributeError, OSError, ValueError):  # no file, no position, closed
        return -1


_REPLAY = Replay(_find, input_read)


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


@contextmanager
def _lent(unit: UnitOfWork) -> Iterator[None]:
    """Let another thread use the unit of work, for as long as this one waits for it."""
    unit.lent = True
    try:
        yield
    finally:
        unit.lent, unit.borrower = False, None


@explained()
def non_transactional(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view that per-request mode (``DBKIT_TX_PER_REQUEST``) leaves without a scope.

    Also for a class of views, for one method of it, and in its ``decorators``.

    .. versionadded:: 0.1
    """
    marked = view
    if inspect.ismethod(view):  # takes no attributes
        marked = functools.wraps(view)(functools.partial(view))
    setattr(marked, _NON_TRANSACTIONAL, True)
    return marked
