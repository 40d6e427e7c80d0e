"""The settings of lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..exceptions import ConfigError
from ..settings import MAX_MS, Settings, integer, setting

__all__ = ["ListSettings"]


def _parse_count(key: str, value: object) -> str | int:
    allowed = "one of: 'exact', 'none', a whole number from 0"
    word = str(value).strip().lower()
    if word in ("exact", "none"):
        return word
    if not isinstance(value, bool) and isinstance(value, (int, str)) and word.isdecimal():
        return int(word)
    raise ConfigError.bad_value(key, value, allowed, ("exact", "none"))


@dataclass(frozen=True)
class ListSettings(Settings):
    """Page sizes, counts and cursors."""

    default_page_size: int = integer(
        "DBKIT_DEFAULT_PAGE_SIZE",
        20,
        "Rows per page when neither the request nor the listing says how many.",
        low=1,
        high=MAX_MS,
    )
    max_page_size: int = integer(
        "DBKIT_MAX_PAGE_SIZE",
        100,
        "Most rows per page a client may ask for.",
        low=1,
        high=MAX_MS,
    )
    page_count: Literal["exact", "none"] | int = setting(
        "DBKIT_PAGE_COUNT",
        "one of: 'exact', 'none', a whole number from 0",
        "exact",
        "How offset pages count their rows: all of them, not at all, or at most so many.",
        _parse_count,
    )
    cursor_max_age_s: int | None = integer(
        "DBKIT_CURSOR_MAX_AGE_S",
        None,
        "Seconds after which a cursor is refused.",
        low=1,
        high=MAX_MS,
    )
