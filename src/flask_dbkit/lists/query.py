"""A query string as a value: order, criteria and place, or every mistake at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from .arguments import Pairs, check_number
from .exceptions import QueryError, mistake
from .filtering import Condition, FilterAllowlist
from .offset import MAX_OFFSET
from .sorting import SortAllowlist, SortTerm

__all__ = ["Limits", "ListQuery", "read_query"]

_NUMBER = re.compile(r"[1-9][0-9]*", re.ASCII)
# The largest OFFSET has 19 digits. int() of thousands would be slow or fail.
_MAX_DIGITS = 19


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


class ListQuery(NamedTuple):
    """What a request asks for.

    Attributes:
        terms: The order, without a tie-breaker.
        conditions: The filters.
        per_page: Rows per page.
        page: The number of the page.
        cursor: The text of the cursor, not yet verified.
    """

    terms: tuple[SortTerm, ...]
    conditions: tuple[Condition, ...]
    per_page: int
    page: int = 1
    cursor: str | None = None


def read_query(
    pairs: Pairs,
    sort: SortAllowlist | None,
    filters: FilterAllowlist | None,
    limits: Limits,
    *,
    kind: Literal["offset", "keyset"],
    page: int | None = None,
    per_page: int | None = None,
    cursor: str | None = None,
    check_cursor: Callable[[str], object] | None = None,
) -> ListQuery:
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

    Raises:
        QueryError: With every mistake of the request.
        ValueError: ``page`` or ``per_page`` is out of range.
    """
    errors: list[dict[str, Any]] = []
    one = _Reader(pairs, errors)
    terms: tuple[SortTerm, ...] = ()
    if sort is not None:
        repeated = len(errors)
        texts = one.read("sort"), one.read("direction")
        if len(errors) > repeated and sort.on_invalid == "default":
            del errors[repeated:]
            texts = None, None
        terms, wrong = sort.read(*texts)
        errors += wrong
    conditions: tuple[Condition, ...] = ()
    if filters is not None:
        conditions, wrong = filters.read(pairs)
        errors += wrong
    size = _per_page(one, limits, per_page)
    given_cursor = one.read("cursor") if cursor is None else cursor
    given_page = one.read("page") if page is None else None
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

    def read(self, name: str) -> str | None:
        values = self._given.get(name)
        if values is None:
            return None
        if len(values) > 1:
            self._errors.append(mistake(name, "repeated_parameter", values[1]))
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
    text = one.read("per_page")
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
