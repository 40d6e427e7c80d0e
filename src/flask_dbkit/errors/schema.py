"""What the models know about a place in the schema: constraint, columns, mapped attributes.

Drivers tell what they like: PostgreSQL everything, MariaDB a constraint and sometimes a table,
SQLite columns but no constraint, and nothing at all for a foreign key. The models have the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper
from sqlalchemy.schema import ColumnCollectionConstraint

from ..databases.errors import Place
from ..databases.statements import first_word, written_columns, written_table

__all__ = ["Schema", "SchemaPlace"]

Rule = ColumnCollectionConstraint | Index
_PRIMARY = "PRIMARY"  # how MySQL and MariaDB name every primary key


@dataclass(frozen=True)
class SchemaPlace:
    """A place in the schema, in the words of the models.

    Attributes:
        code: Of the problem; a foreign key of SQLite may turn out to be the other side's.
        constraint: By its name in the models where they give it one.
        table: Without schema.
        columns: In the order of the constraint.
        fields: The same as mapped attributes; empty where they are not the client's.
        message: What the constraint's ``info`` says to the client.
    """

    code: str
    constraint: str | None = None
    table: str | None = None
    columns: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    message: str | None = None


class Schema:
    """The tables of an application and the classes mapped to them.

    Args:
        metadatas: Where to look for tables.
        mappers: Where to look for the attributes of columns.
    """

    def __init__(self, metadatas: Iterable[MetaData], mappers: Iterable[Mapper[Any]] = ()) -> None:
        self._tables = list(
            dict.fromkeys(
                table for metadata in metadatas for table in list(metadata.tables.values())
            )
        )
        self._mappers = list(mappers)

    def find(self, place: Place, code: str, statement: str | None) -> SchemaPlace:
        """Complete what the driver told.

        Args:
            place: What it told.
            code: Of the problem.
            statement: The SQL, whose table is taken where the driver names none.
        """
        written = written_table(statement) if statement is not None else None
        place = self._told(place, written)
        tables = self._named(place.table or written)
        target = SchemaPlace(code, place.constraint, place.table, place.columns)
        if code.startswith("conflict.reference") and place == Place():
            return self._foreign_key(target, tables, statement or "")
        found = self._rule(place, code, tables)
        if found is not None:
            return self._complete(target, *found)
        if place.columns or place.constraint is not None:
            # MariaDB names the column alone, or its own name for a key without one.
            table = tables[0] if tables else None
            name = table.name if table is not None else place.table or written
            return self._with_fields(replace(target, table=name), table)
        return target

    def _named(self, name: str | None) -> list[Table]:
        # Drivers with %s for a parameter are sent a percent sign twice.
        names = {name, (name or "").replace("%%", "%")}
        return [table for table in self._tables if table.name in names]

    def _told(self, place: Place, written: str | None) -> Place:
        """Take a message apart by the names there are, where it does not say where one ends."""
        if place.maybe is not None:
            rules = (rule for table in self._tables for rule in _rules(table))
            known = any(rule.name is not None and str(rule.name) == place.maybe for rule in rules)
            return replace(place, constraint=place.maybe if known else None, maybe=None)
        if place.listed is not None:
            names = sorted({table.name for table in self._tables}, key=len, reverse=True)
            for name in [*filter(None, [written]), *names]:
                if place.listed.startswith(f"{name}."):
                    columns = place.listed.removeprefix(f"{name}.").split(f", {name}.")
                    return replace(place, table=name, columns=tuple(columns), listed=None)
            return replace(place, listed=None)
        if place.table is not None and place.constraint is not None:
            # MariaDB names the constraint alone, and its name may hold a dot.
            whole = f"{place.table}.{place.constraint}"
            rules = (rule for table in self._tables for rule in _rules(table))
            if any(rule.name is not None and str(rule.name) == whole for rule in rules):
                return replace(place, table=None, constraint=whole)
        return place

    def _rule(self, place: Place, code: str, tables: list[Table]) -> tuple[Rule, Table] | None:
        if place.constraint is not None:
            # The table of the statement may be the parent of the one whose constraint it is. A
            # primary key of MariaDB says nothing of its table.
            here = place.table is not None or place.constraint == _PRIMARY
            candidates = tables if here else [*tables, *self._tables]
            for table in candidates:
                for rule in _rules(table):
                    if _has_name(rule, table, place.constraint):
                        return rule, table
        kinds = (PrimaryKeyConstraint, UniqueConstraint, Index)
        if code == "conflict.unique" and (place.columns or place.constraint is not None):
            for table in tables:
                for rule in _rules(table):
                    names = [column.name for column in rule.columns]
                    given = rule.name is not None and place.constraint is not None
                    if not isinstance(rule, kinds) or not names or given:
                        continue
                    # MariaDB calls a key without a name by its first column.
                    if tuple(names) == place.columns or names[0] == place.constraint:
                        return rule, table
        return None

    def _complete(self, target: SchemaPlace, rule: Rule, table: Table) -> SchemaPlace:
        # The models know where a name ends; a message does not always say.
        columns = tuple(column.name for column in _columns(rule, table)) or target.columns
        name = str(rule.name) if rule.name is not None else target.constraint
        found = replace(target, constraint=name, table=table.name, columns=columns)
        found = self._with_fields(found, table)
        # A ForeignKey() of a column has an info of its own, beside that of the constraint.
        keys = rule.elements if isinstance(rule, ForeignKeyConstraint) else ()
        for info in (*(key.info for key in keys), rule.info):
            found = _with_info(found, info)
        return found

    def _foreign_key(self, target: SchemaPlace, tables: list[Table], statement: str) -> SchemaPlace:
        """Look at the statement for what SQLite does not tell."""
        if not tables:
            return target
        table = tables[0]
        keys = list(table.foreign_key_constraints)
        if first_word(statement) == "UPDATE":
            set_ = written_columns(statement)
            keys = [key for key in keys if any(column.name in set_ for column in key.columns)]
            if not keys:
                target = replace(target, code="conflict.referenced")
        if target.code == "conflict.referenced":
            keys = [key for each in self._tables for key in _keys_to(table, each)]
            return self._complete(target, keys[0], keys[0].table) if len(keys) == 1 else target
        if len(keys) != 1:
            return replace(target, table=table.name)
        return self._complete(target, keys[0], table)

    def _with_fields(self, target: SchemaPlace, table: Table | None) -> SchemaPlace:
        # The columns that still refer to a parent are not those of who wants it gone.
        if target.code == "conflict.referenced":
            return target
        columns = [table.columns.get(name) for name in target.columns] if table is not None else []
        fields = [self._attribute(column) for column in columns if column is not None]
        result = replace(target, fields=tuple(dict.fromkeys(fields)))
        if target.code == "invalid.null" and len(columns) == 1 and columns[0] is not None:
            result = _with_info(result, columns[0].info)
        return result

    def _attribute(self, column: Column[Any]) -> str:
        for mapper in self._mappers:
            if column.table in mapper.tables:
                try:
                    return mapper.get_property_by_column(column).key
                except SQLAlchemyError:
                    continue  # a class that leaves the column out
        return column.key


def _keys_to(parent: Table, table: Table) -> list[ForeignKeyConstraint]:
    """Return the foreign keys of a table that refer to another one."""
    # The table a key refers to need not be among the models; its name is there in any case.
    return [
        key
        for key in table.foreign_key_constraints
        if key.elements[0].target_fullname.rpartition(".")[0] == parent.fullname
    ]


def _rules(table: Table) -> Iterator[Rule]:
    # One that was given to a column stays there.
    beside = [constraint for column in table.columns for constraint in column.constraints]
    for constraint in (*table.constraints, *beside):
        if isinstance(constraint, ColumnCollectionConstraint):
            yield constraint
    for index in table.indexes:
        if index.unique:
            yield index


def _has_name(rule: Rule, table: Table, name: str) -> bool:
    if name == _PRIMARY:
        return rule is table.primary_key
    return rule.name is not None and str(rule.name) == name


def _columns(rule: Rule, table: Table) -> list[Column[Any]]:
    columns = list(rule.columns)
    if not columns and isinstance(rule, CheckConstraint):
        # Written as text, which names its columns all the same.
        words = re.findall(r"\w+", str(rule.sqltext))
        return [column for column in table.columns if column.name in words]
    if isinstance(rule, ForeignKeyConstraint):
        return [element.parent for element in rule.elements]
    return columns


def _with_info(target: SchemaPlace, info: Mapping[Any, Any]) -> SchemaPlace:
    own = info.get("dbkit")
    if not isinstance(own, Mapping):
        return target
    message, field = own.get("message"), own.get("field")
    return replace(
        target,
        message=str(message) if message is not None else target.message,
        fields=(str(field),) if field is not None else target.fields,
    )
