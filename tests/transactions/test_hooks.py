"""Functions called around the end of a transaction: when, in which order, and how often."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from flask_dbkit import (
    NoTransaction,
    OnCommitError,
    OwnershipError,
    Rollback,
    TransactionError,
    UnexpectedRollback,
    after_end,
    before_commit,
    in_transaction,
    on_commit,
    on_rollback,
    savepoint,
    transaction,
)

from .conftest import Entry, Ledger

# -- on_commit --------------------------------------------------------------------------------


def test_on_commit_runs_when_others_can_see_the_row_and_not_before(ledger: Ledger) -> None:
    """After the outermost COMMIT, whatever depth it was registered at."""
    seen: list[list[int]] = []
    with transaction():
        ledger.insert(1)
        with transaction():
            on_commit(lambda: seen.append(ledger.saved()))
        assert seen == []
    assert seen == [[1]]


def test_hooks_run_in_the_order_they_were_registered_in(ledger: Ledger) -> None:
    """First in, first out over the whole tree, and none before the outermost commit."""
    calls: list[int] = []
    with transaction():
        on_commit(calls.append, 1)
        with savepoint():
            ledger.insert(1)
            on_commit(calls.append, 2)
        with transaction():
            on_commit(calls.append, 3)
        assert calls == []
    assert calls == [1, 2, 3]


def test_arguments_are_bound_when_the_hook_is_registered(ledger: Ledger) -> None:
    """What the name means later does not count."""
    calls: list[Any] = []

    def note(*args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))

    value = "before"
    with transaction():
        on_commit(note, value, key=value)
        value = "after"
    assert calls == [(("before",), {"key": "before"})]


def test_hooks_of_a_rolled_back_scope_never_run(ledger: Ledger) -> None:
    """Not then, and not in the next scope either."""
    calls: list[int] = []
    with pytest.raises(ValueError), transaction():
        on_commit(calls.append, 1)
        raise ValueError
    with transaction():
        on_commit(calls.append, 2)
        raise Rollback
    with transaction():
        ledger.insert(1)
    assert calls == []


def test_hooks_are_dropped_with_their_savepoint(ledger: Ledger) -> None:
    """Of three savepoints the middle one is undone."""
    calls: list[int] = []
    with transaction():
        for n in (1, 2, 3):
            try:
                with savepoint():
                    ledger.insert(n)
                    on_commit(calls.append, n)
                    if n == 2:
                        raise ValueError
            except ValueError:
                assert n == 2
    assert calls == [1, 3]


def test_a_released_savepoint_inside_an_undone_one_loses_its_hook(ledger: Ledger) -> None:
    """Releasing a savepoint promises nothing."""
    calls: list[int] = []
    with transaction():
        on_commit(calls.append, 1)
        with pytest.raises(ValueError), savepoint():
            with savepoint():
                ledger.insert(1)
                on_commit(calls.append, 2)
            raise ValueError
        on_commit(calls.append, 3)
    assert calls == [1, 3]


@pytest.mark.parametrize("how", ["session", "connection"])
@pytest.mark.parametrize("end", ["error", "rollback()"])
def test_hooks_are_dropped_with_ones_own_begin_nested(ledger: Ledger, how: str, end: str) -> None:
    """The application's savepoints are savepoints: what they undo was not done."""
    calls: list[object] = []
    with transaction():
        on_commit(calls.append, 1)
        owner: Any = ledger.session if how == "session" else ledger.session.connection()
        try:
            with owner.begin_nested() as own:
                ledger.insert(2)
                on_commit(calls.append, 2)
                on_rollback(lambda error: calls.append(type(error)))
                if end == "error":
                    raise ValueError
                own.rollback()
        except ValueError:
            assert end == "error"
        with owner.begin_nested():
            ledger.insert(3)
            on_commit(calls.append, 3)
    undone, *rest = calls
    assert undone in (ValueError, Rollback)
    assert rest == [1, 3]
    assert ledger.saved() == [3]


def test_no_hook_runs_when_a_joined_failure_is_swallowed(ledger: Ledger) -> None:
    """The whole tree is rolled back, and so are its hooks."""
    calls: list[int] = []
    with pytest.raises(UnexpectedRollback), transaction():
        on_commit(calls.append, 1)
        with pytest.raises(ValueError), transaction():
            on_commit(calls.append, 2)
            raise ValueError
    assert calls == []


def test_a_hook_may_query_and_open_a_scope(ledger: Ledger) -> None:
    """It runs outside any scope; what its own scope registers runs at that scope's end."""
    calls: list[object] = []

    def first() -> None:
        calls.append(in_transaction())
        ledger.read()
        with transaction():
            ledger.insert(11)
            on_commit(calls.append, 11)

    with transaction():
        ledger.insert(1)
        on_commit(first)
        on_commit(calls.append, 2)
        with savepoint():
            on_commit(calls.append, 12)
    assert calls == [False, 11, 2, 12]
    assert ledger.saved() == [1, 11]


