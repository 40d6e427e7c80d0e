"""Text from a query string → a value of a column's type, before any SQL.

Every converter is strict: ASCII digits, ISO 8601, no signs or spaces that were not meant. What a
database or driver would refuse is refused here, so that a client's mistake is a 400 and not a
failed statement.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import types as sqltypes
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..models.types import UTCDateTime
from .exceptions import PlanError

__all__ = ["BOOLEAN_SCHEMA", "BadValue", "Converter", "Range", "converter_for", "declared_range"]

_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,100}(?:\.[0-9]{0,100})?|\.[0-9]{1,100})", re.ASCII)
_FLOAT = re.compile(_NUMBER.pattern + r"(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_DATE = re.compile(_DAY, re.ASCII)
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_CLOCK = re.compile(_TIME, re.ASCII)
_POINT = re.compile(rf"{_DATE.pattern}[T ]{_TIME}(Z|[-+][0-9]{{2}}:[0-9]{{2}})?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}", re.ASCII)
# SQLite refuses longer patterns of LIKE, and every character may have to be escaped.
# https://www.sqlite.org/limits.html#max_like_pattern_length
_MAX_TEXT = 1_000
# MySQL and MariaDB keep at most 65 digits. https://mariadb.com/kb/en/decimal/
_MAX_DIGITS = 65
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - as SQLAlchemy's Interval counts

_BITS: Mapping[type, int] = {sqltypes.SmallInteger: 16, sqltypes.BigInteger: 64}


BOOLEAN_SCHEMA: Mapping[str, Any] = {"type": "boolean"}
"""In a query string: ``true`` and ``false``, and what forms send for them, ``1`` and ``0``."""


class BadValue(ValueError):
    """A text that is no value of the type.

    Attributes:
        allowed: What is, for the client: words, or a list of them.
    """

    def __init__(self, allowed: str | list[str]) -> None:
        self.allowed = allowed
        super().__init__(str(allowed))


class Converter:
    """How text becomes a value of one type.

    Attributes:
        convert: Text → value. Raises :exc:`BadValue`.
        schema: The JSON Schema of the text, for OpenAPI.
        is_text: The operators on text make sense.
    """

    def __init__(
        self, convert: Callable[[str], Any], schema: Mapping[str, Any], *, is_text: bool = False
    ) -> None:
        self.convert, self.schema, self.is_text = convert, dict(schema), is_text


Range = Callable[[TypeEngine[Any]], "tuple[int, int]"]
"""Tells the least and the greatest number that an integer column holds."""


def declared_range(type_: TypeEngine[Any]) -> tuple[int, int]:
    """Return what an integer column holds by its declaration, on a database we do not know."""
    bits = next((bits for cls, bits in _BITS.items() if isinstance(type_, cls)), 32)
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def converter_for(type_: Any, range_of: Range = declared_range) -> Converter:
    """Choose the converter for a column type, a Python type or a function.

    Args:
        type_: A SQLAlchemy type, one of the Python types columns have, an ``Enum`` class, or any
            function of a text that raises ``ValueError``.
        range_of: What an integer column holds on the database it is for.

    Raises:
        PlanError: There is none.
    """
    if isinstance(type_, type) and issubclass(type_, TypeEngine):
        type_ = type_()
    if isinstance(type_, TypeEngine):
        return _for_column_type(type_, range_of)
    if isinstance(type_, type) and issubclass(type_, Enum):
        return _enum({member.name: member for member in type_})
    if isinstance(type_, type) and type_ in _BY_PYTHON_TYPE:
        return _BY_PYTHON_TYPE[type_]()
    if callable(type_):
        return Converter(_guarded(type_), {"type": "string"}, is_text=True)
    raise PlanError(f"{type_!r} is no type. Use a Python type such as int, or a SQLAlchemy type.")


def _for_column_type(  # noqa: C901, PLR0911, PLR0912 - one per type
    type_: TypeEngine[Any], range_of: Range
) -> Converter:
    if isinstance(type_, UTCDateTime):
        return _datetime(aware=True)
    if isinstance(type_, sqltypes.Interval):  # a decorator of a point in time
        return _timedelta()
    if isinstance(type_, TypeDecorator):
        return _for_column_type(type_.impl_instance, range_of)
    if isinstance(type_, sqltypes.Enum):
        if type_.enum_class is not None:
            members = type_.enum_class.__members__
            return _enum(
                {n: m for n, m in members.items() if n in type_.enums or m in members.values()}
            )
        return _enum({name: name for name in type_.enums})
    if isinstance(type_, sqltypes.Integer):
        return _integer(*range_of(type_))
    if isinstance(type_, sqltypes.Boolean):
        return _boolean()
    if isinstance(type_, sqltypes.Float) or (
        isinstance(type_, sqltypes.Numeric) and not type_.asdecimal
    ):
        return _float()
    if isinstance(type_, sqltypes.Numeric):
        return _decimal()
    if isinstance(type_, sqltypes.DateTime):
        return _datetime(aware=bool(type_.timezone))
    for cls, make in _BY_COLUMN_TYPE:
        if isinstance(type_, cls):
            return make()
    if isinstance(type_, sqltypes.Uuid):
        return _uuid(as_uuid=bool(type_.as_uuid))
    raise PlanError(f"Text cannot be turned into {type_!r}. Give the Filter a type=.")


def text_of(text: str) -> str:
    """Return a text that every database takes.

    Raises:
        BadValue: It has a NUL or a lone surrogate, or is too long.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadValue("text") from None
    if "\0" in text or len(text) > _MAX_TEXT:
        raise BadValue(f"text of at most {_MAX_TEXT} characters, without NUL")
    return text


