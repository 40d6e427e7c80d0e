"""Statistics of the current window, blocks, budgets, and the current request's id."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, ExitStack, contextmanager
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from flask import Flask, has_app_context, has_request_context, request

from ..application import application_of, current_application
from ..errors.details import REQUEST_ID_KEY
from ..support.calls import explained, explained_methods
from ..transactions.current import current_transaction
from . import windows
from .metering import Metering
from .n_plus_one import allowed, excess
from .settings import ObservabilitySettings
from .windows import QueryStats, Window, innermost, opened

__all__ = [
    "BUDGET_KEY",
    "RequestIdFilter",
    "allow_n_plus_one",
    "prometheus_collector",
    "query_budget",
    "query_stats",
    "record_queries",
    "request_id",
]

logger = logging.getLogger("flask_dbkit.budget")

P = ParamSpec("P")
R = TypeVar("R")

BUDGET_KEY = "flask_dbkit.query_budget"
"""Where the WSGI environment of a request holds what a budget of its view has found."""

_DEFAULTS = ObservabilitySettings()


def _settings() -> ObservabilitySettings:
    if has_app_context():
        return current_application().settings(ObservabilitySettings)
    return _DEFAULTS


def query_stats() -> QueryStats | None:
    """Return what was counted in the current window, the innermost one.

    A window is a request, a job, a ``flask`` command, or a :func:`record_queries` block.

    Returns:
        The statistics, which go on counting; ``None`` outside any window.

    .. versionadded:: 0.1
    """
    window = innermost()
    return window.stats if window is not None else None


@contextmanager
def record_queries() -> Iterator[QueryStats]:
    """Count, and keep, the statements of a block, anywhere: no application is needed.

    Blocks nest, and so do requests and jobs in them: the outer one counts too.

    .. versionadded:: 0.1
    """
    threshold = _settings().n_plus_one_threshold
    with opened(Window("block", keep=True, threshold=threshold)) as window:
        yield window.stats


@explained_methods()
class allow_n_plus_one(ContextDecorator):  # noqa: N801 - used as a function
    """Find no N+1 in a block or a function; decorator and context manager.

    Args:
        reason: Why it is right here, for whoever reads the code.

    .. versionadded:: 0.1
    """

    def __init__(self, reason: str) -> None:
        if not str(reason).strip() or callable(reason):
            raise ValueError("allow_n_plus_one() takes the reason, for whoever reads the code.")
        self.reason = reason
        self._stack: list[ExitStack] = []

    def __enter__(self) -> Self:
        stack = ExitStack()
        stack.enter_context(allowed())
        self._stack.append(stack)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.pop().close()


@explained_methods()
class query_budget:  # noqa: N801 - used as a function
    """Limit the statements, or the time in the database, of a view or a block.

    A view's own budget stands in place of ``DBKIT_QUERY_BUDGET``. What happens when it is exceeded
    is said by ``DBKIT_BUDGET_ACTION``. An exception of the block is never replaced.

    Args:
        queries: Most statements; ``None`` for no limit.
        ms: Most milliseconds in the database; ``None`` for no limit.

    Raises:
        QueryBudgetExceeded: At the end, with the action ``raise``.

    .. versionadded:: 0.1
    """

    def __init__(self, queries: int | None = None, ms: float | None = None) -> None:
        if queries is None and ms is None:
            raise ValueError("query_budget() takes queries=, ms=, or both.")
        for name, value in (("queries", queries), ("ms", ms)):
            if value is not None and (isinstance(value, bool) or not value >= 0):
                raise ValueError(f"query_budget({name}={value!r}): give a number from 0.")
        self._queries, self._ms = queries, ms
        self._open: list[tuple[ExitStack, Window]] = []

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function with this budget for each call."""

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            with query_budget(self._queries, self._ms):
                return function(*args, **kwargs)

        return wrapper

    def __enter__(self) -> QueryStats:
        window = Window("budget", keep=False, threshold=_settings().n_plus_one_threshold)
        stack = ExitStack()
        stack.enter_context(opened(window))
        self._open.append((stack, window))
        if has_request_context():
            request.environ.setdefault(BUDGET_KEY, "")
        return window.stats

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stack, window = self._open.pop()
        stack.close()
        if error is None:
            judge_budget(window.stats, self._queries, self._ms, _settings().budget_action)


def judge_budget(stats: QueryStats, queries: int | None, ms: float | None, action: str) -> None:
    """Do what is to be done about a budget that was exceeded.

    Raises:
        QueryBudgetExceeded: With the action ``raise``.
    """
    found = excess(stats, queries, ms)
    if found is None:
        return
    if action == "raise":
        raise found
    if has_request_context():
        limits = [f"{queries} queries" if queries is not None else "", f"{ms:g} ms" if ms else ""]
        told = " and ".join(each for each in limits if each)
        said = f"{stats.queries} queries, {stats.time_ms:g} ms; budget {told}"
        if action == "header":
            request.environ[BUDGET_KEY] = said
            return
    logger.warning("Query budget exceeded: %s", found, extra={"queries": stats.queries})


def request_id() -> str | None:
    """Return the id of the current request; ``None`` outside any.

    It is the one that the client or a proxy has sent, if that can be trusted in a log, else new.

    .. versionadded:: 0.1
    """
    return request.environ.get(REQUEST_ID_KEY) if has_request_context() else None


@explained()
def prometheus_collector(app: Flask) -> Any:
    """Return the metrics of one application, for a registry of prometheus-client of your own.

    .. code-block:: python

        registry = CollectorRegistry()
        registry.register(prometheus_collector(app))

    Where ``PROMETHEUS_MULTIPROC_DIR`` is set it tells of all processes. It measures from the first
    call on; ``DBKIT_PROMETHEUS`` does so from the start, for the default registry too.

    Args:
        app: The application.

    Raises:
        ConfigError: prometheus-client, the extra ``prometheus``, is not installed.

    .. versionadded:: 0.1
    """
    return application_of(app).part(Metering).collector()


class RequestIdFilter(logging.Filter):
    """Gives each record the attribute ``request_id``, ``-`` outside requests.

    .. versionadded:: 0.1
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id."""
        record.__dict__.setdefault("request_id", request_id() or "-")
        return True


def _attempt() -> int:
    if not has_app_context():
        return 1
    scope: Any = current_transaction()
    return scope.attempt if scope is not None else 1


windows.attempt_now = _attempt
