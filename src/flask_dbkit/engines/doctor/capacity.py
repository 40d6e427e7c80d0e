"""DK02x: as many connections as are needed, and no more than there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from sqlalchemy.pool import NullPool, QueuePool

from ...databases.settings import ServerSettings
from ...doctor.checks import check
from ...doctor.examination import Examination, ExaminedBind
from ...doctor.findings import Found
from ...doctor.sources import last_name
from ..settings import EngineSettings

__all__: list[str] = []

_POOL = "https://docs.sqlalchemy.org/en/20/core/pooling.html"
_RESERVE = 3  # for migrations, a console, and whoever looks what is wrong
_FULL = 0.8


def _most(bind: ExaminedBind) -> int | None:
    """Return how many connections the pool of one process may open."""
    pool = bind.engine.pool
    if not isinstance(pool, QueuePool):
        return None
    overflow = bind.options.get("max_overflow", 10)
    return pool.size() + int(overflow) if overflow >= 0 and pool.size() > 0 else None


@check(
    "DK020",
    "More connections than the server has",
    level="error",
    tags=("capacity", "pool"),
    cause="When every pool is full the server refuses connections, to this application and to"
    " others.",
    fix="Make pool_size and max_overflow smaller, run fewer workers, or put a pooler in front.",
    link="https://www.postgresql.org/docs/current/runtime-config-connection.html",
    database=True,
)
def too_many(given: Examination) -> Iterator[Found]:
    """Multiply the pool with the workers, and compare with the server's limit."""
    workers = given.process.workers
    for bind in given.servers:
        most = _most(bind)
        if workers is None or most is None:
            continue
        with given.connect(bind) as connection:
            limit = bind.database.engine.connection_limit(connection)
        if limit is None or workers * most + _RESERVE <= limit:
            continue
        # Requests take one each as a rule; the pool's limit is what may happen beyond the rule.
        by_rule = workers * min(most, given.process.threads or most)
        yield Found(
            f"{workers} workers with pools of {most} may open {workers * most} connections to"
            f" {bind.name}; the server takes {limit}",
            object=bind.name,
            level=None if by_rule + _RESERVE > limit else "warning",
        )


@check(
    "DK021",
    "A pool smaller than the threads of a worker",
    tags=("capacity", "pool"),
    cause="When all threads are at work some of them wait for a connection, and fail after"
    " pool_timeout.",
    fix="Set pool_size of SQLALCHEMY_ENGINE_OPTIONS to the number of threads.",
    link=f"{_POOL}#sqlalchemy.pool.QueuePool.params.pool_size",
)
def small_pool(given: Examination) -> Iterator[Found]:
    """Compare the pool with the threads."""
    threads = given.process.threads or 1
    for bind in given.binds:
        most = _most(bind)
        if most is not None and most < threads:
            yield Found(
                f"{threads} threads share {most} connections to {bind.name}", object=bind.name
            )


@check(
    "DK022",
    "A new connection for each request",
    tags=("capacity", "pool"),
    cause="NullPool connects anew each time, with a handshake and a login, unless a pooler is next"
    " door.",
    fix="Leave poolclass out; with a pooler in front set DBKIT_POOLER.",
    link=f"{_POOL}#sqlalchemy.pool.NullPool",
)
def null_pool(given: Examination) -> Iterator[Found]:
    """Look for NullPool on servers."""
    if given.settings(ServerSettings).pooler is not None:
        return
    for bind in given.servers:
        if isinstance(bind.engine.pool, NullPool):
            yield Found(f"{bind.name} keeps no connection", object=bind.name)


@check(
    "DK023",
    "The server is nearly out of connections",
    tags=("capacity",),
    cause="The next worker, or the next deployment, may find none left.",
    fix="Look who holds them, make pools smaller, or raise the limit of the server.",
    database=True,
    deploy=True,
)
def nearly_full(given: Examination) -> Iterator[Found]:
    """Count the sessions of each server."""
    for bind in given.servers:
        with given.connect(bind) as connection:
            limit = bind.database.engine.connection_limit(connection)
            used = bind.database.engine.connections_in_use(connection)
        if limit and used is not None and used > limit * _FULL:
            yield Found(
                f"{used} of {limit} connections of {bind.name} are in use", object=bind.name
            )


