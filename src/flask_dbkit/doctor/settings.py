"""The settings of the doctor, part of the table of settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..exceptions import ConfigError
from ..settings import Settings, integer, setting

__all__ = ["DoctorSettings"]

_ALLOWED = 'a list of ids, such as "DK040", each alone or with its object: "DK040:users.team_id"'
_ENTRY = re.compile(r"[A-Za-z]{2,8}\d{3,4}(:.+)?")


def _parse_ignore(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part for part in re.split(r"[,\s]+", value) if part]
    if not isinstance(value, Iterable):
        raise ConfigError.bad_value(key, value, _ALLOWED)
    entries = []
    for entry in value:
        if not isinstance(entry, str) or not _ENTRY.fullmatch(entry.strip()):
            raise ConfigError.bad_value(key, entry, _ALLOWED)
        name, colon, about = entry.strip().partition(":")
        entries.append(name.upper() + colon + about)
    return tuple(entries)


@dataclass(frozen=True)
class DoctorSettings(Settings):
    """What ``flask dbkit doctor`` is told of the application and its place."""

    doctor_ignore: tuple[str, ...] = setting(
        "DBKIT_DOCTOR_IGNORE",
        _ALLOWED,
        (),
        "Findings of flask dbkit doctor that are known and left alone.",
        _parse_ignore,
    )
    workers: int | None = integer(
        "DBKIT_WORKERS",
        None,
        "Processes that serve the application; else WEB_CONCURRENCY or GUNICORN_CMD_ARGS tell.",
        low=1,
        high=100_000,
    )
    threads: int | None = integer(
        "DBKIT_THREADS",
        None,
        "Threads of each of them; else GUNICORN_CMD_ARGS tells.",
        low=1,
        high=100_000,
    )
