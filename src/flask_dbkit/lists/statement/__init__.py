"""What a statement lists, and what is unique in each of its rows."""

from __future__ import annotations

from .listed import (
    ListedStatement,
    Settled,
    criteria_for,
    read_statement,
    settle,
    without_locks,
)
from .sources import check_source, name_of

__all__ = [
    "ListedStatement",
    "Settled",
    "check_source",
    "criteria_for",
    "name_of",
    "read_statement",
    "settle",
    "without_locks",
]
