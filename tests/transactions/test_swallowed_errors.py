"""Errors that are caught inside the block: it must not end as if nothing had happened."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from flask_dbkit import (
    OwnershipError,
    TransactionError,
    UnexpectedRollback,
    current_transaction,
    savepoint,
    transaction,
)

from .conftest import Entry, Ledger, Sheet


def fail(ledger: Ledger, how: str) -> None:
    """Insert an entry that is there already, and swallow the error."""
    try:
        getattr(ledger, how)(1)
        ledger.db.session.flush()
    except IntegrityError:
        pass


@pytest.mark.parametrize("how", ["add", "insert"])
def test_a_swallowed_error_is_raised_at_the_end(ledger: Ledger, how: str) -> None:
    """The same on every database: SQLite and MariaDB would have saved half of the block."""
    with pytest.raises(UnexpectedRollback) as caught, transaction():
        ledger.insert(1)
        fail(ledger, how)
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert ledger.saved() == []


@pytest.mark.parametrize("how", ["add", "insert"])
@pytest.mark.parametrize("then", ["add", "insert", "read"])
def test_a_statement_after_a_swallowed_error_is_refused_with_its_cause(
    ledger: Ledger, how: str, then: str
) -> None:
    """Not the database's "current transaction is aborted", which says nothing."""
    with pytest.raises(TransactionError) as caught, transaction():
        ledger.insert(1)
        fail(ledger, how)
        if then == "read":
            ledger.read()
        else:
            getattr(ledger, then)(2)
            ledger.db.session.flush()
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert ledger.saved() == []


def test_a_swallowed_syntax_error_counts_too(ledger: Ledger) -> None:
    """On PostgreSQL it has undone the work, so it does everywhere."""
    with pytest.raises(UnexpectedRollback), transaction():
        ledger.insert(1)
        with pytest.raises(DBAPIError):
            ledger.db.session.execute(text("SELEC 1"))
    assert ledger.saved() == []


def test_a_failing_select_refuses_what_follows(ledger: Ledger) -> None:
    """The cause is the first error."""
    first: list[BaseException] = []
    with pytest.raises(TransactionError) as caught, transaction():
        with pytest.raises(DBAPIError) as failed:
            ledger.db.session.execute(text("SELECT * FROM nowhere"))
        first.append(failed.value)
        ledger.read()
    assert caught.value.__cause__ is first[0]


@pytest.mark.parametrize("how", ["add", "insert"])
def test_an_error_contained_by_a_savepoint_is_no_harm(ledger: Ledger, how: str) -> None:
    """Caught outside the savepoint, it has undone the savepoint only."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(IntegrityError), savepoint():
            getattr(ledger, how)(1)
            ledger.db.session.flush()
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


@pytest.mark.parametrize("how", ["add", "insert"])
def test_an_error_swallowed_inside_a_savepoint_is_raised_at_its_end(
    ledger: Ledger, how: str
) -> None:
    """The savepoint is lost; the scope around it is not, if it catches that."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(UnexpectedRollback) as caught, savepoint():
            ledger.insert(2)
            fail(ledger, how)
        assert isinstance(caught.value.__cause__, IntegrityError)
        ledger.insert(3)
    assert ledger.saved() == [1, 3]


