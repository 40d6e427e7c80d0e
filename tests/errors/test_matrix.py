"""Every fault on every driver: status, code, fields, and where in the schema it happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_dbkit import DBProblem, db_error
from flask_dbkit.errors.codes import PROBLEMS
from tests.errors.faults import FAULTS, Site
from tests.support.databases import Database

NewSite = Callable[..., Site]
# Only MariaDB names the column of a value it refuses.
NAMED_BY_MARIADB = {"too_long": ["mail"], "too_large": ["age"], "bad_literal": ["account_id"]}


def drivers_of(database: Database) -> list[str | None]:
    return ["psycopg", "psycopg2"] if database.name == "postgresql" else [None]


def ask_everything(site: Site) -> dict[str, tuple[Any, DBProblem | None]]:
    """Provoke every fault once, and return answer and problem of each."""
    seen: dict[str, DBProblem] = {}

    def remember(app: object, problem: DBProblem, exception: object) -> None:
        seen[str(problem)] = problem

    client, answers = site.app.test_client(), {}
    for name in site.faults():
        seen.clear()
        with db_error.connected_to(remember, site.app):
            answer = client.get(f"/{name}")
        answers[name] = (answer, next(iter(seen.values()), None))
    return answers


def test_every_fault_is_answered_with_its_code(database: Database, new_site: NewSite) -> None:
    """What decides is the driver's code, never the class SQLAlchemy wraps it in."""
    for number, driver in enumerate(drivers_of(database)):
        site = new_site(driver, create=number == 0)
        wrong = []
        for name, (answer, problem) in ask_everything(site).items():
            fault = FAULTS[name]
            code = fault.codes[site.driver]
            fields = fault.fields
            if fields is None and site.driver == "pymysql":
                fields = NAMED_BY_MARIADB.get(name)
            got = answer.get_json(silent=True) or {}
            expected = (PROBLEMS[code].status, code, fields)
            found = (answer.status_code, got.get("code"), got.get("fields"))
            kind = problem.kind if problem is not None else None
            if found != expected or kind != code.partition(".")[0]:
                wrong.append((name, expected, found, repr(problem)))
            has_wait = "Retry-After" in answer.headers
            assert has_wait == (PROBLEMS[code].status == 503), name
        assert wrong == []


def test_there_are_at_least_sixty_faults() -> None:
    """The table is as long as it was meant to be."""
    assert sum(len(fault.codes) for fault in FAULTS.values()) >= 60


def test_constraint_and_table_are_found_on_every_driver(
    database: Database, new_site: NewSite
) -> None:
    """A rule for a constraint works on all of them, whatever the driver tells.

    Of eight kinds of broken constraints on four drivers, all are found but those of SQLite's
    deleted and changed parents, where it names nothing at all.
    """
    kinds = [
        "unique",
        "primary_key",
        "several_columns",
        "unique_index",
        "reference",
        "referenced",
        "null",
        "check",
    ]
    for number, driver in enumerate(drivers_of(database)):
        site = new_site(driver, create=number == 0)
        answers = ask_everything(site)
        missed = []
        for name in kinds:
            problem = answers[name][1]
            assert problem is not None
            fault = FAULTS[name]
            if (problem.constraint, problem.table) != (fault.constraint, fault.table):
                missed.append(name)
        assert missed == (["referenced"] if site.family == "sqlite" else [])


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_a_sequence_of_faults_leaves_the_pool_and_the_session_clean(new_site: NewSite) -> None:
    """An error that was answered costs nobody a connection."""
    site = new_site()
    ask_everything(site)
    with site.app.app_context():
        assert site.db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert site.db.session.get_one(site.models.account, 1).given == "Ann"
