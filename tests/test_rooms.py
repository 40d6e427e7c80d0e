"""The shape of the house: rooms that know no other's business, and no way round in circles."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "flask_dbkit"

NAMES = {"sqlite", "postgresql", "mysql", "mariadb"}
FREE = ("databases/", "engines/urls.py", "migrations/lint/")
"""Where a database may be named, besides files and folders called ``on_<database>``."""

MOST_MODULES_AT_THE_TOP = 12


def test_a_database_is_named_where_it_is_described_and_nowhere_else() -> None:
    """Every other room asks for a fact, so that one more database is one more folder."""
    named = {}
    for path in sorted(SOURCES.rglob("*.py")):
        place = path.relative_to(SOURCES).as_posix()
        if place.startswith(FREE) or any(part.startswith("on_") for part in place.split("/")):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node.value in NAMES
        ]
        if lines:
            named[place] = lines
    assert named == {}


def test_the_top_level_is_small_enough_to_be_read_at_a_glance() -> None:
    """What belongs to a feature is in its room."""
    modules = [path.name for path in SOURCES.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES_AT_THE_TOP, modules


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Not for types and not inside a function either."""
    command = [sys.executable, str(ROOT / "tools" / "circles.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
