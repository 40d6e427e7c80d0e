"""Key values, exactly as the database compares them.

A keyset is compared inside the database, so it has to hold what is stored there and not what
Python makes of it: a ``Decimal`` that SQLite keeps as a double, a 32-bit float that a driver
rounds to six digits, an ``ENUM`` that MariaDB sorts by number. So a key is read and sent back
without the column type's conversions.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from .exceptions import PlanError

__all__ = [
    "RAW",
    "Value",
    "carried_by",
    "decode",
    "encode",
    "implementation",
    "is_float",
    "is_interval",
    "is_read_as_sent",
    "refuse_type",
    "type_name",
]

Value = object
"""One key value: a Python scalar as the driver returns it, or ``None``."""

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


_NUMBERS = (int, float, Decimal)
_BYTES = (bytes, bytearray, memoryview)
_ANY = (bool, *_NUMBERS, str, date, time, timedelta, UUID, *_BYTES)
_CARRIED: tuple[tuple[Any, tuple[type, ...], tuple[type, ...]], ...] = (
    (sqltypes.Boolean, (bool, int), (bool, *_NUMBERS)),
    ((sqltypes.Integer, sqltypes.Numeric, sqltypes.Float), (int, Decimal), _NUMBERS),
    (sqltypes.Enum, (str, *_NUMBERS), (str, *_NUMBERS)),
    (sqltypes.Interval, (timedelta, datetime, str), (timedelta, datetime, str)),
    ((sqltypes.DateTime, sqltypes.Date), (date,), (date, str)),
    (sqltypes.Time, (time, timedelta), (time, timedelta, str)),
    (sqltypes.Uuid, (UUID, str), (UUID, str)),
    ((sqltypes.LargeBinary, sqltypes.VARBINARY, sqltypes.BINARY), _BYTES, _BYTES),
    (sqltypes.String, (str,), (bool, str, *_NUMBERS)),
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


def refuse_type(type_: TypeEngine[Any], dialect: Dialect) -> None:
    """Refuse a type that has no order which a cursor could carry.

    Args:
        type_: The type of a key.
        dialect: The database it goes to.

    Raises:
        PlanError: It has none.
    """
    found = implementation(type_, dialect)
    # Some types of other databases derive from none of ours, as MariaDB's UUID on SQLAlchemy 2.1
    # does; the declared type tells then.
    unknown = found._isnull  # noqa: SLF001 - the type of what has no type
    if not (unknown or isinstance(found, _KNOWN) or isinstance(type_, _KNOWN)):
        raise PlanError(f"The type {type_!r} cannot be a key of an order.")


def carried_by(type_: TypeEngine[Any], dialect: Dialect, *, declared: bool) -> tuple[type, ...]:
    """Return the Python types that the values of a key can have.

    Args:
        type_: The type of the key.
        dialect: The database.
        declared: The key is a column of a server's table: what it was declared as is what it is.
            Elsewhere the database decides: a sum of whole numbers may be a ``Decimal``, and on
            SQLite all but numbers and bytes is text.
    """
    found = implementation(type_, dialect)
    for known, exactly, otherwise in _CARRIED:
        if isinstance(found, known) or isinstance(type_, known):
            return exactly if declared and not is_float(type_, dialect) else otherwise
    return _ANY


def is_read_as_sent(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Tell whether an attribute of this type has what the driver returned: a whole number.

    Args:
        type_: The type of the key.
        dialect: The database.
    """
    whole = isinstance(implementation(type_, dialect), sqltypes.Integer)
    return whole and type_.dialect_impl(dialect).result_processor(dialect, None) is None


def type_name(type_: TypeEngine[Any], dialect: Dialect) -> str:
    """Name a key's type, so that a cursor from before a migration is not taken for one after."""
    return type(implementation(type_, dialect)).__name__


def is_float(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Tell whether a type is declared as a float.

    Args:
        type_: The type.
        dialect: The database.
    """
    found, declared = implementation(type_, dialect), type_
    # What SQLAlchemy 2.0 makes of a float on PostgreSQL does not derive from Float.
    while isinstance(declared, TypeDecorator):
        declared = declared.impl_instance
    return isinstance(found, sqltypes.Float) or isinstance(declared, sqltypes.Float)


def is_interval(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Tell whether a type is declared as a span of time.

    Args:
        type_: The type.
        dialect: The database.
    """
    return isinstance(type_, sqltypes.Interval) or isinstance(
        implementation(type_, dialect), sqltypes.Interval
    )


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
    """Turn what :func:`encode` made back into the key value.

    Raises:
        ValueError: It made nothing of the kind, or a value that no database takes.
    """
    value: Any = _decoded(text)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError("no database has such a number")
    return value


def _decoded(text: object) -> Value:
    if text is None or type(text) in (bool, int):
        return text
    if not isinstance(text, str):
        raise ValueError(f"A {type(text).__name__} is no key value.")  # noqa: TRY004 - a broken text
    return _DECODERS[text[0]](text[1:])
