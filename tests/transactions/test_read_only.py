"""Scopes that cannot write."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from flask_dbkit import (
    OptionMismatch,
    ReadOnlyViolation,
    UnexpectedRollback,
    savepoint,
    transaction,
)

from .conftest import Entry, Ledger, code_of


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    ledger.add(1)
    ledger.db.session.commit()
    return ledger


@pytest.mark.parametrize("kind", ["new", "changed", "deleted"])
def test_a_flush_in_a_read_only_scope_is_refused_before_it_is_sent(
    filled: Ledger, kind: str
) -> None:
    """Objects cannot be saved, and the error says where."""
    entry = filled.db.session.query(Entry).one()
    filled.db.session.rollback()
    with filled.statements() as sent:
        with pytest.raises(ReadOnlyViolation), transaction(read_only=True):
            if kind == "new":
                filled.add(2)
            elif kind == "changed":
                entry.n = 2
            else:
                filled.db.session.delete(entry)
            filled.db.session.flush()
    assert not [item for item in sent if not item.lstrip().startswith("SELECT")]
    assert filled.saved() == [1]


@pytest.mark.parametrize(
    "statement", [insert(Entry).values(n=2), update(Entry).values(n=2), delete(Entry)]
)
def test_an_orm_statement_that_writes_is_refused_before_it_is_sent(
    filled: Ledger, statement: object
) -> None:
    """``insert(Entry)`` and its like are the ORM's."""
    with pytest.raises(ReadOnlyViolation), transaction(read_only=True):
        filled.db.session.execute(statement)  # type: ignore[call-overload]
    assert filled.saved() == [1]


def test_a_core_statement_that_writes_is_refused_by_the_database(filled: Ledger) -> None:
    """The scope is truly read-only, not only politely."""
    with pytest.raises(DBAPIError), transaction(read_only=True):
        filled.writes_by_database_alone(2)
    assert filled.saved() == [1]


def test_a_write_that_was_refused_and_swallowed_is_raised_at_the_end(filled: Ledger) -> None:
    """A block that meant to save something must not end as if it had."""
    with pytest.raises(UnexpectedRollback) as caught, transaction(read_only=True):
        with pytest.raises(DBAPIError):
            filled.writes_by_database_alone(2)
    assert isinstance(caught.value.__cause__, DBAPIError)
    with pytest.raises(UnexpectedRollback) as caught, transaction(read_only=True):
        with pytest.raises(ReadOnlyViolation):
            filled.db.session.execute(insert(Entry).values(n=2))
    assert isinstance(caught.value.__cause__, ReadOnlyViolation)


def test_what_was_read_before_does_not_make_it_writable(filled: Ledger) -> None:
    """The session restarts."""
    filled.read()
    with pytest.raises(DBAPIError), transaction(read_only=True):
        filled.writes_by_database_alone(2)


def test_the_next_scope_on_the_connection_can_write(filled: Ledger) -> None:
    """Nothing leaks to the next user of the pooled connection."""
    with transaction(read_only=True):
        assert filled.read() == [1]
    with transaction():
        filled.insert(2)
    with filled.app.app_context():
        filled.insert(3)
        filled.db.session.commit()
    assert filled.saved() == [1, 2, 3]


def test_objects_stay_loaded_after_a_read_only_scope(filled: Ledger) -> None:
    """A template can show them without another query."""
    with transaction(read_only=True):
        entry = filled.db.session.query(Entry).one()
    with filled.statements() as sent:
        assert entry.n == 1
    assert sent == []


def test_writing_inside_a_read_only_scope_is_a_mismatch(ledger: Ledger) -> None:
    """A plain scope asks to write."""
    with transaction(read_only=True):
        with pytest.raises(OptionMismatch) as caught, transaction():
            pass
        assert (caught.value.option, caught.value.in_force) == ("read_only", True)
        with transaction(read_only=True), savepoint():
            assert ledger.read() == []


def test_a_read_only_block_inside_a_writing_scope_refuses_writes(ledger: Ledger) -> None:
    """And the outer scope goes on writing afterwards."""
    with transaction():
        ledger.insert(1)
        with transaction(read_only=True) as inner:
            assert inner.read_only
            assert ledger.read() == [1]
        ledger.insert(2)
    assert ledger.saved() == [1, 2]
    with pytest.raises((DBAPIError, ReadOnlyViolation)), transaction():
        ledger.insert(3)
        with transaction(read_only=True):
            ledger.writes_by_database_alone(4)
    assert ledger.saved() == [1, 2]


def test_a_read_only_block_is_read_only_when_it_is_the_first_to_use_the_database(
    ledger: Ledger,
) -> None:
    """The connection is taken inside the inner block, and writable again outside it."""
    with transaction():
        with transaction(read_only=True):
            assert ledger.read() == []
        ledger.insert(1)
    assert ledger.saved() == [1]
    with pytest.raises((DBAPIError, ReadOnlyViolation)), transaction():
        with transaction(read_only=True):
            ledger.writes_by_database_alone(2)
    assert ledger.saved() == [1]


def test_entities_may_be_read_by_text_in_a_read_only_scope(filled: Ledger) -> None:
    """``from_statement()`` is no SELECT of SQLAlchemy's, and no write either."""
    statement = select(Entry).from_statement(text("SELECT * FROM entry ORDER BY n"))
    with transaction(read_only=True):
        found = filled.session.scalars(statement).all()
    assert [entry.n for entry in found] == filled.saved()


@pytest.mark.backends("postgresql")
def test_a_function_that_writes_passes_for_reading_but_in_a_read_only_scope(
    ledger: Ledger,
) -> None:
    """Its SELECT says nothing of the write: where writes are refused, the database refuses it."""
    body = "INSERT INTO entry (n) VALUES (7) RETURNING n"
    make = f"CREATE FUNCTION put() RETURNS int LANGUAGE sql AS '{body}'"
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(make)
    call = text("SELECT put()")
    with transaction():
        ledger.db.session.execute(call)
    assert ledger.saved() == [7]
    with pytest.raises(DBAPIError) as caught, transaction(read_only=True):
        ledger.db.session.execute(call)
    assert code_of(caught.value) == "25006"
