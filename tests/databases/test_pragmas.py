"""Pragmas are checked before they reach a statement, so a value can carry no SQL."""

from __future__ import annotations

import sqlite3

import pytest

from flask_dbkit import ConfigError
from flask_dbkit.databases.sqlite.pragmas import DEFAULT_PRAGMAS, PRAGMAS, parse_pragmas


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("synchronous", "full", "FULL"),
        ("SYNCHRONOUS", 2, 2),
        ("synchronous", "2", "2"),
        ("foreign_keys", True, "ON"),
        ("foreign_keys", False, "OFF"),
        ("foreign_keys", 0, 0),
        ("cache_size", -2000, -2000),
        ("cache_size", "-2000", -2000),
        ("mmap_size", 268_435_456, 268_435_456),
        ("mmap_size", None, None),
        ("journal_mode", " Wal ", "WAL"),
        ("encoding", "UTF-16", "UTF-16"),
        ("secure_delete", "fast", "FAST"),
    ],
)
def test_a_value_becomes_what_sqlite_takes(name: str, given: object, expected: object) -> None:
    """Words ignore case, switches may be booleans, ``None`` leaves the pragma alone."""
    assert parse_pragmas({name: given}) == {name.lower(): expected}


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        (
            "journal_mode",
            "wall",
            (
                "DBKIT_SQLITE_PRAGMAS[\"journal_mode\"] is 'wall'. Use one of: delete, memory, off,"
                " persist, truncate, wal, or None to leave it alone. Did you mean 'wal'?"
            ),
        ),
        ("synchronous", "NORMAL; DROP TABLE user", "Use one of"),
        ("cache_size", "1; DROP TABLE user", "a whole number"),
        ("cache_size", "٣", "a whole number"),
        ("cache_size", "--3", "a whole number"),
        ("cache_size", 2**63, "a whole number"),
        ("cache_size", 1.5, "a whole number"),
        ("cache_size", True, "a whole number"),
        ("busy_timeout", "on", "a whole number"),
        ("synchronous", True, "one of"),
        ("synchronous", 9, "one of"),
        ("foreign_keys", b"on", "one of"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name: str, given: object, said: str) -> None:
    """Nothing but a listed word or a whole number gets through."""
    with pytest.raises(ConfigError) as caught:
        parse_pragmas({name: given})
    assert said in str(caught.value)
    assert caught.value.key == f'DBKIT_SQLITE_PRAGMAS["{name}"]'
    assert caught.value.given == given


@pytest.mark.parametrize(
    ("name", "nearest"), [("jornal_mode", "journal_mode"), ("user_version", None), (7, None)]
)
def test_an_unknown_pragma_is_refused_with_the_nearest_one(
    name: object, nearest: str | None
) -> None:
    """Pragmas that ask or do something are no settings."""
    with pytest.raises(ConfigError) as caught:
        parse_pragmas({name: 1})
    assert repr(name) in str(caught.value)
    assert caught.value.nearest == nearest
    if nearest is not None:
        assert f"Did you mean {nearest!r}?" in str(caught.value)


def test_every_pragma_of_the_table_is_known_to_sqlite() -> None:
    """SQLite ignores a name it does not know without a word, so the table must have none."""
    raw = sqlite3.connect(":memory:")
    known = {row[0] for row in raw.execute("PRAGMA pragma_list")}
    raw.close()
    # A debugging aid of SQLite, left out of some builds.
    assert set(PRAGMAS) - known <= {"reverse_unordered_selects"}


def test_the_defaults_pass_their_own_table() -> None:
    """What we set is what we would let an application set."""
    assert parse_pragmas(DEFAULT_PRAGMAS) == DEFAULT_PRAGMAS
