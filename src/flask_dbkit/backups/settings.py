"""The settings of backups, part of the table of settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..exceptions import ConfigError
from ..settings import MAX_MS, Settings, command, integer, setting, text, word

__all__ = ["DEFAULT_KEEP", "BackupSettings"]

_PERIODS = ("hourly", "daily", "weekly", "monthly")
DEFAULT_KEEP = {"hourly": 24, "daily": 7, "weekly": 4, "monthly": 12}


def _parse_keep(key: str, value: object) -> dict[str, int]:
    names = ", ".join(repr(name) for name in _PERIODS)
    allowed = f"a dict of whole numbers from 0, by any of: {names}"
    if not isinstance(value, Mapping):
        raise ConfigError.bad_value(key, value, allowed)
    for name, number in value.items():
        if name not in _PERIODS:
            raise ConfigError.bad_value(key, name, allowed, _PERIODS)
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ConfigError.bad_value(f'{key}["{name}"]', number, "a whole number from 0")
    return dict(value)


@dataclass(frozen=True)
class BackupSettings(Settings):
    """Where backups are kept, how, and for how long."""

    backup_dir: str = text(
        "DBKIT_BACKUP_DIR",
        "backups",
        "a folder, or a URL that fsspec knows",
        "Where backups are kept; a relative path is relative to the instance folder.",
    )
    backup_keep: Mapping[str, int] = setting(
        "DBKIT_BACKUP_KEEP",
        "a dict of whole numbers from 0, by any of: " + ", ".join(repr(name) for name in _PERIODS),
        DEFAULT_KEEP,
        "For how many hours, days, weeks and months that have a backup the newest one is kept.",
        _parse_keep,
    )
    backup_compression: str = word(
        "DBKIT_BACKUP_COMPRESSION",
        "gzip",
        "How backups are compressed; zstd needs Python 3.14. PostgreSQL's archives always are.",
        ("gzip", "zstd", "none"),
    )
    backup_filter: tuple[str, ...] | None = command(
        "DBKIT_BACKUP_FILTER",
        "A command that every backup is piped through on its way into the store, to encrypt it.",
    )
    backup_unfilter: tuple[str, ...] | None = command(
        "DBKIT_BACKUP_UNFILTER",
        "The command that undoes DBKIT_BACKUP_FILTER when a backup is verified or restored.",
    )
    backup_scratch_url: str | None = text(
        "DBKIT_BACKUP_SCRATCH_URL",
        None,
        "the URL of a database on a server where databases may be made",
        "On which server backups are verified, where the application's may make no databases.",
    )
    backup_max_age_s: int | None = integer(
        "DBKIT_BACKUP_MAX_AGE_S",
        None,
        "Seconds after which the last backup is too old and the health check backup:age warns.",
        low=1,
        high=MAX_MS,
    )
