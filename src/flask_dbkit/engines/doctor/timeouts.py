"""DK01x: everything that waits has an end."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sqlalchemy.pool import QueuePool

from ...databases.settings import ServerSettings
from ...doctor.checks import check
from ...doctor.examination import Examination, ExaminedBind
from ...doctor.findings import Found

__all__: list[str] = []

_LIBPQ = "https://www.postgresql.org/docs/current/libpq-connect.html"
_CLIENT = "https://www.postgresql.org/docs/current/runtime-config-client.html"
_POOL = "https://docs.sqlalchemy.org/en/20/core/pooling.html"
_LIBPQ_DRIVERS = frozenset({"psycopg", "psycopg2", "psycopg2cffi"})
_POOL_TIMEOUT_S = 30  # SQLAlchemy's own


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return 0.0


@check(
    "DK010",
    "A connect without an end",
    tags=("timeouts",),
    cause="When the server does not answer, each request waits for minutes, until every thread"
    " does.",
    fix="Leave connect_timeout to Flask-DBKit, or give connect_args a number of seconds.",
    link=f"{_LIBPQ}#LIBPQ-CONNECT-CONNECT-TIMEOUT",
)
def connect_timeout(given: Examination) -> Iterator[Found]:
    """Look at the driver's arguments of each server."""
    for bind in given.servers:
        options = bind.driver_options
        named = [options[name] for name in ("connect_timeout", "timeout") if name in options]
        if not any(_number(value) > 0 for value in named) and "creator" not in bind.options:
            yield Found(f"Connecting to {bind.name} has no timeout", object=bind.name)


@check(
    "DK011",
    "A statement without an end",
    tags=("timeouts",),
    cause="One statement that never comes back keeps its connection, its locks and its thread.",
    fix="Set DBKIT_STATEMENT_TIMEOUT_MS, for example to 15000; a scope may have a longer one.",
    link=f"{_CLIENT}#GUC-STATEMENT-TIMEOUT",
    deploy=True,
)
def statement_timeout(given: Examination) -> Iterator[Found]:
    """Look at the setting, and at the options of the driver."""
    if given.settings(ServerSettings).statement_timeout_ms:
        return
    for bind in given.servers:
        if not _says(bind, "statement_timeout", "max_statement_time", "max_execution_time"):
            yield Found(f"A statement on {bind.name} may run for ever", object=bind.name)


def _says(bind: ExaminedBind, *names: str) -> bool:
    options = bind.driver_options
    told = " ".join(str(options.get(key, "")) for key in ("options", "init_command"))
    return any(name in told or name in options for name in names)


@check(
    "DK012",
    "Options of a session behind a pooler",
    level="error",
    tags=("timeouts", "pooler"),
    cause="A pooler in transaction mode refuses the connection for options it does not know, or"
    " leaves them on a server session that others get.",
    fix="Take options out of connect_args and use DBKIT_STATEMENT_TIMEOUT_MS and its like.",
    link="https://www.pgbouncer.org/config.html#ignore_startup_parameters",
)
def options_behind_pooler(given: Examination) -> Iterator[Found]:
    """Look for startup options beside DBKIT_POOLER."""
    if given.settings(ServerSettings).pooler is None:
        return
    for bind in given.servers:
        told = str(bind.driver_options.get("options", ""))
        if told:
            yield Found(f"{bind.name} sends options={told!r} to its pooler", object=bind.name)


@check(
    "DK013",
    "A connection that does not notice a dead network",
    tags=("timeouts",),
    cause="When the way to the server breaks while a statement is on its way, its request waits"
    " until the kernel gives up, which takes a quarter of an hour.",
    fix="Leave tcp_user_timeout to Flask-DBKit, or give connect_args milliseconds.",
    link=f"{_LIBPQ}#LIBPQ-CONNECT-TCP-USER-TIMEOUT",
)
def tcp_user_timeout(given: Examination) -> Iterator[Found]:
    """Look at the arguments of libpq's drivers."""
    for bind in given.servers:
        limit_ms = _number(bind.driver_options.get("tcp_user_timeout"))
        ours = bind.engine.dialect.driver in _LIBPQ_DRIVERS and "creator" not in bind.options
        if ours and limit_ms <= 0:
            yield Found(f"{bind.name} has no tcp_user_timeout", object=bind.name)


