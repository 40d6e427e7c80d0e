"""The settings of migrations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..exceptions import ConfigError
from ..settings import Settings, path, setting

__all__ = ["MigrationSettings"]


_PATTERNS = "a list of names of tables, with * and ? for what varies"


def _parse_patterns(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if not isinstance(value, Iterable) or not all(isinstance(each, str) for each in value):
        raise ConfigError.bad_value(key, value, _PATTERNS)
    return tuple(value)


@dataclass(frozen=True)
class MigrationSettings(Settings):
    """Where revisions are."""

    migrations_dir: str = path(
        "DBKIT_MIGRATIONS_DIR",
        "migrations",
        "The folder of the revisions, unless Flask-Migrate's Migrate(directory=...) names one.",
    )
    migrate_ignore_tables: tuple[str, ...] = setting(
        "DBKIT_MIGRATE_IGNORE_TABLES",
        _PATTERNS,
        (),
        "Tables of others in the database: no revision and no check is about them. Those of"
        " Litestream are always left alone.",
        _parse_patterns,
    )
