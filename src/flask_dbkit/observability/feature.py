"""What is counted of each statement, and told of each request."""

from __future__ import annotations

from functools import partial

from ..databases.execution import watch
from ..feature import Bind, Feature, Setup
from ..transactions.jobs import JobBlocks
from .comments import CommentWatcher
from .requests import RequestWindows, comment_facts, log_facts
from .settings import ObservabilitySettings
from .slow import SlowLog
from .watchdog import Watchdog
from .watching import Listener, install, watch_sessions
from .windows import Window, opened

__all__ = ["OBSERVABILITY"]


def _install(setup: Setup) -> None:
    app, settings = setup.app, setup.settings(ObservabilitySettings)
    slow = SlowLog(explain=settings.slow_explain == "select", facts=log_facts)
    slow_s = settings.slow_ms / 1000 if settings.slow_ms is not None else None
    listeners: list[Listener] = []
    for bind in setup.binds:
        _watch(bind, setup, slow, slow_s, listeners)
    if settings.stats:
        watch_sessions(setup.db.session)
        threshold = settings.n_plus_one_threshold if settings.n_plus_one != "off" else None
        setup.application.part(JobBlocks).append(
            lambda: opened(Window("job", keep=app.debug or app.testing, threshold=threshold))
        )
    windows = RequestWindows(app, settings)
    setup.application.add(windows)  # the signal holds it weakly
    windows.install()


def _watch(
    bind: Bind, setup: Setup, slow: SlowLog, slow_s: float | None, listeners: list[Listener]
) -> None:
    settings = setup.settings(ObservabilitySettings)
    if settings.stats or slow_s is not None:
        install(bind.engine, bind.name, slow_s, slow.note, listeners)
    if settings.sql_comments is not None:
        facts = partial(comment_facts, setup.app, trace=settings.sql_comments == "trace")
        doubled = bind.engine.dialect.paramstyle in ("format", "pyformat")
        watch(bind.engine, CommentWatcher(facts, doubled=doubled))
    if settings.connection_warn_s is not None and not bind.in_memory:
        Watchdog(bind.engine, bind.name, settings.connection_warn_s)


OBSERVABILITY = Feature("observability", settings=ObservabilitySettings, install=_install)
