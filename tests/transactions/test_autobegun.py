"""Sessions that were used before the scope: by a login loader, by the code above it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from flask_dbkit import OptionMismatch, OwnershipError, transaction

from .conftest import Entry, Ledger


def test_a_scope_follows_a_read_on_the_same_session(ledger: Ledger) -> None:
    """``session.begin()`` would raise after any loader that reads the user."""
    ledger.read()
    session = ledger.session
    with transaction():
        assert ledger.session is session
        ledger.insert(1)
    assert ledger.saved() == [1]


def test_a_scope_follows_the_reading_of_an_expired_object(ledger: Ledger) -> None:
    """A commit expires objects; touching one begins a transaction."""
    (entry,) = ledger.add(1)
    ledger.db.session.commit()
    assert entry.n == 1
    with transaction():
        entry.n = 2
    assert ledger.saved() == [2]


def test_objects_that_were_added_before_are_stray_work(ledger: Ledger) -> None:
    """The scope would save what it does not show. Nothing is lost by the refusal."""
    ledger.add(1)
    with pytest.raises(OwnershipError, match="Entry"), transaction():
        pass
    ledger.db.session.commit()
    assert ledger.saved() == [1]


@pytest.mark.parametrize("kind", ["changed", "deleted", "flushed", "statement"])
def test_every_kind_of_uncommitted_work_is_stray(ledger: Ledger, kind: str) -> None:
    """Pending, dirty, deleted, flushed, or sent as a statement."""
    (entry,) = ledger.add(1)
    ledger.db.session.commit()
    if kind == "changed":
        entry.n = 2
    elif kind == "deleted":
        ledger.db.session.delete(entry)
    elif kind == "flushed":
        ledger.add(3)
        ledger.db.session.flush()
    else:
        ledger.insert(3)
    with pytest.raises(OwnershipError, match="uncommitted work"), transaction():
        pass
    ledger.db.session.rollback()
    assert ledger.saved() == [1]


def test_assigning_the_same_value_is_no_work(ledger: Ledger) -> None:
    """Nothing would be written."""
    (entry,) = ledger.add(1)
    ledger.db.session.commit()
    entry.n = entry.n
    with transaction():
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


@pytest.mark.parametrize("how", ["add", "insert"])
def test_adopted_work_is_committed_with_the_scope(ledger: Ledger, how: str) -> None:
    """On request it becomes part of the transaction."""
    getattr(ledger, how)(1)
    with transaction(adopt=True):
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


@pytest.mark.parametrize("how", ["add", "insert"])
def test_adopted_work_is_rolled_back_with_the_scope(ledger: Ledger, how: str) -> None:
    """All of it."""
    getattr(ledger, how)(1)
    with pytest.raises(ZeroDivisionError), transaction(adopt=True):
        ledger.insert(2)
        raise ZeroDivisionError
    assert ledger.saved() == []


@pytest.mark.parametrize(
    "option",
    [
        {"isolation": "SERIALIZABLE"},
        {"read_only": True},
        {"begin": "immediate"},
        {"lock_timeout": 1},
    ],
)
def test_adopted_work_cannot_be_given_options_afterwards(
    ledger: Ledger, option: dict[str, object]
) -> None:
    """It was done under others. Refused before any SQL."""
    ledger.insert(1)
    with ledger.statements() as sent:
        with pytest.raises(OptionMismatch), transaction(adopt=True, **option):  # type: ignore[call-overload]
            pass
    assert sent == []
    ledger.db.session.rollback()


def test_the_setting_adopts_unless_a_scope_says_no(make_ledger: Callable[..., Ledger]) -> None:
    """``DBKIT_TX_STRAY_WORK``; ``adopt=False`` still refuses."""
    ledger = make_ledger(DBKIT_TX_STRAY_WORK="adopt")
    with ledger.app.app_context():
        ledger.add(1)
        with transaction():
            ledger.insert(2)
        ledger.add(3)
        with pytest.raises(OwnershipError), transaction(adopt=False):
            pass
        ledger.db.session.rollback()
    assert ledger.saved() == [1, 2]


@pytest.mark.requires("several_connections")
def test_a_scope_with_options_restarts_a_session_that_only_read(ledger: Ledger) -> None:
    """Isolation after a read would be ignored with a warning; here it is in force."""
    ledger.read()
    with transaction(isolation="SERIALIZABLE") as scope:
        assert scope.isolation == "SERIALIZABLE"
        if ledger.database.name == "postgresql":
            shown = ledger.db.session.connection().exec_driver_sql("SHOW transaction_isolation")
            assert shown.scalar() == "serializable"
        ledger.insert(1)
    assert ledger.saved() == [1]


@pytest.mark.backends("sqlite-file")
def test_objects_read_before_a_writing_scope_are_fresh_inside_it(ledger: Ledger) -> None:
    """What another process wrote after the read is seen, not overwritten."""
    (entry,) = ledger.add(1)
    ledger.db.session.commit()
    assert entry.n == 1
    with ledger.engine.begin() as other:
        other.execute(update(Entry).values(n=5))
    with transaction():
        entry.n += 1
    assert ledger.saved() == [6]


@pytest.mark.backends("sqlite-file")
def test_a_writing_scope_on_sqlite_holds_the_write_lock_before_it_reads(ledger: Ledger) -> None:
    """BEGIN IMMEDIATE even if the session had read: nobody can write in between."""
    ledger.read()
    with transaction():
        ledger.db.session.scalars(select(Entry)).all()
        with ledger.engine.connect() as other:
            other.execution_options(dbkit_sqlite_lock_timeout_s=0.01)
            with pytest.raises(OperationalError, match="locked"):
                other.execute(update(Entry).values(n=5))
        ledger.insert(1)
    assert ledger.saved() == [1]


@pytest.mark.requires("server")
def test_a_clean_session_is_adopted_without_losing_its_snapshot(ledger: Ledger) -> None:
    """On a server nothing is sent again and loaded objects stay loaded."""
    (entry,) = ledger.add(1)
    ledger.db.session.commit()
    assert entry.n == 1
    with ledger.statements() as sent, transaction():
        assert entry.n == 1
    assert sent == []


def test_a_session_that_began_and_did_nothing_is_idle(ledger: Ledger) -> None:
    """Autobegin without any statement is no obstacle."""
    ledger.db.session.get_bind()
    ledger.session.in_transaction()
    ledger.db.session.expire_all()
    with transaction():
        ledger.insert(1)
    assert ledger.saved() == [1]
