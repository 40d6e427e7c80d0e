"""How the data of the demo gets in: once, completely, and only where it belongs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from atlas.extensions import db
from atlas.loader import AtlasError, is_loaded
from atlas.loader import load as load_data
from atlas.models import Place
from atlas.source import Source
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import undefer

from tests.examples.small_world import MakeAtlas, make_source
from tests.support.databases import Database
from tests.support.warm_python import Program, WarmPython

ROOT = Path(__file__).parents[2]
Start = Callable[[str, float], Program]


def load(app: Flask, read: Callable[[], Source] = make_source) -> Source | None:
    """Load the small world as ``ensure_loaded()`` loads the real one."""
    with app.app_context():
        if is_loaded(db.engine):
            return None
        return load_data(db.session(), read, lambda done, total: None)


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM place")) or 0


@pytest.fixture
def start(warm_python: WarmPython) -> Iterator[Callable[[str, float], Program]]:
    """Return a function that starts a process which loads, with a pause after each batch."""
    started: list[Program] = []

    def start(url: str, pause_s: float) -> Program:
        command = ["python", "-m", "tests.examples.small_world", url, str(pause_s)]
        started.append(warm_python.start(command, ROOT))
        return started[-1]

    yield start
    for program in started:
        program.close()


def test_the_data_arrives_as_it_was_given(make_atlas: MakeAtlas) -> None:
    """Names of every script, NULLs and zeros come back from every database unchanged."""
    app = make_atlas()
    load(app)
    with app.app_context():
        places = db.session.scalars(
            sa.select(Place).options(undefer(Place.alternate_names)).order_by(Place.id)
        ).all()
        for place, row in zip(places, make_source().places, strict=True):
            assert {key: getattr(place, key) for key in row} == pytest.approx(row)
            assert place.version == 1


def test_a_second_start_reads_no_data(make_atlas: MakeAtlas) -> None:
    """A demo that is loaded starts at once."""

    def read() -> Source:
        raise AssertionError

    app = make_atlas()
    load(app)
    assert load(app, read) is None


def test_a_load_that_fails_leaves_nothing(make_atlas: MakeAtlas) -> None:
    """Half an atlas would look like a whole one; the next start loads all of it."""

    def read() -> Source:
        source = make_source()
        return replace(source, places=[*source.places[:-1], {**source.places[-1], "id": 1}])

    app = make_atlas()
    with pytest.raises(IntegrityError):
        load(app, read)
    with app.app_context():
        assert count(db.engine) == 0
    assert load(app) is not None
    with app.app_context():
        assert count(db.engine) == 200


@pytest.mark.requires("several_processes")
def test_a_killed_load_is_repaired_by_the_next_start(
    database: Database, make_atlas: MakeAtlas, start: Start
) -> None:
    """Nothing a process does on its way out is needed for that."""
    process = start(database.url, 0.2)
    for line in process.stdout:
        if line.startswith("50 "):
            process.kill()
            break
    app = make_atlas()
    assert load(app) is not None
    with app.app_context():
        assert count(db.engine) == 200


@pytest.mark.requires("several_processes")
def test_two_starts_at_once_load_once(
    database: Database, make_atlas: MakeAtlas, start: Start
) -> None:
    """The second waits for the first and then finds its data, however long that takes."""
    processes = [start(database.url, 0.02) for _ in range(2)]
    endings = [process.stdout.read().splitlines()[-1] for process in processes]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(endings) == ["loaded", "was loaded"]
    with make_atlas().app_context():
        assert count(db.engine) == 200


@pytest.mark.backends("sqlite-file")
def test_the_second_start_waits_longer_than_a_lock_does(
    database: Database, make_atlas: MakeAtlas, start: Start
) -> None:
    """Loading takes longer than the busy timeout, and waiting for it is no error."""
    first = start(database.url, 0.1)
    assert first.stdout.readline().startswith("10 ")
    app = make_atlas(DBKIT_SQLITE_BUSY_TIMEOUT_MS=50)
    begun = time.monotonic()
    assert load(app) is None
    assert time.monotonic() - begun > 1
    assert first.wait() == 0


def test_the_database_of_another_application_is_refused(
    make_atlas: MakeAtlas,
) -> None:
    """A mistyped DATABASE_URL must not put the atlas's tables beside somebody's data."""
    app = make_atlas()
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE invoice (id INTEGER)"))
    with pytest.raises(AtlasError, match=r"belongs to another application.*invoice"):
        load(app)
    with app.app_context():
        assert sa.inspect(db.engine).get_table_names() == ["invoice"]


def test_a_database_of_an_older_atlas_is_refused(make_atlas: MakeAtlas) -> None:
    """One paragraph says so, instead of an error at some later page."""
    app = make_atlas()
    load(app)
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE country DROP COLUMN capital"))
    with pytest.raises(AtlasError, match=r"another version.*country has no column capital"):
        load(app)


@pytest.mark.backends("sqlite-file")
def test_a_file_that_is_no_database_is_refused_and_left_alone(
    database: Database, make_atlas: MakeAtlas
) -> None:
    """The file might be somebody's only copy of something."""
    path = Path(sa.make_url(database.url).database or "")
    path.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(AtlasError, match="is not a SQLite database"):
        load(make_atlas())
    assert path.read_bytes() == b"Dear diary, " * 1000


@pytest.mark.requires("server")
def test_a_server_without_that_database_is_named(database: Database, make_atlas: MakeAtlas) -> None:
    """The paragraph names the database, not the password."""
    url = sa.make_url(database.url)
    missing = url.set(database="dbkit_no_such_database").render_as_string(hide_password=False)
    with pytest.raises(AtlasError, match=r"dbkit_no_such_database.*cannot be used"):
        load(make_atlas(SQLALCHEMY_DATABASE_URI=missing))
