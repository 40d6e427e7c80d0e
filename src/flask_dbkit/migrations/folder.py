"""A migrations folder, and the application it belongs to, as plain values."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData

from ..databases import command_engine
from ..engines.urls import parse_database_url
from .binds import bind_title, suffix_of
from .exceptions import MigrationError

__all__ = ["Folder"]

_OWN_ENV = re.compile(r"\brun_env\s*\(")
_REVISION = re.compile(r"^down_revision\b", re.MULTILINE)
_MULTIDB_ENV = re.compile(r"\bengine_name\s*=")


@dataclass(frozen=True)
class Folder:
    """The migrations folder of one application.

    Attributes:
        path: The folder, which need not exist.
        db: The application's Flask-SQLAlchemy object.
        engines: Its engines by bind key, the default one first.
        extensions: What the application keeps of its extensions; an ``env.py`` of Flask-Migrate
            looks for its own there.
        options: What the application gave to ``Migrate(...)`` for ``context.configure()``.
        x_arguments: Values of ``-x``, for an ``env.py`` that reads them.
        package: The name of the application's first package.
        instance_path: The application's folder for what it writes.
        direct_url: ``DBKIT_DIRECT_URL``.
        replicas: The binds that are replicas of others. Nothing is migrated there.
        ignore_tables: ``DBKIT_MIGRATE_IGNORE_TABLES``.
    """

    path: Path
    db: Any
    engines: Mapping[str | None, Engine]
    extensions: MutableMapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    x_arguments: tuple[str, ...] = ()
    package: str = ""
    instance_path: Path = Path()
    direct_url: Any = None
    replicas: frozenset[str] = frozenset()
    ignore_tables: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether there is an ``env.py``."""
        return (self.path / "env.py").is_file()

    def direct_engine(self, bind_key: str | None) -> Engine | None:
        """Return an engine past the pooler of a database, if there is a way.

        A pooler that hands out a server session per transaction loses every setting and every
        advisory lock of a session in between.
        """
        if self.direct_url is None or bind_key is not None:
            return None
        url = parse_database_url(self.direct_url, key="DBKIT_DIRECT_URL")
        return command_engine(url)

    def metadata(self, bind_key: str | None) -> MetaData:
        """Return the tables of one database."""
        return self.db.metadatas.get(bind_key) or MetaData()

    def mapped_elsewhere(self, bind_key: str | None) -> dict[str, str]:
        """Return the tables that models of other databases map, and none of this one: the bind."""
        own = {table.name for table in self.metadata(bind_key).tables.values()}
        return {name: bind for name, bind in self.mapped.items() if name not in own}

    @property
    def mapped(self) -> dict[str, str]:
        """The tables that models map, on any database: the bind by the table."""
        metadatas: Mapping[str | None, MetaData] = self.db.metadatas
        return {
            table.name: bind_title(key)
            for key, metadata in metadatas.items()
            for table in metadata.tables.values()
        }

    def refuse_replicas(self, script: ScriptDirectory) -> None:
        """Refuse a folder with functions for replicas.

        Raises:
            MigrationError: A revision would change what a replica takes from its primary.
        """
        for name in self.replicas:
            function = f"upgrade_{suffix_of(name)}"
            found = [one for one in script.walk_revisions() if hasattr(one.module, function)]
            if found:
                listed = ", ".join(sorted(Path(one.path).name for one in found))
                raise MigrationError(
                    f"{listed}: {function}() is for {name!r}, which DBKIT_REPLICAS calls a replica:"
                    " nothing was changed. 'flask dbkit migrate adopt' takes it out."
                )

    @property
    def environment(self) -> str:
        """The text of ``env.py``."""
        return (self.path / "env.py").read_text(encoding="utf-8")

    @property
    def is_adopted(self) -> bool:
        """Whether ``env.py`` leaves the work to :func:`flask_dbkit.migrations.run_env`."""
        return _OWN_ENV.search(self.environment) is not None

    @property
    def managed(self) -> Mapping[str | None, Engine]:
        """The engines that ``env.py`` migrates: one written for one database leaves others out."""
        engines = self.engines
        if self.is_adopted or _MULTIDB_ENV.search(self.environment):
            return engines
        return {key: engine for key, engine in engines.items() if key is None}

    def config(self) -> Config:
        """Return Alembic's configuration, completed as Flask-Migrate does.

        Raises:
            MigrationError: There is no such folder.
        """
        if not self.exists:
            files = self.path.glob("*.py")
            if any(_REVISION.search(each.read_text("utf-8", "replace")) for each in files):
                raise MigrationError(
                    f"{self.path} has revisions and no env.py, as Flask-Alembic keeps them. Move"
                    " them aside, make the folder with 'flask dbkit migrate init', and put them"
                    " into its versions/. What the database says of itself stays true."
                )
            raise MigrationError(
                f"There is no migrations folder at {self.path}. Make one with"
                " 'flask dbkit migrate init', or name yours with --directory."
            )
        migrate = self.extensions.get("migrate")
        if migrate is not None:
            config: Config = migrate.migrate.get_config(
                str(self.path), x_arg=list(self.x_arguments) or None
            )
        else:
            options = Namespace(x=list(self.x_arguments))
            config = Config(self.path / "alembic.ini", cmd_opts=options)
            config.set_main_option("script_location", str(self.path).replace("%", "%%"))
        setattr(config.cmd_opts, "quiet", True)  # what it does is reported by us
        return config

    def script(self) -> ScriptDirectory:
        """Read the revisions.

        Raises:
            MigrationError: There is no such folder.
        """
        return ScriptDirectory.from_config(self.config())

    @contextmanager
    def as_migrate(self) -> Iterator[None]:
        """Let an ``env.py`` of Flask-Migrate find its extension, if the application has none."""
        if "migrate" in self.extensions:
            yield
            return
        self.extensions["migrate"] = SimpleNamespace(
            db=self.db,
            metadata=self.db.metadata,
            directory=str(self.path),
            configure_args=dict(self.options),
        )
        try:
            yield
        finally:
            del self.extensions["migrate"]

    @property
    def version_table(self) -> dict[str, Any]:
        """Where the databases keep their revision: keyword arguments for Alembic."""
        names = ("version_table", "version_table_schema")
        return {name: self.options[name] for name in names if name in self.options}