def test_the_connection_is_back_when_a_hook_runs(ledger: Ledger) -> None:
    """A hook that takes long, or opens another session, waits for nobody."""
    free: list[object] = []
    pool: Any = ledger.engine.pool

    def look() -> None:
        free.append(pool.checkedout() if hasattr(pool, "checkedout") else 0)

    with transaction():
        ledger.insert(1)
        on_commit(look)
    assert free == [0]


def test_a_failing_hook_stops_no_other_and_is_reported(ledger: Ledger) -> None:
    """The work is committed, and the error says so."""
    calls: list[int] = []
    failure = RuntimeError("mail server")

    def fail() -> None:
        raise failure

    with pytest.raises(OnCommitError) as caught, transaction():
        ledger.insert(1)
        on_commit(calls.append, 1)
        on_commit(fail)
        on_commit(calls.append, 3)
    assert calls == [1, 3]
    assert caught.value.committed is True
    assert list(caught.value.errors) == [failure]
    assert ledger.saved() == [1]


def test_the_next_scope_after_a_failed_hook_is_clean(ledger: Ledger) -> None:
    """No hook runs twice."""
    calls: list[int] = []
    with pytest.raises(OnCommitError), transaction():
        on_commit(calls.append, 1)
        on_commit(lambda: 1 // 0)
    with transaction():
        ledger.insert(2)
    assert calls == [1]
    assert ledger.saved() == [2]


def explode(*_: object) -> None:
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        (explode, "explode"),
        (functools.partial(functools.partial(explode, 1), 2), "explode"),
        (lambda: explode(), "<lambda>"),
    ],
)
def test_a_robust_hook_that_fails_is_logged_by_name(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, hook: Any, name: str
) -> None:
    """Nothing is raised, and the log says whose failure it was."""
    with caplog.at_level(logging.ERROR), transaction():
        ledger.insert(1)
        on_commit(hook, robust=True)
    assert name in caplog.text
    assert "boom" in caplog.text
    assert ledger.saved() == [1]


def test_outside_a_scope_a_hook_runs_at_once_if_the_session_is_idle(ledger: Ledger) -> None:
    """With a transaction open that no scope owns, early and never would both be wrong."""
    calls: list[int] = []
    on_commit(calls.append, 1)
    assert calls == [1]
    ledger.read()
    with pytest.raises(NoTransaction):
        on_commit(calls.append, 2)
    assert calls == [1]


@pytest.mark.parametrize("register", [on_commit, on_rollback, before_commit, after_end])
def test_what_cannot_be_called_is_refused_at_once(ledger: Ledger, register: Any) -> None:
    """Not at the commit, where nobody would know who had registered it."""
    with transaction():
        with pytest.raises(TypeError):
            register("no function")
        ledger.insert(1)
    assert ledger.saved() == [1]


@pytest.mark.parametrize("register", [on_rollback, before_commit, after_end])
def test_the_other_hooks_need_a_scope(ledger: Ledger, register: Any) -> None:
    """Outside one there is no end they could be called at."""
    with pytest.raises(NoTransaction):
        register(explode)


def test_an_object_can_be_used_in_a_hook(ledger: Ledger) -> None:
    """Its attributes are read anew, on the same session."""
    notes: list[int] = []
    with transaction():
        (entry,) = ledger.add(7)
        on_commit(lambda: notes.append(entry.n))
    assert notes == [7]


# -- on_rollback ------------------------------------------------------------------------------


def test_on_rollback_runs_when_its_block_is_undone_and_only_then(ledger: Ledger) -> None:
    """For a savepoint at once, for a scope that commits never."""
    calls: list[object] = []
    with transaction():
        on_rollback(lambda error: calls.append("scope"))
        with pytest.raises(ValueError), savepoint():
            ledger.insert(1)
            on_rollback(lambda error: calls.append(type(error)))
            raise ValueError
        assert calls == [ValueError]
    assert calls == [ValueError]


@pytest.mark.parametrize("silently", ["raise Rollback", "set_rollback_only"])
def test_on_rollback_gets_a_rollback_when_it_is_silent(ledger: Ledger, silently: str) -> None:
    """There is no other error it could get."""
    calls: list[BaseException] = []
    with transaction() as tx:
        ledger.insert(1)
        on_rollback(calls.append)
        if silently == "raise Rollback":
            raise Rollback
        tx.set_rollback_only()
    assert [type(error) for error in calls] == [Rollback]


