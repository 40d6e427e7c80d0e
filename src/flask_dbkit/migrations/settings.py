"""The settings of migrations."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import Settings, path

__all__ = ["MigrationSettings"]


@dataclass(frozen=True)
class MigrationSettings(Settings):
    """Where revisions are."""

    migrations_dir: str = path(
        "DBKIT_MIGRATIONS_DIR",
        "migrations",
        "The folder of the revisions, unless Flask-Migrate's Migrate(directory=...) names one.",
    )