@check(
    "DK014",
    "A transaction may sit idle for ever",
    tags=("timeouts",),
    cause="A worker that hangs between two statements keeps its locks, and the server keeps every"
    " old row that its snapshot can see.",
    fix="Set DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS, for example to 60000.",
    link=f"{_CLIENT}#GUC-IDLE-IN-TRANSACTION-SESSION-TIMEOUT",
    deploy=True,
)
def idle_timeout(given: Examination) -> Iterator[Found]:
    """Look at the setting, and at the options of the driver."""
    if given.settings(ServerSettings).idle_in_transaction_timeout_ms:
        return
    for bind in given.servers:
        if not _says(bind, "idle_in_transaction_session_timeout", "idle_transaction_timeout"):
            yield Found(f"A transaction on {bind.name} may sit idle for ever", object=bind.name)


@check(
    "DK015",
    "Waiting for a connection outlives the request",
    tags=("timeouts", "pool"),
    cause="The proxy, or the server's own timeout, gives the request up before the pool does:"
    " clients see 502, and workers are killed instead of saying 503.",
    fix="Leave pool_timeout out (Flask-DBKit waits 10 s), or set it below the proxy's timeout.",
    link=f"{_POOL}#sqlalchemy.pool.QueuePool.params.timeout",
)
def pool_timeout(given: Examination) -> Iterator[Found]:
    """Compare pool_timeout with the timeout of what serves."""
    limit_s = given.process.timeout_s
    for bind in given.binds:
        if not isinstance(bind.engine.pool, QueuePool) or bind.in_memory:
            continue
        waits_s = _number(bind.engine.pool.timeout())
        if waits_s >= limit_s and not math.isinf(limit_s):
            yield Found(
                f"{bind.name} waits {waits_s:g} s for a connection; a request ends after"
                f" {limit_s:g} s",
                object=bind.name,
            )


@check(
    "DK016",
    "Connections that died in the pool are not noticed",
    tags=("timeouts", "pool"),
    cause="After a restart of the server, or when it hangs up on idle connections, the next"
    " requests fail, one for each connection.",
    fix="Leave pool_pre_ping and DBKIT_POOL_PING_AFTER_S at their defaults.",
    link=f"{_POOL}#disconnect-handling-pessimistic",
)
def no_ping(given: Examination) -> Iterator[Found]:
    """Look for a ping, or a pool that keeps nothing."""
    pings = given.settings(ServerSettings).pool_ping_after_s is not None
    for bind in given.servers:
        told = bind.context.given.get("pool_pre_ping")
        never = told is False or (told is not True and not pings)
        if isinstance(bind.engine.pool, QueuePool) and never:
            yield Found(f"Connections of {bind.name} are never pinged", object=bind.name)


@check(
    "DK017",
    "Waiting for a lock without an end",
    tags=("timeouts",),
    cause="One transaction that holds a lock for long makes every other one wait behind it, with"
    " its connection.",
    fix="Set DBKIT_LOCK_TIMEOUT_MS, for example to 5000; migrations have a limit of their own.",
    link=f"{_CLIENT}#GUC-LOCK-TIMEOUT",
    deploy=True,
)
def lock_timeout(given: Examination) -> Iterator[Found]:
    """Look at the setting, and at the options of the driver."""
    if given.settings(ServerSettings).lock_timeout_ms:
        return
    for bind in given.servers:
        if not _says(bind, "lock_timeout", "lock_wait_timeout"):
            yield Found(f"A statement on {bind.name} may wait for a lock for ever", bind.name)


@check(
    "DK018",
    "Engines were made before Flask-DBKit",
    tags=("config", "timeouts"),
    cause="db.init_app(app) ran earlier: URL rules, the pool and the arguments of the driver are"
    " not those that Flask-DBKit would have set.",
    fix="Leave db.init_app(app) out: dbkit.init_app(app) calls it.",
)
def late_set_up(given: Examination) -> Iterator[Found]:
    """Ask the contexts the engines were prepared with."""
    for bind in given.binds:
        if bind.context.late:
            yield Found(f"The engine of {bind.name} was there before", object=bind.name)
