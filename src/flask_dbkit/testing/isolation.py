"""Everything a test does to its databases, undone: by one rollback, or by emptying the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from sqlalchemy import MetaData, inspect
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from ..databases import MYSQL, POSTGRESQL, SQLITE, Database, database_of
from . import on_mysql, on_sqlite
from .connections import TestPool
from .on_postgresql import databases as on_postgresql
from .world import World, inside

__all__ = ["empty_tables", "rolled_back"]


@contextmanager
def rolled_back(engines: Iterable[Engine]) -> Iterator[list[World]]:
    """Undo at the end of a block whatever was done on these engines, by whatever means.

    Args:
        engines: Those of one database share its one connection.

    Yields:
        One world for each database.
    """
    worlds: list[World] = []
    with ExitStack() as undo:
        worlds.extend(undo.enter_context(_pinned(group)) for group in _by_database(engines))
        token = inside.set(inside.get() | {id(world) for world in worlds})
        undo.callback(inside.reset, token)
        yield worlds


def _by_database(engines: Iterable[Engine]) -> Iterable[list[Engine]]:
    groups: dict[object, list[Engine]] = {}
    for engine in engines:
        in_memory = isinstance(engine.pool, (StaticPool, SingletonThreadPool))
        groups.setdefault(engine if in_memory else engine.url, []).append(engine)
    return groups.values()


@contextmanager
def _pinned(engines: list[Engine]) -> Iterator[World]:
    pooled = engines[0].raw_connection()
    world = World(pooled.dbapi_connection, engines[0].dialect)
    pools = [(engine, engine.pool) for engine in engines]
    try:
        for engine in engines:
            engine.pool = TestPool(engine, world)
        yield world
    finally:
        for engine, pool in pools:
            engine.pool = pool
        try:
            world.end()
        finally:
            pooled.close()


def empty_tables(databases: Iterable[tuple[Engine, MetaData]]) -> None:
    """Delete the rows of every table that an application knows.

    Args:
        databases: Engines, each with the tables that are there.
    """
    for engine, metadata in databases:
        with engine.begin() as connection:
            present = set(inspect(connection).get_table_names())
            names = connection.dialect.identifier_preparer
            tables = [
                names.format_table(table)
                for table in metadata.tables.values()
                if table.schema is not None or table.name in present
            ]
            if tables:
                _EMPTY[database_of(engine)](connection, tables)


_EMPTY: Mapping[Database, Callable[[Connection, Iterable[str]], None]] = {
    SQLITE: on_sqlite.empty,
    POSTGRESQL: on_postgresql.empty,
    MYSQL: on_mysql.empty,
}
