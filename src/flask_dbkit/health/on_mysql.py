"""Asking MariaDB and MySQL what they are, and whether a node of a Galera cluster may serve.

A node that has lost its quorum, or was told to refuse queries, goes on accepting connections and
answers every SELECT with error 1047. ``SHOW STATUS`` is answered in every state, so it is asked
first; a server that is in no cluster has no such rows, or no cluster to tell of.

References:
    https://mariadb.com/kb/en/galera-cluster-status-variables/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .asking import Answer, first_row, number_of

__all__ = ["ask", "galera_codes"]

_GALERA = (
    "SHOW STATUS WHERE Variable_name IN"
    " ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state', 'wsrep_cluster_size')"
)
_NOT_SERVING = 1047  # ER_UNKNOWN_COM_ERROR: "WSREP has not yet prepared node for application use"
_DONOR = "2"
_OFF = ("0", "OFF")


def ask(connection: Any, *, writable: bool) -> Answer:
    """Ask whether it serves, whether it takes writes, and how far a replica is behind.

    Args:
        connection: The driver's.
        writable: Whether it has to take writes.
    """
    failure, warning = galera_codes(_rows(connection, _GALERA))
    if failure is not None:
        return Answer(failure=failure)
    try:
        (value,) = first_row(connection, "SELECT @@global.read_only")
    except Exception as error:
        if number_of(error) != _NOT_SERVING:
            raise
        return Answer(failure="db.refused")  # wsrep_reject_queries
    read_only = str(value).upper() not in _OFF
    lag_s = None if writable else _lag_s(connection)
    primary = None if lag_s is None else False
    return Answer(read_only=read_only, is_primary=primary, lag_s=lag_s, warning=warning)


def galera_codes(status: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the failure and the warning that the state of a node means.

    Args:
        status: The server's status variables; those of Galera are missing, or the size of the
            cluster is 0, where there is none.
    """
    if status.get("wsrep_cluster_size", "0") == "0" and "wsrep_ready" not in status:
        return None, None
    part_of_one = status.get("wsrep_cluster_status", "").lower()
    if part_of_one in ("", "disconnected") and status.get("wsrep_cluster_size", "0") == "0":
        return None, None  # built with Galera, started without it
    if part_of_one != "primary" or status.get("wsrep_ready", "ON").upper() in _OFF:
        return "db.no_quorum", None
    return None, "db.desynced" if status.get("wsrep_local_state") == _DONOR else None


def _rows(connection: Any, statement: str) -> dict[str, str]:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        return {str(name).lower(): str(value) for name, value in cursor.fetchall()}
    finally:
        cursor.close()


def _lag_s(connection: Any) -> float | None:
    """Return how far a replica is behind; ``None`` for none, or without the privilege to ask."""
    cursor = connection.cursor()
    try:
        cursor.execute("SHOW REPLICA STATUS")
        row = cursor.fetchone()
        names = [column[0] for column in cursor.description or ()]
        found = dict(zip(names, row or (), strict=False))
    except Exception as error:
        if number_of(error) not in (1064, 1227):  # an old server, or not allowed
            raise
        return None
    finally:
        cursor.close()
    behind = found.get("Seconds_Behind_Source", found.get("Seconds_Behind_Master"))
    return None if behind is None else float(behind)
