"""Where the revisions of the current application are, and which databases they are for."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from flask import Flask, current_app, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.pool import NullPool

from ..application import only_application
from ..engines.flask_sqlalchemy import current_engines
from ..engines.urls import parse_database_url
from ..exceptions import MigrationError
from .binds import suffix_of
from .current import migrations_path

__all__ = ["Folder", "application_context", "bind_names", "find_folder"]

_OWN_ENV = re.compile(r"\brun_env\s*\(")
_MULTIDB_ENV = re.compile(r"\bengine_name\s*=")


def bind_names() -> list[str]:
    """Return the suffixes of the current application's databases; for ``script.py.mako``."""
    return [suffix_of(key) for key in current_engines(_current_db())]


@contextmanager
def application_context() -> Iterator[None]:
    """Enter the context of the one application of this process, unless there is one.

    Raises:
        RuntimeError: There is none, or there are several.
    """
    if has_app_context():
        yield
        return
    with only_application().app_context():
        yield


def _current_db() -> SQLAlchemy:
    db: SQLAlchemy = current_app.extensions["sqlalchemy"]
    return db


@dataclass(frozen=True)
class Folder:
    """The migrations folder of one application.

    Attributes:
        path: The folder, which need not exist.
        db: The application's Flask-SQLAlchemy object.
        options: What the application gave to ``Migrate(...)`` for ``context.configure()``.
        x_arguments: Values of ``-x``, for an ``env.py`` that reads them.
    """

    path: Path
    db: SQLAlchemy
    options: Mapping[str, Any]
    x_arguments: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether there is an ``env.py``."""
        return (self.path / "env.py").is_file()

    @property
    def package(self) -> str:
        """The name of the application's first package."""
        return current_app.import_name.partition(".")[0]

    @property
    def engines(self) -> Mapping[str | None, Engine]:
        """The engines by bind key, the default one first."""
        return current_engines(self.db)

    def direct_engine(self, bind_key: str | None) -> Engine | None:
        """Return an engine past the pooler of a database, if there is a way.

        A pooler that hands out a server session per transaction loses every setting and every
        advisory lock of a session in between.
        """
        state = current_app.extensions.get("dbkit")
        url = None if state is None else state.config.direct_url
        if url is None or bind_key is not None:
            return None
        return create_engine(parse_database_url(url, key="DBKIT_DIRECT_URL"), poolclass=NullPool)

    def metadata(self, bind_key: str | None) -> MetaData:
        """Return the tables of one database."""
        return self.db.metadatas.get(bind_key) or MetaData()

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
            raise MigrationError(
                f"There is no migrations folder at {self.path}. Make one with"
                " 'flask dbkit migrate init', or name yours with --directory."
            )
        migrate = current_app.extensions.get("migrate")
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
        if "migrate" in current_app.extensions:
            yield
            return
        current_app.extensions["migrate"] = SimpleNamespace(
            db=self.db,
            metadata=self.db.metadata,
            directory=str(self.path),
            configure_args=dict(self.options),
        )
        try:
            yield
        finally:
            del current_app.extensions["migrate"]

    @property
    def version_table(self) -> dict[str, Any]:
        """Where the databases keep their revision: keyword arguments for Alembic."""
        names = ("version_table", "version_table_schema")
        return {name: self.options[name] for name in names if name in self.options}


def find_folder(
    directory: str | Path | None = None, *, x_arguments: tuple[str, ...] = ()
) -> Folder:
    """Find the migrations folder of the current application. Touches no database.

    Args:
        directory: Where it is, as :func:`~flask_dbkit.migrations.current.migrations_path` takes it.
        x_arguments: Values of ``-x``.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    migrate = app.extensions.get("migrate")
    options: dict[str, Any] = {"compare_type": True, "render_as_batch": True}
    if migrate is not None:
        options |= migrate.configure_args
    path = migrations_path(app, directory)
    return Folder(path, _current_db(), options, x_arguments)
