"""What each database is: the one table of names, and the only room that asks for one.

A database has a folder here with ``engine.py``, ``scopes.py`` and ``errors.py``, each of which
answers the interface of the module of that name above them, and ``database.py``, which puts them
together with the facts that other rooms ask for. What such a room does on one database stands
there, in a file called ``on_<database>.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Dialect, Engine
from sqlalchemy.pool import NullPool

from .base import Database
from .engine import DatabaseSupport, EngineContext, drop_url_arguments
from .errors import ErrorCodes
from .mysql.database import MYSQL
from .postgresql.database import POSTGRESQL
from .sqlite.database import SQLITE

__all__ = [
    "DATABASES",
    "MYSQL",
    "POSTGRESQL",
    "SQLITE",
    "Database",
    "DatabaseSupport",
    "EngineContext",
    "command_engine",
    "database_of",
    "errors_for",
    "errors_of",
    "file_of",
    "reading_engine",
    "support_for",
]

DATABASES = (SQLITE, POSTGRESQL, MYSQL)
_BY_NAME = {name: database for database in DATABASES for name in database.names}


def database_of(what: Dialect | Engine | Connection | URL | str) -> Database:
    """Return what is known about a database; of one we do not know, that it is not known.

    Args:
        what: Anything that belongs to one, or SQLAlchemy's name for its dialect.
    """
    # Asked for each time that is sent and for each transaction, so a dialect comes first.
    name: str | None = getattr(what, "name", None)
    if name is None:
        if isinstance(what, URL):
            name = what.get_backend_name()
        elif isinstance(what, Connection):
            name = what.dialect.name
        else:
            name = str(what)
    return _BY_NAME.get(name) or _unknown(name)


def command_engine(url: URL, connect_args: Mapping[str, Any] | None = None) -> Engine:
    """Make an engine for a command: it keeps no connection, and waits for none without end.

    Args:
        url: Of the database.
        connect_args: Driver arguments that win.
    """
    support = database_of(url).engine
    limits = drop_url_arguments(support.connect_limits(url), url)
    arguments = {**limits, **(connect_args or {})}
    engine = create_engine(url, connect_args=arguments, poolclass=NullPool)
    support.limit_connecting(engine)
    return engine


def reading_engine(engine: Engine, options: Mapping[str, Any], limit_s: float) -> Engine:
    """Make an engine that looks at the database of another one, and cannot write to it.

    It keeps no connection, takes none of the other's pool, and has none of its listeners.

    Args:
        engine: The other engine.
        options: What it was made with.
        limit_s: Seconds a connect and a statement may take, where the driver can be told.
    """
    support = database_of(engine).engine
    url = support.reading_url(engine.url)
    arguments = {
        **drop_url_arguments(support.connect_limits(url), url),
        **(options.get("connect_args") or {}),
    }
    more = {name: options[name] for name in ("creator",) if name in options}
    made = create_engine(url, connect_args=arguments, poolclass=NullPool, **more)
    # An application that makes a password anew for each connection does it here.
    # https://docs.sqlalchemy.org/en/20/core/engines.html#generating-dynamic-authentication-tokens
    for listener in list(getattr(engine.dialect.dispatch, "do_connect", ())):
        event.listen(made, "do_connect", listener)
    support.limit_connecting(made)
    support.only_read(made, limit_s)
    return made


@cache
def _unknown(name: str) -> Database:
    return Database(name, names=(name,))


def errors_of(error: BaseException) -> ErrorCodes | None:
    """Return what is known about a driver's own error; ``None`` if it is no driver's."""
    # PostgreSQL comes last: it takes what has a SQLSTATE for its own.
    return next(
        (each.errors for each in (SQLITE, MYSQL, POSTGRESQL) if each.errors.owns(error)), None
    )


def errors_for(what: Engine | Connection) -> ErrorCodes:
    """Return what the errors of a database mean; of an unknown one, by its driver.

    An engine that speaks PostgreSQL's protocol is spoken to by PostgreSQL's drivers, and answers
    with its SQLSTATEs.
    """
    database = database_of(what)
    if database.is_known:
        return database.errors
    driver = getattr(what.dialect.dbapi, "__name__", "").partition(".")[0]
    known = (each.errors for each in DATABASES if driver in each.errors.drivers)
    return next(known, database.errors)


def file_of(url: URL) -> str | None:
    """Return the file that a URL names, ``None`` for a server and for a database in memory."""
    return database_of(url).engine.file_of(url)


def support_for(url: URL) -> DatabaseSupport:
    """Return what a URL's database offers for engines."""
    return database_of(url).engine
