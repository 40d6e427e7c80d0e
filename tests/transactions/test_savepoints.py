"""Savepoints: what fails in one is undone to it, and what succeeds belongs to the scope."""

from __future__ import annotations

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from flask_dbkit import (
    NoTransaction,
    Rollback,
    TransactionError,
    UnexpectedRollback,
    on_rollback,
    savepoint,
    transaction,
)

from .conftest import Copy, Entry, Ledger

pytestmark = pytest.mark.requires("savepoint")


@pytest.mark.parametrize("how", ["add", "insert"])
def test_a_savepoint_that_succeeds_is_committed_with_its_scope(ledger: Ledger, how: str) -> None:
    """Both rows are there, after the outermost commit."""
    with transaction():
        getattr(ledger, how)(1)
        with savepoint():
            getattr(ledger, how)(2)
    assert ledger.saved() == [1, 2]


@pytest.mark.parametrize("how", ["add", "insert"])
@pytest.mark.parametrize("first", [True, False], ids=["after work", "first of all"])
def test_a_failed_savepoint_undoes_itself_alone(ledger: Ledger, how: str, first: bool) -> None:
    """The outer rows are saved, the inner ones are not, whoever came first."""
    with transaction():
        if first:
            getattr(ledger, how)(1)
        with pytest.raises(ValueError, match=r"^$"), savepoint():
            getattr(ledger, how)(2)
            raise ValueError
        getattr(ledger, how)(3)
    assert ledger.saved() == ([1, 3] if first else [3])


@pytest.mark.parametrize("first", ["savepoint", "read", "write"])
def test_a_released_savepoint_is_undone_with_its_scope(ledger: Ledger, first: str) -> None:
    """RELEASE commits nothing, also where it is the very first work of the transaction.

    On SQLite as Python's driver has it by default, the row would stay.
    """
    with pytest.raises(ValueError, match=r"^$"), transaction():
        if first == "read":
            ledger.read()
        if first == "write":
            ledger.insert(1)
        with savepoint():
            ledger.insert(2)
        raise ValueError
    assert ledger.saved() == []


@pytest.mark.requires("transactional_ddl")
def test_a_table_made_in_a_scope_that_fails_is_not_there(ledger: Ledger) -> None:
    """DDL belongs to the transaction as rows do, in a savepoint and outside one."""
    with pytest.raises(ValueError, match=r"^$"), transaction():
        ledger.db.session.execute(text("CREATE TABLE extra (n INTEGER)"))
        with savepoint():
            ledger.db.session.execute(text("CREATE TABLE more (n INTEGER)"))
        raise ValueError
    with transaction(), pytest.raises(ValueError, match=r"^$"), savepoint():
        ledger.db.session.execute(text("CREATE TABLE more (n INTEGER)"))
        raise ValueError
    names = inspect(ledger.engine).get_table_names()
    assert not {"extra", "more"} & set(names)


def test_a_savepoint_needs_a_scope(ledger: Ledger) -> None:
    """``savepoint()`` is refused; ``transaction(savepoint=True)`` is an outermost scope."""
    with pytest.raises(NoTransaction, match="savepoint"), savepoint():
        ledger.insert(1)
    with transaction(savepoint=True) as tx:
        assert tx.depth == 1
        ledger.insert(2)
    assert ledger.saved() == [2]


def test_objects_go_back_to_what_they_were_before_the_savepoint(ledger: Ledger) -> None:
    """An object added in it is transient, one changed before and in it has the first change."""
    with transaction():
        (kept,) = ledger.add(1)
    with transaction():
        kept.n = 2
        with pytest.raises(ValueError, match=r"^$"), savepoint():
            kept.n = 3
            (lost,) = ledger.add(4)
            ledger.session.flush()
            raise ValueError
        assert kept.n == 2
        assert inspect(lost).transient
    assert ledger.saved() == [2]


def test_a_savepoint_in_which_nothing_is_executed_sends_nothing(ledger: Ledger) -> None:
    """SAVEPOINT is sent with the first statement inside, or never."""
    with transaction():
        ledger.insert(1)
        with ledger.statements() as sent:
            with savepoint():
                pass
            with pytest.raises(ValueError, match=r"^$"), savepoint(), savepoint():
                raise ValueError
            with transaction(savepoint=True):
                pass
        assert sent == []
    assert ledger.saved() == [1]


def test_a_savepoint_holds_what_is_sent_on_a_connection_taken_before(ledger: Ledger) -> None:
    """SAVEPOINT is sent in time, also when the statement does not come through the session."""
    with transaction():
        connection = ledger.session.connection()
        connection.execute(Entry.__table__.insert().values(n=1))
        with pytest.raises(ValueError, match=r"^$"), savepoint():
            connection.execute(Entry.__table__.insert().values(n=2))
            raise ValueError
        with savepoint():
            connection.execute(Entry.__table__.insert().values(n=3))
            with pytest.raises(ValueError, match=r"^$"), savepoint():
                connection.execute(Entry.__table__.insert().values(n=4))
                raise ValueError
        with pytest.raises(IntegrityError), savepoint():
            connection.execute(Entry.__table__.insert().values(n=1))
    assert ledger.saved() == [1, 3]


