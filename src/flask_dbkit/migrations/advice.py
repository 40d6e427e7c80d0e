"""Which command makes a table or a column that a database lacks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ..errors.missing import Missing
from .current import migrations_path

__all__ = ["command_for"]


def command_for(app: Any, missing: Missing) -> str | None:
    """Return the command; ``None`` for an application without a migrations folder.

    No database is asked: an error is being told, and there may be no connection to ask by. A
    revision that names what is missing has not been run; if none does, one has to be written.

    Args:
        app: The application.
        missing: What a statement did not find.
    """
    folder = migrations_path(app)
    if not (folder / "env.py").is_file():
        return None
    if find_spec("flask_migrate") is None:
        return "pip install 'flask-sqlalchemy-dbkit[migrate]'"
    named = any(_names(path, missing.name) for path in (folder / "versions").glob("*.py"))
    return f"flask dbkit migrate {'upgrade' if named else 'new'}"


def _names(path: Any, name: str) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return f"'{name}'" in text or f'"{name}"' in text
