"""What is counted of each statement, and told of each request."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ..databases import database_of
from ..databases.execution import watch
from ..feature import Bind, Feature, Setup
from ..transactions.jobs import JobBlocks
from .comments import CommentWatcher
from .metering import Metering, has_otel, has_prometheus, missing_extra
from .noticed import NoticedWork
from .noticed_file import NoticedFile
from .requests import WorkWindows, log_facts, request_comment
from .settings import ObservabilitySettings
from .slow import SlowLog
from .watchdog import Watchdog
from .watching import install, watch_sessions

__all__ = ["OBSERVABILITY"]

_DEFAULT_OVERFLOW = 10  # of SQLAlchemy's QueuePool


def _check(settings: ObservabilitySettings, _keys: Iterable[str | None]) -> None:
    if settings.prometheus and not has_prometheus():
        raise missing_extra("DBKIT_PROMETHEUS", "prometheus-client", "prometheus")
    if settings.otel is True and not has_otel():
        raise missing_extra("DBKIT_OTEL", "opentelemetry-api", "otel")
    if settings.otel_pool and not has_otel():
        raise missing_extra("DBKIT_OTEL_POOL", "opentelemetry-api", "otel")


def _install(setup: Setup) -> None:
    app, settings = setup.app, setup.settings(ObservabilitySettings)
    slow = SlowLog(explain=settings.slow_explain == "select", facts=log_facts)
    for bind in setup.binds:
        _watch(bind, setup, slow)
    windows = WorkWindows(app, settings)
    setup.application.add(windows)  # the signals hold it weakly
    windows.install()
    if settings.stats:
        watch_sessions(setup.db.session)
        setup.application.part(JobBlocks).append(windows.job)
    metering = Metering((bind.engine, bind.name, _overflow(bind)) for bind in setup.binds)
    setup.application.add(metering)
    windows.told.append(metering.count_request)
    noticed = _noticed(setup)
    setup.application.add(noticed)
    windows.ended.append(noticed.note)
    if settings.prometheus:
        metering.join_default_registry()
    _tell_opentelemetry(setup, metering)


def _noticed(setup: Setup) -> NoticedWork:
    app, name = setup.app, setup.settings(ObservabilitySettings).noticed_file
    file = None
    if name is not None:
        file = NoticedFile(Path(app.instance_path, name), makes_folder=lambda: app.debug)
    one_writer = any(database_of(bind.engine).has_one_writer for bind in setup.binds)
    return NoticedWork(file, counts_writes=one_writer)


def _watch(bind: Bind, setup: Setup, slow: SlowLog) -> None:
    settings = setup.settings(ObservabilitySettings)
    if settings.stats or settings.slow_ms is not None:
        slow_s = settings.slow_ms / 1000 if settings.slow_ms is not None else None
        install(bind.engine, bind.name, slow_s, slow.note)
    if settings.sql_comments is not None:
        doubled = bind.engine.dialect.paramstyle in ("format", "pyformat")
        trace = settings.sql_comments == "trace"
        said = partial(request_comment, setup.app, trace=trace, doubled=doubled)
        watch(bind.engine, CommentWatcher(said))
    if settings.connection_warn_s is not None and not bind.in_memory:
        Watchdog(bind.engine, bind.name, settings.connection_warn_s)


def _overflow(bind: Bind) -> int | None:
    given = bind.options.get("max_overflow", _DEFAULT_OVERFLOW)
    return given if isinstance(given, int) else None


def _tell_opentelemetry(setup: Setup, metering: Metering) -> None:
    settings = setup.settings(ObservabilitySettings)
    if settings.otel is False or not has_otel():
        return
    from .otel import tell_of_pool, trace_engine  # noqa: PLC0415 - an extra

    for bind in setup.binds:
        trace_engine(bind.engine)
    if settings.otel_pool:
        for pool in metering.pools():
            tell_of_pool(pool)


OBSERVABILITY = Feature(
    "observability",
    settings=ObservabilitySettings,
    check=_check,
    install=_install,
    doctor=("flask_dbkit.observability.doctor",),
)
