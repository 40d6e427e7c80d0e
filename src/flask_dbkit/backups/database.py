"""What every kind of database offers so that it can be backed up and restored, and which is which.

The code of one kind is imported when a database of that kind is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, Engine

from ..databases import DATABASES, command_engine, database_of
from ..engines.urls import parse_database_url
from .exceptions import BackupError
from .manifest import Manifest

__all__ = [
    "Contents",
    "Database",
    "DumpedFile",
    "Progress",
    "Target",
    "as_it_was",
    "database_at",
    "database_for",
    "not_empty",
    "save_nothing",
]

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are done, and all of them, or ``None`` when nobody knows."""


@dataclass(frozen=True)
class Contents:
    """What is in a database, as far as a backup compares it.

    Attributes:
        tables: Rows by table; ``None`` for a table that could not be counted.
        views: The names of the views.
        revision: What ``alembic_version`` holds, ``None`` for no such table.
        exact: Whether the numbers are those of one moment, and that of the copy.
        details: Facts of one kind of database.
        problems: What its own check found, in words; empty for a sound database.
    """

    tables: Mapping[str, int | None]
    views: tuple[str, ...] = ()
    revision: str | None = None
    exact: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class DumpedFile:
    """A copy that was just made.

    Attributes:
        path: The file.
        suffix: How its kind of file is called.
        format: As :attr:`Manifest.format`.
        compressed: Whether the format compresses by itself.
        tool: What made it.
        server_version: Of the server or the library.
        contents: What was in the database at the moment of the copy.
    """

    path: Path
    suffix: str
    format: str
    compressed: bool
    tool: str
    server_version: str
    contents: Contents


class Target(ABC):
    """A database that a backup is loaded into.

    Attributes:
        url: Where it is, password included.
        is_new: Whether it was made for the backup, and may be removed when that fails.
    """

    url: URL
    is_new: bool

    @abstractmethod
    def load(self, plain: Path, manifest: Manifest, *, jobs: int = 1, owner: bool = True) -> None:
        """Load a copy into this empty database.

        Args:
            plain: The copy, unpacked.
            manifest: Tells what kind of file it is.
            jobs: How many connections to load with, where the format allows it.
            owner: Whether to restore owners and privileges.
        """

    @abstractmethod
    def contents(self) -> Contents:
        """Return what is in it now, counted exactly."""

    @abstractmethod
    def drop(self) -> None:
        """Remove the database."""

    def discard(self) -> None:
        """Remove the database if it was made for the backup."""
        if self.is_new:
            self.drop()


def save_nothing(_database: Database) -> None:
    """Make no backup of what is replaced."""


class Database(ABC):
    """One bind, seen as something to back up.

    Args:
        engine: Of the bind.
        connect_args: The driver arguments of the bind that are not in its URL.

    Attributes:
        dialect: How manifests name this kind.
        drivers: The only drivers it works with; empty for all.
    """

    dialect: str
    drivers: tuple[str, ...] = ()

    def __init__(self, engine: Engine, connect_args: Mapping[str, Any] | None = None) -> None:
        self.engine = engine
        self.connect_args = dict(connect_args or {})

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the database, or of its file."""

    @abstractmethod
    def check(self, *, compact: bool, jobs: int) -> None:
        """Refuse what would fail later, before anything is written."""

    @abstractmethod
    def dump(self, directory: Path, *, compact: bool, jobs: int, progress: Progress) -> DumpedFile:
        """Copy the database, as it is at one moment, into a file below ``directory``."""

    @abstractmethod
    def scratch(self, directory: Path) -> Target:
        """Make an empty database for one verification."""

    @abstractmethod
    def beside(self, backup_id: str) -> Target:
        """Make an empty database beside this one, named ``<name>-<id>``."""

    @abstractmethod
    def as_target(self) -> Target:
        """Return this very database as something to load into; made if it is not there.

        Raises:
            BackupError: It is not empty. The code is ``target.not_empty``.
        """

    @abstractmethod
    def other_connections(self) -> list[str]:
        """Describe who else is connected, as far as this can be known."""

    @abstractmethod
    def replace(
        self,
        plain: Path,
        manifest: Manifest,
        *,
        force: bool,
        jobs: int,
        save: Callable[[Database], object] = save_nothing,
    ) -> None:
        """Put a copy in the place of this database, as one step that is done or not.

        Nobody else can write from before ``save`` is called until the copy is in place. When any
        step fails, ``save`` included, the database is as it was and takes connections.

        Args:
            plain: The copy, unpacked.
            manifest: Of the backup.
            force: Go on although others are connected; servers end their sessions.
            jobs: As in :meth:`Target.load`.
            save: Called with what can be backed up now: this database as it is when nobody can
                write any more. Not called when there is no database yet.
        """

    def set_aside(self) -> Path | None:
        """Keep a database that is damaged as it is, beside itself; ``None`` if there is no way."""
        return None


def as_it_was(error: BackupError, name: str) -> BackupError:
    """Add to an error that what was begun is undone."""
    return BackupError(
        f"{error} What was begun was undone: {name} is as it was, and takes connections.",
        code=error.code,
    )


def not_empty(name: str) -> BackupError:
    """Build the error for a target that holds something."""
    return BackupError(
        f"{name} is not empty, and a restore never writes over anything. Name a database that does"
        " not exist or is empty, or replace the live one with --in-place --yes.",
        code="target.not_empty",
    )


def database_for(engine: Engine, connect_args: Mapping[str, Any] | None = None) -> Database:
    """Return what backs up and restores the database of an engine.

    Args:
        engine: On SQLite through Python's own module, PostgreSQL, MariaDB or MySQL.
        connect_args: The driver arguments the engine was made with, besides its URL.

    Raises:
        BackupError: No backup is written for this database.

    .. versionadded:: 0.1
    """
    kind = _kind_of(engine.dialect.name)
    if kind is None or (kind.drivers and engine.dialect.driver not in kind.drivers):
        raise BackupError(
            f"No backup is written for {engine.dialect.name}+{engine.dialect.driver}. There is one"
            " for SQLite, PostgreSQL, MariaDB and MySQL.",
            code="database.unsupported",
        )
    return kind(engine, connect_args)


def database_at(url: object) -> Database:
    """Return the same for a URL, with an engine that keeps no connection open.

    Raises:
        ConfigError: It is no database URL, or its driver is not installed.
        BackupError: As :func:`database_for`.

    .. versionadded:: 0.1
    """
    parsed = parse_database_url(url, key="--into")
    return database_for(command_engine(parsed))


def _kind_of(dialect: str) -> type[Database] | None:
    database = database_of(dialect)
    if database not in DATABASES:
        return None
    module = import_module(f"{__package__}.on_{database.name}.database")
    kind: type[Database] = module.KIND
    return kind
