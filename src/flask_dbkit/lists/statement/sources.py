"""What a list can be made of, and how that is called."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.orm import Query
from sqlalchemy.orm.util import AliasedClass
from sqlalchemy.sql.selectable import GenerativeSelect

__all__ = ["check_source", "name_of"]


def name_of(source: Any) -> str:
    """Return the name of the entity that is listed."""
    if isinstance(source, type):
        return source.__name__
    if isinstance(source, GenerativeSelect):
        descriptions = getattr(source, "column_descriptions", None)
        if descriptions is None:
            return "union"
        entity = next((d["entity"] for d in descriptions if d.get("entity") is not None), None)
        return name_of(entity) if entity is not None else "select"
    if isinstance(source, AliasedClass):
        return str(inspect(source).mapper.class_.__name__)
    return str(getattr(source, "name", source))


def check_source(source: Any) -> None:
    """Refuse what cannot be listed.

    Raises:
        TypeError: It is no class, alias or statement.
    """
    if isinstance(source, Query):
        raise TypeError(
            "A list was made of a Query. Its statement is a select(): give query.statement, or"
            " write select(Model)."
        )
    if not isinstance(source, (type, GenerativeSelect, AliasedClass, Table)):
        raise TypeError(
            f"A list was made of {source!r}. Use a mapped class, an alias or a select()."
        )
