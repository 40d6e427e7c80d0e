"""What the errors of the drivers mean, whatever class they come in."""

from __future__ import annotations

import psycopg
import psycopg2
import psycopg2.errors
import pymysql
import pytest

from flask_dbkit.databases import POSTGRESQL, database_of, errors_of


class PoolTimeout(psycopg.errors.ConnectionTimeout):
    """As a pool, or an application, makes one of its own."""


class Gone(psycopg2.OperationalError):
    """The same over another driver."""


class Full(pymysql.err.OperationalError):
    """And over a third."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (psycopg.errors.ConnectionTimeout("timeout"), "unavailable"),
        (PoolTimeout("timeout"), "unavailable"),
        (Gone("server closed the connection"), "unavailable"),
        (Full(1040, "Too many connections"), "unavailable"),
        (psycopg.errors.DiskFull("no space"), "unavailable"),
        (type("Mine", (psycopg.errors.UniqueViolation,), {})("twice"), "conflict.unique"),
        (type("Mine", (psycopg.DataError,), {})("NUL in text"), "invalid.value"),
        (type("Mine", (pymysql.err.DataError,), {})(1, "too long"), "invalid.value"),
    ],
)
def test_an_error_is_known_by_its_code_and_by_all_its_classes(error: Exception, code: str) -> None:
    """Drivers subclass their errors, pools those of drivers, applications both."""
    codes = errors_of(error)
    assert codes is not None
    assert codes.meaning(error, None) == code


@pytest.mark.parametrize(
    ("error", "is_open"),
    [
        (psycopg.OperationalError("server closed the connection"), True),
        *((sqlstate, True) for sqlstate in ("40003", "08006", "08007", "57P01", "58030", "XX000")),
        *((sqlstate, False) for sqlstate in ("40001", "40P01", "23503", "P0001", "57014", "53100")),
        *((number, True) for number in (1047, 1053, 1105, 1180, 1317, 1927, 2006, 2013, 8501)),
        *((number, False) for number in (1205, 1213, 1062, 1452, 3101, 4025, 1021)),
    ],
)
def test_an_answer_to_commit_proves_a_rollback_or_does_not(
    error: Exception | str | int, is_open: bool
) -> None:
    """Where it does not, nobody may be told that the work is lost, and nobody repeats it."""
    if isinstance(error, str):
        error = psycopg.errors.lookup(error)("…")
    elif isinstance(error, int):
        error = pymysql.err.OperationalError(error, "…")
    codes = errors_of(error)
    assert codes is not None
    assert codes.leaves_commit_open(error) is is_open


def test_a_database_is_found_by_whatever_belongs_to_it() -> None:
    """And one that is not known has the plain answers, and a name for messages."""
    assert database_of("postgresql") is POSTGRESQL
    other = database_of("oracle")
    assert other is database_of("oracle")
    assert (other.name, other.is_known, other.ddl_commits) == ("oracle", False, False)
