"""The migrations of the current application: where its revisions are, and for which databases.

Imports nothing of Alembic, which takes half a second, before a folder is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine

from ..application import current_app_object, only_application
from ..engines.flask_sqlalchemy import current_engines
from ..engines.replicas import replica_names
from ..engines.settings import EngineSettings
from .binds import suffix_of
from .settings import MigrationSettings

if TYPE_CHECKING:
    from .folder import Folder

__all__ = ["application_context", "bind_names", "find_folder", "migrations_path"]


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


def bind_names() -> list[str]:
    """Return the suffixes of the current application's databases; for ``script.py.mako``."""
    return [suffix_of(key) for key in _own_engines(current_app_object())]


def _own_engines(app: Flask) -> Mapping[str | None, Engine]:
    """Return the engines of the databases that are no replicas of others."""
    db: SQLAlchemy = app.extensions["sqlalchemy"]
    return {key: each for key, each in current_engines(db).items() if key not in _replicas(app)}


def _replicas(app: Flask) -> frozenset[str]:
    kept = app.extensions.get("dbkit")
    return frozenset() if kept is None else replica_names(kept.settings(EngineSettings).replicas)


def find_folder(
    directory: str | Path | None = None, *, x_arguments: tuple[str, ...] = ()
) -> Folder:
    """Find the migrations folder of the current application. Touches no database.

    Args:
        directory: Where it is, as :func:`migrations_path` takes it.
        x_arguments: Values of ``-x``.
    """
    from .folder import Folder  # noqa: PLC0415 - Alembic is an extra

    app = current_app_object()
    db: SQLAlchemy = app.extensions["sqlalchemy"]
    migrate = app.extensions.get("migrate")
    options: dict[str, Any] = {"compare_type": True, "render_as_batch": True}
    if migrate is not None:
        options |= migrate.configure_args
    state = app.extensions.get("dbkit")
    return Folder(
        path=migrations_path(app, directory),
        db=db,
        engines=_own_engines(app),
        extensions=app.extensions,
        options=options,
        x_arguments=x_arguments,
        package=app.import_name.partition(".")[0],
        instance_path=Path(app.instance_path),
        direct_url=None if state is None else state.settings(EngineSettings).direct_url,
        replicas=_replicas(app),
        ignore_tables=()
        if state is None
        else state.settings(MigrationSettings).migrate_ignore_tables,
    )


def migrations_path(app: Flask, directory: str | Path | None = None) -> Path:
    """Return the migrations folder of an application, which need not exist.

    Args:
        app: The application.
        directory: Where it is. Without it: what the application gave to Flask-Migrate's
            ``Migrate(directory=...)``, else ``DBKIT_MIGRATIONS_DIR``. A relative one is looked
            for in the working directory, then beside the application's package, then in it.
    """
    path = Path(_configured(app) if directory is None else directory)
    if path.is_absolute():
        return path
    root = Path(app.root_path)
    for parent in (Path.cwd(), root.parent, root):
        if (parent / path / "env.py").is_file():
            return parent / path
    return Path.cwd() / path


def folder_if_there() -> Folder | None:
    """Return the folder of the current application; ``None``, without Alembic, if it has none."""
    if not (migrations_path(current_app_object()) / "env.py").is_file():
        return None
    return find_folder()


def _configured(app: Flask) -> str:
    migrate = app.extensions.get("migrate")
    if migrate is not None and migrate.directory is not None:
        return str(migrate.directory)
    state = app.extensions.get("dbkit")
    return str(state.config.migrations_dir) if state is not None else "migrations"
