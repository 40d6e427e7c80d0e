"""Every code a check of the library can answer with, and what it means."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CODES", "Code"]


@dataclass(frozen=True)
class Code:
    """One machine-readable reason.

    Attributes:
        check: The name of the check that gives it, ``<bind>`` standing for a bind key.
        status: ``fail`` or ``warn``, before a check that is not critical is counted as a warning.
        meaning: What was found.
        remedy: Where to look first.
    """

    check: str
    status: str
    meaning: str
    remedy: str


CODES: dict[str, Code] = {
    "db.timeout": Code(
        "db:<bind>",
        "fail",
        "The database did not answer before the deadline.",
        "Is the server frozen or overloaded, or the network cut?",
    ),
    "db.refused": Code(
        "db:<bind>",
        "fail",
        "There is no connection: nobody listens, the server is starting, stopping or full, or it"
        " does not let us in and does not say why.",
        "Is the server up, and are there connections left?",
    ),
    "db.auth": Code(
        "db:<bind>",
        "fail",
        "The server does not know the user or the password, or the file may not be read.",
        "Were credentials or permissions changed?",
    ),
    "db.locked": Code(
        "db:<bind>",
        "fail",
        "SQLite: somebody held the lock until the deadline.",
        "Look for a long write transaction, or a program that has the file open.",
    ),
    "db.readonly": Code(
        "db:<bind>",
        "fail",
        "A database that should take writes does not: a standby, or a file without permission.",
        "Did a failover leave this bind on the standby? Name a replica in DBKIT_REPLICAS.",
    ),
    "db.no_quorum": Code(
        "db:<bind>",
        "fail",
        "MariaDB: this node of a Galera cluster is not part of its majority, or not ready.",
        "Are the other nodes up and reachable? See wsrep_cluster_status.",
    ),
    "db.desynced": Code(
        "db:<bind>",
        "warn",
        "MariaDB: this node of a Galera cluster is a donor, or was taken out of flow control.",
        "It serves, and may fall behind. It comes back by itself when the other node has its copy.",
    ),
    "db.missing": Code(
        "db:<bind>",
        "fail",
        "The database, or its SQLite file, is not there.",
        "Is the volume mounted? Was the file deleted, or never made?",
    ),
    "db.empty": Code(
        "db:<bind>",
        "fail",
        "The SQLite file has no tables, and the application has models.",
        "Run the migrations, or restore a backup.",
    ),
    "db.corrupt": Code(
        "db:<bind>",
        "fail",
        "The SQLite file is damaged, or is no SQLite file.",
        "Stop the application and restore a backup.",
    ),
    "db.replaced": Code(
        "db:<bind>",
        "fail",
        "Pooled connections have another SQLite file open than the one at the path: what they"
        " write is lost.",
        "Restart the application.",
    ),
    "db.pool_full": Code(
        "pool:<bind>",
        "warn",
        "Nearly every connection of the application's pool is in use.",
        "Look for slow requests and connections that are not given back.",
    ),
    "migrations.pending": Code(
        "migrations:<bind>",
        "fail",
        "The database lacks revisions that the code has. A failure of startup, and a warning of"
        " readiness.",
        "Run flask dbkit migrate upgrade.",
    ),
    "migrations.unknown": Code(
        "migrations:<bind>",
        "fail",
        "The database is at a revision that the code does not have: it is newer.",
        "Was an older version deployed? See flask dbkit migrate status.",
    ),
    "migrations.index": Code(
        "migrations:<bind>",
        "warn",
        "PostgreSQL has an index that was left half built, and serves no query.",
        "See flask dbkit migrate status: DROP INDEX CONCURRENTLY, and build it again.",
    ),
    "disk.low": Code(
        "disk:<bind>",
        "fail",
        "Little space is left where the SQLite file lies; a warning at first.",
        "Free some space.",
    ),
    "wal.large": Code(
        "wal:<bind>",
        "warn",
        "SQLite's write-ahead log has grown large.",
        "Look for a read transaction that never ends: it keeps the log from being reset.",
    ),
    "replica.lag": Code(
        "replica:<bind>",
        "warn",
        "A replica is behind its primary.",
        "Look at the load of the replica and at the network between the two.",
    ),
    "replica.promoted": Code(
        "replica:<bind>",
        "warn",
        "A replica follows nobody any more: it was promoted, or its replication was reset.",
        "After a failover, name the new primary in the configuration.",
    ),
    "backup.old": Code(
        "backup:age",
        "warn",
        "The newest backup of a database is older than DBKIT_BACKUP_MAX_AGE_S.",
        "Look at the timer that makes backups, and at what its last run said.",
    ),
    "backup.ahead": Code(
        "backup:age",
        "warn",
        "A backup says that it was made in the future, so its age says nothing: a clock was wrong.",
        "Set the clock right, and remove or rename that backup.",
    ),
    "backup.missing": Code(
        "backup:age",
        "warn",
        "There is no backup of a database.",
        "Run flask dbkit backup create, and set up a timer for it.",
    ),
    "draining": Code(
        "draining",
        "fail",
        "This process was asked to take no more traffic.",
        "Nothing: it is about to be stopped.",
    ),
    "check.error": Code(
        "(your checks)",
        "fail",
        "A check raised something else than Fail or Warn, or returned what it may not.",
        "The log names the exception and the line.",
    ),
    "check.timeout": Code(
        "(your checks)",
        "fail",
        "A check did not end before its deadline.",
        "Give it a longer timeout, or what it asks a shorter one.",
    ),
}
"""The codes by name, in the order of the reference page."""
