"""The settings of error answers, part of the table of settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..exceptions import ConfigError
from ..settings import Settings, flag, integer, parser_of, setting, text
from .codes import PROBLEMS

__all__ = ["ErrorSettings"]

_STATUSES = 'a dict such as {"conflict.unique": 422}, with statuses from 400 to 599'


def _parse_statuses(key: str, value: object) -> Mapping[str, int]:
    if not isinstance(value, Mapping):
        raise ConfigError.bad_value(key, value, _STATUSES)
    for code, status in value.items():
        if code not in PROBLEMS:
            allowed = "one of: " + ", ".join(PROBLEMS)
            raise ConfigError.bad_value(f"A code in {key}", code, allowed, PROBLEMS)
        whole = isinstance(status, int) and not isinstance(status, bool)
        if not whole or not 400 <= status <= 599:
            raise ConfigError.bad_value(f"{key}[{code!r}]", status, "a status from 400 to 599")
    return dict(value)


def _parse_debug(key: str, value: object) -> bool | None:
    unset = value is None or (isinstance(value, str) and value.strip().lower() in ("", "none"))
    parsed: bool = parser_of(_FLAG)(key, value) if not unset else False
    return None if unset else parsed


_FLAG = flag("", False, "")


@dataclass(frozen=True)
class ErrorSettings(Settings):
    """How database errors are answered and logged."""

    errors: bool = flag(
        "DBKIT_ERRORS", True, "Turn database errors into problem details and error pages."
    )
    error_status: Mapping[str, int] = setting(
        "DBKIT_ERROR_STATUS",
        _STATUSES,
        {},
        "Statuses in place of those of the table of codes.",
        _parse_statuses,
    )
    error_validation_status: int = integer(
        "DBKIT_ERROR_VALIDATION_STATUS",
        409,
        "The status of invalid.null and invalid.check: 409, or 422.",
        low=400,
        high=499,
    )
    error_fields: bool = flag(
        "DBKIT_ERROR_FIELDS",
        True,
        "Name the mapped attributes of a broken constraint in problem details.",
    )
    error_retry_after: int = integer(
        "DBKIT_ERROR_RETRY_AFTER",
        2,
        "Seconds a client is asked to wait after a 503; up to 2 more are added at random.",
        low=0,
        high=86_400,
    )
    error_debug: bool | None = setting(
        "DBKIT_ERROR_DEBUG",
        "True, False or None",
        None,
        "Whether database errors that are mistakes of the code are raised: None to a test only,"
        " True to Flask's debugger as well, False never.",
        _parse_debug,
    )
    error_redact_logs: bool = flag(
        "DBKIT_ERROR_REDACT_LOGS",
        True,
        "Take values, SQL and hosts of database errors out of log records.",
    )
    problem_base: str | None = text(
        "DBKIT_PROBLEM_BASE",
        None,
        "a URL such as 'https://example.com/problems/'",
        "What the type of problem details is made of, with the code behind it; without it the"
        " type is about:blank.",
    )
