"""Scopes inside scopes: they join, send nothing, and cannot lose an error on the way."""

from __future__ import annotations

import pytest

from flask_dbkit import (
    NoTransaction,
    Rollback,
    TransactionError,
    UnexpectedRollback,
    current_transaction,
    in_transaction,
    require_transaction,
    savepoint,
    transaction,
)

from .conftest import Ledger


def fail_inside(ledger: Ledger, n: int, error: Exception) -> None:
    with transaction():
        ledger.insert(n)
        raise error


def test_nested_scopes_that_succeed_are_one_transaction_without_a_savepoint(
    ledger: Ledger,
) -> None:
    """Joining is the default, and sends nothing."""
    with ledger.statements() as sent:
        with transaction() as outer:
            ledger.insert(1)
            with transaction() as inner:
                assert inner.id == outer.id
                ledger.insert(2)
                with transaction():
                    pass
            assert ledger.saved() in ([], [1, 2])  # in memory there is one connection
        assert len([line for line in sent if line.startswith("INSERT")]) == 2
        assert not [line for line in sent if "SAVEPOINT" in line]
    assert ledger.saved() == [1, 2]


def test_an_inner_error_that_nobody_catches_undoes_everything(ledger: Ledger) -> None:
    """The same exception object goes through all the blocks."""
    error = ValueError("inner")
    with pytest.raises(ValueError, match="inner") as caught, transaction():
        ledger.insert(1)
        fail_inside(ledger, 2, error)
    assert caught.value is error
    assert ledger.saved() == []


@pytest.mark.parametrize("work_after", [False, True], ids=["nothing after", "objects after"])
def test_a_swallowed_inner_error_makes_the_outer_exit_raise(
    ledger: Ledger, work_after: bool
) -> None:
    """Half of the work cannot be taken back, so none is saved, and that is said."""
    error = ValueError("inner")
    with pytest.raises(UnexpectedRollback) as caught, transaction() as tx:
        ledger.insert(1)
        with pytest.raises(ValueError, match="inner"):
            fail_inside(ledger, 2, error)
        assert tx.rollback_only
        if work_after:
            ledger.add(3)
    assert caught.value.__cause__ is error
    assert "It was rolled back" in str(caught.value)
    assert ledger.saved() == []


def test_sql_after_a_swallowed_inner_error_is_refused_with_its_cause(ledger: Ledger) -> None:
    """Work that will be rolled back is not even begun."""
    error = ValueError("inner")
    with pytest.raises(TransactionError) as caught, transaction():
        with pytest.raises(ValueError, match="inner"):
            fail_inside(ledger, 1, error)
        with ledger.statements() as sent:
            for use in (lambda: ledger.insert(2), ledger.read, lambda: transaction().__enter__()):
                with pytest.raises(TransactionError) as refused:
                    use()
                assert refused.value.__cause__ is error
            with pytest.raises(TransactionError) as refused, savepoint():
                ledger.insert(3)
            assert refused.value.__cause__ is error
        assert sent == []
        ledger.insert(2)
    assert caught.value.__cause__ is error
    assert ledger.saved() == []


def test_an_outer_error_undoes_an_inner_success(ledger: Ledger) -> None:
    """A joined scope's end is no commit."""
    with pytest.raises(KeyError), transaction():
        with transaction():
            ledger.insert(1)
        raise KeyError
    assert ledger.saved() == []


def test_a_joined_failure_inside_a_savepoint_is_undone_by_the_savepoint(ledger: Ledger) -> None:
    """The savepoint is the nearest boundary: its exit raises, and the outer goes on."""
    error = ValueError("inner")
    with transaction():
        ledger.insert(1)
        with pytest.raises(UnexpectedRollback) as caught, savepoint():
            ledger.insert(2)
            with pytest.raises(ValueError, match="inner"):
                fail_inside(ledger, 3, error)
        assert caught.value.__cause__ is error
        ledger.insert(4)
    assert ledger.saved() == [1, 4]


def test_of_three_levels_the_cause_is_the_one_that_failed(ledger: Ledger) -> None:
    """Swallowed at the top, the failure in the middle is what is reported."""
    error = LookupError("middle")
    with pytest.raises(UnexpectedRollback) as caught, transaction():
        ledger.insert(1)
        with pytest.raises(LookupError), transaction():
            ledger.insert(2)
            with transaction():
                ledger.insert(3)
            raise error
    assert caught.value.__cause__ is error
    assert ledger.saved() == []


