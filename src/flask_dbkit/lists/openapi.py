"""The parameters of a list as OpenAPI 3.1 parameter objects."""

from __future__ import annotations

from typing import Any

from .converters import BOOLEAN_SCHEMA, Range, declared_range
from .filtering import FilterAllowlist
from .operators import OPERATORS
from .query import Limits
from .sorting import SortAllowlist

__all__ = ["parameters"]


def parameters(
    sort: SortAllowlist,
    filters: FilterAllowlist | None,
    limits: Limits,
    range_of: Range = declared_range,
) -> list[dict[str, Any]]:
    """Return one parameter object per parameter a client may send.

    Args:
        sort: What the list may be sorted by.
        filters: What it may be filtered by.
        limits: How much may be asked for.
        range_of: What an integer column holds on the database of the list.

    References:
        https://spec.openapis.org/oas/v3.1.0#parameter-object
    """
    names = list(sort.entries)
    pattern = "|".join(_escaped(name) for name in names)
    order: dict[str, Any] = {"type": "string"}
    if names:
        # An empty one is the default order.
        order["pattern"] = f"^(-?({pattern})(,-?({pattern})){{0,{sort.max_keys - 1}}})?$"
    if sort.default:
        order["default"] = sort.default
    found = [
        _parameter(
            "sort",
            f"Up to {sort.max_keys} of {', '.join(names)}, with commas between;"
            " a '-' before a name is descending.",
            order,
        ),
        _parameter(
            "direction",
            "The direction when sort is a single name without a sign.",
            {"type": "string", "enum": ["asc", "desc"]},
        ),
        _parameter(
            "page", "The number of the page, not with cursor.", {"type": "integer", "minimum": 1}
        ),
        _parameter(
            "per_page",
            "Rows per page.",
            {
                "type": "integer",
                "minimum": 1,
                "maximum": limits.max_per_page,
                "default": min(limits.per_page, limits.max_per_page),
            },
        ),
        _parameter(
            "cursor", "The place of the page, from a link of another page.", {"type": "string"}
        ),
    ]
    for name, entry in (filters.entries if filters is not None else {}).items():
        assert filters is not None
        for op in entry.ops:
            schema: dict[str, Any] = dict(entry.converter_on(range_of).schema)
            operator = OPERATORS[op]
            if operator.flag:
                schema = dict(BOOLEAN_SCHEMA)
            one = _parameter(filters.parameter(name, op), f"{name}: {operator.words}.", schema)
            if operator.several:
                most = entry.max_values or filters.max_values
                one["schema"] = {
                    "type": "array",
                    "items": schema,
                    "minItems": 1,
                    "maxItems": most,
                }
                one |= {"style": "form", "explode": False}
            found.append(one)
    return found


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
    }


def _escaped(name: str) -> str:
    # JSON Schema's patterns are those of ECMAScript, which refuses escapes it does not know.
    return "".join(f"\\{c}" if c in r"\^$.|?*+()[]{}/" else c for c in name)
