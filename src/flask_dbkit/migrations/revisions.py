"""Revision files: one function for one database, or one function per database.

Flask-Migrate writes ``upgrade()`` for one database, and ``upgrade(engine_name)`` beside
``upgrade_<name>()`` for several. Both are read here, side by side in one folder: a file with one
function is for the default database, and a file that has none for some database does nothing
there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

from alembic.script import Script

__all__ = ["Direction", "concerns", "function_for", "title_of"]

Direction = Literal["upgrade", "downgrade"]


def function_for(
    module: ModuleType, direction: Direction, suffix: str
) -> Callable[[], object] | None:
    """Return what a revision file does to one database.

    Args:
        module: The file.
        direction: Which way.
        suffix: Of the database, see :func:`~.folder.suffix_of`.

    Returns:
        ``None`` when the file has nothing to do with it.
    """
    whole: Any = getattr(module, direction)
    if not _asks_for_database(whole, module, direction):
        return whole if suffix == "" else None
    own = getattr(module, f"{direction}_{suffix}", None)
    if own is None and any(name.startswith(f"{direction}_") for name in vars(module)):
        return None
    return lambda: whole(suffix)


def _asks_for_database(whole: Any, module: ModuleType, direction: Direction) -> bool:
    """Tell whether a function wants to be told the database, as in a file for several.

    Alembic calls it without an argument. A decorator that takes everything says nothing; then the
    file tells, which has functions for each database, or none.
    """
    try:
        parameters = list(inspect.signature(whole).parameters.values())
    except (TypeError, ValueError):  # something callable that Python cannot look into
        return False
    for each in parameters:
        if each.kind is each.VAR_POSITIONAL:
            return any(name.startswith(f"{direction}_") for name in vars(module))
        is_positional = each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        if is_positional and (each.default is each.empty or each.name == "engine_name"):
            return True
    return False


def concerns(script: Script, suffix: str) -> bool:
    """Tell whether a revision does anything to one database."""
    return function_for(script.module, "upgrade", suffix) is not None


def title_of(script: Script) -> str:
    """Return revision and message on one line."""
    doc = " ".join((script.doc or "").split())
    return f"{script.revision} ({doc})" if doc else str(script.revision)
