"""One window for each request, job and command: what it tells, and what is done about findings."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
from flask import (
    Flask,
    Request,
    appcontext_pushed,
    has_request_context,
    request,
    request_started,
)
from flask.cli import ScriptInfo
from werkzeug.wrappers import Response

from ..errors.details import REQUEST_ID_KEY
from .comments import comment
from .current import BUDGET_KEY, judge_budget
from .n_plus_one import NPlusOneError, log_repeats
from .settings import ObservabilitySettings
from .windows import QueryStats, Repeat, Window, enter, innermost, leave, opened

__all__ = [
    "Told",
    "WorkWindows",
    "log_facts",
    "mode_of",
    "request_comment",
]

Told = Callable[[QueryStats, "tuple[Repeat, ...]", "str | None"], None]
"""Called at an end, with what was counted, what was found, and the route or name of the work."""

_WINDOW_KEY = "flask_dbkit.window"
_COMMENT_KEYS = ("flask_dbkit.sql_comment", "flask_dbkit.sql_comment_doubled")
_STREAMED_KEY = "flask_dbkit.window_streamed"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def mode_of(app: Flask, settings: ObservabilitySettings) -> str:
    """Return what is done about N+1 now: ``log``, ``raise`` or ``off``."""
    if settings.n_plus_one != "auto":
        return settings.n_plus_one
    return "raise" if app.testing else "log" if app.debug else "off"


def log_facts() -> Mapping[str, Any]:
    """Return what a log record says of the current request."""
    if not has_request_context():
        return {"route": None, "request_id": None}
    asked = _current_request()
    return {"route": _route(asked), "request_id": asked.environ.get(REQUEST_ID_KEY)}


def request_comment(app: Flask, *, trace: bool, doubled: bool) -> str:
    """Return the comment for the statements of the current request; nothing outside any.

    Made once for each request: its statements come here.

    Args:
        app: The application.
        trace: Whether it has the ``traceparent`` of a sampled request.
        doubled: Whether the driver takes ``%`` for the beginning of a placeholder.
    """
    if not has_request_context():
        return ""
    asked = _current_request()
    key = _COMMENT_KEYS[doubled]
    said: str | None = asked.environ.get(key)
    if said is None:
        said = _comment(app, asked, trace=trace)
        said = asked.environ[key] = said.replace("%", "%%") if doubled else said
    return said


def _comment(app: Flask, asked: Request, *, trace: bool) -> str:
    if asked.url_rule is None:
        return ""
    facts = {"app": app.name, "route": asked.url_rule.rule}
    if asked.blueprint is not None:
        facts["blueprint"] = asked.blueprint
    if trace:
        sent = asked.headers.get("traceparent", "")
        # The last bit says that the trace is recorded: only then is a comment worth its price.
        if _TRACEPARENT.fullmatch(sent) and int(sent[-2:], 16) & 1:
            facts["traceparent"] = sent
    return comment(tuple(facts.items()))


def _current_request() -> Request:
    """Return the request itself: each look through the proxy costs as much as a look at a dict."""
    proxied: Any = request
    found: Request = proxied._get_current_object()  # noqa: SLF001 - documented, whatever its name
    return found


def _route(asked: Request) -> str | None:
    return asked.url_rule.rule if asked.url_rule is not None else None


class WorkWindows:
    """Opens and closes the windows of one application's requests, jobs and commands.

    Args:
        app: The application.
        settings: Its settings.

    Attributes:
        told: Called at the end of each request.
        ended: Called at the end of each request, job and command.
    """

    def __init__(self, app: Flask, settings: ObservabilitySettings) -> None:
        self._app, self._settings = app, settings
        self.told: list[Told] = []
        self.ended: list[Told] = []

    def install(self) -> None:
        """Follow each request, and each command, from its beginning to its end."""
        request_started.connect(self._begin, self._app)
        self._app.after_request(self._answered)
        self._app.teardown_request(self._end)
        if self._settings.stats:
            appcontext_pushed.connect(self._pushed, self._app)

    def _window(self, kind: str) -> Window:
        app = self._app
        detect = mode_of(app, self._settings) != "off"
        threshold = self._settings.n_plus_one_threshold if detect else None
        return Window(kind, keep=app.debug or app.testing, threshold=threshold)

    @contextmanager
    def job(self) -> Iterator[None]:
        """Open a window for a job."""
        with opened(self._window("job")) as window:
            yield
        self._other_work_ended(window, "a job")

    def _pushed(self, _app: Flask, **_others: object) -> None:
        """Open a window for the command in which this context is the first, until its end."""
        context = click.get_current_context(silent=True)
        if context is None or context.find_object(ScriptInfo) is None:
            return
        around = innermost()
        if context.info_name != "run" and (around is None or around.kind == "block"):
            window = self._window("command")
            enter(window)
            context.call_on_close(partial(self._command_ended, window, context))

    def _command_ended(self, window: Window, context: click.Context) -> None:
        leave(window)
        name = " ".join(filter(None, (context.info_name, context.invoked_subcommand)))
        self._other_work_ended(window, f"the command {name}")

    def _other_work_ended(self, window: Window, name: str) -> None:
        repeats = window.stats.repeats
        for ended in self.ended:
            ended(window.stats, repeats, name)
        log_repeats(repeats, name)

    def _begin(self, _app: Flask, **_others: object) -> None:
        environ = _current_request().environ
        environ[REQUEST_ID_KEY] = self._request_id(environ)
        if not self._settings.stats:
            return
        environ[_WINDOW_KEY] = window = self._window("request")
        enter(window)

    def _request_id(self, environ: Mapping[str, Any]) -> str:
        header = self._settings.request_id_header
        if header is not None and self._settings.request_id_trust:
            sent = environ.get(f"HTTP_{header.upper().replace('-', '_')}", "")
            if _REQUEST_ID.fullmatch(sent):
                return str(sent)
        return str(uuid.uuid4())

    def _answered(self, response: Response) -> Response:
        header = self._settings.request_id_header
        asked = _current_request()
        environ = asked.environ
        known = environ.get(REQUEST_ID_KEY)
        if header is not None and known is not None:
            response.headers.setdefault(header, known)
        window: Window | None = environ.get(_WINDOW_KEY)
        if window is None:
            return response
        if self._tells_timing():
            response.headers.add("Server-Timing", _timing(window))
        if response.is_streamed and not response.direct_passthrough:
            environ[_STREAMED_KEY] = True
            look = self._last_look(window, asked)
            response.response = WindowedBody(response.response, window, look)
        else:
            self._judge(window, asked, may_raise=response.status_code < 400)
        if told := environ.get(BUDGET_KEY):
            response.headers["X-Query-Budget"] = told
        return response

    def _last_look(self, window: Window, asked: Request) -> Callable[[bool], None]:
        """Return what is done at the end of a streamed body, when the request is over."""
        return lambda may_raise: self._judge(window, asked, may_raise=may_raise)

    def _tells_timing(self) -> bool:
        wanted = self._settings.server_timing
        return wanted == "always" or (wanted == "debug" and self._app.debug)

    def _judge(self, window: Window, asked: Request, *, may_raise: bool) -> None:
        """Do what is to be done about repeats and the budget of a request, once."""
        if window.judged:
            return
        window.judged = True
        mode = mode_of(self._app, self._settings)
        repeats = window.stats.repeats if mode != "off" else ()
        route = _route(asked)
        for told in (*self.told, *self.ended):
            told(window.stats, repeats, route)
        if repeats:
            if mode == "raise" and may_raise:
                raise NPlusOneError(repeats)
            log_repeats(repeats, route)
        own = BUDGET_KEY in asked.environ
        budget, action = self._settings.query_budget, self._settings.budget_action
        if budget is not None and not own:
            quiet = action == "raise" and not may_raise
            judge_budget(window.stats, budget, None, "log" if quiet else action)

    def _end(self, error: BaseException | None) -> None:
        """Close the window of a request without a streamed body, which may have failed."""
        asked = _current_request()
        window: Window | None = asked.environ.get(_WINDOW_KEY)
        if window is None:
            return
        try:
            if _STREAMED_KEY not in asked.environ:
                self._judge(window, asked, may_raise=False)
        finally:
            leave(window)


class WindowedBody:
    """The chunks of a body; what they ask the database counts in the window of their request.

    Args:
        chunks: What the response was made of.
        window: Of the request.
        done: Called at the end, and whether it may raise: not when the body broke off.
    """

    def __init__(self, chunks: Iterable[Any], window: Window, done: Callable[[bool], None]) -> None:
        self._whole, self._chunks = chunks, iter(chunks)
        self._window, self._done = window, done

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next chunk."""
        enter(self._window)
        try:
            return next(self._chunks)
        except StopIteration:
            self._done(True)
            raise
        finally:
            leave(self._window)

    def close(self) -> None:
        """Close what is iterated over, if it can be closed."""
        close = getattr(self._whole, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._done(False)


def _timing(window: Window) -> str:
    stats = window.stats
    told = f'db;dur={stats.time_ms:g};desc="{stats.queries} queries"'
    slowest = stats.slowest
    return told + (f", db-slowest;dur={slowest.time_ms:g}" if slowest is not None else "")
