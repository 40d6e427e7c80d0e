"""DK072 and DK074: what becomes of a database error."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from ..doctor.checks import check
from ..doctor.examination import Examination
from ..doctor.findings import Found
from .problems import DBProblem
from .settings import ErrorSettings

__all__: list[str] = []

_FLASK = "https://flask.palletsprojects.com/en/stable/errorhandling/"


@check(
    "DK072",
    "Database errors are answered by a handler for everything",
    tags=("errors",),
    cause="A duplicate, an outage and a mistake in the code get the same answer: clients do not"
    " know what to do, and retry what can never work.",
    fix="Leave DBKIT_ERRORS on and take the handler out; for other words handle DBProblem,"
    " which has a code and a status.",
    link=_FLASK,
)
def catch_all_handlers(given: Examination) -> Iterator[Found]:
    """Look at the switch, and for handlers that come before the library's answers."""
    if not given.settings(ErrorSettings).errors:
        yield Found("DBKIT_ERRORS is off: each database error is a 500", object="DBKIT_ERRORS")
    for blueprint, by_code in given.app.error_handler_spec.items():
        for handled, function in by_code.get(None, {}).items():
            wide = handled is SQLAlchemyError or handled.__name__ == "DBAPIError"
            if wide and not issubclass(handled, DBProblem):
                where = f" of blueprint {blueprint}" if blueprint else ""
                name = getattr(function, "__name__", "a handler")
                yield Found(
                    f"{name}(){where} handles every {handled.__name__}",
                    object=f"{getattr(function, '__module__', '')}.{name}",
                    level="info",
                )


@check(
    "DK074",
    "Values in the log",
    tags=("errors", "logging", "security"),
    cause="Errors of databases quote the row that failed: names, addresses and password hashes"
    " are then in the log, and wherever that is sent.",
    fix="Leave DBKIT_ERROR_REDACT_LOGS on, and hide_parameters out of the engine's options.",
    link="https://cheatsheetseries.owasp.org/cheatsheets/Logging_Cheat_Sheet.html#data-to-exclude",
)
def values_in_log(given: Examination) -> Iterator[Found]:
    """Look at the switch, and at the engines."""
    if not given.settings(ErrorSettings).error_redact_logs:
        yield Found("DBKIT_ERROR_REDACT_LOGS is off", object="DBKIT_ERROR_REDACT_LOGS")
        return
    for bind in given.binds:
        if not bind.engine.hide_parameters:
            yield Found(f"Errors of {bind.name} show their parameters", object=bind.name)