def test_on_rollback_gets_the_error_of_a_commit_that_fails(ledger: Ledger) -> None:
    """The flush at the end is part of the block."""
    calls: list[BaseException] = []
    with pytest.raises(IntegrityError) as caught, transaction():
        on_rollback(calls.append)
        ledger.add(1, 1)
    assert calls == [caught.value]


def test_a_failing_on_rollback_hook_hides_nothing(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """The error that undid the work arrives; the hook's is in the log."""
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError), transaction():
        ledger.insert(1)
        on_rollback(explode)
        raise ValueError
    assert "boom" in caplog.text
    assert ledger.saved() == []


# -- before_commit and after_end --------------------------------------------------------------


def test_what_before_commit_writes_is_committed(ledger: Ledger) -> None:
    """Also what a hook writes that another one registered."""

    def first() -> None:
        ledger.add(2)
        before_commit(lambda: ledger.insert(3))

    with transaction():
        ledger.insert(1)
        before_commit(first)
    assert ledger.saved() == [1, 2, 3]


def test_a_before_commit_hook_that_raises_rolls_back(ledger: Ledger) -> None:
    """It has the last word, and other hooks see a rollback."""
    ends: list[object] = []
    with pytest.raises(RuntimeError, match="boom"), transaction():
        ledger.insert(1)
        before_commit(explode)
        after_end(ends.append)
        on_commit(ends.append, "never")
    assert ends == ["rolled_back"]
    assert ledger.saved() == []


def test_an_error_swallowed_by_a_before_commit_hook_still_counts(ledger: Ledger) -> None:
    """As anywhere in the block."""

    def hook() -> None:
        with pytest.raises(IntegrityError):
            ledger.insert(1)

    with pytest.raises(UnexpectedRollback), transaction():
        ledger.insert(1)
        before_commit(hook)
    assert ledger.saved() == []


def test_a_before_commit_hook_cannot_commit_itself(ledger: Ledger) -> None:
    """The scope is still open in it."""

    def hook() -> None:
        with pytest.raises(OwnershipError):
            ledger.session.commit()

    with transaction():
        ledger.insert(1)
        before_commit(hook)
    assert ledger.saved() == [1]


def test_before_commit_hooks_do_not_run_before_a_rollback(ledger: Ledger) -> None:
    """There is no commit they could come before."""
    calls: list[int] = []
    with transaction() as tx:
        before_commit(lambda: calls.append(1))
        tx.set_rollback_only()
    with pytest.raises(ValueError), transaction():
        before_commit(lambda: calls.append(2))
        raise ValueError
    assert calls == []


def test_after_end_tells_the_outcome_last(ledger: Ledger) -> None:
    """After the other hooks, once."""
    calls: list[object] = []
    with transaction():
        after_end(calls.append)
        on_commit(calls.append, "hook")
        ledger.insert(1)
    with transaction() as tx:
        after_end(calls.append)
        on_rollback(lambda error: calls.append("undone"))
        tx.set_rollback_only()
    assert calls == ["hook", "committed", "undone", "rolled_back"]


def test_after_end_runs_even_if_a_hook_failed(ledger: Ledger) -> None:
    """The work is committed all the same."""
    calls: list[str] = []
    with pytest.raises(OnCommitError), transaction():
        on_commit(explode)
        after_end(calls.append)
        ledger.insert(1)
    assert calls == ["committed"]


# -- what is pending when a savepoint begins --------------------------------------------------


def test_pending_objects_are_written_outside_a_savepoint_of_the_connection(
    ledger: Ledger,
) -> None:
    """Written inside it by an autoflush, they were undone with it: missing, without an error."""
    with transaction():
        ledger.add(1)
        with pytest.raises(IntegrityError), ledger.session.connection().begin_nested():
            ledger.session.execute(insert(Entry).values(n=1))
        ledger.add(2)
    assert ledger.saved() == [1, 2]


def test_a_pending_object_that_fails_before_a_connections_savepoint_is_the_scopes_error(
    ledger: Ledger,
) -> None:
    """As with the session's own savepoints."""
    with pytest.raises(UnexpectedRollback), transaction():
        ledger.insert(1)
        ledger.add(1)
        with pytest.raises(IntegrityError), ledger.session.connection().begin_nested():
            raise AssertionError("not reached")
    assert ledger.saved() == []


def test_a_swallowed_error_in_a_hook_of_one_scope_is_not_the_next_ones(ledger: Ledger) -> None:
    """Each scope has errors of its own."""
    with pytest.raises(TransactionError), transaction():
        with pytest.raises(IntegrityError):
            ledger.insert(1)
            ledger.insert(1)
        ledger.insert(2)
    with transaction():
        ledger.insert(3)
    assert ledger.saved() == [3]
