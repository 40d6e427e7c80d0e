"""Databases for tests: one for each process of pytest, and only where ``test`` is in the name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from sqlalchemy import URL, make_url
from sqlalchemy.engine import Engine

from ..databases import MYSQL, POSTGRESQL, SQLITE, Database, database_of
from ..engines.urls import parse_database_url
from . import on_mysql, on_sqlite
from .exceptions import TestSetupError
from .on_postgresql import databases as on_postgresql
from .runs import Shared

__all__ = ["KINDS", "check_names", "drop_databases", "make_database", "parse_place"]

KINDS = (SQLITE.name, POSTGRESQL.name, MYSQL.name)
"""What ``--dbkit-database`` takes besides a URL."""

_MODULES: dict[Database, ModuleType] = {
    SQLITE: on_sqlite,
    POSTGRESQL: on_postgresql,
    MYSQL: on_mysql,
}


def parse_place(url: str) -> URL:
    """Read a URL that says where databases are made.

    Raises:
        TestSetupError: None can be made there.
    """
    parsed = parse_database_url(url, key="--dbkit-database")
    if database_of(parsed) not in _MODULES:
        raise TestSetupError(
            f"--dbkit-database={url!r} is no database that is known here. Use"
            f" {', '.join(KINDS)} or a URL of one of them."
        )
    return parsed


def make_database(
    place: URL,
    shared: Shared,
    worker: str,
    fill: Callable[[str], object] | None,
    close: Callable[[str], None],
) -> str:
    """Make the database of one process of a run.

    Args:
        place: A server, and a database of it that exists; or any file of SQLite in the folder.
        shared: What the processes of the run share.
        worker: Tells the processes apart.
        fill: Called once in a run with the URL of a first database, which is then copied for
            every process. Where a server cannot copy databases, it is called for each.
        close: Closes the connections to that URL which ``fill`` has left open.

    Returns:
        The URL, with ``test`` in the name of the database.
    """
    module = _MODULES[database_of(place)]
    name, first = (_name(place, shared, last) for last in (worker, "first"))
    if fill is None or module.copy is None:
        made = _text(module.make(place, name))
        if fill is not None:
            fill(made)
        return made
    with shared.only_one():
        filled = Path(shared.folder, "filled")
        if not filled.exists():
            made = _text(module.make(place, first))
            fill(made)
            close(made)
            filled.touch()
        return _text(module.copy(place, first, name))


def drop_databases(url: str, shared: Shared) -> None:
    """Drop every database that the processes of a run have made.

    Args:
        url: As given to :func:`make_database`.
        shared: What the processes of the run share.
    """
    place = parse_place(url)
    _MODULES[database_of(place)].drop_all(place, _name(place, shared, ""))


def _name(place: URL, shared: Shared, last: str) -> str:
    # The rights of an account may be for names that begin with that of its database.
    database = "dbkit" if database_of(place).is_embedded else place.database or "dbkit"
    return f"{database[:30]}_test_{shared.token}_{last}"


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


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
