"""Which binds are replicas of which: what ``DBKIT_REPLICAS`` says, and what it may not say.

A replica holds another bind's data. It is no database of its own: nothing creates, migrates or
drops its tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy.engine import URL

from ..databases import database_of
from ..exceptions import ConfigError

__all__ = [
    "check_replica_databases",
    "check_replica_names",
    "parse_replicas",
    "primary_of",
    "replica_names",
]

KEY = "DBKIT_REPLICAS"
ALLOWED = "a dict of bind names to lists of the names of their replicas in SQLALCHEMY_BINDS"
_DEFAULT = "default"

Replicas = Mapping[str, tuple[str, ...]]


def parse_replicas(key: str, value: object) -> Replicas:
    """Read the setting.

    Raises:
        ConfigError: It is no such dict; a bind is its own replica, one of two binds, or has
            replicas itself.
    """
    if not isinstance(value, Mapping):
        raise ConfigError.bad_value(key, value, ALLOWED)
    parsed: dict[str, tuple[str, ...]] = {}
    for primary, names in value.items():
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ConfigError.bad_value(f"{key}[{primary!r}]", names, "a list of names of binds")
        parsed[_name(primary)] = tuple(_name(name) for name in names)
    seen: set[str] = set()
    for primary, names in parsed.items():
        for name in names:
            wrong = (
                f"{name!r} is its own replica"
                if name == primary
                else f"{name!r} has replicas itself"
                if name in parsed
                else f"{name!r} is named twice"
                if name in seen
                else None
            )
            if wrong is not None:
                raise ConfigError(
                    f"{key}: {wrong}. A bind is the replica of one other bind.", key=key
                )
            seen.add(name)
    return parsed


def _name(value: object) -> str:
    return _DEFAULT if value is None else str(value)


def check_replica_names(replicas: Replicas, keys: Iterable[str | None]) -> None:
    """Refuse a setting for a bind that is not there.

    Raises:
        ConfigError: With the binds there are.
    """
    known = [_name(key) for key in keys]
    for name in [*replicas, *replica_names(replicas)]:
        if name not in known:
            raise ConfigError.bad_value(KEY, name, "the names of binds", tuple(known))


def check_replica_databases(replicas: Replicas, urls: Mapping[str, URL]) -> None:
    """Refuse what cannot be a replica.

    Args:
        replicas: As they were read.
        urls: Of the binds, by their names.

    Raises:
        ConfigError: It is another kind of database than its primary, or one without a server.
    """
    for primary, names in replicas.items():
        database = database_of(urls[primary])
        for name in names:
            other = database_of(urls[name])
            if database.is_embedded or other.is_embedded:
                raise ConfigError(
                    f"{KEY}: a file has no replica that a server keeps, and {name!r} is none of"
                    f" {primary!r}. Leave it out.",
                    key=KEY,
                )
            if other is not database:
                raise ConfigError(
                    f"{KEY}: {name!r} is {other.name}, and {primary!r} is {database.name}. A"
                    " replica is of the same kind as its primary.",
                    key=KEY,
                )


def replica_names(replicas: Replicas) -> frozenset[str]:
    """Return the names of all replicas."""
    return frozenset(name for names in replicas.values() for name in names)


def primary_of(replicas: Replicas, name: str) -> str | None:
    """Return the bind that another one is a replica of, if it is one."""
    return next((primary for primary, names in replicas.items() if name in names), None)
