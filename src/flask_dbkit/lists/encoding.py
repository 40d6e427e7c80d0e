"""Items as JSON: what is shown of each, decided once per mapped class or form of a row.

Columns with ``info={"dbkit": {"private": True}}`` are left out wherever the value *is* the
column's: as an attribute, a column, a label, a cast, a collation, in a bundle, out of a subquery
or a union. What is computed from one, as ``lower(column)``, is shown.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from operator import itemgetter
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Row, inspect
from sqlalchemy.orm import Bundle, InstanceState, Mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, Cast, Grouping, Label, TypeCoerce
from sqlalchemy.sql.selectable import ScalarSelect

from .statement import ListedStatement

__all__ = ["as_json", "encoder_of"]

Encode = Callable[[Any], Any]

_of_mapped: WeakKeyDictionary[type, Encode] = WeakKeyDictionary()


def encoder_of(listed: ListedStatement) -> Encode:
    """Return what turns an item of a list into what JSON has.

    Args:
        listed: What is known about the statement.
    """
    descriptions = listed.statement.column_descriptions
    encoders = [_encoder(one["expr"]) for one in descriptions]
    if listed.scalar:
        # What is selected by itself was asked for, private or not.
        return encoders[0] or as_json
    shown = [
        (name, place, encode)
        for place, (name, encode) in enumerate(zip(listed.names, encoders, strict=True))
        if encode is not None
    ]
    return lambda row: {name: encode(row[place]) for name, place, encode in shown}


def _encoder(expression: Any) -> Encode | None:
    """Return how one element of a row is encoded; ``None`` if it is not shown."""
    if isinstance(expression, Bundle):
        return _bundle_encoder(expression)
    element = getattr(expression, "__clause_element__", None)
    return None if _shows_private(expression if element is None else element()) else as_json


def _bundle_encoder(bundle: Bundle[Any]) -> Encode:
    encoders = [_encoder(one) for one in bundle.exprs]

    def encode(row: Any) -> dict[str, Any]:
        triples = zip(row._fields, row, encoders, strict=True)
        return {name: one(value) for name, value, one in triples if one is not None}

    return encode


def _shows_private(column: Any) -> bool:
    """Tell whether the value of an expression is that of a private column."""
    while True:
        if isinstance(column, (Label, Grouping)):
            column = column.element
        elif isinstance(column, (Cast, TypeCoerce)):
            column = column.clause
        elif isinstance(column, BinaryExpression) and column.operator is operators.collate:
            column = column.left
        elif isinstance(column, ScalarSelect):
            (column,) = column.element.selected_columns
        else:
            break
    bases = getattr(column, "base_columns", ())
    return _is_private(column) or any(_shows_private(base) for base in bases if base is not column)


def _is_private(column: Any) -> bool:
    about = getattr(column, "info", {}).get("dbkit")
    return isinstance(about, Mapping) and bool(about.get("private"))


def _mapped_encoder(mapper: Mapper[Any]) -> Encode:
    names = tuple(
        attribute.key
        for attribute in mapper.column_attrs
        if not attribute.deferred and not any(map(_shows_private, attribute.columns))
    )
    # In one step; but of one name it would return the value, and of none nothing.
    values_of = itemgetter(*names) if len(names) > 1 else lambda has: [has[name] for name in names]

    def encode(value: Any) -> dict[str, Any]:
        loaded = value.__dict__
        try:
            values = values_of(loaded)
        except KeyError:
            return {name: as_json(loaded[name]) for name in names if name in loaded}
        # Most values are text and numbers, and those are what they are.
        return {
            name: one if type(one) in _AS_IT_IS else as_json(one)
            for name, one in zip(names, values)  # noqa: B905 - as many, and strict costs
        }

    return encode


def as_json(value: Any) -> Any:
    """Turn a value, a row or a mapped object into what JSON has.

    Nothing is loaded: attributes that are not there yet are left out.

    Args:
        value: Anything a page can list.
    """
    kind = type(value)
    known = _BY_TYPE.get(kind) or _of_mapped.get(kind)
    return _unusual(value) if known is None else known(value)


def _unusual(value: Any) -> Any:  # noqa: PLR0911 - one per type
    """Turn a value of a subclass, a container or a class that was not seen before."""
    if isinstance(value, Row):
        return {key: as_json(one) for key, one in zip(value._fields, value, strict=True)}
    if isinstance(value, Enum):
        return value.name
    for type_, encode in _BY_TYPE.items():
        if isinstance(value, type_):
            return encode(value)
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(one) for one in value]
    state = inspect(value, raiseerr=False)
    if not isinstance(state, InstanceState):
        return value
    encode = _of_mapped[type(value)] = _mapped_encoder(state.mapper)
    return encode(value)


def _itself(value: Any) -> Any:
    return value


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _bytes(value: Iterable[int]) -> str:
    return base64.b64encode(bytes(value)).decode()


_AS_IT_IS = frozenset({str, bool, int, type(None)})
_BY_TYPE: dict[type, Encode] = {
    type(None): _itself,
    str: _itself,
    bool: _itself,
    int: _itself,
    float: _number,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    Decimal: str,
    UUID: str,
    timedelta: timedelta.total_seconds,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
}
