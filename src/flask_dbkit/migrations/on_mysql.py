"""Revisions on MySQL and MariaDB: ``GET_LOCK``, and limits in whole seconds.

References:
    * https://mariadb.com/kb/en/get_lock/
    * https://mariadb.com/kb/en/metadata-locking/
"""

from __future__ import annotations

import hashlib
import math

from sqlalchemy import Connection

from .server import Limits, NamedLock, Server, Waiting

__all__ = ["MySQLServer"]


class MySQLServer(Server):
    """A server on which every change of a table stays, whatever follows."""

    def lock(self, database: str | None) -> NamedLock:
        """Return a lock whose name holds the database's: names are the server's."""
        # They may have 64 characters.
        name = hashlib.sha256(str(database).encode()).hexdigest()[:40]
        return NamedLock(
            f"SELECT GET_LOCK('dbkit_migrate_{name}', 0)",
            f"SELECT RELEASE_LOCK('dbkit_migrate_{name}')",
        )

    def lift_timeouts(self, connection: Connection, statement_timeout_s: float) -> list[str]:
        """Take off what ends a statement, by the name that the server has for it."""
        if getattr(connection.dialect, "is_mariadb", False):
            return [f"SET SESSION max_statement_time = {statement_timeout_s}"]
        return [f"SET SESSION max_execution_time = {math.ceil(statement_timeout_s * 1000)}"]

    def wait_for_locks(self, seconds: float) -> str:
        """Set the wait for a table and for a row; a row is waited for at least a second."""
        whole = math.ceil(seconds)
        return (
            f"SET SESSION lock_wait_timeout = {whole},"
            f" SESSION innodb_lock_wait_timeout = {max(1, whole)}"
        )

    def seconds_for_table(self, waiting: Waiting, limits: Limits) -> float:
        """Wait as long as it takes where the revision cannot be tried again."""
        if waiting.has_applied:
            return limits.wait_s
        # It counts whole seconds, which are too long for readers. Not waiting at all may find the
        # table in use each time, so that is no longer tried when half of the time is over.
        # https://mariadb.com/kb/en/server-system-variables/#lock_wait_timeout
        return limits.queue_s if waiting.waited_s > limits.wait_s / 2 else 0
