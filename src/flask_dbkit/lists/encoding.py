"""Items as JSON: what is shown of each, decided once per mapped class or form of a row.

Columns with ``info={"dbkit": {"private": True}}`` are left out wherever the value *is* the
column's: as an attribute, a column, a label, a cast, a collation, in a bundle, out of a subquery
or a union. What is computed from one, as ``lower(column)``, is shown.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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

__all__ = ["EncodeAll", "all_as_json", "encoder_of"]

Encode = Callable[[Any], Any]
EncodeAll = Callable[[Sequence[Any]], Sequence[Any]]
"""Turns all items of a page into what JSON has: column by column, which costs half as much."""


def encoder_of(listed: ListedStatement) -> EncodeAll:
    """Return what turns the items of a list into what JSON has.

    Args:
        listed: What is known about the statement.
    """
    descriptions = listed.statement.column_descriptions
    encoders = [_encoder(one["expr"]) for one in descriptions]
    if listed.scalar:
        # What is selected by itself was asked for, private or not.
        return encoders[0] or all_as_json
    shown = [
        (name, place, encode)
        for place, (name, encode) in enumerate(zip(listed.names, encoders, strict=True))
        if encode is not None
    ]
    names = tuple(name for name, _, _ in shown)

    def encode_rows(rows: Sequence[Any]) -> Sequence[Any]:
        columns = [encode([row[place] for row in rows]) for _, place, encode in shown]
        return _records(names, columns) if shown else [{} for _ in rows]

    return encode_rows


def _encoder(expression: Any) -> EncodeAll | None:
    """Return how one element of the rows is encoded; ``None`` if it is not shown."""
    if isinstance(expression, Bundle):
        return _bundle_encoder(expression)
    element = getattr(expression, "__clause_element__", None)
    return None if _shows_private(expression if element is None else element()) else all_as_json


def _bundle_encoder(bundle: Bundle[Any]) -> EncodeAll:
    encoders = [_encoder(one) for one in bundle.exprs]

    def encode(row: Any) -> dict[str, Any]:
        triples = zip(row._fields, row, encoders, strict=True)
        return {name: one([value])[0] for name, value, one in triples if one is not None}

    return lambda rows: [encode(row) for row in rows]


def _records(names: Sequence[str], columns: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Put columns together: one dict a row."""
    return [dict(zip(names, row)) for row in zip(*columns)]  # noqa: B905 - as many; strict costs


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


class _Mapped:
    """What is shown of the objects of one mapped class."""

    def __init__(self, mapper: Mapper[Any]) -> None:
        self._names = names = tuple(
            attribute.key
            for attribute in mapper.column_attrs
            if not attribute.deferred and not any(map(_shows_private, attribute.columns))
        )
        # In one step; but of one name it would return the value, and of none nothing.
        self._values = itemgetter(*names) if len(names) > 1 else None

    def one(self, value: Any) -> dict[str, Any]:
        """Encode one object; what it has not loaded is left out."""
        loaded = value.__dict__
        return {name: as_json(loaded[name]) for name in self._names if name in loaded}

    def several(self, objects: Sequence[Any]) -> list[dict[str, Any]]:
        """Encode objects of the class."""
        if self._values is not None:
            try:
                rows = [self._values(each.__dict__) for each in objects]
            except KeyError:
                pass  # one has not loaded all of it
            else:
                return _records(self._names, map(all_as_json, zip(*rows)))  # noqa: B905
        return [self.one(each) for each in objects]


_of_mapped: WeakKeyDictionary[type, _Mapped] = WeakKeyDictionary()


def all_as_json(values: Sequence[Any]) -> Sequence[Any]:
    """Turn the items of a page, or one column of them, into what JSON has.

    Nothing is loaded: attributes that are not there yet are left out.

    Args:
        values: Anything a page can list.
    """
    kinds = set(map(type, values))
    if kinds <= _AS_IT_IS:
        return values
    if len(kinds) == 1:
        (kind,) = kinds
        if encode := _BY_TYPE.get(kind):
            return list(map(encode, values))
        if mapped := _of_mapped.get(kind):
            return mapped.several(values)
    return [as_json(one) for one in values]


def as_json(value: Any) -> Any:
    """Turn a value, a row or a mapped object into what JSON has, as :func:`all_as_json` does."""
    encode = _BY_TYPE.get(type(value), _unusual)
    return encode(value)


def _unusual(value: Any) -> Any:  # noqa: PLR0911 - one per type
    """Turn a value of a subclass, a container or a mapped class."""
    mapped = _of_mapped.get(type(value))
    if mapped is not None:
        return mapped.one(value)
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
    mapped = _of_mapped[type(value)] = _Mapped(state.mapper)
    return mapped.one(value)


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
