"""A mapped class, seen as the one table it is stored in: names, unique keys, rows."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Integer, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import InstrumentedAttribute, Mapper, QueryableAttribute, class_mapper

from ..models.stored_values import StoredValues
from .rows import RowGroup, is_sql
from .unique_keys import answerable_keys

__all__ = ["AttributeNames", "Key", "KeyValues", "ModelTable", "check_name"]

AttributeNames = str | InstrumentedAttribute[Any] | Iterable[str | InstrumentedAttribute[Any]]


KeyValues = tuple[Any, ...]


@dataclass(frozen=True)
class Key:
    """The attributes that tell whether a row is there.

    Attributes:
        names: Their names.
        stored: How the database keeps the values of each.
    """

    names: tuple[str, ...]
    stored: tuple[StoredValues, ...]

    def values(self, row: Mapping[str, Any]) -> KeyValues:
        """Return the values a row gives for them."""
        return tuple(row[name] for name in self.names)

    def identity(self, values: KeyValues) -> tuple[Hashable, ...]:
        """Return what is equal for keys that are stored alike, whatever Python compares."""
        return tuple(stored.key(value) for stored, value in zip(self.stored, values, strict=True))


@dataclass(frozen=True)
class ModelTable:
    """A mapped class, seen as the one table it is stored in.

    Attributes:
        mapper: The class.
        table: The table.
        columns: Its columns by the name of their attribute.
    """

    mapper: Mapper[Any]
    table: Table
    columns: dict[str, Column[Any]]

    @classmethod
    def of(cls, model: type[Any]) -> ModelTable:
        """Look at a mapped class.

        Raises:
            ValueError: It is stored in several tables.
        """
        mapper = class_mapper(model)
        table = mapper.local_table
        if len(mapper.tables) != 1 or not isinstance(table, Table):
            raise ValueError(
                f"upsert() writes to one table, but {model.__name__} is stored in"
                f" {', '.join(map(str, mapper.tables))}. Use get_or_create()."
            )
        columns = {
            prop.key: prop.columns[0]
            for prop in mapper.column_attrs
            if isinstance(prop.columns[0], Column) and prop.columns[0].table is table
        }
        return cls(mapper, table, columns)

    def names(self, given: AttributeNames, what: str) -> tuple[str, ...]:
        """Turn what the caller gave into names of column attributes."""
        one_or_more: Any = given
        several = [given] if isinstance(given, (str, QueryableAttribute)) else one_or_more
        names = tuple(name if isinstance(name, str) else name.key for name in several)
        for name in names:
            check_name(self.mapper, name, self.columns, what)
        return names

    def key(self, names: tuple[str, ...], dialect: Dialect) -> Key:
        """Return attributes as a key on one database."""
        stored = (StoredValues.of(self.columns[name].type, dialect) for name in names)
        return Key(names, tuple(stored))

    def check_unique(self, key: tuple[str, ...]) -> None:
        """Refuse a key that the database does not keep unique."""
        allowed = self.unique_keys()
        if set(key) not in [set(names) for names in allowed]:
            raise ValueError(
                f"by={key!r} is no primary key or unique constraint of"
                f" {self.mapper.class_.__name__}. Use one of:"
                f" {', '.join(map(str, allowed)) or '(it has none)'}; or add a unique"
                " constraint."
            )

    def updatable(self, key: tuple[str, ...], update: AttributeNames | None) -> Collection[str]:
        """Return the attributes that an existing row takes over."""
        fixed = {*key, *self._attributes(self.table.primary_key.columns)}
        version = self.mapper.version_id_col
        counted = self._attributes([version]) if version is not None else ()
        if update is None:
            return set(self.columns) - fixed - set(counted)
        names = self.names(update, "update")
        for name in names:
            if name in fixed or name in counted:
                raise ValueError(
                    f"update= names {name!r}, which"
                    + (
                        " the library counts by itself."
                        if name in counted
                        else " identifies the row and cannot change."
                    )
                    + " Leave it out."
                )
        return set(names)

    def checked(self, row: Mapping[str, Any], key: tuple[str, ...]) -> dict[str, Any]:
        """Return a copy of one of the rows, once it is known to be usable."""
        for name, value in row.items():
            check_name(self.mapper, name, self.columns, "A row")
            if is_sql(value):
                raise ValueError(
                    f"A row gives the SQL expression {str(value)!r} for {name!r}."
                    " upsert() takes plain values."
                )
        for name in key:
            if row.get(name) is None:
                raise ValueError(
                    f"A row has no value for {name!r}, which is in by=. NULL is never equal to"
                    f" NULL, so it would be inserted each time. The row gives: {_listed(row)}."
                )
        return dict(row)

    def given(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the attributes a row gives, in the order of the table."""
        return tuple(name for name in self.columns if name in row)

    def group(self, key: tuple[str, ...], assigned: Sequence[str]) -> RowGroup:
        """Return what rows have in common that update the attributes ``assigned``."""
        version, generate = self.mapper.version_id_col, self.mapper.version_id_generator
        group = RowGroup(
            self.table,
            tuple(self.columns[name] for name in key),
            tuple(self.columns[name] for name in assigned),
        )
        if not isinstance(version, Column) or not callable(generate):
            return group  # none, or counted by the database
        following = None if isinstance(version.type, Integer) else generate(None)
        return dataclasses.replace(group, version=version, next_version=following)

    def parameters(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row by column, with what the ORM would add to an INSERT."""
        values = {self.columns[name].key: value for name, value in row.items()}
        discriminator = self.mapper.polymorphic_on
        if isinstance(discriminator, Column) and self.mapper.polymorphic_identity is not None:
            values.setdefault(discriminator.key, self.mapper.polymorphic_identity)
        version = self.mapper.version_id_col
        generate = self.mapper.version_id_generator
        if isinstance(version, Column) and version.default is None and callable(generate):
            values.setdefault(version.key, generate(None))
        return values

    def _attributes(self, columns: Iterable[Any]) -> tuple[str, ...]:
        names = {id(column): name for name, column in self.columns.items()}
        return tuple(names[id(column)] for column in columns if id(column) in names)

    def unique_keys(self) -> list[tuple[str, ...]]:
        """Return every set of attributes that ``ON CONFLICT`` can name."""
        found = answerable_keys(self.table)
        keys = {self._attributes(columns): len(columns) for columns in found}
        return sorted(key for key, length in keys.items() if key and len(key) == length)


def check_name(mapper: Mapper[Any], name: str, known: Collection[str], what: str) -> None:
    """Refuse a name that is not among those known, with the nearest one."""
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, 1)
    raise ValueError(
        f"{what} names {name!r}, which {mapper.class_.__name__} does not have here."
        f" It has: {_listed(known)}." + (f" Did you mean {near[0]!r}?" if near else "")
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names)))