def test_an_error_of_pending_outer_work_belongs_to_the_outer_scope(ledger: Ledger) -> None:
    """Entering flushes what came before: its error is not the savepoint's, and not contained."""
    with transaction():
        ledger.insert(1)
    errors: list[BaseException] = []
    with pytest.raises(UnexpectedRollback) as caught, transaction():
        on_rollback(errors.append)
        ledger.add(2)
        ledger.add(1)
        with pytest.raises(IntegrityError), savepoint():
            raise AssertionError
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert len(errors) == 1
    assert ledger.saved() == [1]


def test_of_many_savepoints_exactly_the_good_ones_are_kept(ledger: Ledger) -> None:
    """Two hundred in one scope, half of them failing, and none is left open."""
    with transaction():
        for n in range(200):
            try:
                with savepoint():
                    ledger.insert(n)
                    if n % 2:
                        raise ValueError
            except ValueError:
                pass
        assert ledger.session.get_nested_transaction() is None
    assert ledger.saved() == list(range(0, 200, 2))


def test_savepoints_nest(ledger: Ledger) -> None:
    """Each is undone with the one around it, and only with that."""
    with transaction():
        with savepoint():
            ledger.insert(1)
            with pytest.raises(ValueError, match=r"^$"), savepoint():
                ledger.insert(2)
                with savepoint():
                    ledger.insert(3)
                raise ValueError
            with savepoint():
                ledger.insert(4)
        with pytest.raises(ValueError, match=r"^$"), savepoint():
            with savepoint():
                ledger.insert(5)
            raise ValueError
    assert ledger.saved() == [1, 4]


def test_rollback_in_a_savepoint_undoes_the_savepoint_alone(ledger: Ledger) -> None:
    """It is swallowed at the nearest boundary, also out of a joined scope inside."""
    with transaction():
        ledger.insert(1)
        with savepoint():
            ledger.insert(2)
            raise Rollback
        with savepoint():
            with transaction():
                ledger.insert(3)
                raise Rollback
        with savepoint() as tx:
            ledger.insert(4)
            tx.set_rollback_only()
        ledger.insert(5)
    assert ledger.saved() == [1, 5]


def test_set_rollback_only_inside_a_savepoint_does_not_reach_the_scope(ledger: Ledger) -> None:
    """The enclosing boundary is the savepoint."""
    with transaction() as outer:
        ledger.insert(1)
        with savepoint():
            ledger.insert(2)
            with transaction() as inner:
                inner.set_rollback_only()
        assert not outer.rollback_only
    assert ledger.saved() == [1]


def test_a_flush_that_fails_at_the_end_of_a_savepoint_undoes_the_savepoint(ledger: Ledger) -> None:
    """What is pending at its end is part of it, and so is the error."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(IntegrityError), savepoint():
            ledger.add(2)
            ledger.add(1)
        ledger.add(3)
    assert ledger.saved() == [1, 3]


def test_a_savepoint_ended_by_a_base_exception_is_undone_with_everything(ledger: Ledger) -> None:
    """Ctrl-C in a savepoint ends the scope, and both are rolled back."""
    with pytest.raises(KeyboardInterrupt), transaction():
        ledger.insert(1)
        with savepoint():
            ledger.insert(2)
            raise KeyboardInterrupt
    assert ledger.saved() == []


def test_an_own_begin_nested_works_inside_a_scope(ledger: Ledger) -> None:
    """SQLAlchemy's savepoints are allowed: they release and roll back as usual."""
    with transaction():
        ledger.insert(1)
        with ledger.session.begin_nested():
            ledger.insert(2)
        with pytest.raises(IntegrityError), ledger.session.begin_nested():
            ledger.insert(3)
            ledger.insert(2)
        with pytest.raises(IntegrityError), ledger.session.begin_nested():
            ledger.add(4)
            ledger.add(2)
        nested = ledger.session.begin_nested()
        ledger.insert(5)
        nested.rollback()
        nested = ledger.session.begin_nested()
        ledger.insert(6)
        nested.commit()
        with ledger.session.begin_nested(), savepoint(), ledger.session.begin_nested():
            ledger.insert(7)
    assert ledger.saved() == [1, 2, 6, 7]


def test_an_own_begin_nested_of_a_connection_works_inside_a_scope(ledger: Ledger) -> None:
    """Also the Core's savepoints contain what fails inside them."""
    with transaction():
        ledger.insert(1)
        connection = ledger.session.connection()
        with connection.begin_nested():
            connection.execute(Entry.__table__.insert().values(n=2))
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(Entry.__table__.insert().values(n=3))
            connection.execute(Entry.__table__.insert().values(n=2))
        ledger.insert(4)
    assert ledger.saved() == [1, 2, 4]


