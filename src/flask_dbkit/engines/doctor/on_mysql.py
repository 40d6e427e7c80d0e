"""DK11x: what MariaDB and MySQL tell of themselves."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import text

from ...databases import MYSQL
from ...doctor.checks import check
from ...doctor.examination import Examination
from ...doctor.findings import Found

__all__: list[str] = []


@check(
    "DK114",
    "Tables without transactions",
    level="error",
    tags=("mysql",),
    cause="MyISAM, Aria and MEMORY tables keep what was written before a ROLLBACK, and enforce no"
    " foreign keys.",
    fix="ALTER TABLE … ENGINE=InnoDB, in a revision.",
    link="https://mariadb.com/docs/server/server-usage/storage-engines/innodb",
    database=True,
)
def other_engines(given: Examination) -> Iterator[Found]:
    """Ask for the engine of each table of the models."""
    for bind in given.binds_of(MYSQL):
        known = {table.name for table in given.metadata(bind).tables.values()}
        with given.connect(bind) as connection:
            rows = connection.execute(
                text(
                    "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA ="
                    " DATABASE() AND TABLE_TYPE = 'BASE TABLE' AND ENGINE NOT IN ('InnoDB',"
                    " 'RocksDB', 'TokuDB', 'NDB', 'ndbcluster')"
                )
            ).all()
        for name, engine in rows:
            if name in known:
                yield Found(f"{name} is kept by {engine}", object=str(name))


@check(
    "DK115",
    "The server hangs up before the pool lets go",
    tags=("mysql", "timeouts"),
    cause="A connection that rested for longer than wait_timeout is closed by the server. The ping"
    " notices, at the price of a connect within a request.",
    fix="Set pool_recycle of the engine's options below wait_timeout, or raise wait_timeout.",
    link="https://docs.sqlalchemy.org/en/20/core/pooling.html#setting-pool-recycle",
    level="info",
    database=True,
    deploy=True,
)
def short_wait_timeout(given: Examination) -> Iterator[Found]:
    """Compare pool_recycle with the server's wait_timeout."""
    for bind in given.binds_of(MYSQL):
        recycle_s = bind.options.get("pool_recycle", 7200)
        with given.connect(bind) as connection:
            wait_s = int(connection.scalar(text("SELECT @@GLOBAL.wait_timeout")) or 0)
        if recycle_s < 0 or recycle_s > wait_s:
            yield Found(
                f"{bind.name} hangs up after {wait_s} s; connections are kept for {recycle_s} s",
                object=bind.name,
            )


@check(
    "DK116",
    "The application may do everything on the server",
    tags=("mysql", "security"),
    cause="A hole in the application is then a hole in the whole server.",
    fix="Give it an account with rights on its own database only.",
    link="https://mariadb.com/docs/server/reference/sql-statements/account-management-sql-statements/grant",
    database=True,
    deploy=True,
)
def all_privileges(given: Examination) -> Iterator[Found]:
    """Ask for the privileges of the account that reach every database."""
    for bind in given.binds_of(MYSQL):
        with given.connect(bind) as connection:
            rows = [str(row[0]) for row in connection.execute(text("SHOW GRANTS"))]
        if any(" ON *.* " in row and ("ALL PRIVILEGES" in row or "SUPER" in row) for row in rows):
            yield Found(f"The account of {bind.name} may do everything", object=bind.name)
