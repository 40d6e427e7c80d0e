"""DK063, DK064, DK075, DK076 and DK078: what is seen of statements, and by whom."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from ..doctor.checks import check
from ..doctor.examination import Examination
from ..doctor.findings import Found
from .noticed import NoticedWork
from .settings import ObservabilitySettings

__all__: list[str] = []

_OFTEN_PER_S = 50  # of one process
_LONG_S = 60
_LOGGERS = ("flask_dbkit", "flask_dbkit.slow", "flask_dbkit.errors", "flask_dbkit.health")


@check(
    "DK063",
    "Nothing would notice loads in a loop",
    level="info",
    tags=("loading",),
    cause="With the detector off a template that touches a relationship in a loop sends a"
    " statement for each row, and tests pass.",
    fix="Leave DBKIT_N_PLUS_ONE at auto: it raises in tests, and costs production nothing.",
)
def no_detector(given: Examination) -> Iterator[Found]:
    """Look at the settings, if there are relationships that load when they are touched."""
    settings = given.settings(ObservabilitySettings)
    if settings.n_plus_one == "off" or not settings.stats:
        lazy = [
            f"{mapper.class_.__name__}.{relationship.key}"
            for mapper in given.mappers
            for relationship in mapper.relationships
            if relationship.lazy in ("select", True)
        ]
        if lazy:
            key = "DBKIT_STATS" if not settings.stats else "DBKIT_N_PLUS_ONE"
            yield Found(f"{len(lazy)} relationships load when touched: {lazy[0]}, …", key)


@check(
    "DK064",
    "The same statement again and again",
    tags=("loading",),
    cause="A request of this process sent one statement for each row of another: it is slow, and"
    " the slower the more rows there are.",
    fix="Load what is needed ahead, as the message says.",
    link="https://docs.sqlalchemy.org/en/20/orm/queryguide/relationships.html",
)
def repeats(given: Examination) -> Iterator[Found]:
    """Tell what was found in the requests that this process has answered."""
    for place, (repeat, route) in given.part(NoticedWork).repeats.items():
        yield Found(
            f"{repeat.relationship or 'A statement'} was asked for {repeat.count} times in"
            f" {route or 'a request'}",
            object=place,
            fix=repeat.fix,
        )


@check(
    "DK077",
    "A file that is written to all the time",
    level="info",
    tags=("capacity",),
    cause="One transaction at a time writes to it. The more of the time it is written to, the"
    " longer writers wait for each other.",
    fix="Write less, or together; or move to a server before it hurts.",
    link="https://www.sqlite.org/whentouse.html",
)
def written_often(given: Examination) -> Iterator[Found]:
    """Compare what the requests of this process wrote with the time."""
    noticed: NoticedWork = given.part(NoticedWork)
    rate = noticed.writes / max(noticed.for_s, 1)
    if rate < _OFTEN_PER_S or not noticed.for_s >= _LONG_S:
        return
    for bind in given.binds:
        if bind.database.has_one_writer:
            yield Found(f"{rate:.0f} statements a second write, to {bind.name} too", bind.name)


@check(
    "DK075",
    "A debug toolbar",
    level="error",
    tags=("config", "security"),
    cause="It shows statements with their values, the configuration and the session to whoever"
    " looks.",
    fix="Register it in development only.",
    deploy=True,
)
def debug_toolbar(given: Examination) -> Iterator[Found]:
    """Look for the blueprint of Flask-DebugToolbar, and its switch."""
    on = given.app.config.get("DEBUG_TB_ENABLED", False)
    if "debugtoolbar" in given.app.blueprints and (on or given.app.debug):
        yield Found("Flask-DebugToolbar is on", object="DEBUG_TB_ENABLED")
    if "flask-profiler" in given.app.extensions or "flask_profiler" in given.app.blueprints:
        yield Found("Flask-Profiler is on", object="flask_profiler")


@check(
    "DK076",
    "Logs that go nowhere",
    tags=("logging",),
    cause="Errors and slow statements happen unseen. Most often logging.config was called with"
    " disable_existing_loggers left on, by the application or by Alembic's fileConfig().",
    fix="Pass disable_existing_loggers=False, and configure logging before the application is"
    " made.",
    link="https://docs.python.org/3/library/logging.config.html#logging.config.fileConfig",
)
def silent_loggers(given: Examination) -> Iterator[Found]:
    """Look for loggers that are disabled, or wait for a level that never comes."""
    if logging.root.manager.disable >= logging.ERROR:
        yield Found("logging.disable() silences errors everywhere", object="logging")
    disabled, late = [], []
    for name in dict.fromkeys((given.app.name, given.app.import_name, *_LOGGERS)):
        logger: Any = logging.root.manager.loggerDict.get(name)
        if isinstance(logger, logging.Logger) and logger.disabled:
            disabled.append(name)
        elif isinstance(logger, logging.Logger) and logger.getEffectiveLevel() > logging.ERROR:
            late.append(name)
    if disabled:
        yield Found(f"Loggers that are disabled: {', '.join(disabled)}", object=disabled[0])
    if late:
        yield Found(f"Loggers that leave errors out: {', '.join(late)}", object=late[0])


@check(
    "DK078",
    "Slow statements are not logged",
    level="info",
    tags=("logging",),
    cause="When the application becomes slow nobody knows which statement it is.",
    fix="Leave DBKIT_SLOW_MS at 200, or choose another number.",
    deploy=True,
)
def no_slow_log(given: Examination) -> Iterator[Found]:
    """Look at the setting."""
    if given.settings(ObservabilitySettings).slow_ms is None:
        yield Found("DBKIT_SLOW_MS is None", object="DBKIT_SLOW_MS")
