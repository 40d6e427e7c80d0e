"""Isolation levels and timeouts: in force in the scope, and gone after it."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from flask_dbkit import OptionMismatch, savepoint, transaction

from .conftest import Ledger, code_of

SLEEP = {"postgresql": "SELECT pg_sleep(5)", "mariadb": "SELECT SLEEP(5)"}
ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)"
    " SELECT max(i) FROM n"
)


def show(ledger: Ledger, name: str) -> str:
    return str(ledger.db.session.connection().exec_driver_sql(f"SHOW {name}").scalar())


@pytest.mark.backends("postgresql")
def test_the_isolation_asked_for_is_in_force_and_gone_afterwards(ledger: Ledger) -> None:
    """The next transaction on the connection has the default again."""
    with transaction(isolation="serializable") as scope:
        assert scope.isolation == "SERIALIZABLE"
        assert show(ledger, "transaction_isolation") == "serializable"
    with transaction() as scope:
        assert scope.isolation is None
        assert show(ledger, "transaction_isolation") == "read committed"


@pytest.mark.backends("mariadb")
def test_the_isolation_asked_for_is_in_force_on_mariadb(ledger: Ledger) -> None:
    """The same through session variables."""
    for level, wanted in (("READ COMMITTED", "READ-COMMITTED"), (None, "REPEATABLE-READ")):
        with transaction(isolation=level):
            found = ledger.db.session.connection().exec_driver_sql("SELECT @@tx_isolation")
            assert found.scalar() == wanted


def test_a_joined_scope_cannot_ask_for_another_isolation(ledger: Ledger) -> None:
    """It would be ignored. Refused before any SQL; the outer scope goes on."""
    with transaction():
        ledger.insert(1)
        with ledger.statements() as sent:
            with pytest.raises(OptionMismatch), transaction(isolation="SERIALIZABLE"):
                pass
        assert sent == []
    assert ledger.saved() == [1]


def test_a_joined_scope_may_ask_for_what_is_in_force(ledger: Ledger) -> None:
    """A helper that insists on its level can be called from a scope that has it."""
    with transaction(isolation="SERIALIZABLE"), transaction(isolation="SERIALIZABLE"):
        ledger.insert(1)
    assert ledger.saved() == [1]


@pytest.mark.parametrize(
    "options",
    [
        {"isolation": "CHAOS"}, {"isolation": "AUTOCOMMIT"}, {"begin": "later"},
        {"multi_bind": "hope"}, {"lock_timeout": 0}, {"lock_timeout": -1},
        {"statement_timeout": float("nan")}, {"statement_timeout": float("inf")},
    ],
)  # fmt: skip
def test_an_option_that_is_none_is_refused_where_it_is_written(options: dict[str, object]) -> None:
    """At the call, before any scope is opened."""
    with pytest.raises(ValueError, match="Use"):
        transaction(**options)  # type: ignore[call-overload]


@pytest.mark.parametrize("value", ["1", True, object()])
def test_a_timeout_that_is_no_number_is_refused(value: object) -> None:
    """Seconds are a number."""
    with pytest.raises(TypeError):
        transaction(lock_timeout=value)  # type: ignore[call-overload]


def test_a_statement_that_takes_too_long_is_stopped(ledger: Ledger) -> None:
    """On every database; what was written before it is gone with the scope."""
    with pytest.raises(DBAPIError) as caught, transaction(statement_timeout=0.5):
        ledger.insert(1)
        ledger.db.session.execute(text(SLEEP.get(ledger.database.name, ENDLESS)))
    assert code_of(caught.value) in ("57014", "70100", 1969, 9)
    assert ledger.saved() == []


def test_a_statement_timeout_can_be_contained_by_a_savepoint(ledger: Ledger) -> None:
    """The scope goes on without the slow part."""
    with transaction(statement_timeout=0.5):
        ledger.insert(1)
        with pytest.raises(DBAPIError), savepoint():
            ledger.db.session.execute(text(SLEEP.get(ledger.database.name, ENDLESS)))
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


@pytest.mark.requires("several_connections")
def test_a_lock_is_waited_for_as_long_as_was_said(ledger: Ledger) -> None:
    """Shorter than the connection's own timeout."""
    ledger.add(1)
    ledger.db.session.commit()
    with ledger.engine.connect() as other:
        other.execute(text("UPDATE entry SET note = 'held'"))
        with pytest.raises(DBAPIError) as caught, transaction(lock_timeout=0.2):
            ledger.db.session.execute(text("UPDATE entry SET note = 'wanted'"))
        assert code_of(caught.value) in ("55P03", "HY000", 1205, 5)
        other.rollback()


@pytest.mark.backends("postgresql")
def test_a_shorter_timeout_of_a_savepoint_ends_with_it(ledger: Ledger) -> None:
    """``SET LOCAL`` would outlive the RELEASE."""
    with transaction(statement_timeout=9):
        ledger.insert(1)
        with transaction(savepoint=True, statement_timeout=3):
            assert show(ledger, "statement_timeout") == "3s"
        assert show(ledger, "statement_timeout") == "9s"
        with pytest.raises(ZeroDivisionError), transaction(savepoint=True, statement_timeout=3):
            assert show(ledger, "statement_timeout") == "3s"
            raise ZeroDivisionError
        assert show(ledger, "statement_timeout") == "9s"
        with transaction(lock_timeout=2):
            assert show(ledger, "lock_timeout") == "2s"
        assert show(ledger, "lock_timeout") == "0"
    assert show(ledger, "statement_timeout") == "0"
    ledger.db.session.rollback()


@pytest.mark.backends("mariadb")
def test_a_shorter_timeout_of_a_block_ends_with_it_on_mariadb(ledger: Ledger) -> None:
    """Session variables are put back at the end of the block, and by the pool."""

    def in_force() -> float:
        found = ledger.db.session.connection().exec_driver_sql("SELECT @@max_statement_time")
        return float(found.scalar_one())

    with transaction(statement_timeout=9):
        assert in_force() == 9
        with transaction(statement_timeout=3):
            assert in_force() == 3
        assert in_force() == 9
    assert in_force() == 0
    ledger.db.session.rollback()


@pytest.mark.backends("sqlite-file")
def test_a_shorter_timeout_of_a_block_ends_with_it_on_sqlite(ledger: Ledger) -> None:
    """The busy timeout is the connection's, and is put back."""

    def in_force() -> int:
        found = ledger.db.session.connection().exec_driver_sql("PRAGMA busy_timeout")
        return int(found.scalar_one())

    with transaction(lock_timeout=3):
        assert in_force() == 3000
        with transaction(lock_timeout=1):
            assert in_force() == 1000
        assert in_force() == 3000
    assert in_force() == 5000
    ledger.db.session.rollback()


def test_a_joined_scope_cannot_ask_for_more_time(ledger: Ledger) -> None:
    """Timeouts may only get shorter."""
    with transaction(statement_timeout=2):
        ledger.insert(1)
        with pytest.raises(OptionMismatch), transaction(statement_timeout=5):
            pass
    assert ledger.saved() == [1]
