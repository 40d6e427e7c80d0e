"""What listeners can do while a scope is ending, and what its hooks can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask_sqlalchemy.track_modifications import models_committed
from sqlalchemy import event

from flask_dbkit import (
    OwnershipError,
    Rollback,
    after_end,
    before_commit,
    on_commit,
    on_rollback,
    run,
    savepoint,
    transaction,
)

from .conftest import Entry, Ledger


@contextmanager
def listening(target: Any, name: str, listener: Callable[[], object]) -> Iterator[list[object]]:
    """Listen to an event; collect what the listener returned, or the error it met, and go on."""
    met: list[object] = []

    def listen(*_: object) -> None:
        if len(met) < 5:  # what it does may end in the same event again
            place = len(met)
            met.append(None)
            try:
                met[place] = listener()
            except Exception as error:
                met[place] = error

    event.listen(target, name, listen)
    try:
        yield met
    finally:
        event.remove(target, name, listen)


def scope(entry: Entry, ledger: Ledger) -> str:
    with transaction():
        ledger.session.add(entry)
    return "ended"


def in_savepoint(entry: Entry, ledger: Ledger) -> str:
    with savepoint():
        ledger.session.add(entry)
    return "ended"


def retried(entry: Entry, ledger: Ledger) -> str:
    run(ledger.session.add, entry)
    return "ended"


SESSION_EVENTS = [
    "before_commit",
    "after_commit",
    "after_rollback",
    "after_soft_rollback",
    "after_transaction_end",
    "before_flush",
    "after_flush",
    "after_flush_postexec",
]


@pytest.mark.parametrize("name", SESSION_EVENTS)
@pytest.mark.parametrize("opens", [scope, in_savepoint, retried], ids=lambda one: one.__name__)
def test_no_block_of_a_listener_ends_normally_without_its_work(
    ledger: Ledger, name: str, opens: Callable[[Entry, Ledger], str]
) -> None:
    """Either the block is still saved with the scope, or it is refused; in both directions."""
    ends: list[str] = []
    numbers = iter(range(10, 99))

    def listener() -> int:
        n = next(numbers)
        opens(Entry(n=n), ledger)
        return n

    with listening(ledger.session, name, listener) as met:
        try:
            with transaction():
                after_end(ends.append)
                ledger.add(1)
                with savepoint():
                    ledger.add(2)
        except Exception:
            assert ends != ["committed"]
        kept = ends == ["committed"]
        written = [one for one in met if isinstance(one, int)] if kept else []
        saved = ledger.saved()
        assert saved == ([1, 2, *written] if kept else [])
        ledger.db.session.rollback()
        ends.clear()
        met.clear()
        with pytest.raises(LookupError), transaction():
            after_end(ends.append)
            ledger.insert(3)
            raise LookupError
        assert ends == ["rolled_back"]
    assert ledger.saved() == saved
    ledger.db.session.rollback()
    with transaction():
        ledger.insert(4)
    assert ledger.saved() == sorted([*saved, 4])


def test_a_scope_in_models_committed_is_refused_and_names_on_commit(
    make_ledger: Callable[..., Ledger],
) -> None:
    """Flask-SQLAlchemy sends it while COMMIT is over and the session takes no SQL."""
    ledger = make_ledger(SQLALCHEMY_TRACK_MODIFICATIONS=True)
    ends: list[str] = []

    def audit(sender: object, changes: object) -> None:
        with transaction():
            ledger.add(2)

    with ledger.app.app_context(), models_committed.connected_to(audit, ledger.app):
        with pytest.raises(OwnershipError, match=r"on_commit\(\)") as raised, transaction():
            after_end(ends.append)
            ledger.add(1)
        assert raised.value.__notes__ == ["The transaction was committed before this error."]
        assert ends == ["committed"]
    with ledger.app.app_context():
        with transaction():
            ledger.add(3)
    assert ledger.saved() == [1, 3]


def test_savepoints_in_before_commit_are_saved_with_the_scope(ledger: Ledger) -> None:
    """Also nested ones, and one that fails undoes itself alone."""

    def audit() -> None:
        if ledger.session.in_nested_transaction():
            return
        with savepoint():
            ledger.add(2)
            with savepoint():
                ledger.insert(3)
        with pytest.raises(LookupError), savepoint():
            ledger.insert(4)
            raise LookupError

    with listening(ledger.session, "before_commit", audit) as met, transaction():
        ledger.insert(1)
    assert set(met) == {None}
    assert ledger.saved() == [1, 2, 3]


@pytest.mark.backends("sqlite-file")
def test_hooks_of_a_listener_run_or_are_refused(ledger: Ledger) -> None:
    """``before_commit`` hooks have been called by then, ``on_commit`` hooks have not."""
    done: list[str] = []

    def register() -> None:
        on_commit(done.append, "on_commit")
        after_end(done.append)
        with pytest.raises(OwnershipError, match="too late"):
            before_commit(done.clear)

    with listening(ledger.session, "before_commit", register) as met, transaction():
        ledger.insert(1)
    assert met == [None]
    assert done == ["on_commit", "committed"]


@pytest.mark.parametrize("stop", [SystemExit, KeyboardInterrupt])
@pytest.mark.backends("sqlite-file")
def test_a_hook_that_stops_the_process_lets_the_others_run(
    ledger: Ledger, stop: type[BaseException]
) -> None:
    """What was promised for after the COMMIT is done before the process ends."""
    done: list[object] = []

    def stops(*_: object) -> None:
        raise stop

    with pytest.raises(stop), transaction():
        ledger.insert(1)
        for hook in (stops, lambda: done.append(1), stops, lambda: done.append(2)):
            on_commit(hook)
        after_end(done.append)
    assert done == [1, 2, "committed"]
    with pytest.raises(stop), transaction():
        on_rollback(stops)
        on_rollback(done.append)
        after_end(done.append)
        raise Rollback
    assert done[-1] == "rolled_back"
    assert isinstance(done[-2], Rollback)
    assert ledger.saved() == [1]
