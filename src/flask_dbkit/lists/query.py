"""A query string as a value: order, criteria and place, or every mistake at once."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar
from uuid import UUID

from .exceptions import QueryError, mistake

__all__ = [
    "MAX_OFFSET",
    "RESERVED",
    "Limits",
    "ListQuery",
    "NoText",
    "Pairs",
    "check_number",
    "pairs_of",
    "read_query",
]

Pairs = tuple[tuple[str, str], ...]

RESERVED = ("sort", "direction", "page", "per_page", "cursor")
"""The parameters every list has; no filter may be called so."""

MAX_OFFSET = 2**63 - 1
"""The largest number every database takes as OFFSET."""

_NUMBER = re.compile(r"[1-9][0-9]*", re.ASCII)
# The largest OFFSET has 19 digits. int() of thousands would be slow or fail.
_MAX_DIGITS = 19

TermT = TypeVar("TermT")
TermT_co = TypeVar("TermT_co", covariant=True)
ConditionT = TypeVar("ConditionT")
ConditionT_co = TypeVar("ConditionT_co", covariant=True)


class NoText(str):
    """What was given for a parameter and has no text: ``None``, an empty list, a dict.

    A parameter that nobody claims may have it. One that is claimed is refused: to leave it out
    would list more than was asked for.
    """

    __slots__ = ()


def pairs_of(arguments: object) -> Pairs:
    """Return every parameter with its value, repeated ones too, in order.

    Args:
        arguments: A ``MultiDict``, a mapping to values or to several of them, or pairs already.
            Values may be text or what text is converted to: numbers, truth values, dates.

    Raises:
        QueryError: It is none of these, as the body of a request may be.
    """
    # Asking for what it has costs a third of asking whether it is a Mapping.
    several_each: Any = getattr(arguments, "lists", None) or getattr(arguments, "items", None)
    if several_each is not None:
        items: Iterable[Any] = several_each()
    elif isinstance(arguments, Iterable) and not isinstance(arguments, (str, bytes)):
        items = arguments
    else:
        raise _no_mapping(arguments)
    found: list[tuple[str, str]] = []
    for item in items:
        if not isinstance(item, tuple) or len(item) != 2:
            raise _no_mapping(arguments)
        name, value = item
        name = name if isinstance(name, str) else str(name)
        if isinstance(value, str):
            found.append((name, value))
        elif isinstance(value, (list, tuple, AbstractSet)):
            several = [(name, one if type(one) is str else _text_of(one)) for one in value]
            found += several or [(name, NoText("[]"))]
        elif value is not None or name not in RESERVED:
            found.append((name, _text_of(value)))
    return tuple(found)


def _no_mapping(given: object) -> QueryError:
    allowed = "an object with a name and a value for each parameter"
    return QueryError(
        [mistake("args", "bad_value", None if given is None else repr(given), allowed)]
    )


def _text_of(value: object) -> str:  # noqa: PLR0911 - one per type
    """Return a value as a client would write it."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return format(Decimal(value // timedelta(microseconds=1)).scaleb(-6), "f")
    if isinstance(value, (int, float, UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return NoText(repr(value))


def check_number(name: str, value: object, low: int = 1) -> None:
    """Refuse what is no whole number.

    Args:
        name: What it is called in the message.
        value: What was given.
        low: The least it may be.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} is {value!r}. Use a whole number from {low}.")


class Limits(NamedTuple):
    """What a client may ask for.

    Attributes:
        per_page: Rows per page without the parameter.
        max_per_page: Most rows per page.
        oversize: ``"clamp"`` what is above it, or make it an ``"error"``.
        max_offset: Most rows to skip, or ``None`` for what the database takes.
    """

    per_page: int = 20
    max_per_page: int = 100
    oversize: Literal["clamp", "error"] = "clamp"
    max_offset: int | None = None


class ListQuery(NamedTuple, Generic[TermT, ConditionT]):
    """What a request asks for.

    Attributes:
        terms: The order, without a tie-breaker.
        conditions: The filters.
        per_page: Rows per page.
        page: The number of the page.
        cursor: The text of the cursor, not yet verified.
    """

    terms: tuple[TermT, ...]
    conditions: tuple[ConditionT, ...]
    per_page: int
    page: int = 1
    cursor: str | None = None


class _Orders(Protocol[TermT_co]):
    """What reads an order: a ``SortAllowlist``."""

    @property
    def on_invalid(self) -> str: ...

    def read(
        self, text: str | None, direction: str | None = None
    ) -> tuple[tuple[TermT_co, ...], list[dict[str, Any]]]: ...


class _Criteria(Protocol[ConditionT_co]):
    """What reads filters: a ``FilterAllowlist``."""

    def read(
        self, pairs: Pairs, range_of: Any = ...
    ) -> tuple[tuple[ConditionT_co, ...], list[dict[str, Any]]]: ...


def read_query(
    pairs: Pairs,
    sort: _Orders[TermT] | None,
    filters: _Criteria[ConditionT] | None,
    limits: Limits,
    *,
    kind: Literal["offset", "keyset"],
    page: int | None = None,
    per_page: int | None = None,
    cursor: str | None = None,
    check_cursor: Callable[[str], object] | None = None,
    range_of: Callable[[Any], tuple[int, int]] | None = None,
) -> ListQuery[TermT, ConditionT]:
    """Read a query string.

    Args:
        pairs: Every parameter with its value.
        sort: What it may be sorted by.
        filters: What it may be filtered by.
        limits: How much may be asked for.
        kind: Whether pages go by number or by cursor.
        page: In place of the parameter.
        per_page: In place of the parameter.
        cursor: In place of the parameter.
        check_cursor: Raises for a cursor that cannot be ours, whatever the other parameters.
        range_of: What an integer column holds on the database of the list, if that is known.

    Raises:
        QueryError: With every mistake of the request.
        ValueError: ``page`` or ``per_page`` is out of range.
    """
    errors: list[dict[str, Any]] = []
    one = _Reader(pairs, errors)
    terms: tuple[TermT, ...] = ()
    if sort is not None:
        repeated = len(errors)
        texts = one.read("sort", "bad_sort_syntax"), one.read("direction", "bad_sort_syntax")
        if len(errors) > repeated and sort.on_invalid == "default":
            del errors[repeated:]
            texts = None, None
        terms, wrong = sort.read(*texts)
        errors += wrong
    conditions: tuple[ConditionT, ...] = ()
    if filters is not None:
        if range_of is None:
            conditions, wrong = filters.read(pairs)
        else:
            conditions, wrong = filters.read(pairs, range_of)
        errors += wrong
    size = _per_page(one, limits, per_page)
    given_cursor = one.read("cursor", "cursor_malformed") if cursor is None else cursor
    given_page = one.read("page", "bad_page") if page is None else None
    number = 1
    if given_cursor is not None and given_page is not None and cursor is None:
        errors.append(mistake("cursor", "page_and_cursor", given_cursor, "cursor, or page"))
    if kind == "offset":
        number = _page(given_page, page, size, limits, errors)
    elif errors and given_cursor is not None and check_cursor is not None:
        # Read later; but now, so that it is in this answer, too, if it is not even ours.
        try:
            check_cursor(given_cursor)
        except QueryError as error:
            errors += error.errors
    if errors:
        raise QueryError(errors)
    return ListQuery(terms, conditions, size, number, given_cursor if kind == "keyset" else None)


class _Reader:
    def __init__(self, pairs: Pairs, errors: list[dict[str, Any]]) -> None:
        self._errors = errors
        self._given: dict[str, list[str]] = {}
        for name, value in pairs:
            self._given.setdefault(name, []).append(value)

    def read(self, name: str, code: str) -> str | None:
        values = self._given.get(name)
        if values is None:
            return None
        if len(values) > 1:
            self._errors.append(mistake(name, "repeated_parameter", values[1]))
            return None
        if isinstance(values[0], NoText):
            self._errors.append(mistake(name, code, values[0], "one text"))
            return None
        return values[0]

    def wrong(self, name: str, code: str, value: str, allowed: object) -> None:
        self._errors.append(mistake(name, code, value, allowed))


def _per_page(one: _Reader, limits: Limits, given: int | None) -> int:
    most = limits.max_per_page
    if given is not None:
        check_number("per_page", given)
        if given > most and limits.oversize == "error":
            raise ValueError(f"per_page is {given}. Use at most max_per_page, {most}.")
        return min(given, most)
    text = one.read("per_page", "bad_per_page")
    if text is None:
        return min(limits.per_page, most)
    allowed = f"a whole number from 1 to {most}"
    if not _NUMBER.fullmatch(text):
        one.wrong("per_page", "bad_per_page", text, allowed)
        return min(limits.per_page, most)
    if len(text) > _MAX_DIGITS or int(text) > most:
        if limits.oversize == "error":
            one.wrong("per_page", "bad_per_page", text, allowed)
        return most
    return int(text)


def _page(
    text: str | None,
    given: int | None,
    per_page: int,
    limits: Limits,
    errors: list[dict[str, Any]],
) -> int:
    deepest = MAX_OFFSET if limits.max_offset is None else limits.max_offset
    if given is not None:
        check_number("page", given)
        if (given - 1) * per_page > deepest:
            raise ValueError(f"page is {given}, more than {deepest} rows into the list.")
        return given
    if text is None:
        return 1
    if not _NUMBER.fullmatch(text) or len(text) > _MAX_DIGITS:
        errors.append(mistake("page", "bad_page", text, "a whole number from 1"))
    elif (int(text) - 1) * per_page > deepest:
        allowed = f"a page up to {deepest // per_page + 1}; to go further, page by cursor"
        errors.append(mistake("page", "page_too_deep", text, allowed))
    else:
        return int(text)
    return 1
