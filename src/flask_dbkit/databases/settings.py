"""The settings of connections to servers."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import MAX_MS, Settings, integer, seconds, word

__all__ = ["ServerSettings"]


@dataclass(frozen=True)
class ServerSettings(Settings):
    """How connections to servers are set up."""

    statement_timeout_ms: int | None = integer(
        "DBKIT_STATEMENT_TIMEOUT_MS",
        None,
        "Milliseconds one statement may run on PostgreSQL, MySQL and MariaDB; 0 is no limit.",
        low=0,
        high=MAX_MS,
    )
    lock_timeout_ms: int | None = integer(
        "DBKIT_LOCK_TIMEOUT_MS",
        None,
        "Milliseconds a statement may wait for a lock on a server (MySQL and MariaDB: rounded up"
        " to seconds).",
        low=0,
        high=MAX_MS,
    )
    idle_in_transaction_timeout_ms: int | None = integer(
        "DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS",
        None,
        "Milliseconds a transaction may sit idle before PostgreSQL or MariaDB ends the session.",
        low=0,
        high=MAX_MS,
    )
    pool_ping_after_s: float | None = seconds(
        "DBKIT_POOL_PING_AFTER_S",
        0.5,
        "Seconds a pooled connection to a server was idle before it is pinged when it is taken out;"
        " 0 is always, None is never. pool_pre_ping in the engine's own options wins.",
        low=0,
        high=86_400,
        nullable=True,
    )
    pooler: str | None = word(
        "DBKIT_POOLER",
        None,
        "The pooler in front of PostgreSQL, in transaction mode: no prepared statements, and"
        " settings per transaction.",
        ("pgbouncer",),
    )