@check(
    "DK024",
    "A pooler that nobody told of",
    level="error",
    tags=("capacity", "pooler"),
    cause="Behind a pooler in transaction mode prepared statements, settings of a session and"
    " advisory locks meet another server session each time: statements fail, settings reach"
    " others.",
    fix="Set DBKIT_POOLER=pgbouncer, and DBKIT_DIRECT_URL for migrations.",
    link="https://www.pgbouncer.org/features.html",
    database=True,
)
def pooler_in_front(given: Examination) -> Iterator[Found]:
    """Compare the backend that answered the connect with the one that answers a statement."""
    if given.settings(ServerSettings).pooler is not None:
        return
    for bind in given.servers:
        with given.connect(bind) as connection:
            if bind.database.engine.is_behind_pooler(connection):
                yield Found(f"There is a pooler in front of {bind.name}", object=bind.name)


@check(
    "DK025",
    "Migrations go through the pooler",
    tags=("capacity", "pooler", "migrations"),
    cause="The lock that keeps two deployments apart belongs to a session, which a pooler in"
    " transaction mode takes away between two statements.",
    fix="Set DBKIT_DIRECT_URL to the server itself.",
)
def no_direct_url(given: Examination) -> Iterator[Found]:
    """Look for DBKIT_DIRECT_URL beside DBKIT_POOLER."""
    settings = given.settings(EngineSettings)
    if settings.pooler is not None and settings.direct_url is None:
        yield Found("DBKIT_POOLER is set, and DBKIT_DIRECT_URL is not", object="DBKIT_DIRECT_URL")


@check(
    "DK080",
    "An engine of its own",
    tags=("process", "code"),
    cause="An engine that create_engine() makes beside Flask-SQLAlchemy has a pool of its own,"
    " which nobody closes in a forked worker and no deadline, pragma or statistic of Flask-DBKit"
    " reaches.",
    fix="Make it a bind: SQLALCHEMY_BINDS = {'name': url}; then db.engines['name'] is the engine.",
    link="https://docs.sqlalchemy.org/en/20/core/pooling.html#pooling-multiprocessing",
)
def own_engine(given: Examination) -> Iterator[Found]:
    """Look for create_engine() in the code."""
    for source in given.sources:
        for node, _ in source.calls:
            if last_name(node.func) != "create_engine" or source.is_ignored("DK080", node):
                continue
            if not _is_for_once(node):
                yield Found("create_engine() makes an engine of its own", source.place(node))


def _is_for_once(node: ast.Call) -> bool:
    """Tell whether the engine keeps no connection."""
    return any(
        keyword.arg == "poolclass" and last_name(keyword.value) == "NullPool"
        for keyword in node.keywords
    )


@check(
    "DK081",
    "A driver that blocks every greenlet",
    level="error",
    tags=("process",),
    cause="psycopg2 waits in C, where gevent cannot switch: one slow statement stops the whole"
    " worker.",
    fix="Use psycopg 3 (postgresql+psycopg://), or call psycogreen.gevent.patch_psycopg().",
    link="https://www.psycopg.org/docs/advanced.html#support-for-coroutine-libraries",
)
def blocking_driver(given: Examination) -> Iterator[Found]:
    """Look for gevent beside psycopg2."""
    if given.process.worker_class not in ("gevent", "eventlet", "gevent_wsgi"):
        return
    for bind in given.servers:
        if bind.engine.dialect.driver != "psycopg2":
            continue
        from psycopg2 import extensions  # noqa: PLC0415 - only if used

        if extensions.get_wait_callback() is None:
            yield Found(
                f"{bind.name} uses psycopg2 under {given.process.worker_class}", object=bind.name
            )
