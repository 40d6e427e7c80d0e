"""Engines as the library prepares them, without a Flask application around."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import StaticPool

from flask_dbkit.config import Config
from flask_dbkit.databases import EngineContext, support_for
from flask_dbkit.engines.flask_sqlalchemy import merge_options

KitEngine = Callable[..., Engine]


@pytest.fixture
def prepare_engine() -> Iterator[KitEngine]:
    """Return a function that makes a prepared engine; ``DBKIT_*`` keys are settings."""
    made: list[Engine] = []

    def make(url: str, **options: Any) -> Engine:
        settings = {key: options.pop(key) for key in list(options) if key.startswith("DBKIT_")}
        wants_write = options.pop("wants_write", lambda: False)
        context = EngineContext(
            None,
            "dbkit_test_app",
            Config.from_mapping(settings),
            options,
            wants_write=wants_write,
        )
        parsed = make_url(url)
        support = support_for(parsed)
        defaults = support.engine_options(parsed, context)
        if parsed.get_backend_name() == "sqlite" and parsed.database is None:
            # As Flask-SQLAlchemy has it.
            as_made = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
            defaults = merge_options(as_made, defaults)
        engine = create_engine(parsed, **merge_options(defaults, options))
        support.install(engine, context)
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's SQLite file goes; the folder holds nothing else."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "test.db"


@pytest.fixture
def file_engine(prepare_engine: KitEngine, path: Path) -> KitEngine:
    """Return a function that makes a prepared engine on the test's file, with an account."""

    def make(**options: Any) -> Engine:
        engine = prepare_engine(f"sqlite:///{path}", **options)
        add_account(engine)
        return engine

    return make


def add_account(engine: Engine) -> None:
    """Make the tables of the tests, and account 1 with nothing on it."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, n)"))
        connection.execute(
            text("CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance)")
        )
        connection.execute(text("INSERT OR IGNORE INTO account VALUES (1, 0), (2, 0)"))
