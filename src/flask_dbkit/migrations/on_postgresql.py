"""Revisions on PostgreSQL: a session's advisory lock, and limits in milliseconds.

References:
    * https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    * https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
"""

from __future__ import annotations

import hashlib
import math
import re

from sqlalchemy import Connection

from .server import Limits, NamedLock, Server, Waiting

__all__ = ["PostgreSQLServer"]

_KEY = int.from_bytes(hashlib.sha256(b"flask_dbkit.migrations").digest()[:8]) >> 1
_CONCURRENTLY = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)


class PostgreSQLServer(Server):
    """A server whose revisions are rolled back, so that one can be tried again."""

    def lock(self, database: str | None) -> NamedLock:
        """Return an advisory lock, of which each database has its own."""
        return NamedLock(
            f"SELECT pg_try_advisory_lock({_KEY})", f"SELECT pg_advisory_unlock({_KEY})"
        )

    def lift_timeouts(self, connection: Connection, statement_timeout_s: float) -> list[str]:
        """Take off what ends a statement, and what ends a session that is idle."""
        return [
            f"SET statement_timeout = {math.ceil(statement_timeout_s * 1000)}",
            "SET idle_in_transaction_session_timeout = 0",
        ]

    def wait_for_locks(self, seconds: float) -> str:
        """Set ``lock_timeout``; 0 is for ever."""
        return f"SET lock_timeout = {math.ceil(seconds * 1000)}"

    def seconds_for_table(self, waiting: Waiting, limits: Limits) -> float:
        """Let nobody wait behind it for long."""
        # This one makes nobody wait, and would leave an invalid index behind: 0 is for ever.
        # https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
        return 0 if _CONCURRENTLY.search(waiting.statement) else limits.queue_s

    def invalid_indexes(self) -> str:
        """Ask for what a CREATE INDEX CONCURRENTLY has left that failed.

        https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
        """
        return (
            "SELECT i.indexrelid::regclass::text FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE NOT i.indisvalid AND c.relkind = 'i' ORDER BY 1"
        )
