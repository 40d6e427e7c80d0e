"""The settings of health checks, part of the table of settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..exceptions import ConfigError, shorten
from ..settings import Settings, flag, integer, parser_of, seconds, setting, share, size, word

__all__ = ["DEFAULT_ALIASES", "PROBES", "HealthSettings"]

PROBES = ("live", "ready", "startup")
"""The endpoints of the probes."""

DEFAULT_ALIASES = {"/livez": "live", "/readyz": "ready", "/healthz": "ready"}

_PREFIX = "DBKIT_HEALTH_PREFIX"
_ALIASES = "DBKIT_HEALTH_ALIASES"
_BINDS = "DBKIT_HEALTH_BINDS"
_LONGEST_TIMEOUT_S = 60.0
_DAY_S = 86400.0


def _path(value: object) -> str | None:
    """Return a path without its last slash, or ``None`` for what is no path."""
    text = value.strip().rstrip("/") if isinstance(value, str) else ""
    bad = any(mark in text for mark in "?#<> \t\n") or "//" in text
    return text if text.startswith("/") and not bad else None


def _parse_prefix(key: str, value: object) -> str | None:
    if value is None:
        return None
    path = _path(value)
    if path is None:
        raise ConfigError.bad_value(key, value, "a path such as '/health', or None")
    return path


def _parse_aliases(key: str, value: object) -> Mapping[str, str]:
    allowed = "paths such as ('/livez', '/up'), a dict such as {'/up': 'ready'}, or None"
    if value is None:
        return {}
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        pairs = [(path, None) for path in value]
    else:
        raise ConfigError.bad_value(key, value, allowed)
    aliases: dict[str, str] = {}
    for given, said in pairs:
        path = _path(given)
        if path is None:
            raise ConfigError.bad_value(key, given, allowed)
        probe = _usual_probe(path) if said is None else said
        if probe not in PROBES:
            words = ", ".join(map(repr, PROBES))
            raise ConfigError.bad_value(f"{key}[{path!r}]", probe, f"one of: {words}", PROBES)
        aliases[path] = probe
    return aliases


def _usual_probe(path: str) -> str:
    last = path.rpartition("/")[2]
    return next((name for name in ("live", "startup") if last.startswith(name)), "ready")


_TIMEOUT = seconds(
    "DBKIT_HEALTH_TIMEOUT",
    0.8,
    "Seconds a check may take; the answer comes then at the latest.",
    low=0.01,
    high=_LONGEST_TIMEOUT_S,
)
_CRITICAL = flag("critical", True, "")
_BIND_OPTIONS = {
    "critical": parser_of(_CRITICAL),
    "writable": parser_of(_CRITICAL),
    "timeout": parser_of(_TIMEOUT),
}


def _parse_binds(key: str, value: object) -> Mapping[str, Mapping[str, Any]]:
    if value is None or (isinstance(value, str) and value.strip().lower() == "all"):
        return {}
    allowed = 'a dict such as {"audit": {"critical": False}}'
    if not isinstance(value, Mapping):
        raise ConfigError.bad_value(key, value, allowed)
    binds: dict[str, Mapping[str, Any]] = {}
    for bind, options in value.items():
        name = "default" if bind is None else str(bind)
        if not isinstance(options, Mapping):
            raise ConfigError.bad_value(f"{key}[{name!r}]", options, allowed)
        for option in options:
            if option not in _BIND_OPTIONS:
                words = ", ".join(map(repr, _BIND_OPTIONS))
                nearest = difflib.get_close_matches(str(option), _BIND_OPTIONS, n=1)
                hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
                raise ConfigError(
                    f"{key}[{name!r}] has the option {shorten(option)}. Use {words}.{hint}",
                    key=key,
                    given=option,
                    allowed=words,
                    nearest=nearest[0] if nearest else None,
                )
        binds[name] = {
            option: _BIND_OPTIONS[option](f"{key}[{name!r}][{option!r}]", given)
            for option, given in options.items()
        }
    return binds


@dataclass(frozen=True)
class HealthSettings(Settings):
    """Where probes are answered, and what counts as healthy."""

    health_prefix: str | None = setting(
        _PREFIX,
        "a path, or None",
        "/health",
        "Where the health endpoints are; None registers none.",
        _parse_prefix,
    )
    health_aliases: Mapping[str, str] = setting(
        _ALIASES,
        "paths, a dict of path and probe, or None",
        DEFAULT_ALIASES,
        "Further paths of the probes: live* and startup* are those, every other one is ready.",
        _parse_aliases,
    )
    health_timeout: float = _TIMEOUT
    health_ttl: float = seconds(
        "DBKIT_HEALTH_TTL",
        1.0,
        "Seconds an answer of a check is given again without asking anew.",
        low=0,
        high=3600,
    )
    health_readiness_db: str = word(
        "DBKIT_HEALTH_READINESS_DB",
        "fail",
        "What a database that cannot be used means for readiness: no traffic, or a warning.",
        ("fail", "warn"),
    )
    health_binds: Mapping[str, Mapping[str, Any]] = setting(
        _BINDS,
        "a dict of options per bind: critical, writable, timeout",
        {},
        "Per bind: whether its failure is the application's, whether it has to take writes, and"
        " its deadline in seconds. Every bind is checked.",
        _parse_binds,
    )
    health_fail_after: int = integer(
        "DBKIT_HEALTH_FAIL_AFTER",
        1,
        "So many failures in a row until a check that passed counts as failing.",
        low=1,
        high=1000,
    )
    health_pass_after: int = integer(
        "DBKIT_HEALTH_PASS_AFTER",
        1,
        "So many good answers in a row until a check that failed counts as passing.",
        low=1,
        high=1000,
    )
    health_details: str = word(
        "DBKIT_HEALTH_DETAILS",
        "never",
        "Who sees more than the status: nobody, whom dbkit.health.authorize() lets, or everybody.",
        ("never", "authorized", "always"),
    )
    health_pool_warn: float | None = share(
        "DBKIT_HEALTH_POOL_WARN",
        0.9,
        "Warn when this part of the connections a pool may open is in use; None never does.",
    )
    health_disk_warn: float | None = share(
        "DBKIT_HEALTH_DISK_WARN",
        0.1,
        "Warn when less than this part of the disk of a SQLite file is free; None never does.",
    )
    health_disk_fail: int | None = size(
        "DBKIT_HEALTH_DISK_FAIL",
        64_000_000,
        "Fail when fewer bytes than this are free on the disk of a SQLite file; None never does.",
    )
    health_wal_warn: int | None = size(
        "DBKIT_HEALTH_WAL_WARN",
        256_000_000,
        "Warn when the write-ahead log of a SQLite file is larger than this; None never does.",
    )
    health_replica_lag_warn: float | None = seconds(
        "DBKIT_HEALTH_REPLICA_LAG_WARN",
        10.0,
        "Warn when a bind that takes no writes is so many seconds behind; None never does.",
        low=0,
        high=31_536_000,
        nullable=True,
    )
    health_drain_on_sigterm: bool = flag(
        "DBKIT_HEALTH_DRAIN_ON_SIGTERM",
        False,
        "Let readiness fail as soon as the process gets SIGTERM.",
    )
    health_sqlite_quick_check: float | None = seconds(
        "DBKIT_HEALTH_SQLITE_QUICK_CHECK",
        _DAY_S,
        "Seconds between two thorough looks at a SQLite file in the background; 0 or None is"
        " never, as for files above 1 GB.",
        low=0,
        high=31_536_000,
        nullable=True,
    )
