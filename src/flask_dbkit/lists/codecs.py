"""Key values, exactly as the database compares them.

A keyset is compared inside the database, so it has to hold what is stored there and not what
Python makes of it: a ``Decimal`` that SQLite keeps as a double, a 32-bit float that a driver
rounds to six digits, an ``ENUM`` that MariaDB sorts by number. So a key is read and sent back
without the column type's conversions.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Double, cast, literal_column, type_coerce
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.types import TypeDecorator, TypeEngine

from .exceptions import PlanError

__all__ = ["RAW", "Value", "decode", "encode", "raw_key", "type_name"]

Value = object
"""One key value: a Python scalar as the driver returns it, or ``None``."""

_MYSQL = frozenset({"mysql", "mariadb"})
_KNOWN = (
    sqltypes.Integer,
    sqltypes.Enum,
    sqltypes.String,
    sqltypes.Boolean,
    sqltypes.Numeric,
    sqltypes.Float,
    sqltypes.DateTime,
    sqltypes.Date,
    sqltypes.Time,
    sqltypes.Interval,
    sqltypes.Uuid,
    sqltypes.LargeBinary,
    sqltypes.VARBINARY,
    sqltypes.BINARY,
)


class _Raw(sqltypes.NullType):
    """A type without conversions: what the driver gives, and what it is given."""

    # A comparison would else give the value the type of its other side, conversions included.
    _isnull = False
    hashable = True


RAW = _Raw()


def implementation(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return the type below every decorator and variant on one database."""
    found = type_.dialect_impl(dialect)
    while isinstance(found, TypeDecorator):
        found = found.load_dialect_impl(dialect).dialect_impl(dialect)
    return found


def raw_key(expression: ColumnElement[Any], dialect: Dialect) -> ColumnElement[Any]:
    """Return the expression to read and compare in place of a key.

    Args:
        expression: The key over the statement.
        dialect: The database it goes to.

    Raises:
        PlanError: The type has no order that a cursor could carry.
    """
    found = implementation(expression.type, dialect)
    expression = _bare(expression)
    # Some types of other databases derive from none of ours, as MariaDB's UUID on SQLAlchemy 2.1
    # does; the declared type tells then.
    if found._isnull:  # noqa: SLF001 - the type of what has no type
        # What the database makes of it comes back as it is, unless it may be a 32-bit float.
        if any(
            isinstance(getattr(part, "type", None), sqltypes.Float) for part in iterate(expression)
        ):
            raise PlanError(
                "Its type is not known, and it is computed from a float. Name the type:"
                " type_coerce(expression, Float)."
            )
    elif not (isinstance(found, _KNOWN) or isinstance(expression.type, _KNOWN)):
        raise PlanError(f"The type {expression.type!r} cannot be a key of an order.")
    if dialect.name in _MYSQL:
        if _is_mysqls(found, "ENUM", "SET"):
            # Sorted by position, so compared by position: as text, rows are lost.
            # https://mariadb.com/docs/server/reference/data-types/string-data-types/enum
            return _plus(expression, "0")
        if _is_float(expression.type, found):
            # The driver is sent six digits of a FLOAT. The sum with a double has all of them,
            # and unlike CAST(… AS DOUBLE) it is known to every version.
            return _plus(expression, "0e0")
    if dialect.name == "postgresql" and _is_float(expression.type, found):
        # real and double precision compare exactly, in an index too; the text of a real
        # taken for a double does not.
        # https://www.postgresql.org/docs/current/btree.html#BTREE-BEHAVIOR
        return type_coerce(cast(expression, Double()), RAW)
    return type_coerce(expression, RAW)


def _is_mysqls(found: object, *names: str) -> bool:
    # Whoever made such a type has imported its module; for all others that would be in vain.
    module = sys.modules.get("sqlalchemy.dialects.mysql")
    return module is not None and isinstance(found, tuple(getattr(module, n) for n in names))


