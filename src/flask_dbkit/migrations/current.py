"""Where an application's revisions are. Imports nothing of Alembic, which takes half a second."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

__all__ = ["migrations_path"]


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


def _configured(app: Flask) -> str:
    migrate = app.extensions.get("migrate")
    if migrate is not None and migrate.directory is not None:
        return str(migrate.directory)
    state = app.extensions.get("dbkit")
    return str(state.config.migrations_dir) if state is not None else "migrations"
