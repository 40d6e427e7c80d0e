"""The settings of databases and their engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..databases.settings import ServerSettings
from ..databases.sqlite.settings import SQLiteSettings
from ..settings import flag, setting, text
from .replicas import ALLOWED, parse_replicas

__all__ = ["EngineSettings"]


@dataclass(frozen=True)
class EngineSettings(ServerSettings, SQLiteSettings):
    """Where the databases are, and how connections to them are set up."""

    require_database_url: bool = flag(
        "DBKIT_REQUIRE_DATABASE_URL",
        False,
        "Refuse to start on the development SQLite file when no database URL is given.",
    )
    replicas: Mapping[str, tuple[str, ...]] = setting(
        "DBKIT_REPLICAS",
        ALLOWED,
        {},
        "Which binds are replicas of which. They are never migrated, created, dropped or backed up"
        " with --all.",
        parse_replicas,
    )
    direct_url: str | None = text(
        "DBKIT_DIRECT_URL",
        None,
        "a database URL",
        "The default database past its pooler: migrations connect there.",
    )
