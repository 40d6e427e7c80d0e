"""DK063, DK064, DK075 to DK078: what is seen of statements, and by whom."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..doctor.checks import check
from ..doctor.examination import Examination
from ..doctor.findings import Found
from ..doctor.sources import is_of_tests, shown
from ..support.words import ago
from .noticed import NoticedWork
from .noticed_file import BUSY
from .settings import ObservabilitySettings

__all__: list[str] = []

_OFTEN = 5  # minutes of the last days; one may have been an import
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
    cause="One statement for each row of another: it is slow, and the slower the more rows there"
    " are. It was seen in debug mode, in tests, or where DBKIT_N_PLUS_ONE says so.",
    fix="Load what is needed ahead, as the message says.",
    link="https://docs.sqlalchemy.org/en/20/orm/queryguide/relationships.html",
)
def repeats(given: Examination) -> Iterator[Found]:
    """Tell what was found by any process of the last days, in files that are still the same."""
    for place, seen in given.part(NoticedWork).known().repeats.items():
        file, _, line = place.rpartition(":")
        if is_of_tests(Path(file)) or _changed_since(file, seen.at):
            continue
        yield Found(
            f"{seen.relationship or 'A statement'} was asked for {seen.count} times in"
            f" {seen.route or 'a request'}, {ago(time.time() - seen.at)}",
            object=f"{shown(Path(file))}:{line}",
            fix=seen.fix,
        )


def _changed_since(file: str, at: float) -> bool:
    with suppress(OSError, ValueError):  # a template of a string has no file
        return Path(file).stat().st_mtime > at
    return False


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
    """Count the minutes in which all processes together wrote a lot."""
    known = given.part(NoticedWork).known().writes
    busy = [minute for minute, writes in known.items() if writes >= BUSY]
    if len(busy) < _OFTEN:
        return
    busiest = max(busy, key=lambda minute: known[minute])
    for bind in given.binds:
        if bind.database.has_one_writer:
            yield Found(
                f"In {len(busy)} minutes more than {BUSY // 60} statements a second wrote, to"
                f" {bind.name} too; {known[busiest] // 60} a second in the busiest,"
                f" {ago(time.time() - busiest * 60)}",
                bind.name,
            )


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
