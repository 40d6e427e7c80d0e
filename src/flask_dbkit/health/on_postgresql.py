"""Asking PostgreSQL what it is: a primary or a standby, writable, and how far behind."""

from __future__ import annotations

from typing import Any

from .asking import Answer, first_row

__all__ = ["ask"]

# One row: is it a standby, does it refuse writes, and how far is it behind? A standby that has
# replayed all it has received is not behind, however long ago the last transaction was.
# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
_STATEMENT = """SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
CASE WHEN NOT pg_is_in_recovery() THEN NULL
WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
ELSE extract(epoch FROM clock_timestamp()
- coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time())) END"""


def ask(connection: Any, *, writable: bool) -> Answer:
    """Ask one question.

    Args:
        connection: The driver's.
        writable: Whether it has to take writes.
    """
    standby, read_only, lag_s = first_row(connection, _STATEMENT)
    return Answer(
        read_only=bool(standby or read_only),
        is_primary=not standby,
        lag_s=None if lag_s is None else float(lag_s),
    )