def boolean_of(text: str) -> bool:
    """Return ``true`` or ``false`` as a bool.

    Raises:
        BadValue: It is something else.
    """
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text]
    except KeyError:
        raise BadValue(["true", "false"]) from None


def _text() -> Converter:
    return Converter(text_of, {"type": "string", "maxLength": _MAX_TEXT}, is_text=True)


def _boolean() -> Converter:
    return Converter(boolean_of, BOOLEAN_SCHEMA)


def _integer(low: int = -(2**63), high: int = 2**63 - 1) -> Converter:
    allowed = f"a whole number from {low} to {high}"

    def convert(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
            raise BadValue(allowed)
        return int(text)

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Converter(convert, schema)


def _decimal() -> Converter:
    def convert(text: str) -> Decimal:
        if not _NUMBER.fullmatch(text) or sum(map(str.isdigit, text)) > _MAX_DIGITS:
            raise BadValue(f"a decimal number of at most {_MAX_DIGITS} digits")
        return Decimal(text)

    return Converter(
        convert, {"type": "string", "format": "decimal", "pattern": f"^{_NUMBER.pattern}$"}
    )


def _float() -> Converter:
    def convert(text: str) -> float:
        value = float(text) if _FLOAT.fullmatch(text) else math.inf
        if not math.isfinite(value):
            raise BadValue("a finite number")
        return value

    return Converter(convert, {"type": "number"})


def _date() -> Converter:
    def convert(text: str) -> date:
        try:
            if _DATE.fullmatch(text):
                return date.fromisoformat(text)
        except ValueError:
            pass
        raise BadValue("a date such as 2026-01-31")

    return Converter(convert, {"type": "string", "format": "date"})


def _datetime(*, aware: bool) -> Converter:
    allowed = "a date, or a time such as 2026-01-31T12:00:00" + ("Z" if aware else "")

    def convert(text: str) -> datetime:
        try:
            if _DATE.fullmatch(text):
                midnight = datetime.fromisoformat(text)
                return midnight.replace(tzinfo=UTC) if aware else midnight
            match = _POINT.fullmatch(text)
            if match and (match[1] is not None) is aware:
                value = datetime.fromisoformat(text)
                return value.astimezone(UTC) if aware else value
        except (ValueError, OverflowError):
            pass
        raise BadValue(allowed)

    date_alone = {"type": "string", "format": "date"}
    # What format: date-time means has an offset. https://www.rfc-editor.org/rfc/rfc3339#section-5.6
    with_time = (
        {"type": "string", "pattern": f"^{_DAY}[T ]{_TIME}(Z|[-+][0-9]{{2}}:[0-9]{{2}})$"}
        if aware
        else {"type": "string", "pattern": f"^{_DAY}[T ]{_TIME}$"}
    )
    return Converter(convert, {"anyOf": [date_alone, with_time]})


def _time() -> Converter:
    def convert(text: str) -> time:
        try:
            if _CLOCK.fullmatch(text):
                return time.fromisoformat(text)
        except ValueError:
            pass
        raise BadValue("a time of day such as 12:30:00")

    return Converter(convert, {"type": "string", "pattern": f"^{_TIME}$"})


def _timedelta() -> Converter:
    def convert(text: str) -> timedelta:
        try:
            if _FLOAT.fullmatch(text):
                value = timedelta(seconds=float(text))
                # Kept as a point in time after 1970 where there are no intervals.
                return _EPOCH + value - _EPOCH
        except OverflowError:
            pass
        raise BadValue("a number of seconds")

    return Converter(convert, {"type": "number"})


def _uuid(*, as_uuid: bool = True) -> Converter:
    def convert(text: str) -> UUID | str:
        if not _UUID.fullmatch(text):
            raise BadValue("a UUID")
        value = UUID(text)
        return value if as_uuid else str(value)

    return Converter(convert, {"type": "string", "format": "uuid"})


def _bytes() -> Converter:
    def convert(text: str) -> bytes:
        try:
            return base64.b64decode(text_of(text).encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise BadValue("base64") from None

    return Converter(convert, {"type": "string", "contentEncoding": "base64"})


def _enum(members: Mapping[str, Any]) -> Converter:
    names = list(members)

    def convert(text: str) -> Any:
        if text not in members:
            raise BadValue(names)
        return members[text]

    return Converter(convert, {"type": "string", "enum": names})


def _guarded(function: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return function(text_of(text))
        except BadValue:
            raise
        except (ValueError, ArithmeticError):
            raise BadValue("another value") from None

    return convert


_BY_PYTHON_TYPE: Mapping[type, Callable[[], Converter]] = {
    int: _integer,
    str: _text,
    bool: _boolean,
    float: _float,
    Decimal: _decimal,
    date: _date,
    datetime: lambda: _datetime(aware=True),
    time: _time,
    timedelta: _timedelta,
    UUID: _uuid,
    bytes: _bytes,
}
_BY_COLUMN_TYPE: tuple[tuple[Any, Callable[[], Converter]], ...] = (
    (sqltypes.Date, _date),
    (sqltypes.Time, _time),
    (sqltypes.LargeBinary, _bytes),
    (sqltypes.VARBINARY, _bytes),
    (sqltypes.BINARY, _bytes),
    (sqltypes.String, _text),
)
