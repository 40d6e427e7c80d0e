"""What the rules about operations look at, and what they share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, Computed, MetaData, types
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.functions import FunctionElement

from .recording import Recorded, Recording
from .schema import Schema

__all__ = [
    "CHANGE",
    "CONSTANT",
    "Hit",
    "View",
    "default_of",
    "is_ddl",
    "is_narrower",
    "is_narrower_number",
    "is_new",
    "maps",
    "shorten",
    "table_of",
    "text_of",
]

CONSTANT = re.compile(
    r"^\(?\s*(?:'(?:[^']|'')*'|[-+]?[\d.]+|NULL|TRUE|FALSE)\s*\)?$", re.IGNORECASE
)
CHANGE = re.compile(
    r"^\s*(?:WITH\b.*?\)\s*)?(UPDATE|DELETE\s+FROM)\s+\"?`?(\w+)", re.IGNORECASE | re.DOTALL
)
_SIZES = {types.SmallInteger: 1, types.Integer: 2, types.BigInteger: 3}


@dataclass(frozen=True)
class Hit:
    """A rule, and what it has found."""

    rule: str
    line: int
    message: str


@dataclass
class View:
    """What the rules look at.

    Attributes:
        is_first: Whether no revision before it has made a table.
    """

    recording: Recording
    schema: Schema
    metadata: MetaData
    is_first: bool = False
    created: set[str] = field(default_factory=set)
    touched: dict[str, int] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)

    @property
    def is_postgresql(self) -> bool:
        """Whether the revision is read for PostgreSQL."""
        return self.recording.dialect == "postgresql"

    @property
    def is_sqlite(self) -> bool:
        """Whether the revision is read for SQLite."""
        return self.recording.dialect == "sqlite"

    @property
    def is_mysql(self) -> bool:
        """Whether the revision is read for MariaDB or MySQL."""
        return self.recording.dialect in ("mysql", "mariadb")


def table_of(operation: Any) -> str:
    """Return the table an operation is about; empty for SQL."""
    name = getattr(operation, "table_name", None) or getattr(operation, "source_table", None)
    return str(name or "")


def is_ddl(operation: Any) -> bool:
    """Tell whether an operation changes the schema."""
    return not isinstance(operation, (ops.ExecuteSQLOp, ops.BulkInsertOp))


def is_new(each: Recorded, view: View) -> bool:
    """Tell whether an operation is about a table that this revision has made."""
    return table_of(each.operation) in view.created


def maps(view: View, table: str, column: str) -> bool:
    """Tell whether a model has a column of this name."""
    model = view.metadata.tables.get(table)
    return model is not None and column in model.c


def is_narrower(before: Any, after: Any) -> bool:
    """Tell whether a type holds less than the one before."""
    enums = isinstance(before, types.Enum), isinstance(after, types.Enum)
    if any(enums):
        return enums[1] or not isinstance(after, types.String)
    if isinstance(after, types.String):  # everything has a text
        room = before.length if isinstance(before, types.String) else 0
        return after.length is not None and (room is None or after.length < room)
    if isinstance(before, types.Integer) and isinstance(after, types.Integer):
        return _size(after) < _size(before)
    if isinstance(after, types.Numeric) and isinstance(before, (types.Numeric, types.Integer)):
        return isinstance(before, types.Numeric) and is_narrower_number(before, after)
    return before._type_affinity is not after._type_affinity  # noqa: SLF001


def is_narrower_number(before: Any, after: Any) -> bool:
    """Tell whether a number has fewer digits than before."""
    if after.precision is None:
        return False
    if before.precision is None:
        return True
    return (after.precision - (after.scale or 0) < before.precision - (before.scale or 0)) or (
        (after.scale or 0) < (before.scale or 0)
    )


def _size(kind: Any) -> int:
    return max((size for each, size in _SIZES.items() if isinstance(kind, each)), default=2)


def default_of(column: Column[Any]) -> str:
    """Return the SQL of a server default; empty when there is none."""
    default: Any = column.server_default
    argument = getattr(default, "arg", None)
    if argument is None or isinstance(default, Computed):
        return ""
    if isinstance(argument, str):
        return "'" + argument.replace("'", "''") + "'"
    if isinstance(argument, FunctionElement):
        return f"{argument.name}()" if hasattr(argument, "name") else str(argument)
    return str(argument)


def text_of(operation: Any) -> str:
    """Return the SQL of an operation; empty when it is none."""
    statement = getattr(operation, "sqltext", None)
    if statement is None:
        return ""
    if isinstance(statement, TextClause):
        return statement.text
    try:
        return str(statement)
    except SQLAlchemyError:  # a construct of one database, which the plain compiler does not know
        return ""


def shorten(text: str) -> str:
    """Return a text on one line, cut where it is long."""
    plain = " ".join(text.split())
    return plain if len(plain) <= 80 else f"{plain[:79]}…"
