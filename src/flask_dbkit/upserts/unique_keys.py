"""Which columns the database keeps unique, as the tables of a model say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Column, Index, Table, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import UnmappedColumnError

__all__ = ["answerable_keys", "check_covered"]


def answerable_keys(table: Table) -> Iterator[list[Any]]:
    """Yield what ``ON CONFLICT`` can name: columns of a key, or expressions of an index."""
    yield list(table.primary_key.columns)
    for constraint in table.constraints:
        # A deferrable one is checked too late to be answered.
        if isinstance(constraint, UniqueConstraint) and not constraint.deferrable:
            yield list(constraint.columns)
    for index in table.indexes:
        # Part of the rows, or part of a value: unique only within it.
        if index.unique and not _options(index, ("_where", "_length")):
            yield list(index.expressions)


def _options(index: Index, endings: tuple[str, ...]) -> list[str]:
    options = index.dialect_kwargs.items()
    return [name for name, value in options if value is not None and name.endswith(endings)]


def check_covered(mapper: Mapper[Any], names: Iterable[str], dialect: Dialect) -> None:
    """Refuse a lookup by columns of which the database may hold the same values twice.

    Args:
        mapper: The class whose rows are looked up.
        names: Its attributes that the lookup gives.
        dialect: The database, for indexes that are partial on one and whole on another.

    Raises:
        ValueError: No primary key and no unique constraint or index lies within them.
    """
    given = {column for name in names for column in _columns_named(mapper, name)}
    keys = list(_unique_columns(mapper, dialect))
    if any(key <= given for key in keys):
        return
    shown = {", ".join(sorted(_attribute(mapper, column) for column in key)) for key in keys}
    remedy = ", ".join(sorted(repr(str(column.name)) for column in given))
    raise ValueError(
        f"get_or_create({mapper.class_.__name__}) looks for {', '.join(names)}, which no primary"
        " key or unique constraint covers: two callers at once would insert a row each. Add"
        f" UniqueConstraint({remedy or '…'}), or look for what is unique:"
        f" {' or '.join(f'({names})' for names in sorted(shown))}."
    )


def _columns_named(mapper: Mapper[Any], name: str) -> set[Any]:
    """Return the columns whose values follow from the value of an attribute.

    None for what only the database can compute, as a hybrid.
    """
    while name in mapper.synonyms:
        name = mapper.synonyms[name].name
    if name in mapper.relationships:
        return set(mapper.relationships[name].local_columns)
    prop: Any = mapper.attrs.get(name)
    return {column for column in getattr(prop, "columns", ()) if isinstance(column, Column)}


def _unique_columns(mapper: Mapper[Any], dialect: Dialect) -> Iterator[set[Any]]:
    yield set(mapper.primary_key)
    for table in mapper.tables:
        if not isinstance(table, Table):
            continue
        if table.primary_key.columns:
            yield set(table.primary_key.columns)
        for constraint in table.constraints:
            if isinstance(constraint, UniqueConstraint):
                yield set(constraint.columns)
        for index in table.indexes:
            is_partial = _options(index, (f"{dialect.name}_where",))
            columns = [column for column in index.expressions if isinstance(column, Column)]
            if index.unique and not is_partial and len(columns) == len(index.expressions):
                yield set(columns)


def _attribute(mapper: Mapper[Any], column: Any) -> str:
    try:
        return str(mapper.get_property_by_column(column).key)
    except UnmappedColumnError:
        return str(column.name)
