"""DK04x: tables as the models say them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Sequence
from inspect import get_annotations
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKeyConstraint, Index, Table
from sqlalchemy.exc import CompileError
from sqlalchemy.schema import CheckConstraint, Constraint, UniqueConstraint

from ...doctor.checks import check
from ...doctor.examination import Examination, ExaminedBind
from ...doctor.findings import Found

__all__: list[str] = []

_SA = "https://docs.sqlalchemy.org/en/20"


def _columns(columns: Iterable[Any]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)


def _keys_of(table: Table) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what finds rows quickly: the name and the columns of each key and index."""
    if table.primary_key.columns:
        yield "the primary key", _columns(table.primary_key.columns)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield f"the constraint {constraint.name}", _columns(constraint.columns)
    for index in table.indexes:
        if _is_plain(index):
            yield f"the index {index.name}", _columns(index.columns)


def _is_plain(index: Index) -> bool:
    """Tell whether an index is of all rows, and of columns as they are."""
    partial = any(options.get("where") is not None for options in index.dialect_options.values())
    return not partial and all(isinstance(each, Column) for each in index.expressions)


def _own_tables(given: Examination) -> Iterator[tuple[ExaminedBind, Table]]:
    """Yield the tables, without those of classes that a library has made."""
    for bind, table in given.tables():
        mapper = next((one for one in given.mappers if one.local_table is table), None)
        if mapper is None or given.sources.has(mapper.class_):
            yield bind, table


@check(
    "DK040",
    "A foreign key without an index",
    tags=("models", "indexes"),
    cause="Each DELETE of a parent, and each list of children, reads the whole table of the"
    " children.",
    fix="Add index=True to the column, and make a revision.",
    link="https://www.postgresql.org/docs/current/ddl-constraints.html#DDL-CONSTRAINTS-FK",
)
def foreign_keys_without_index(given: Examination) -> Iterator[Found]:
    """Look for an index, or a key, that begins with the columns."""
    for bind, table in _own_tables(given):
        if bind.database.indexes_foreign_keys:
            continue
        keys = [columns for _, columns in _keys_of(table)]
        for constraint in table.foreign_key_constraints:
            columns = _columns(constraint.columns)
            if not any(set(key[: len(columns)]) == set(columns) for key in keys):
                yield Found(
                    f"{table.fullname}.{', '.join(columns)} refers to"
                    f" {constraint.referred_table.fullname} and has no index",
                    fix=_index_fix(table, columns),
                    **given.about(table, table.columns[columns[0]]),
                )


def _index_fix(table: Table, columns: Sequence[str]) -> str | None:
    if len(columns) == 1:
        return None
    listed = ", ".join(map(repr, columns))
    return f"Add Index(None, {listed}) to the table, and make a revision."


@check(
    "DK041",
    "An index that another one makes superfluous",
    tags=("models", "indexes"),
    cause="It is kept up with every write and finds nothing that the other does not find.",
    fix="Take it out, and make a revision.",
    link="https://www.postgresql.org/docs/current/indexes-multicolumn.html",
)
def superfluous_indexes(given: Examination) -> Iterator[Found]:
    """Look for an index whose columns another one begins with."""
    for _, table in _own_tables(given):
        keys = list(_keys_of(table))
        seen: set[tuple[str, ...]] = set()
        for index in sorted(table.indexes, key=lambda one: str(one.name)):
            if not _is_plain(index) or _has_options(index):
                continue
            columns = _columns(index.columns)
            others = [each for each in keys if each[0] != f"the index {index.name}"]
            covering = _covering(index, columns, others, seen)
            seen.add(columns)
            if covering is not None:
                yield Found(
                    f"The index {index.name} of {table.fullname} is covered by {covering}",
                    **given.about(table, table.columns[columns[0]]),
                )


def _covering(
    index: Index,
    columns: tuple[str, ...],
    others: Iterable[tuple[str, tuple[str, ...]]],
    seen: set[tuple[str, ...]],
) -> str | None:
    for name, other in others:
        if other[: len(columns)] != columns:
            continue
        if len(other) > len(columns):
            if not index.unique:
                return name
        elif not name.startswith("the index") or columns in seen:
            return name
    return None


def _has_options(index: Index) -> bool:
    """Tell whether it is of another kind than others, such as GIN."""
    return any(value for options in index.dialect_options.values() for value in options.values())


