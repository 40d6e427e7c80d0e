"""The settings of SQLite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...settings import MAX_MS, Settings, flag, integer, setting, word
from .pragmas import PragmaValue, parse_pragmas

__all__ = ["SQLiteSettings"]


@dataclass(frozen=True)
class SQLiteSettings(Settings):
    """How connections to SQLite are set up."""

    sqlite_pragmas: Mapping[str, PragmaValue | None] = setting(
        "DBKIT_SQLITE_PRAGMAS",
        'a dict such as {"synchronous": "FULL"}',
        {},
        "Pragmas for every SQLite connection, merged over the defaults; None removes one.",
        lambda _key, value: parse_pragmas(value),
    )
    sqlite_begin: str = word(
        "DBKIT_SQLITE_BEGIN",
        "immediate",
        "How a transaction that says it will write begins on SQLite.",
        ("immediate", "deferred"),
    )
    sqlite_begin_by_method: bool = flag(
        "DBKIT_SQLITE_BEGIN_BY_METHOD",
        False,
        "On SQLite, begin every transaction of a POST, PUT, PATCH or DELETE request for writing.",
    )
    sqlite_busy_timeout_ms: int = integer(
        "DBKIT_SQLITE_BUSY_TIMEOUT_MS",
        5000,
        "Milliseconds a SQLite connection waits for a lock before it raises the busy error.",
        low=0,
        high=MAX_MS,
    )
    sqlite_writer_gate: bool = flag(
        "DBKIT_SQLITE_WRITER_GATE",
        True,
        "Let the writers of a SQLite file take fair turns in front of its one write lock.",
    )
