"""SQLite: pragmas on every connection, true transactions, and fair turns for writers."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from ..engine import DatabaseSupport, EngineContext, drop_url_arguments, takes_queue_options
from ..forking import after_fork_in_child
from .connecting import apply_pragmas, explain, network_file_system, optimize, read_pragmas
from .control import BEGIN_OPTION, INFO_KEY, leave_connections_to_parent
from .files import forget_closed, note_file
from .gate import SIDE_FILE_SUFFIX, WriterGate, gate_for, reset_gates
from .inheriting import guard_file
from .listeners import control_factory, install_control
from .pragmas import DEFAULT_PRAGMAS, PragmaValue
from .scripts import guard_scripts
from .settings import SQLiteSettings

__all__ = ["BEGIN_OPTION", "SIDE_FILE_SUFFIX", "SQLite", "file_of"]

logger = logging.getLogger("flask_dbkit.sqlite")

_FILE_ONLY = ("journal_mode", "journal_size_limit", "mmap_size")
_DEFAULT_TIMEOUT_S = 5.0  # the driver's own


class SQLite(DatabaseSupport):
    """Defaults and listeners for SQLite through Python's ``sqlite3``."""

    def engine_options(self, url: URL, context: EngineContext) -> dict[str, Any]:
        """Return a pool sized for readers, which WAL lets run beside the writer.

        An in-memory database keeps the pool Flask-SQLAlchemy chose for it. The driver's cache
        of statements is off there: threads that share the connection would be given the same
        prepared statement, and one that reads its last row would reset it under the others.
        https://docs.python.org/3/library/sqlite3.html#sqlite3.connect
        """
        if file_of(url) is None:
            return {"connect_args": drop_url_arguments({"cached_statements": 0}, url)}
        if not takes_queue_options(context.given):
            return {}
        return {"pool_size": 16, "max_overflow": 16, "pool_timeout": 10}

    def install(self, engine: Engine, context: EngineContext) -> None:
        """Attach pragmas, transaction control and clear errors to this engine."""
        path = file_of(engine.url)
        pragmas = effective_pragmas(engine.url, context)
        busy_timeout_s = _busy_timeout_s(pragmas, engine.url, context)
        journal = path is not None and not is_read_only(engine.url)
        if path is None:
            for name in _FILE_ONLY:
                pragmas.pop(name, None)
            if isinstance(engine.pool, StaticPool):
                _warn_of_memory(context)
        guard_file(engine, path)
        forget_closed(engine)
        control = control_factory(
            engine, _gate(path, engine, context), busy_timeout_s=lambda: busy_timeout_s
        )

        def prepare(dbapi_connection: Any, info: dict[Any, Any]) -> None:
            # Drivers such as SQLCipher's come this way too, and are left alone.
            if isinstance(dbapi_connection, sqlite3.Connection) and INFO_KEY not in info:
                apply_pragmas(dbapi_connection, pragmas, journal=journal, patience_s=busy_timeout_s)
                info[INFO_KEY] = made = control(dbapi_connection)
                made.path = path and os.path.realpath(path)
                made.waits_for_readers = pragmas.get("journal_mode", "WAL") != "WAL"
                note_file(engine, path, info)

        @event.listens_for(engine, "connect")
        def connect(dbapi_connection: Any, record: Any) -> None:
            prepare(dbapi_connection, record.info)

        @event.listens_for(engine, "close")
        def close(dbapi_connection: Any, record: Any) -> None:
            if journal and isinstance(dbapi_connection, sqlite3.Connection):
                optimize(dbapi_connection)

        @event.listens_for(engine, "handle_error")
        def handle_error(error: ExceptionContext) -> Exception | None:
            return _explained(error, engine.url)

        if path is not None and pragmas.get("journal_mode") == "WAL":
            _warn_of_network(engine, path)
        guard_scripts(engine)
        install_control(engine, context)
        if context.late and isinstance(engine.pool, StaticPool):
            # The one connection holds the whole database: prepare it instead of dropping it.
            fairy = engine.raw_connection()
            prepare(fairy.dbapi_connection, fairy.info)
            fairy.close()

    def file_of(self, url: URL) -> str | None:
        """Return the file that a URL names, ``None`` for a database in memory."""
        return file_of(url)

    def network_file_system(self, url: URL) -> str | None:
        """Look the path up among the mounts."""
        path = file_of(url)
        return None if path is None else network_file_system(path)

    def reading_url(self, url: URL) -> URL:
        """Return the URL that opens a file without the right to write, or to make it."""
        path = file_of(url)
        if path is None:
            return url
        quoted = os.path.realpath(path)
        for mark in "%?#":  # what would end the path of a URI; blanks would not
            quoted = quoted.replace(mark, f"%{ord(mark):x}")
        return url.set(database=f"file:{quoted}").update_query_dict({"mode": "ro", "uri": "true"})

    def settings(self, connection: Connection) -> dict[str, str]:
        """Return the pragmas in force on this connection."""
        raw: Any = connection.connection.dbapi_connection
        return read_pragmas(raw, DEFAULT_PRAGMAS) if isinstance(raw, sqlite3.Connection) else {}


