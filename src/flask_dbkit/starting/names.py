"""What a new application is called: its package, its distribution, its title."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata
from pathlib import Path

from .exceptions import StartError

__all__ = ["name_after", "parse_name"]

# Folders beside the package, and what the files inside it import.
_TAKEN = frozenset(
    {"alembic", "build", "click", "dist", "flask", "flask_dbkit", "flask_migrate"}
    | {"flask_sqlalchemy", "instance", "migrations", "pytest", "sqlalchemy", "tests", "venv"}
    | {"werkzeug", "wsgi"}
)


def name_after(folder: Path) -> str:
    """Make the name of a package from that of its folder: there always is one.

    Args:
        folder: Where the application goes.
    """
    plain = unicodedata.normalize("NFKD", folder.name).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", plain.lower()).strip("_")
    if not name[:1].isalpha():
        name = f"app_{name}" if name else "app"
    return name if _is_free(name) else f"{name}_app"


def parse_name(text: str) -> str:
    """Check a name that somebody has chosen.

    Raises:
        StartError: It is no name of a package, or would hide another one.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", text):
        raise StartError(
            f"--name {text!r} is no name of a package. Use small letters, digits and underscores,"
            " a letter first, such as book_shop."
        )
    if not _is_free(text):
        raise StartError(f"--name {text!r} would hide a module of this name. Use another one.")
    return text


def _is_free(name: str) -> bool:
    return not (keyword.iskeyword(name) or name in sys.stdlib_module_names or name in _TAKEN)