@check(
    "DK042",
    "A foreign key of another type than what it refers to",
    tags=("models",),
    cause="Some databases refuse it; on others values do not fit, or no index serves the"
    " comparison.",
    fix="Give both columns the same type; leave the type of the foreign key out, and it is"
    " taken from the other column.",
    link=f"{_SA}/core/constraints.html#sqlalchemy.schema.ForeignKey",
)
def mismatched_types(given: Examination) -> Iterator[Found]:
    """Compare the types as the database is told them."""
    for bind, table in _own_tables(given):
        for constraint in table.foreign_key_constraints:
            for element in constraint.elements:
                column, other = element.parent, element.column
                own, theirs = _shown_type(bind, column), _shown_type(bind, other)
                if own != theirs and _differ(column.type, other.type):
                    yield Found(
                        f"{table.fullname}.{column.name} is {own};"
                        f" {other.table.fullname}.{other.name} is {theirs}",
                        **given.about(table, column),
                    )


def _shown_type(bind: ExaminedBind, column: Column[Any]) -> str:
    try:
        return str(column.type.compile(dialect=bind.engine.dialect))
    except CompileError:
        return str(column.type)


def _differ(own: Any, theirs: Any) -> bool:
    kinds = (sa.SmallInteger, sa.BigInteger)
    if own._type_affinity is not theirs._type_affinity:  # noqa: SLF001 - what Alembic compares too
        return True
    if any(isinstance(own, kind) != isinstance(theirs, kind) for kind in kinds):
        return True
    length, needed = getattr(own, "length", None), getattr(theirs, "length", None)
    return length is not None and needed is not None and length < needed


@check(
    "DK043",
    "A primary key of 32 bits",
    level="info",
    tags=("models",),
    cause="After two thousand million rows, those that were deleted or rolled back included, no"
    " row can be added; to change the type later rewrites the table.",
    fix="Use BigInteger where rows come without an end: events, messages, log entries.",
    link="https://www.postgresql.org/docs/current/datatype-numeric.html#DATATYPE-INT",
    deploy=True,
)
def small_keys(given: Examination) -> Iterator[Found]:
    """Count them, one finding for each database."""
    for bind in given.servers:
        names = [
            table.fullname
            for other, table in given.tables()
            if other is bind
            and table.autoincrement_column is not None
            and not isinstance(table.autoincrement_column.type, sa.BigInteger)
            and not table.autoincrement_column.foreign_keys
        ]
        if names:
            yield Found(f"Keys of 32 bits: {', '.join(sorted(names))}", object=bind.name)


@check(
    "DK044",
    "A table without a primary key",
    tags=("models",),
    cause="Equal rows cannot be told apart: they can neither be paged through nor be replicated,"
    " and no object can be one of them.",
    fix="Make the columns that tell rows apart the primary key: primary_key=True for each.",
    link=f"{_SA}/faq/ormconfiguration.html#how-do-i-map-a-table-that-has-no-primary-key",
)
def no_primary_key(given: Examination) -> Iterator[Found]:
    """Look at every table, those between two others too."""
    for _, table in _own_tables(given):
        if not table.primary_key.columns and not table.info.get("is_view"):
            yield Found(f"{table.fullname} has no primary key", **given.about(table))


@check(
    "DK045",
    "A constraint without a name",
    tags=("models", "migrations"),
    cause="A revision cannot drop or change what has no name. On SQLite it never gets one.",
    fix="Use flask_dbkit.Base, or give MetaData a naming_convention; name each CheckConstraint.",
    link="https://alembic.sqlalchemy.org/en/latest/naming.html",
)
def unnamed_constraints(given: Examination) -> Iterator[Found]:
    """Count them where there is no naming convention, else tell each."""
    for bind in given.binds:
        metadata = given.metadata(bind)
        convention = metadata.naming_convention
        unnamed = [
            (table, constraint)
            for other, table in _own_tables(given)
            if other is bind
            for constraint in sorted(table.constraints, key=str)
            if _is_unnamed(constraint)
        ]
        if unnamed and not {"fk", "uq"} <= {key for key in convention if isinstance(key, str)}:
            table, constraint = unnamed[0]
            yield Found(
                f"{len(unnamed)} constraints of {bind.name} have no name, and there is no naming"
                f" convention. One of them: {_described(constraint)} of {table.fullname}",
                object=bind.name,
            )
        else:
            for table, constraint in unnamed:
                yield Found(
                    f"{_described(constraint)} of {table.fullname} has no name",
                    **given.about(table),
                )


