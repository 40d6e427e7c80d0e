"""How types are written into a revision."""

from __future__ import annotations

from typing import Any

__all__ = ["rendering"]


def rendering(plain: Any) -> Any:
    """Add the import of a type's module to the revision that uses it."""

    def render_item(kind: str, item: Any, context: Any) -> Any:
        if plain is not None:
            rendered = plain(kind, item, context)
            if rendered is not False:
                return rendered
        if kind == "type":
            module = type(item).__module__
            if not module.startswith(("sqlalchemy.", "builtins")):
                context.imports.add(f"import {module}")
        return False

    return render_item