@pytest.mark.parametrize("inside", [transaction, savepoint])
def test_an_own_begin_nested_that_is_left_open_is_committed(ledger: Ledger, inside: object) -> None:
    """What it holds is part of the block, and the block commits all of it."""
    with transaction():
        with inside():  # type: ignore[operator]
            ledger.insert(1)
            ledger.session.begin_nested()
            ledger.insert(2)
            ledger.add(3)
    assert ledger.session.get_nested_transaction() is None
    assert ledger.saved() == [1, 2, 3]


def test_an_own_begin_nested_that_is_left_open_is_undone_with_its_block(ledger: Ledger) -> None:
    """A savepoint that rolls back takes what was opened in it along."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(ValueError, match=r"^$"), savepoint():
            ledger.session.begin_nested()
            ledger.insert(2)
            raise ValueError
        ledger.insert(3)
    assert ledger.saved() == [1, 3]


@pytest.mark.parametrize("how", ["add", "insert"])
def test_an_error_swallowed_in_an_own_begin_nested_makes_it_raise(ledger: Ledger, how: str) -> None:
    """On every database alike it cannot be released, and a scope that goes on commits the rest.

    SQLAlchemy alone drops such a block silently, or keeps half of it.
    """
    with transaction():
        ledger.insert(1)
        with pytest.raises(UnexpectedRollback) as caught, ledger.session.begin_nested():
            getattr(ledger, how)(2)
            with pytest.raises(IntegrityError):
                getattr(ledger, how)(1)
                ledger.session.flush()
        assert isinstance(caught.value.__cause__, IntegrityError)
        ledger.insert(3)
    assert ledger.saved() == [1, 3]


@pytest.mark.parametrize("how", ["add", "insert"])
def test_sql_after_an_error_in_an_own_begin_nested_is_refused(ledger: Ledger, how: str) -> None:
    """As in a savepoint of the scope, with the first error as the cause."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(TransactionError) as caught, ledger.session.begin_nested():
            with pytest.raises(IntegrityError):
                getattr(ledger, how)(1)
                ledger.session.flush()
            ledger.read()
        assert isinstance(caught.value.__cause__, IntegrityError)
        ledger.insert(3)
    assert ledger.saved() == [1, 3]


def test_an_own_begin_nested_that_is_rolled_back_by_hand_contains_its_error(ledger: Ledger) -> None:
    """The classic: ``except IntegrityError: nested.rollback()``."""
    with transaction():
        ledger.insert(1)
        for again in (1, 2):
            nested = ledger.session.begin_nested()
            try:
                ledger.add(again)
                ledger.session.flush()
            except IntegrityError:
                nested.rollback()
            else:
                nested.commit()
    assert ledger.saved() == [1, 2]


def test_a_joined_scope_that_fails_in_an_own_begin_nested_is_contained(ledger: Ledger) -> None:
    """It is a boundary as well: what failed inside is undone by it."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(ValueError, match=r"^$"), ledger.session.begin_nested():
            with transaction():
                ledger.insert(2)
                raise ValueError
        with pytest.raises(UnexpectedRollback), ledger.session.begin_nested():
            with pytest.raises(ValueError, match=r"^$"), transaction():
                ledger.insert(3)
                raise ValueError
        ledger.insert(4)
    assert ledger.saved() == [1, 4]


def test_a_bind_first_touched_in_a_savepoint_counts(two: Ledger) -> None:
    """Its transaction begins there, and is the scope's."""
    with pytest.raises(TransactionError, match="several databases"), transaction():
        two.insert(1)
        with savepoint():
            two.session.add(Copy(n=1))
    assert (two.saved(), two.copies()) == ([], [])
    with transaction(multi_bind="best_effort"):
        with savepoint():
            two.session.add(Copy(n=1))
        with pytest.raises(ZeroDivisionError), savepoint():
            two.session.add(Copy(n=2))
            two.insert(2)
            raise ZeroDivisionError
        two.insert(1)
    assert (two.saved(), two.copies()) == ([1], [1])


def test_an_error_of_one_bind_undoes_the_savepoint_on_both(two: Ledger) -> None:
    """A savepoint is one, however many databases it spans."""
    with transaction(multi_bind="best_effort"):
        two.insert(1)
        two.session.add(Copy(n=1))
        two.session.flush()
        with pytest.raises(IntegrityError), savepoint():
            two.insert(2)
            two.session.add(Copy(n=1))
            two.session.flush()
        two.insert(3)
    assert (two.saved(), two.copies()) == ([1, 3], [1])


def test_asking_for_a_bind_begins_nothing_and_tells_the_right_one(two: Ledger) -> None:
    """``get_bind()`` is the session's own."""
    with transaction():
        assert two.session.get_bind(Copy) is two.db.engines["second"]
        assert two.session.get_bind(Entry) is two.db.engine
        two.insert(1)
    assert two.saved() == [1]
