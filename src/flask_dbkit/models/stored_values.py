"""Whether two values of a column would be stored alike.

Python calls ``1``, ``1.0`` and ``True`` equal, a JSON document does not; a column type of the
application's own may store as text what compares as a number, and may load what it never stored.
So values are compared as the database is given them, and only where that is certain: a change
that is not noticed is lost, an UPDATE too many changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    PickleType,
    Time,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import NULLTYPE, TypeEngine

from ..databases import database_of
from .types import UTCDateTime

__all__ = ["StoredValues"]

Form = Callable[[Any], Hashable]
"""Makes of a value what is equal for values that are stored alike, and for no others."""


class _Uncertain(Exception):
    """What is stored for a value is known only once it is stored."""


@dataclass(frozen=True)
class StoredValues:
    """The values of one column, as its database is given them.

    Attributes:
        read_as: The type to read the column with, for a value to compare with.
    """

    read_as: TypeEngine[Any]
    _bind: Callable[[Any], Any]
    _form: Form

    @classmethod
    def of(cls, type_: TypeEngine[Any], dialect: Dialect) -> StoredValues:
        """Look at the type of a column on one database."""
        kind, convert = _without_decorators(type_, dialect)
        if _is_standard(kind):
            return cls(kind, convert, _form_of(kind, dialect))
        if _overrides(kind, "bind_expression", TypeEngine):
            return cls(NULLTYPE, _refuse, _strict)
        processor = kind.bind_processor(dialect)

        def bind(value: Any) -> Any:
            converted = convert(value)
            return converted if processor is None else processor(converted)

        return cls(NULLTYPE, bind, _strict)

    def alike(self, stored: Any, new: Any) -> bool:
        """Tell whether it is certain that writing a value would change nothing.

        Args:
            stored: What the column holds, read as :attr:`read_as`.
            new: A value of the attribute.
        """
        try:
            return bool(self._form(stored) == self._form(self._bind(new)))
        except Exception:
            # If there is something wrong with the value, the UPDATE says so.
            return False

    def key(self, value: Any) -> Hashable:
        """Return what is equal for values that are stored alike, and for no others.

        A value of which that is not certain is equal to itself only, while it exists.
        """
        try:
            form = self._form(self._bind(value))
            hash(form)
        except Exception:
            return (object, id(value))
        return form


def _without_decorators(
    type_: TypeEngine[Any], dialect: Dialect
) -> tuple[TypeEngine[Any], Callable[[Any], Any]]:
    """Return the type below those that only convert values, and how they convert one."""
    kind = type_.dialect_impl(dialect)
    converters: list[Callable[[Any, Dialect], Any]] = []
    while isinstance(kind, TypeDecorator) and not (
        _is_standard(kind)
        or _overrides(kind, "bind_processor", TypeDecorator)
        # What UTCDateTime writes around a value names its type, and changes nothing.
        or (_overrides(kind, "bind_expression", TypeDecorator) and type(kind) is not UTCDateTime)
    ):
        if _overrides(kind, "process_bind_param", TypeDecorator):
            converters.append(kind.process_bind_param)
        kind = kind.impl_instance.dialect_impl(dialect)

    def convert(value: Any) -> Any:
        for converter in converters:
            value = converter(value, dialect)
        return value

    return kind, convert


def _overrides(type_: TypeEngine[Any], method: str, base: type[Any]) -> bool:
    return getattr(type(type_), method) is not getattr(base, method)


def _refuse(value: Any) -> Any:
    raise _Uncertain  # the database makes of it what it likes


def _is_standard(kind: TypeEngine[Any]) -> bool:
    """Tell whether SQLAlchemy's own type, without code of the application, returns what it took."""
    if isinstance(kind, ARRAY):
        return _is_standard(kind.item_type)
    return type(kind).__module__.startswith("sqlalchemy.") and not isinstance(kind, PickleType)


def _form_of(kind: TypeEngine[Any], dialect: Dialect) -> Form:
    """Return how the values of one of SQLAlchemy's types compare."""
    if isinstance(kind, ARRAY):
        return _array_of(_form_of(kind.item_type.dialect_impl(dialect), dialect))
    # SQLAlchemy 2.0 adapts a Float to a Numeric of this name for the drivers of PostgreSQL.
    if isinstance(kind, Float) or kind.__visit_name__ == "float":
        return _float
    if isinstance(kind, Numeric):
        keeps_scale = database_of(dialect).numbers_keep_scale and kind.scale is None
        return _with_scale if keeps_scale else _itself
    if isinstance(kind, JSON):
        return _json_binary if kind.__visit_name__ == "JSONB" else _json
    return next((form for kinds, form in _FORMS if isinstance(kind, kinds)), _strict)


def _itself(value: Any) -> Hashable:
    return value  # type: ignore[no-any-return]


def _bytes(value: Any) -> Hashable:
    return None if value is None else bytes(value)


def _float(value: Any) -> Hashable:
    return None if value is None else repr(float(value))  # tells 0.0 from -0.0


_FORMS: tuple[tuple[tuple[type, ...], Form], ...] = (
    ((Integer, Boolean, Date, DateTime, Time, Interval, Uuid), _itself),
    ((LargeBinary,), _bytes),
)


def _with_scale(value: Any) -> Hashable:
    if isinstance(value, float):
        raise _Uncertain  # the database converts it
    return None if value is None else str(Decimal(value))


def _array_of(item: Form) -> Form:
    def form(value: Any) -> Hashable:
        return tuple(map(form, value)) if isinstance(value, (list, tuple)) else item(value)

    return form


def _json(value: Any) -> Hashable:
    if value is None:
        raise _Uncertain  # NULL and the document null are both read as None
    return _strict(value)


def _json_binary(value: Any) -> Hashable:
    """As :func:`_json`, for ``jsonb``, which keeps no order of keys."""
    if isinstance(value, dict):
        return frozenset((name, _json_item(item)) for name, item in value.items())
    return _json(value)


def _json_item(value: Any) -> Hashable:
    if isinstance(value, (list, tuple)):
        return tuple(map(_json_item, value))
    return _json_binary(value) if isinstance(value, dict) else _strict(value)


def _strict(value: Any) -> Hashable:
    """Return a form that tells ``1`` from ``True``, and ``1.0`` from ``1.00``."""
    value = _unwrapped(value)
    kind: type[Any] = type(value)
    form: Hashable = value
    match value:
        case dict():
            kind, form = dict, tuple((_strict(key), _strict(item)) for key, item in value.items())
        case list() | tuple():
            kind, form = list, tuple(map(_strict, value))
        case set() | frozenset():
            kind, form = set, frozenset(map(_strict, value))
        case bytes() | bytearray() | memoryview():
            kind, form = bytes, bytes(value)
        case float() | Decimal():
            form = str(value)
        case datetime() | time():
            form = value.isoformat()
    return kind, form


def _unwrapped(value: Any) -> Any:
    """Return what an object holds that a driver of PostgreSQL makes for JSON or for bytes.

    https://www.psycopg.org/psycopg3/docs/api/types.html and
    https://www.psycopg.org/docs/module.html#psycopg2.Binary
    """
    if type(value).__module__.partition(".")[0] in {"psycopg", "psycopg2"}:
        for attribute in ("obj", "adapted"):
            if hasattr(value, attribute):
                return getattr(value, attribute)
    return value