@pytest.mark.parametrize("how", ["add", "insert"])
def test_an_error_contained_by_ones_own_begin_nested_is_no_harm(ledger: Ledger, how: str) -> None:
    """The application's savepoints contain errors as ours do."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(IntegrityError), ledger.db.session.begin_nested():
            getattr(ledger, how)(1)
            ledger.db.session.flush()
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


def test_a_stale_version_that_is_swallowed_is_raised_at_the_end(ledger: Ledger) -> None:
    """The flush failed without any error of the database."""
    ledger.db.session.execute(insert(Sheet).values(id=1, title="a"))
    ledger.db.session.commit()
    with pytest.raises(UnexpectedRollback) as caught, transaction():
        sheet = ledger.db.session.get(Sheet, 1)
        assert sheet is not None
        ledger.insert(1)
        ledger.db.session.execute(update(Sheet.__table__).values(version=7))
        sheet.title = "b"
        with pytest.raises(StaleDataError):
            ledger.db.session.flush()
    assert isinstance(caught.value.__cause__, StaleDataError)
    assert ledger.saved() == []


def test_a_failed_joined_block_that_is_swallowed_undoes_the_outer_one(ledger: Ledger) -> None:
    """Its work is part of the outer block's, and it is not all there."""
    with pytest.raises(UnexpectedRollback) as caught, transaction():
        ledger.insert(1)
        with pytest.raises(ZeroDivisionError), transaction():
            ledger.insert(2)
            raise ZeroDivisionError
        scope = current_transaction()
        assert scope is not None
        assert scope.rollback_only
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert ledger.saved() == []


def test_a_scope_opened_after_a_swallowed_error_is_refused(ledger: Ledger) -> None:
    """It would join a transaction that cannot be committed."""
    with pytest.raises(TransactionError), transaction():
        fail(ledger, "insert")
        fail(ledger, "insert")
        with transaction():
            pass
    assert ledger.saved() == []


@pytest.mark.parametrize("how", ["add", "insert"])
def test_saying_rollback_only_makes_the_end_silent(ledger: Ledger, how: str) -> None:
    """Whoever swallows an error knowingly can say so."""
    with transaction() as scope:
        ledger.insert(1)
        fail(ledger, how)
        scope.set_rollback_only()
    assert ledger.saved() == []


def test_the_session_is_usable_at_once_after_an_unexpected_rollback(ledger: Ledger) -> None:
    """The next scope is clean."""
    with pytest.raises(UnexpectedRollback), transaction():
        ledger.insert(1)
        fail(ledger, "add")
    with transaction():
        ledger.add(2)
    assert ledger.saved() == [2]


@pytest.mark.backends("postgresql")
def test_a_deferred_constraint_violated_at_commit_arrives(ledger: Ledger) -> None:
    """COMMIT itself fails: nothing is saved, and the session is usable at once."""
    ledger.db.session.execute(
        text("ALTER TABLE entry ADD CONSTRAINT later UNIQUE (note) DEFERRABLE INITIALLY DEFERRED")
    )
    ledger.db.session.commit()
    with pytest.raises(IntegrityError), transaction():
        ledger.db.session.add_all([Entry(n=1, note="x"), Entry(n=2, note="x")])
    assert ledger.saved() == []
    with transaction():
        ledger.insert(3)
    assert ledger.saved() == [3]


@pytest.mark.backends("mariadb")
def test_ddl_inside_a_scope_is_refused_since_it_would_commit(ledger: Ledger) -> None:
    """MariaDB commits before and after DDL. Nothing is sent, and the scope goes on."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(OwnershipError, match="commits everything"):
            ledger.db.session.execute(text("CREATE TABLE other (id INTEGER)"))
        ledger.db.session.execute(text("CREATE TEMPORARY TABLE mine (id INTEGER)"))
        ledger.insert(2)
    assert ledger.saved() == [1, 2]
    with pytest.raises(DBAPIError):
        ledger.db.session.execute(text("SELECT * FROM other"))
    ledger.db.session.rollback()


@pytest.mark.requires("transactional_ddl")
def test_ddl_is_undone_with_the_scope(ledger: Ledger) -> None:
    """Where DDL is part of a transaction it is part of the scope."""
    with pytest.raises(ZeroDivisionError), transaction():
        ledger.db.session.execute(text("CREATE TABLE other (id INTEGER)"))
        raise ZeroDivisionError
    with pytest.raises(DBAPIError):
        ledger.db.session.execute(text("SELECT * FROM other"))
    ledger.db.session.rollback()
    assert ledger.db.session.scalars(select(Entry)).all() == []