def _bare(expression: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column of the table, which brings no FROM of its mapped class with it.

    As a column of a subclass, it would join the tables of that a second time.
    """
    if isinstance(expression, Column):
        return expression._deannotate()  # noqa: SLF001 - there is no public way
    return expression


def compared_key(
    expression: ColumnElement[Any], raw: ColumnElement[Any], dialect: Dialect
) -> ColumnElement[Any]:
    """Return what is compared with a key value: the bare key where that is as exact.

    Args:
        expression: The key over the statement.
        raw: What :func:`raw_key` made of it.
        dialect: The database.
    """
    found = implementation(expression.type, dialect)
    if _is_mysqls(found, "ENUM") or _is_float(expression.type, found):
        return type_coerce(expression, RAW)
    return raw


def is_read_as_sent(expression: ColumnElement[Any], dialect: Dialect) -> bool:
    """Tell whether an attribute of this type has what the driver returned: a whole number.

    Args:
        expression: The key over the statement.
        dialect: The database.
    """
    whole = isinstance(implementation(expression.type, dialect), sqltypes.Integer)
    return whole and expression.type.dialect_impl(dialect).result_processor(dialect, None) is None


def type_name(expression: ColumnElement[Any], dialect: Dialect) -> str:
    """Name a key's type, so that a cursor from before a migration is not taken for one after."""
    return type(implementation(expression.type, dialect)).__name__


def _is_float(declared: TypeEngine[Any], found: TypeEngine[Any]) -> bool:
    # What SQLAlchemy 2.0 makes of a float on PostgreSQL does not derive from Float.
    while isinstance(declared, TypeDecorator):
        declared = declared.impl_instance
    return isinstance(found, sqltypes.Float) or isinstance(declared, sqltypes.Float)


def _plus(expression: ColumnElement[Any], zero: str) -> ColumnElement[Any]:
    number = type_coerce(expression, sqltypes.Float())
    return type_coerce(number.op("+")(literal_column(zero)), RAW)


def _duration(value: timedelta) -> str:
    return f"{value.days},{value.seconds},{value.microseconds}"


def _parse_duration(text: str) -> timedelta:
    days, seconds, microseconds = map(int, text.split(","))
    return timedelta(days, seconds, microseconds)


# datetime before date: the one is a subclass of the other.
_TAGS: tuple[tuple[str, type, Callable[[Any], str], Callable[[str], Any]], ...] = (
    ("s", str, str, str),
    ("t", datetime, datetime.isoformat, datetime.fromisoformat),
    ("d", date, date.isoformat, date.fromisoformat),
    ("n", Decimal, str, Decimal),
    ("f", float, float.hex, float.fromhex),
    ("u", UUID, lambda value: value.hex, UUID),
    ("b", bytes, lambda value: base64.b64encode(value).decode(), base64.b64decode),
    ("c", time, time.isoformat, time.fromisoformat),
    ("i", timedelta, _duration, _parse_duration),
)
_DECODERS: Mapping[str, Callable[[str], Any]] = {tag: decode for tag, _, _, decode in _TAGS}
_ENCODERS: Mapping[type, tuple[str, Callable[[Any], str]]] = {
    type_: (tag, encode) for tag, type_, encode, _ in _TAGS
}


def encode(value: Value) -> bool | int | str | None:
    """Turn a key value into JSON; :func:`decode` gives back an equal one of the same type.

    Args:
        value: As the driver returned it.

    Raises:
        TypeError: The driver returned something that no key type has.
    """
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, (memoryview, bytearray)):
        value = bytes(value)
    known = _ENCODERS.get(type(value))
    if known is None:
        known = next(((t, e) for t, cls, e, _ in _TAGS if isinstance(value, cls)), None)
    if known is None:
        raise TypeError(f"A {type(value).__name__} cannot be a key value.")
    tag, encoder = known
    return tag + encoder(value)


def decode(text: bool | int | str | None) -> Value:
    """Turn what :func:`encode` made back into the key value."""
    return _DECODERS[text[0]](text[1:]) if isinstance(text, str) else text
