"""The table of SQLite pragmas an application may set, and the values we set by default.

Only pragmas that configure a *connection* (or, like ``journal_mode``, are safe to repeat on
each one) are listed. Pragmas that ask a question, or that run a task, are not settings.

References:
    https://www.sqlite.org/pragma.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...exceptions import ConfigError, closest

__all__ = ["DEFAULT_PRAGMAS", "PRAGMAS", "Pragma", "PragmaValue", "parse_pragmas"]

PragmaValue = str | int
"""A value as it is written after ``PRAGMA name =``."""

_SWITCH = ("on", "off", "true", "false", "yes", "no", "1", "0")
_MAX_INT64 = 2**63 - 1


@dataclass(frozen=True)
class Pragma:
    """One pragma: its name and what may stand behind the equals sign.

    Attributes:
        name: Lower-case name.
        words: Allowed words, lower case; empty when it takes a number only.
        number: Whether a whole number is allowed.
    """

    name: str
    words: tuple[str, ...] = ()
    number: bool = False

    @property
    def allowed(self) -> str:
        """Say what the pragma takes, as the end of "Use …"."""
        parts = []
        if self.words:
            parts.append("one of: " + ", ".join(sorted(self.words)))
        if self.number:
            parts.append("a whole number")
        return ", or ".join([*parts, "None to leave it alone"])

    def _takes(self, number: int) -> bool:
        return str(number) in self.words or (self.number and abs(number) <= _MAX_INT64)

    def parse(self, value: object) -> PragmaValue:
        """Return ``value`` as it is sent to SQLite.

        Raises:
            ConfigError: The value is not one this pragma takes. Nothing but a listed word
                or a whole number ever reaches the statement, so a value cannot carry SQL.
        """
        if isinstance(value, bool) and "on" in self.words:
            return "ON" if value else "OFF"
        if isinstance(value, str):
            word = value.strip().lower()
            if word in self.words:
                return word.upper()
            if self.number and word.removeprefix("-").isascii() and _is_integer(word):
                value = int(word)
        if isinstance(value, int) and not isinstance(value, bool) and self._takes(value):
            return value
        key = f'DBKIT_SQLITE_PRAGMAS["{self.name}"]'
        raise ConfigError.bad_value(key, value, self.allowed, self.words)


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdigit()


_JOURNAL_MODES = ("delete", "truncate", "persist", "memory", "wal", "off")

PRAGMAS: Mapping[str, Pragma] = {
    pragma.name: pragma
    for pragma in (
        Pragma("analysis_limit", number=True),
        Pragma("auto_vacuum", ("none", "full", "incremental", "0", "1", "2")),
        Pragma("automatic_index", _SWITCH),
        Pragma("busy_timeout", number=True),
        Pragma("cache_size", number=True),
        Pragma("cache_spill", _SWITCH, number=True),
        Pragma("case_sensitive_like", _SWITCH),
        Pragma("cell_size_check", _SWITCH),
        Pragma("checkpoint_fullfsync", _SWITCH),
        Pragma("defer_foreign_keys", _SWITCH),
        Pragma("encoding", ("utf8", "utf-8", "utf-16", "utf-16le", "utf-16be")),
        Pragma("foreign_keys", _SWITCH),
        Pragma("fullfsync", _SWITCH),
        Pragma("hard_heap_limit", number=True),
        Pragma("ignore_check_constraints", _SWITCH),
        Pragma("journal_mode", _JOURNAL_MODES),
        Pragma("journal_size_limit", number=True),
        Pragma("legacy_alter_table", _SWITCH),
        Pragma("locking_mode", ("normal", "exclusive")),
        Pragma("max_page_count", number=True),
        Pragma("mmap_size", number=True),
        Pragma("page_size", number=True),
        Pragma("query_only", _SWITCH),
        Pragma("read_uncommitted", _SWITCH),
        Pragma("recursive_triggers", _SWITCH),
        Pragma("reverse_unordered_selects", _SWITCH),
        Pragma("secure_delete", (*_SWITCH, "fast")),
        Pragma("soft_heap_limit", number=True),
        Pragma("synchronous", ("off", "normal", "full", "extra", "0", "1", "2", "3")),
        Pragma("temp_store", ("default", "file", "memory", "0", "1", "2")),
        Pragma("threads", number=True),
        Pragma("trusted_schema", _SWITCH),
        Pragma("wal_autocheckpoint", number=True),
    )
}
"""Every pragma ``DBKIT_SQLITE_PRAGMAS`` may name."""

DEFAULT_PRAGMAS: Mapping[str, PragmaValue] = {
    # Off unless asked for on every connection, for compatibility with databases of 2009.
    # https://www.sqlite.org/foreignkeys.html#fk_enable
    "foreign_keys": "ON",
    # Readers and the writer do not block each other. https://www.sqlite.org/wal.html
    "journal_mode": "WAL",
    # Safe against corruption in WAL mode; a power cut may undo the last commits.
    # https://www.sqlite.org/pragma.html#pragma_synchronous
    "synchronous": "NORMAL",
    # A reader that stays long lets the -wal file grow, and SQLite keeps its size for ever: 156 MB
    # in benchmarks/sqlite_pragmas.py, and 67 MB with this limit, at the same speed.
    # https://www.sqlite.org/pragma.html#pragma_journal_size_limit
    "journal_size_limit": 67_108_864,
    # 16 MiB of pages per connection instead of 2 MiB; only pages that are read are held.
    # Transactions of 2,000 updates run a quarter faster. 64 MiB gain nothing more, and reads
    # gain nothing at all while the operating system holds the file.
    "cache_size": -16_384,
    # Not here, by the same benchmark: mmap_size makes reads 10 to 25 % faster and halves them
    # beside a writer, whose every commit unmaps the file; temp_store=MEMORY gains nothing.
}
"""What every connection gets unless the application says otherwise.

``busy_timeout`` comes from ``DBKIT_SQLITE_BUSY_TIMEOUT_MS``.
"""


def parse_pragmas(value: object) -> Mapping[str, PragmaValue | None]:
    """Check the value of ``DBKIT_SQLITE_PRAGMAS``.

    Args:
        value: A mapping of pragma name to value; ``None`` as a value removes a default.

    Returns:
        The same mapping with lower-case names and values as SQLite takes them.

    Raises:
        ConfigError: It is no mapping, a name is unknown, or a value does not fit its name.
    """
    if not isinstance(value, Mapping):
        raise ConfigError.bad_value(
            "DBKIT_SQLITE_PRAGMAS", value, 'a dict such as {"synchronous": "FULL"}'
        )
    parsed: dict[str, PragmaValue | None] = {}
    for name, given in value.items():
        lowered = name.lower() if isinstance(name, str) else None
        pragma = PRAGMAS.get(lowered) if lowered is not None else None
        if pragma is None:
            nearest = closest(name, PRAGMAS)
            hint = f" Did you mean {nearest!r}?" if nearest is not None else ""
            allowed = "one of: " + ", ".join(PRAGMAS)
            raise ConfigError(
                f"DBKIT_SQLITE_PRAGMAS names {name!r} (set to {given!r}), which is no pragma"
                f" that configures a connection.{hint} Use {allowed}.",
                key="DBKIT_SQLITE_PRAGMAS",
                given=name,
                allowed=allowed,
                nearest=nearest,
            )
        parsed[pragma.name] = None if given is None else pragma.parse(given)
    return parsed
