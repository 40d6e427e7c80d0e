"""Databases for tests: one for each process of pytest, and only where ``test`` is in the name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.engine import Engine

from ..databases import MYSQL, POSTGRESQL, SQLITE, database_of
from ..engines.urls import parse_database_url
from . import on_mysql
from .exceptions import TestSetupError
from .on_postgresql import databases as on_postgresql

__all__ = ["KINDS", "check_names", "made_for_tests"]

KINDS = (SQLITE.name, POSTGRESQL.name, MYSQL.name)
"""What ``--dbkit-database`` takes besides a URL."""


@contextmanager
def made_for_tests(
    asked: str, worker: str, folder: Path, server_of: Callable[[str], str]
) -> Iterator[str]:
    """Make an empty database for one process of pytest, and drop it at the end.

    Args:
        asked: One of :data:`KINDS`, or the URL of a server and a database that exists.
        worker: Tells the processes apart.
        folder: Where a file of SQLite goes.
        server_of: Returns the URL of the server for one of the kinds.

    Yields:
        The URL, with ``test`` in the name of the database.
    """
    if asked == SQLITE.name:
        yield f"sqlite:///{folder / f'test_{worker}.db'}"
        return
    url = parse_database_url(server_of(asked) if asked in KINDS else asked, key="--dbkit-database")
    database = database_of(url)
    if database is SQLITE:
        yield str(url)
        return
    module = {POSTGRESQL: on_postgresql, MYSQL: on_mysql}.get(database)
    if module is None:
        raise TestSetupError(
            f"--dbkit-database={asked!r} is no database that is known here. Use"
            f" {', '.join(KINDS)} or a URL of one of them."
        )
    name = f"{url.database or 'dbkit'}_test_{worker}"
    made = module.make(url, name)
    try:
        yield made.render_as_string(hide_password=False)
    finally:
        module.drop(url, name)


def check_names(engines: Iterable[Engine]) -> None:
    """Refuse to touch a database that does not look like one for tests.

    Raises:
        TestSetupError: Its name has no ``test`` in it.
    """
    for engine in engines:
        url: URL = make_url(engine.url)
        if _is_in_memory(url) or "test" in str(url.database).lower():
            continue
        raise TestSetupError(
            f"The tests would write to {url.database!r}, which has no 'test' in its name. Use a"
            " database for tests, as dbkit_database_url is, or say --dbkit-allow-any-db."
        )


def _is_in_memory(url: URL) -> bool:
    return database_of(url).is_embedded and (
        url.database in {None, "", ":memory:"} or "mode=memory" in str(url)
    )