def file_of(url: URL) -> str | None:
    """Return the file a SQLite URL names, ``None`` for a database in memory.

    References:
        https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#uri-connections
    """
    database = url.database
    if database in (None, "", ":memory:") or url.query.get("mode") == "memory":
        return None
    assert database is not None
    if database.startswith("file:"):
        database = database.removeprefix("file:")
        if database.startswith("///"):
            database = database[2:]
        if database in ("", ":memory:"):
            return None
    return database


def is_read_only(url: URL) -> bool:
    """Tell whether a URL, or the file's permissions, forbid writing."""
    if _is_read_only_url(url):
        return True
    path = file_of(url)
    return path is not None and Path(path).exists() and not os.access(path, os.W_OK)


def _is_read_only_url(url: URL) -> bool:
    return url.query.get("mode") == "ro" or url.query.get("immutable") in ("1", "true")


def effective_pragmas(url: URL, context: EngineContext) -> dict[str, PragmaValue]:
    """Merge the defaults, the settings and the application's own driver timeout."""
    merged: dict[str, PragmaValue | None] = dict(DEFAULT_PRAGMAS)
    own_timeout = _own_timeout_s(url, context)
    if (
        own_timeout is None
        or "DBKIT_SQLITE_BUSY_TIMEOUT_MS" in context.settings(SQLiteSettings).given
    ):
        merged["busy_timeout"] = context.settings(SQLiteSettings).sqlite_busy_timeout_ms
    merged.update(context.settings(SQLiteSettings).sqlite_pragmas)
    return {name: value for name, value in merged.items() if value is not None}


def _own_timeout_s(url: URL, context: EngineContext) -> float | None:
    given = context.given_connect_args(url).get("timeout")
    return float(given) if isinstance(given, (int, float, str)) else None


def _busy_timeout_s(pragmas: Mapping[str, PragmaValue], url: URL, context: EngineContext) -> float:
    if "busy_timeout" in pragmas:
        return max(0.0, int(pragmas["busy_timeout"]) / 1000)
    own = _own_timeout_s(url, context)
    return _DEFAULT_TIMEOUT_S if own is None else own


def _gate(path: str | None, engine: Engine, context: EngineContext) -> WriterGate | None:
    if (
        path is None
        or is_read_only(engine.url)
        or not context.settings(SQLiteSettings).sqlite_writer_gate
    ):
        return None
    return gate_for(path)


def _explained(error: ExceptionContext, url: URL) -> Exception | None:
    original = error.original_exception
    if not isinstance(original, sqlite3.Error):
        return None
    if error.connection is not None and not _is_refused_write(original, url):
        return None
    better = explain(original, file_of(url), read_only_url=_is_read_only_url(url))
    if better is None:
        return None
    return DBAPIError.instance(
        error.statement,
        error.parameters,
        better,
        sqlite3.Error,
        hide_parameters=error.engine is not None and error.engine.hide_parameters,
        dialect=error.dialect,
    )


def _is_refused_write(error: sqlite3.Error, url: URL) -> bool:
    # A read-only transaction gets the same code, and there is nothing wrong with its file.
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    return code == sqlite3.SQLITE_READONLY and is_read_only(url)


def _warn_of_memory(context: EngineContext) -> None:
    name = "The default database" if context.bind_key is None else f"Bind {context.bind_key!r}"
    logger.warning(
        "%s is SQLite in memory, where every session of the process shares one connection:"
        " a session in a nested application context cannot write while the outer one has"
        " uncommitted work. Use a file, for example sqlite:///test.db in a temporary instance"
        " folder, to test as the application runs.",
        name,
    )


def _warn_of_network(engine: Engine, path: str) -> None:
    def first_connect(dbapi_connection: Any, record: Any) -> None:
        kind = network_file_system(path)
        if kind is not None:
            logger.warning(
                "%s is on a network file system (%s), where write-ahead logging is not safe."
                " Move it to a local disk, or set DBKIT_SQLITE_PRAGMAS={'journal_mode': 'DELETE'}"
                " and keep to one machine.",
                path,
                kind,
            )

    event.listen(engine, "first_connect", first_connect, once=True)


after_fork_in_child(reset_gates)
after_fork_in_child(leave_connections_to_parent)
