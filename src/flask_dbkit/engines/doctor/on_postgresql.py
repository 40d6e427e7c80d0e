"""DK09x and DK11x: what PostgreSQL tells of itself.

References:
    https://www.postgresql.org/docs/current/monitoring-stats.html
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import text

from ...databases import POSTGRESQL
from ...doctor.checks import check
from ...doctor.examination import Examination
from ...doctor.findings import Found

__all__: list[str] = []

_DOCS = "https://www.postgresql.org/docs/current"
_LONG_IDLE_MIN = 5
_WRAPAROUND = 1_500_000_000  # of two thousand millions
_LOW_HITS = 0.99
_ENOUGH_READS = 1_000_000
_LARGEST_SHARE = 0.7


@check(
    "DK096",
    "The application is a superuser",
    tags=("postgresql", "security"),
    cause="A hole in the application is then a hole in the whole server: every database, its"
    " files and its programs.",
    fix="Give it a role of its own, without SUPERUSER, that owns its tables only.",
    link=f"{_DOCS}/role-attributes.html",
    database=True,
    deploy=True,
)
def superuser(given: Examination) -> Iterator[Found]:
    """Ask who we are."""
    for bind in given.binds_of(POSTGRESQL):
        with given.connect(bind) as connection:
            row = connection.execute(
                text("SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user")
            ).one()
        if row.rolsuper:
            yield Found(f"{bind.name} is used by {row.rolname}, a superuser", object=bind.name)


@check(
    "DK098",
    "Transaction numbers run out",
    level="error",
    tags=("postgresql", "operations"),
    cause="Near two thousand million transactions without a VACUUM the server takes no more"
    " writes.",
    fix="Find what holds VACUUM back (old transactions, prepared ones, replication slots), and"
    " run it.",
    link=f"{_DOCS}/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND",
    database=True,
)
def wraparound(given: Examination) -> Iterator[Found]:
    """Ask for the age of the oldest transaction."""
    for bind in given.binds_of(POSTGRESQL):
        with given.connect(bind) as connection:
            age = connection.scalar(
                text("SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()")
            )
        if age is not None and age > _WRAPAROUND:
            yield Found(f"{bind.name} is {age} transactions behind a VACUUM", object=bind.name)


@check(
    "DK110",
    "Indexes that serve nobody",
    tags=("postgresql", "operations"),
    cause="A CREATE INDEX CONCURRENTLY that failed leaves an index that is kept up with every write"
    " and used by no query; a unique one guards nothing.",
    fix="Drop it and make it again: DROP INDEX CONCURRENTLY, then CREATE INDEX CONCURRENTLY.",
    link=f"{_DOCS}/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY",
    database=True,
)
def invalid_indexes(given: Examination) -> Iterator[Found]:
    """Ask the catalog."""
    for bind in given.binds_of(POSTGRESQL):
        with given.connect(bind) as connection:
            rows = connection.execute(
                text(
                    "SELECT indexrelid::regclass::text, indrelid::regclass::text FROM pg_index i"
                    " WHERE NOT indisvalid AND NOT EXISTS (SELECT 1 FROM"
                    " pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)"
                )
            ).all()
        for index, table in rows:
            yield Found(f"The index {index} of {table} is invalid", object=f"{table}.{index}")


@check(
    "DK111",
    "A transaction that sits idle",
    tags=("postgresql", "operations"),
    cause="It keeps its locks, and the server keeps every old row that it could still see.",
    fix="Find who began it (application_name and query tell), and set"
    " DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS.",
    link=f"{_DOCS}/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW",
    database=True,
)
def idle_in_transaction(given: Examination) -> Iterator[Found]:
    """Ask for sessions of this database that do nothing inside a transaction."""
    for bind in given.binds_of(POSTGRESQL):
        with given.connect(bind) as connection:
            rows = connection.execute(
                text(
                    "SELECT pid, application_name, extract(epoch FROM now() - state_change) idle_s"
                    " FROM pg_stat_activity WHERE datname = current_database() AND state LIKE"
                    " 'idle in transaction%' AND state_change < now() - :limit * interval '1 min'"
                ),
                {"limit": _LONG_IDLE_MIN},
            ).all()
        for row in rows:
            minutes = float(row.idle_s) / 60
            yield Found(
                f"{row.application_name or 'A session'} sits idle in a transaction on {bind.name}"
                f" for {minutes:.0f} minutes (pid {row.pid})",
                object=bind.name,
            )


@check(
    "DK112",
    "Reads that miss the cache",
    level="info",
    tags=("postgresql", "operations"),
    cause="More than one block in a hundred comes from the disk, or the system's cache.",
    fix="Look for scans of whole tables (the log of slow statements has plans), then at"
    " shared_buffers.",
    link=f"{_DOCS}/runtime-config-resource.html#GUC-SHARED-BUFFERS",
    database=True,
    deploy=True,
)
def cache_misses(given: Examination) -> Iterator[Found]:
    """Compare hits and reads since the statistics began."""
    for bind in given.binds_of(POSTGRESQL):
        with given.connect(bind) as connection:
            row = connection.execute(
                text(
                    "SELECT blks_hit AS hits, blks_read AS reads FROM pg_stat_database"
                    " WHERE datname = current_database()"
                )
            ).one()
        every = int(row.hits) + int(row.reads)
        if every > _ENOUGH_READS and row.hits / every < _LOW_HITS:
            yield Found(
                f"{100 * row.hits / every:.1f} % of the blocks of {bind.name} were in the cache",
                object=bind.name,
            )


@check(
    "DK113",
    "A key that runs out",
    tags=("postgresql", "models", "operations"),
    cause="When the last number of its type is given away every INSERT fails, and the change to"
    " bigint rewrites the table.",
    fix="Change the column, and those that refer to it, to BigInteger in time.",
    link=f"{_DOCS}/datatype-numeric.html#DATATYPE-INT",
    database=True,
)
def used_up_sequences(given: Examination) -> Iterator[Found]:
    """Compare each sequence with the type of its column."""
    for bind in given.binds_of(POSTGRESQL):
        with given.connect(bind) as connection:
            rows = connection.execute(text(_SEQUENCES)).all()
        for row in rows:
            share = float(row.last_value) / float(row.highest)
            if share >= _LARGEST_SHARE:
                yield Found(
                    f"{share:.0%} of the numbers of {row.tab}.{row.col} are used",
                    object=f"{row.tab}.{row.col}",
                )


_SEQUENCES = """
SELECT c.relname AS tab, a.attname AS col, s.last_value AS last_value,
       least(s.max_value, CASE a.atttypid WHEN 'int2'::regtype THEN 32767
             WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END) AS highest
FROM pg_sequences s
JOIN pg_class q ON q.relname = s.sequencename
JOIN pg_namespace n ON n.oid = q.relnamespace AND n.nspname = s.schemaname
JOIN pg_depend d ON d.objid = q.oid AND d.classid = 'pg_class'::regclass
     AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
JOIN pg_class c ON c.oid = d.refobjid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE s.last_value IS NOT NULL
"""
