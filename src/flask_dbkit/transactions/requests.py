"""Per-request mode: every view runs in a transaction scope (``DBKIT_TX_PER_REQUEST``)."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar
from weakref import ref

from flask import Flask, has_request_context, request
from sqlalchemy.orm import Session
from werkzeug import Response

from ..application import current_app_object, current_application, current_session
from ..support.calls import explained
from .exceptions import Rollback
from .opening import hook_target, stray_work
from .options import PLAIN, RETRY, Retry, ScopeDefaults
from .retrying import Replay, run_in_scope
from .state import UnitOfWork, record_of

__all__ = ["input_read", "non_transactional", "run_views_in_scopes"]

P = ParamSpec("P")
R = TypeVar("R")

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_ONCE = Retry(attempts=1)
_NON_TRANSACTIONAL = "__dbkit_non_transactional__"
"""Attribute of a view that per-request mode leaves alone."""
_RAN = "__dbkit_ran__"
"""Attribute of a request whose view was called from the table."""
_DISPATCHERS = ("full_dispatch_request", "dispatch_request", "preprocess_request")


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
        app: Its table of views is replaced. Whoever dispatches the request, the application's
            own method or another one that an extension has put in its place, takes the view
            from there.
        rollback_status: A returned status from here on rolls back, as ``abort()`` does.
    """

    def take_table() -> None:
        if not isinstance(app.view_functions, _Views):
            app.view_functions = _Views(app, rollback_status, app.view_functions)

    def check_answer(response: Response) -> Response:
        if rollback_status is None or response.status_code < rollback_status:
            _check_in_scope(app)
        return response

    take_table()
    app.before_request_funcs.setdefault(None, []).insert(0, take_table)
    # First of the list, so that it is called last.
    app.after_request_funcs.setdefault(None, []).insert(0, check_answer)


class _Views(dict[str, Callable[..., Any]]):
    """The views of an application; that of the current request comes in a scope."""

    def __init__(
        self, app: Flask, rollback_status: int | None, views: Mapping[str, Callable[..., Any]]
    ) -> None:
        super().__init__(views)
        self._app = ref(app)
        self._rollback_status = rollback_status
        self._in_scopes: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}

    def __getitem__(self, endpoint: str) -> Callable[..., Any]:
        return self._for_now(endpoint, super().__getitem__(endpoint))

    def get(self, endpoint: str, default: Any = None) -> Any:
        """Return a view as ``[]`` does, or the default."""
        view = super().get(endpoint)
        return default if view is None else self._for_now(endpoint, view)

    def _for_now(self, endpoint: str, view: Callable[..., Any]) -> Callable[..., Any]:
        """Return the view itself, or in a scope if the current request is for it."""
        app = self._app()
        if app is None or not has_request_context() or request.endpoint != endpoint:
            return view
        if current_app_object() is not app:
            return view
        known, in_scope = self._in_scopes.get(endpoint, (None, view))
        if known is not view:
            in_scope = _in_scope(app, view, self._rollback_status)
            self._in_scopes[endpoint] = view, in_scope
        return in_scope


def _in_scope(
    app: Flask, view: Callable[..., Any], rollback_status: int | None
) -> Callable[..., Any]:
    """Return a view that runs in a scope."""
    find_app = ref(app)  # the table of its views belongs to it

    @functools.wraps(view)
    def call(**arguments: Any) -> Any:
        app = find_app()
        assert app is not None
        run = app.ensure_sync(view)
        vars(_current_request())[_RAN] = True
        views = _handlers(view)
        if any(getattr(each, _NON_TRANSACTIONAL, False) for each in views):
            return run(**arguments)
        retry = next((getattr(each, RETRY) for each in views if hasattr(each, RETRY)), _ONCE)
        lends = any(inspect.iscoroutinefunction(inspect.unwrap(each)) for each in views)

        def answer_in_scope() -> Response | Rollback:
            return _answer(app, lambda: run(**arguments), rollback_status, lends=lends)

        try:
            answer = run_in_scope(_REPLAY, PLAIN, retry, answer_in_scope)
        except _RefusedAnswer as refused:
            answer = refused.answer
        if isinstance(answer, Rollback):
            # Raised in the view, it leaves no answer: the request ends as with any exception.
            raise answer
        return answer

    return call


def _answer(
    app: Flask, run: Callable[[], Any], rollback_status: int | None, *, lends: bool
) -> Response | Rollback:
    """Run a view in the open scope, and decide by its answer how that is to end."""
    unit = hook_target(current_session())
    assert unit is not None
    answer: Response | Rollback
    try:
        with _lent(unit) if lends else nullcontext():
            answer = app.make_response(run())
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


def _check_in_scope(app: Flask) -> None:
    """Refuse an answer whose work is lost, because somebody has called the view past its scope."""
    registry = current_application().db.session.registry
    if _RAN in vars(_current_request()) or not registry.has():
        return
    session = registry()
    stray = stray_work(session, record_of(session).transactions)
    replaced = {name: vars(app)[name] for name in _DISPATCHERS if name in vars(app)}
    if stray is not None and replaced:
        names = ", ".join(f"app.{name} by {_origin(by)}" for name, by in replaced.items())
        raise RuntimeError(
            "DBKIT_TX_PER_REQUEST is on, but this request ran outside any scope, and its"
            f" uncommitted work would be lost: {stray}. Replaced were {names}. Let that call"
            " what it finds in app.view_functions at the time of the request."
        )


def _origin(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"


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


def _handlers(view: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Return a view, and what a class-based one calls, the most specific first."""
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
