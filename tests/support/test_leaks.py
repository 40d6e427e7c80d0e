"""What a test leaves open is closed or told, and never becomes another test's trouble."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.support.leaks import watch

ROOT = Path(__file__).parents[2]


def test_engines_that_nobody_disposed_of_are_disposed_of(tmp_path: Path) -> None:
    """An application made in a test needs no tidying up, on any Python."""
    with watch() as made:
        for url in ("sqlite://", f"sqlite:///{tmp_path / 'one.db'}"):
            with create_engine(url).connect() as connection:
                connection.execute(text("SELECT 1"))
        assert len(made.engines) == len(made.opened) == 2
        assert made.close() == []
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made.opened[0].connection.execute("SELECT 1")


def test_a_connection_opened_by_hand_is_told_with_its_line() -> None:
    """Whoever reads the failure finds the line to mend."""
    with watch() as made:
        sqlite3.connect(":memory:")
        (told,) = made.close()
    assert told.startswith("a SQLite connection by hand, opened at ")
    assert Path(__file__).name in told
    assert made.close() == []


def test_a_connection_that_was_never_given_back_is_told(tmp_path: Path) -> None:
    """Disposing of an engine does not reach what is checked out of its pool."""
    with watch() as made:
        connection = create_engine(f"sqlite:///{tmp_path / 'kept.db'}").connect()
        (told,) = made.close()
    assert told.startswith("a SQLite connection of an engine, opened at ")
    connection.invalidate()
    connection.close()


def test_engines_made_before_the_test_stay_open(tmp_path: Path) -> None:
    """What a module shares is not this test's to close."""
    with watch() as outer:
        shared = create_engine(f"sqlite:///{tmp_path / 'shared.db'}")
        with watch() as made:
            with shared.connect() as connection:
                connection.execute(text("SELECT 1"))
            assert made.close() == []
            assert made.opened[0].connection.execute("SELECT 1").fetchone() == (1,)
        assert outer.engines == [shared]
        shared.dispose()


def test_the_test_that_left_something_open_is_the_one_that_fails(tmp_path: Path) -> None:
    """The whole suite is watched, whatever the order of its tests."""
    file = tmp_path / "test_two.py"
    file.write_text(
        "import sqlite3\n"
        "def test_that_leaves_something(): sqlite3.connect(':memory:')\n"
        "def test_that_collects_it(): __import__('gc').collect()\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"),
            *("-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-p", "tests.conftest", file),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "This test left open: a SQLite connection by hand" in done.stdout
    assert "ERROR " in done.stdout
    assert "::test_that_leaves_something" in done.stdout.partition("short test summary")[2]
    assert "2 passed, 1 error" in done.stdout