def _is_unnamed(constraint: Constraint) -> bool:
    if not isinstance(constraint, (ForeignKeyConstraint, UniqueConstraint, CheckConstraint)):
        return False
    if getattr(constraint, "_type_bound", False):  # of an Enum or a Boolean
        return False
    return not isinstance(constraint.name, str)


def _described(constraint: Constraint) -> str:
    if isinstance(constraint, CheckConstraint):
        return f"CHECK ({constraint.sqltext})"
    kind = "FOREIGN KEY" if isinstance(constraint, ForeignKeyConstraint) else "UNIQUE"
    return f"{kind} ({', '.join(_columns(getattr(constraint, 'columns', ())))})"


@check(
    "DK046",
    "A flag that may be neither on nor off",
    level="info",
    tags=("models",),
    cause="NULL is neither true nor false: WHERE flag and WHERE NOT flag both leave the row out.",
    fix="Add nullable=False and a server_default; or write Mapped[bool | None] if all three are"
    " meant.",
    link="https://www.postgresql.org/docs/current/functions-logical.html",
)
def nullable_flags(given: Examination) -> Iterator[Found]:
    """Look for nullable booleans that are not annotated as such."""
    for _, table in _own_tables(given):
        for column in table.columns:
            if (
                isinstance(column.type, sa.Boolean)
                and column.nullable
                and not _is_meant(given, column)
            ):
                yield Found(
                    f"{table.fullname}.{column.name} may be NULL", **given.about(table, column)
                )


def _is_meant(given: Examination, column: Column[Any]) -> bool:
    for mapper in given.mappers:
        if mapper.local_table is column.table and column in mapper.columns.values():
            key = mapper.get_property_by_column(column).key
            for cls in mapper.class_.__mro__:
                annotation = str(get_annotations(cls).get(key, ""))
                if "None" in annotation or "Optional" in annotation:
                    return True
    return False


@check(
    "DK047",
    "A time without a time zone",
    level="info",
    tags=("models",),
    cause="What it means depends on the clock and the code that wrote it: twice a year, and with"
    " each server elsewhere, it means something else.",
    fix="Use UTCDateTime, which datetime is with flask_dbkit.Base, and datetime.now(UTC).",
    link="https://docs.python.org/3/library/datetime.html#aware-and-naive-objects",
)
def naive_times(given: Examination) -> Iterator[Found]:
    """Count them, one finding for each table."""
    for _, table in _own_tables(given):
        names = [
            column.name
            for column in table.columns
            if isinstance(column.type, sa.DateTime) and not column.type.timezone
        ]
        if names:
            yield Found(
                f"{table.fullname} has times without a zone: {', '.join(names)}",
                object=table.fullname,
                place=given.about(table, table.columns[names[0]])["place"],
            )


@check(
    "DK048",
    "A column that the database refuses",
    level="error",
    tags=("models",),
    cause="CREATE TABLE fails: the database cannot express the type, such as a text without a"
    " length.",
    fix="Give String a length, or use Text.",
    link=f"{_SA}/core/type_basics.html#sqlalchemy.types.String",
)
def impossible_types(given: Examination) -> Iterator[Found]:
    """Let the dialect write each type."""
    for bind, table in given.tables():
        for column in table.columns:
            try:
                column.type.compile(dialect=bind.engine.dialect)
            except CompileError as error:
                yield Found(
                    f"{table.fullname}.{column.name}: {error.args[0]}",
                    **given.about(table, column),
                )


@check(
    "DK105",
    "A default that was computed when the code was loaded",
    level="error",
    tags=("models", "code"),
    cause="default=datetime.now() is called once: every row of this process gets the same value.",
    fix="Hand the function over, without calling it: default=lambda: datetime.now(UTC); or use"
    " server_default=func.now().",
    link=f"{_SA}/core/defaults.html#python-executed-functions",
)
def frozen_defaults(given: Examination) -> Iterator[Found]:
    """Look for defaults that are a moment or a UUID."""
    for _, table in given.tables():
        for column in table.columns:
            for kind, default in (("default", column.default), ("onupdate", column.onupdate)):
                value = getattr(default, "arg", None)
                if isinstance(value, (dt.date, dt.time, uuid.UUID)):
                    yield Found(
                        f"{kind} of {table.fullname}.{column.name} is {value}, for every row",
                        **given.about(table, column),
                    )
