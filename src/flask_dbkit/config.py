"""The table of ``DBKIT_*`` settings, and the frozen value they become.

:data:`SETTINGS` is the one place a setting is written down: its type, its default and its
meaning. The reference page is generated from it. :meth:`Config.from_mapping` reads a Flask
configuration (or any mapping) once and refuses what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .backups.settings import BACKUP_SETTINGS, DEFAULT_KEEP
from .errors.settings import ERROR_SETTINGS
from .exceptions import ConfigError, shorten
from .health.settings import DEFAULT_ALIASES, HEALTH_SETTINGS
from .pragmas import PRAGMAS, PragmaValue, parse_pragmas
from .settings import MAX_MS, Setting, flag, integer, path, text, word

__all__ = ["SETTINGS", "Config"]


def _parse_count(key: str, value: object) -> str | int:
    allowed = "one of: 'exact', 'none', a whole number from 0"
    word = str(value).strip().lower()
    if word in ("exact", "none"):
        return word
    if not isinstance(value, bool) and isinstance(value, (int, str)) and word.isdecimal():
        return int(word)
    raise ConfigError.bad_value(key, value, allowed, ("exact", "none"))


SETTINGS: tuple[Setting, ...] = (
    flag(
        "DBKIT_REQUIRE_DATABASE_URL",
        False,
        "Refuse to start on the development SQLite file when no database URL is given.",
    ),
    Setting(
        "DBKIT_SQLITE_PRAGMAS",
        'a dict such as {"synchronous": "FULL"}',
        {},
        "Pragmas for every SQLite connection, merged over the defaults; None removes one.",
        lambda _key, value: parse_pragmas(value),
    ),
    word(
        "DBKIT_SQLITE_BEGIN",
        "immediate",
        "How a transaction that says it will write begins on SQLite.",
        ("immediate", "deferred"),
    ),
    flag(
        "DBKIT_SQLITE_BEGIN_BY_METHOD",
        False,
        "On SQLite, begin every transaction of a POST, PUT, PATCH or DELETE request for writing.",
    ),
    integer(
        "DBKIT_SQLITE_BUSY_TIMEOUT_MS",
        5000,
        "Milliseconds a SQLite connection waits for a lock before it raises the busy error.",
        low=0,
        high=MAX_MS,
    ),
    flag(
        "DBKIT_SQLITE_WRITER_GATE",
        True,
        "Let the writers of a SQLite file take fair turns in front of its one write lock.",
    ),
    integer(
        "DBKIT_STATEMENT_TIMEOUT_MS",
        None,
        "Milliseconds one statement may run on PostgreSQL, MySQL and MariaDB; 0 is no limit.",
        low=0,
        high=MAX_MS,
    ),
    integer(
        "DBKIT_LOCK_TIMEOUT_MS",
        None,
        "Milliseconds a statement may wait for a lock on a server (MySQL and MariaDB: rounded up"
        " to seconds).",
        low=0,
        high=MAX_MS,
    ),
    integer(
        "DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS",
        None,
        "Milliseconds a transaction may sit idle before PostgreSQL or MariaDB ends the session.",
        low=0,
        high=MAX_MS,
    ),
    flag(
        "DBKIT_TX_PER_REQUEST",
        False,
        "Run every view in a transaction scope.",
    ),
    integer(
        "DBKIT_TX_ROLLBACK_STATUS",
        400,
        "In per-request mode, roll back when the view returns this status or a higher one; None"
        " never does.",
        low=100,
        high=599,
        nullable=True,
    ),
    word(
        "DBKIT_TX_STRAY_WORK",
        "raise",
        "What a scope does with uncommitted work from before it.",
        ("raise", "adopt"),
    ),
    integer(
        "DBKIT_DEFAULT_PAGE_SIZE",
        20,
        "Rows per page when neither the request nor the listing says how many.",
        low=1,
        high=MAX_MS,
    ),
    integer(
        "DBKIT_MAX_PAGE_SIZE",
        100,
        "Most rows per page a client may ask for.",
        low=1,
        high=MAX_MS,
    ),
    Setting(
        "DBKIT_PAGE_COUNT",
        "one of: 'exact', 'none', a whole number from 0",
        "exact",
        "How offset pages count their rows: all of them, not at all, or at most so many.",
        _parse_count,
    ),
    integer(
        "DBKIT_CURSOR_MAX_AGE_S",
        None,
        "Seconds after which a cursor is refused.",
        low=1,
        high=MAX_MS,
    ),
    path(
        "DBKIT_MIGRATIONS_DIR",
        "migrations",
        "The folder of the revisions, unless Flask-Migrate's Migrate(directory=...) names one.",
    ),
    word(
        "DBKIT_POOLER",
        None,
        "The pooler in front of PostgreSQL, in transaction mode: no prepared statements, and"
        " settings per transaction.",
        ("pgbouncer",),
    ),
    text(
        "DBKIT_DIRECT_URL",
        None,
        "a database URL",
        "The default database past its pooler: migrations connect there.",
    ),
    *ERROR_SETTINGS,
    *HEALTH_SETTINGS,
    *BACKUP_SETTINGS,
)
"""Every setting, in the order of the reference page."""


@dataclass(frozen=True)
class Config:
    """The settings of one application: one attribute per entry of :data:`SETTINGS`.

    Building one touches no database.

    .. versionadded:: 0.1
    """

    require_database_url: bool = False
    sqlite_pragmas: Mapping[str, PragmaValue | None] = field(default_factory=dict)
    sqlite_begin: str = "immediate"
    sqlite_begin_by_method: bool = False
    sqlite_busy_timeout_ms: int = 5000
    sqlite_writer_gate: bool = True
    statement_timeout_ms: int | None = None
    lock_timeout_ms: int | None = None
    idle_in_transaction_timeout_ms: int | None = None
    tx_per_request: bool = False
    tx_rollback_status: int | None = 400
    tx_stray_work: str = "raise"
    default_page_size: int = 20
    max_page_size: int = 100
    page_count: Literal["exact", "none"] | int = "exact"
    cursor_max_age_s: int | None = None
    migrations_dir: str = "migrations"
    pooler: str | None = None
    direct_url: str | None = None
    errors: bool = True
    error_status: Mapping[str, int] = field(default_factory=dict)
    error_validation_status: int = 409
    error_fields: bool = True
    error_retry_after: int = 2
    error_debug: bool = False
    error_redact_logs: bool = True
    problem_base: str | None = None
    health_prefix: str | None = "/health"
    health_aliases: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_ALIASES))
    health_timeout: float = 0.8
    health_ttl: float = 1.0
    health_readiness_db: str = "fail"
    health_binds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    health_fail_after: int = 1
    health_pass_after: int = 1
    health_details: str = "never"
    health_pool_warn: float | None = 0.9
    health_disk_warn: float | None = 0.1
    health_disk_fail: int | None = 64_000_000
    health_wal_warn: int | None = 256_000_000
    health_replica_lag_warn: float | None = 10.0
    health_drain_on_sigterm: bool = False
    health_sqlite_quick_check: float | None = 86400.0
    backup_dir: str = "backups"
    backup_keep: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_KEEP))
    backup_compression: str = "gzip"
    backup_filter: tuple[str, ...] | None = None
    backup_unfilter: tuple[str, ...] | None = None
    backup_scratch_url: str | None = None
    backup_max_age_s: int | None = None
    given: frozenset[str] = frozenset()
    """The keys the application set itself, so that a default never overrules its options."""

    @classmethod
    def from_mapping(cls, mapping: Mapping[Any, Any]) -> Config:
        """Read every ``DBKIT_*`` key of a Flask configuration.

        Args:
            mapping: ``app.config``, or any mapping. Keys without the prefix are not looked at.

        Returns:
            A value that no later change of ``mapping`` touches.

        Raises:
            ConfigError: A ``DBKIT_*`` key is unknown, or its value is not allowed.
        """
        by_key = {setting.key: setting for setting in SETTINGS}
        parsed: dict[str, Any] = {}
        found = [key for key in mapping if isinstance(key, str) and key.startswith("DBKIT_")]
        for key in found:
            setting = by_key.get(key)
            if setting is None:
                raise _unknown(key, mapping[key], by_key)
            parsed[setting.attribute] = setting.parse(key, mapping[key])
        return cls(**parsed, given=frozenset(found))


def _unknown(key: str, given: object, known: Mapping[str, Setting]) -> ConfigError:
    pragma = key.removeprefix("DBKIT_SQLITE_").lower()
    if key.startswith("DBKIT_SQLITE_") and pragma in PRAGMAS:
        place = f'DBKIT_SQLITE_PRAGMAS["{pragma}"]'
        return ConfigError(
            f"{key} (set to {shorten(given)}) is no setting of Flask-DBKit. Use {place}.",
            key=key,
            given=given,
            allowed=place,
            nearest=place,
        )
    return ConfigError.unknown_key(key, given, known)
