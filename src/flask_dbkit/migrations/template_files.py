"""The files of a new migrations folder. Imports nothing of Alembic."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["NAMES", "template_text"]

_FILES = {
    "env.py": "env.py.txt",
    "script.py.mako": "script.py.mako",
    "alembic.ini": "alembic.ini",
    "README": "README",
}
NAMES = tuple(_FILES)


def template_text(name: str) -> str:
    """Return the text of one file of a new folder."""
    folder = files("flask_dbkit.migrations") / "template"
    return (folder / _FILES[name]).read_text(encoding="utf-8")