def test_the_first_of_several_swallowed_errors_is_the_cause(ledger: Ledger) -> None:
    """What came later is a consequence, or would not have been reached."""
    first = ValueError("first")
    with pytest.raises(UnexpectedRollback) as caught, transaction():
        with pytest.raises(ValueError, match="first"), transaction():
            raise first
        with pytest.raises(TransactionError), transaction():
            raise KeyError
    assert caught.value.__cause__ is first


def test_an_inner_error_that_is_turned_into_another_arrives_as_that_one(ledger: Ledger) -> None:
    """``except Inner: raise Outer`` is an exception like any other."""
    with pytest.raises(KeyError) as caught, transaction():
        try:
            fail_inside(ledger, 1, ValueError("inner"))
        except ValueError as error:
            raise KeyError from error
    assert isinstance(caught.value.__cause__, ValueError)
    assert ledger.saved() == []


def test_rollback_raised_in_a_joined_scope_ends_the_whole_transaction(ledger: Ledger) -> None:
    """It travels to the scope that owns the boundary; what follows in between does not run."""
    with transaction():
        ledger.insert(1)
        with transaction():
            ledger.insert(2)
            with transaction():
                raise Rollback
        raise AssertionError
    assert ledger.saved() == []
    assert not in_transaction()


def test_a_rollback_that_is_swallowed_on_its_way_still_rolls_back(ledger: Ledger) -> None:
    """``raise Rollback`` was said; catching it in between cannot save half of the work."""
    with transaction() as tx:
        ledger.insert(1)
        try:
            with transaction():
                ledger.insert(2)
                raise Rollback
        except Rollback:
            pass
        assert tx.rollback_only
        ledger.insert(3)
    assert ledger.saved() == []


def test_set_rollback_only_in_a_joined_scope_is_that_of_the_transaction(ledger: Ledger) -> None:
    """Silent as on the outermost scope: the code that opened the block has spoken."""
    with transaction() as outer:
        ledger.insert(1)
        with transaction() as inner:
            inner.set_rollback_only()
        assert outer.rollback_only
    assert ledger.saved() == []


def test_require_transaction_refuses_outside_and_joins_inside(ledger: Ledger) -> None:
    """It documents and enforces that somebody else commits."""

    @require_transaction
    def save(n: int) -> int:
        tx = current_transaction()
        assert tx is not None
        ledger.insert(n)
        return tx.depth

    @require_transaction()
    def save_too(n: int) -> None:
        ledger.insert(n)

    ledger.checkouts = 0
    for call in (save, save_too):
        with pytest.raises(NoTransaction, match="require_transaction"):
            call(1)
    with pytest.raises(NoTransaction), require_transaction():
        pass
    assert ledger.checkouts == 0
    with transaction():
        assert save(1) == 2
        save_too(2)
        with require_transaction():
            ledger.insert(3)
    assert ledger.saved() == [1, 2, 3]


def test_require_transaction_takes_whatever_is_in_force(ledger: Ledger) -> None:
    """It asks for no option, so that no option can mismatch."""
    with transaction(read_only=True, isolation="SERIALIZABLE", statement_timeout=5):
        with require_transaction() as tx:
            assert tx.read_only
            assert ledger.read() == []


def test_an_error_in_a_required_transaction_counts_as_in_a_joined_one(ledger: Ledger) -> None:
    """It is a joined scope in every respect."""

    @require_transaction
    def fail() -> None:
        raise ValueError

    with pytest.raises(UnexpectedRollback), transaction():
        ledger.insert(1)
        with pytest.raises(ValueError, match=r"^$"):
            fail()
    assert ledger.saved() == []


def test_a_decorated_function_joins_when_it_is_called_inside(ledger: Ledger) -> None:
    """Its retry policy is that of the outermost scope: it runs once and joins."""
    calls = []

    @transaction(retry=5)
    def save(n: int) -> None:
        calls.append(n)
        ledger.insert(n)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"), transaction():
        save(1)
    assert calls == [1]
    assert ledger.saved() == []
