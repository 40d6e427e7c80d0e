"""Whose scope it is: threads, copied contexts, generators, and what is left in which order."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from flask_dbkit import (
    DurabilityError,
    OwnershipError,
    after_end,
    before_commit,
    in_transaction,
    on_commit,
    on_rollback,
    savepoint,
    transaction,
)

from .conftest import Entry, Ledger


def in_thread(function: Callable[[], object]) -> BaseException | None:
    """Run a function in another thread, in a copy of this context; return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    thread.join()
    return raised[0] if raised else None


def nothing(*_: object) -> None:
    """Do nothing, as a hook."""


def suspended(ledger: Ledger, n: int) -> Iterator[int]:
    """Hold a scope open between two pieces."""
    with transaction():
        ledger.insert(n)
        yield n


# -- threads ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        lambda: transaction().__enter__(),
        lambda: savepoint().__enter__(),
        lambda: on_commit(nothing),
        lambda: on_rollback(nothing),
        lambda: before_commit(nothing),
        lambda: after_end(nothing),
    ],
    ids=["transaction", "savepoint", "on_commit", "on_rollback", "before_commit", "after_end"],
)
def test_another_thread_can_neither_join_nor_register(
    ledger: Ledger, what: Callable[[], object]
) -> None:
    """A copied context carries the session along, which must not be shared."""
    with transaction():
        ledger.insert(1)
        assert isinstance(in_thread(what), OwnershipError)
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


def test_a_scope_left_by_another_thread_stays_with_its_own(ledger: Ledger) -> None:
    """The refusal takes nothing away: whoever entered it can still end it."""
    scope = transaction()
    scope.__enter__()
    ledger.insert(1)
    assert isinstance(in_thread(lambda: scope.__exit__(None, None, None)), OwnershipError)
    assert in_transaction()
    scope.__exit__(None, None, None)
    assert ledger.saved() == [1]


def test_a_scope_is_left_once(ledger: Ledger) -> None:
    """A second time there is nothing to end."""
    scope = transaction()
    with scope:
        ledger.insert(1)
    with pytest.raises(OwnershipError):
        scope.__exit__(None, None, None)
    assert ledger.saved() == [1]


def test_a_worker_thread_of_asyncio_is_another_thread(ledger: Ledger) -> None:
    """``asyncio.to_thread`` copies the context, and with it the session."""

    async def main() -> None:
        with transaction():
            ledger.insert(1)
            with pytest.raises(OwnershipError):
                await asyncio.to_thread(lambda: transaction().__enter__())

    asyncio.run(main())
    assert ledger.saved() == [1]


@pytest.mark.requires("several_connections")
def test_a_thread_with_a_context_of_its_own_is_independent(ledger: Ledger) -> None:
    """It sees nothing that is not committed, and its work is its own."""
    seen: list[list[int]] = []

    def work() -> None:
        with ledger.app.app_context(), transaction(begin="deferred"):
            seen.append(ledger.read())

    with transaction():
        ledger.insert(1)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    with transaction():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [[], [1]]


def test_a_context_copied_inside_a_scope_may_be_used_after_it(ledger: Ledger) -> None:
    """What it remembers of the scope is over."""
    with transaction():
        copied = contextvars.copy_context()
        ledger.insert(1)

    def later() -> None:
        with transaction():
            ledger.insert(2)

    copied.run(later)
    assert ledger.saved() == [1, 2]


def test_one_scope_object_serves_several_threads_at_once(ledger: Ledger) -> None:
    """A decorator at module level is entered by all of them."""
    both = threading.Barrier(2, timeout=30)
    scope = transaction(begin="deferred")
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with ledger.app.app_context(), scope:
                both.wait()
                both.wait()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []


# -- generators -------------------------------------------------------------------------------


def test_a_generator_that_is_closed_early_rolls_back(ledger: Ledger) -> None:
    """GeneratorExit is an exception as any other."""
    pieces = suspended(ledger, 1)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert ledger.saved() == []


def test_a_generator_that_is_collected_rolls_back(ledger: Ledger) -> None:
    """And the next scope is clean."""
    pieces = suspended(ledger, 1)
    next(pieces)
    del pieces
    gc.collect()
    with transaction():
        ledger.insert(2)
    assert ledger.saved() == [2]


def test_a_suspended_generator_cannot_outlive_the_scope_it_joined(ledger: Ledger) -> None:
    """The outer block is left before the inner one: everything is rolled back, and said."""
    with pytest.raises(OwnershipError), transaction():
        ledger.insert(1)
        pieces = suspended(ledger, 2)
        next(pieces)
    with pytest.raises(OwnershipError):
        next(pieces)
    assert ledger.saved() == []
    with transaction():
        ledger.insert(3)
    assert ledger.saved() == [3]


def test_an_error_leaves_a_scope_with_a_suspended_generator_as_it_is(ledger: Ledger) -> None:
    """The error that is on its way is what happened."""
    with pytest.raises(ZeroDivisionError), transaction():
        ledger.insert(1)
        pieces = suspended(ledger, 2)
        next(pieces)
        raise ZeroDivisionError
    with pytest.raises(OwnershipError):
        next(pieces)
    assert ledger.saved() == []


# -- beside the scope -------------------------------------------------------------------------


@pytest.mark.requires("several_connections")
def test_a_connection_beside_the_scope_is_not_the_scopes(ledger: Ledger) -> None:
    """It begins as a plain one: on SQLite without the lock that the scope will need."""
    with transaction():
        ledger.session.get_bind()
        with ledger.engine.begin() as beside:
            assert beside.execute(text("SELECT count(*) FROM entry")).scalar() == 0
            ledger.insert(1)
            assert beside.execute(select(Entry.n)).all() == []
    assert ledger.saved() == [1]


@pytest.mark.backends("postgresql", "mariadb")
def test_a_commit_beside_the_scope_is_nobodys_business(ledger: Ledger) -> None:
    """Another connection's work is saved, whatever becomes of the scope."""
    with pytest.raises(ValueError), transaction():
        ledger.insert(1)
        with ledger.engine.begin() as beside:
            beside.execute(insert(Entry.__table__).values(n=2))
        raise ValueError
    assert ledger.saved() == [2]


# -- durable ----------------------------------------------------------------------------------


def test_durable_scopes_are_outermost_and_may_follow_each_other(ledger: Ledger) -> None:
    """A plain scope inside one joins it."""
    with transaction(durable=True):
        ledger.insert(1)
    with transaction(durable=True), transaction():
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


@pytest.mark.parametrize("around", [transaction, lambda: transaction(savepoint=True)])
def test_a_durable_scope_inside_another_is_refused_before_any_sql(
    ledger: Ledger, around: Callable[[], Any]
) -> None:
    """The end of its block would not be the commit. The outer one can go on."""
    with transaction():
        ledger.insert(1)
        with around():
            with ledger.statements() as sent, pytest.raises(DurabilityError):
                transaction(durable=True).__enter__()
            assert sent == []
        ledger.insert(2)
    assert ledger.saved() == [1, 2]
