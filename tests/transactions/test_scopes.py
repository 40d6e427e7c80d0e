"""The outermost scope: what it commits, what it rolls back, and how it is opened."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import delete, event, insert, select, text
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flask_dbkit import (
    DBKit,
    OptionMismatch,
    OwnershipError,
    Retry,
    Rollback,
    UnexpectedRollback,
    after_end,
    current_transaction,
    in_transaction,
    on_commit,
    on_rollback,
    require_transaction,
    savepoint,
    transaction,
)
from flask_dbkit.transactions.state import open_units

from .conftest import Entry, Ledger


@pytest.mark.parametrize("how", ["add", "insert"])
def test_a_scope_that_ends_normally_is_committed(ledger: Ledger, how: str) -> None:
    """The promise: the end of the block is the COMMIT, whoever looks."""
    with transaction():
        getattr(ledger, how)(1)
        assert in_transaction()
    assert not in_transaction()
    assert ledger.saved() == [1]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("how", ["add", "insert"])
def test_an_exception_rolls_back_and_arrives_as_the_same_object(
    ledger: Ledger, how: str, error: type[BaseException]
) -> None:
    """Nothing is saved, and the caller gets the very exception that was raised."""
    raised = error("wrong")
    with pytest.raises(error) as caught, transaction():
        getattr(ledger, how)(1)
        raise raised
    assert caught.value is raised
    assert raised.__cause__ is None
    assert ledger.saved() == []


def test_a_scope_after_a_failed_one_commits_on_the_same_session(ledger: Ledger) -> None:
    """An error is over when the block is: the session can be used at once."""
    session = ledger.session
    for n in range(3):
        with pytest.raises(ZeroDivisionError), transaction():
            ledger.insert(n)
            raise ZeroDivisionError
        with transaction():
            ledger.insert(n + 10)
    assert ledger.session is session
    assert ledger.saved() == [10, 11, 12]


def test_a_bare_decorator_commits_and_keeps_name_and_signature(ledger: Ledger) -> None:
    """``@transaction`` changes where a function runs, and nothing that can be seen of it."""

    @transaction
    def save(first: int, *, second: int = 2) -> str:
        """Save two numbers."""
        ledger.insert(first, second)
        return "saved"

    assert save(1) == "saved"
    assert ledger.saved() == [1, 2]
    assert (save.__name__, save.__doc__) == ("save", "Save two numbers.")
    assert list(inspect.signature(save).parameters) == ["first", "second"]


@pytest.mark.parametrize("options", [{}, {"retry": 3}, {"durable": True}, {"savepoint": True}])
def test_a_called_decorator_rolls_back_when_the_function_raises(
    ledger: Ledger, options: dict[str, Any]
) -> None:
    """With options as without, an exception undoes the call."""

    @transaction(**options)
    def fail() -> None:
        ledger.insert(1)
        raise LookupError("wrong")

    with pytest.raises(LookupError, match="wrong"):
        fail()
    assert ledger.saved() == []


def test_each_call_of_a_decorated_function_is_a_transaction_of_its_own(ledger: Ledger) -> None:
    """The decorator is made once; its calls know nothing of each other, not even recursive ones."""

    @transaction
    def count_down(n: int) -> None:
        ledger.insert(n)
        if n == 7:
            raise ValueError
        if n:
            count_down(n - 1)

    count_down(2)
    with pytest.raises(ValueError, match=r"^$"):
        count_down(8)
    count_down(0) if not ledger.saved() else None
    assert ledger.saved() == [0, 1, 2]


class Shop:
    """Things that can be decorated."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @transaction
    def method(self, n: int) -> int:
        self.ledger.insert(n)
        assert in_transaction()
        return n

    @classmethod
    @transaction
    def class_method(cls, ledger: Ledger, n: int) -> int:
        ledger.insert(n)
        assert in_transaction()
        return n

    @staticmethod
    @transaction()
    def static_method(ledger: Ledger, n: int) -> int:
        ledger.insert(n)
        assert in_transaction()
        return n

    def __call__(self, n: int) -> int:
        self.ledger.insert(n)
        assert in_transaction()
        return n


def test_methods_callables_and_partials_can_be_decorated(ledger: Ledger) -> None:
    """Whatever can be called can be run in a scope."""
    shop = Shop(ledger)
    assert shop.method(1) == 1
    assert Shop.class_method(ledger, 2) == 2
    assert Shop.static_method(ledger, 3) == 3
    assert transaction(shop)(4) == 4
    assert transaction()(functools.partial(shop, 5))() == 5
    assert transaction(shop.method)(6) == 6
    assert transaction(functools.partial(functools.partial(shop), 7))() == 7
    assert ledger.saved() == [1, 2, 3, 4, 5, 6, 7]


def _generator() -> Iterator[int]:
    yield 1


async def _coroutine() -> None: ...


async def _async_generator() -> AsyncIterator[int]:
    yield 1


class _GeneratorCall:
    def __call__(self) -> Iterator[int]:
        yield 1


class _AsyncCall:
    async def __call__(self) -> None: ...

    async def method(self) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        _generator,
        _coroutine,
        _async_generator,
        functools.partial(_generator),
        functools.partial(_coroutine),
        _GeneratorCall(),
        _AsyncCall(),
        _AsyncCall().method,
    ],
)
@pytest.mark.parametrize("decorate", [transaction, transaction(), require_transaction])
def test_what_runs_after_the_call_cannot_be_decorated(
    function: Callable[..., Any], decorate: Callable[..., Any]
) -> None:
    """The body of a generator or coroutine would run after the scope has ended, silently."""
    with pytest.raises(TypeError, match="its body runs after the scope has ended"):
        decorate(function)


def test_one_scope_object_serves_again_and_while_it_is_open(ledger: Ledger) -> None:
    """A scope object holds options, not state: reused and re-entered, each block is its own."""
    scope = transaction()
    with scope:
        ledger.insert(1)
    with pytest.raises(ValueError, match=r"^$"), scope:
        ledger.insert(2)
        raise ValueError
    with scope:
        ledger.insert(3)
        with scope as inner:
            assert inner.depth == 2
            ledger.insert(4)
    with pytest.raises(ValueError, match=r"^$"), scope:
        ledger.insert(5)
        with scope:
            ledger.insert(6)
            raise ValueError
    assert ledger.saved() == [1, 3, 4]


def test_one_savepoint_scope_object_can_be_re_entered(ledger: Ledger) -> None:
    """Django's reuse matrix: outer kept, inner undone, with one object in four places."""
    scope = transaction(savepoint=True)
    with scope:
        ledger.insert(1)
        with pytest.raises(ValueError, match=r"^$"), scope:
            ledger.insert(2)
            with scope:
                ledger.insert(3)
            raise ValueError
        with scope:
            ledger.insert(4)
    assert ledger.saved() == [1, 4]


def test_an_empty_scope_sends_nothing_and_takes_no_connection(ledger: Ledger) -> None:
    """A scope costs the database nothing until the first statement."""
    ledger.checkouts = 0
    with ledger.statements() as sent:
        with transaction():
            pass
        with transaction(
            isolation="SERIALIZABLE", lock_timeout=1, statement_timeout=1, durable=True
        ):
            pass
        with transaction(), savepoint(), transaction(), transaction(savepoint=True):
            on_commit(lambda: None)
        with transaction(read_only=True), savepoint(), require_transaction():
            pass
        with pytest.raises(ValueError, match=r"^$"), transaction(), savepoint():
            raise ValueError
        transaction(lambda: None)()
    assert sent == []
    assert ledger.checkouts == 0


def test_a_scope_that_only_raises_takes_no_connection(ledger: Ledger) -> None:
    """A rollback of nothing is nothing."""
    ledger.checkouts = 0
    with pytest.raises(ValueError, match=r"^$"), transaction():
        raise ValueError
    assert ledger.checkouts == 0


def test_a_scope_without_an_application_context_is_refused(make_ledger: Any) -> None:
    """Rule 1: it raises at once, says why, and leaves nothing behind."""
    make_ledger()
    for use in (
        lambda: transaction().__enter__(),
        lambda: savepoint().__enter__(),
        transaction(lambda: None),
        functools.partial(on_commit, print),
        current_transaction,
    ):
        with pytest.raises(RuntimeError, match="application context"):
            use()
    assert open_units.get() == ()


def test_a_scope_on_an_application_without_the_kit_is_refused(
    make_app: Callable[..., Flask],
) -> None:
    """It says which application lacks what."""
    app = make_app()
    SQLAlchemy().init_app(app)
    with app.app_context(), pytest.raises(RuntimeError, match="has no DBKit"), transaction():
        pass


def test_an_application_can_be_prepared_by_two_lines(make_app: Callable[..., Flask]) -> None:
    """``DBKit(app)`` is enough for a scope to work."""
    app = make_app()
    dbkit = DBKit(app)
    with app.app_context(), transaction():
        assert dbkit.db.session.scalar(text("SELECT 1")) == 1


def test_set_rollback_only_ends_silently_with_nothing_saved(ledger: Ledger) -> None:
    """The first spoken exception: the scope's own code asks for the rollback."""
    errors: list[BaseException] = []
    with transaction() as tx:
        on_rollback(errors.append)
        ledger.insert(1)
        assert not tx.rollback_only
        tx.set_rollback_only()
        assert tx.rollback_only
        ledger.insert(2)
    assert ledger.saved() == []
    assert [type(error) for error in errors] == [Rollback]


def test_raising_rollback_ends_silently_and_goes_on_after_the_block(ledger: Ledger) -> None:
    """The second spoken exception: it is swallowed where it has done its work."""
    after: list[bool] = []
    with transaction():
        ledger.insert(1)
        raise Rollback
    after.append(True)
    assert after == [True]
    assert ledger.saved() == []


def test_the_yielded_object_tells_about_the_transaction(ledger: Ledger) -> None:
    """``id`` is the transaction's and ``depth`` the block's, as ``current_transaction()`` says."""
    assert current_transaction() is None
    with transaction(isolation="serializable") as outer:
        assert current_transaction() is outer
        assert (outer.depth, outer.attempt, outer.read_only) == (1, 1, False)
        assert outer.isolation == "SERIALIZABLE"
        with savepoint() as inner:
            assert current_transaction() is inner
            assert (inner.depth, inner.id) == (2, outer.id)
            with transaction(read_only=True) as innermost:
                assert (innermost.depth, innermost.read_only) == (3, True)
        assert current_transaction() is outer
    with transaction() as next_one:
        assert next_one.id != outer.id
        assert next_one.isolation is None
        assert "depth 1" in repr(next_one)
    assert current_transaction() is None


def test_a_with_block_cannot_be_replayed(ledger: Ledger) -> None:
    """``with transaction(retry=…)`` is refused on entry, before any SQL."""
    ledger.checkouts = 0
    for retry in (3, Retry(attempts=2)):
        with pytest.raises(OptionMismatch) as caught, transaction(retry=retry):
            ledger.insert(1)
        assert caught.value.option == "retry"
        assert "run(fn" in str(caught.value)
    assert ledger.checkouts == 0


def test_options_are_checked_when_they_are_given() -> None:
    """A typing error does not wait for the first call."""
    for wrong in (
        {"isolation": "SNAPSHOTTY"},
        {"begin": "exclusive"},
        {"multi_bind": "hope"},
        {"lock_timeout": 0},
        {"statement_timeout": float("inf")},
        {"statement_timeout": -1.0},
    ):
        with pytest.raises(ValueError, match="Use"):
            transaction(**wrong)
    with pytest.raises(TypeError, match="no number of seconds"):
        transaction(lock_timeout="3s")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no number of seconds"):
        transaction(lock_timeout=True)
    with pytest.raises(TypeError):
        transaction(nested=True)  # type: ignore[call-overload]


def test_a_commit_that_fails_arrives_and_leaves_the_session_usable(ledger: Ledger) -> None:
    """An error of the last flush is the block's error; nothing is saved."""
    with transaction():
        ledger.insert(1)
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"), transaction():
        ledger.add(2, 1)
    assert ledger.saved() == [1]
    with transaction():
        ledger.add(3)
    assert ledger.saved() == [1, 3]


def test_objects_can_be_used_after_the_scope_as_after_a_commit(ledger: Ledger) -> None:
    """A scope expires objects as ``session.commit()`` does, and leaves them attached."""
    with transaction():
        (entry,) = ledger.add(1)
    assert entry in ledger.session
    assert entry.n == 1
    with pytest.raises(ValueError, match=r"^$"), transaction():
        entry.n = 2
        raise ValueError
    assert entry.n == 1
    with transaction():
        entry.n = 3
    assert ledger.saved() == [3]


def test_expire_on_commit_false_is_respected(make_app: Callable[..., Flask]) -> None:
    """Who asked the session factory not to expire reads on without a statement."""
    app = make_app()
    db = SQLAlchemy(model_class=Entry.__base__, session_options={"expire_on_commit": False})
    DBKit(db=db).init_app(app)
    with app.app_context():
        db.metadata.create_all(db.engine, tables=[Entry.__table__])
        with transaction():
            entry = Entry(n=5)
            db.session.add(entry)
        seen: list[str] = []
        event.listen(db.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
        assert entry.n == 5
        assert seen == []
        with transaction():
            entry.n = 6
        assert entry.n == 6
        assert db.session.scalars(select(Entry.n)).all() == [6]


def test_scopes_of_several_applications_know_nothing_of_each_other(
    make_app: Callable[..., Flask], make_database: Callable[..., Any], ledger: Ledger
) -> None:
    """A scope of one application may be open around one of another."""
    other = make_app(SQLALCHEMY_DATABASE_URI=make_database(ledger.database.name).url)
    db = SQLAlchemy(model_class=Entry.__base__)
    DBKit(db=db).init_app(other)
    with transaction() as tx:
        ledger.insert(1)
        with other.app_context():
            assert not in_transaction()
            db.metadata.create_all(db.engine, tables=[Entry.__table__])
            with transaction() as theirs:
                assert theirs.depth == 1
                assert theirs.id != tx.id
                db.session.add(Entry(n=10))
            with pytest.raises(ValueError, match=r"^$"), transaction():
                db.session.add(Entry(n=11))
                raise ValueError
            assert db.session.scalars(select(Entry.n)).all() == [10]
        assert current_transaction() is tx
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


def test_a_pending_rollback_of_the_session_is_no_scope(ledger: Ledger) -> None:
    """A session that a failed flush left half way says so at the scope's entry."""
    with transaction():
        ledger.insert(1)
    ledger.add(1)
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        ledger.session.flush()
    with pytest.raises(OwnershipError), transaction():
        ledger.insert(2)
    ledger.session.rollback()
    with transaction():
        ledger.insert(3)
    assert ledger.saved() == [1, 3]


def test_a_failing_after_commit_listener_undoes_nothing(ledger: Ledger) -> None:
    """The work is saved, and the hooks are told so; the listener's error arrives."""
    calls: list[str] = []

    def fail(session: Session) -> None:
        raise RuntimeError("listener")

    event.listen(ledger.db.session, "after_commit", fail)
    try:
        with pytest.raises(RuntimeError, match="listener") as caught, transaction():
            ledger.insert(1)
            on_commit(calls.append, "hook")
            after_end(calls.append)
    finally:
        event.remove(ledger.db.session, "after_commit", fail)
    assert any("committed" in note for note in caught.value.__notes__)
    assert calls == ["hook", "committed"]
    with transaction():
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


def test_before_commit_listeners_of_the_application_are_part_of_the_scope(ledger: Ledger) -> None:
    """What they write is saved, what they raise rolls back."""

    def write(session: Session) -> None:
        session.execute(insert(Entry).values(n=7))

    def fail(session: Session) -> None:
        raise RuntimeError("listener")

    def swallow(session: Session) -> None:
        with suppress(IntegrityError):
            session.execute(insert(Entry).values(n=7))

    def during(listener: Any) -> None:
        event.listen(ledger.db.session, "before_commit", listener)
        try:
            with transaction():
                ledger.insert(1)
        finally:
            event.remove(ledger.db.session, "before_commit", listener)

    with pytest.raises(RuntimeError, match="listener"):
        during(fail)
    assert ledger.saved() == []
    during(write)
    assert ledger.saved() == [1, 7]
    with transaction():
        ledger.session.execute(delete(Entry).where(Entry.n == 1))
    with pytest.raises(UnexpectedRollback):
        during(swallow)
    assert ledger.saved() == [7]


@pytest.mark.requires("several_connections")
def test_an_engine_in_autocommit_mode_is_refused(make_ledger: Any) -> None:
    """Every statement would commit by itself, and a rollback undo nothing."""
    ledger = make_ledger(SQLALCHEMY_ENGINE_OPTIONS={"isolation_level": "AUTOCOMMIT"})
    with ledger.app.app_context():
        with pytest.raises(OptionMismatch, match="AUTOCOMMIT"), transaction():
            ledger.insert(1)
        ledger.session.rollback()
        assert ledger.saved() == []


def test_work_left_to_the_end_by_no_autoflush_is_part_of_the_block(ledger: Ledger) -> None:
    """The flush at the exit fails as any other."""
    with pytest.raises(IntegrityError), transaction(), ledger.session.no_autoflush:
        ledger.add(1, 1)
        ledger.read()
    assert ledger.saved() == []


def test_bulk_operations_are_work_as_any_other(ledger: Ledger) -> None:
    """Saved with the block, and their swallowed errors undo it."""
    with transaction():
        ledger.session.bulk_save_objects([Entry(n=1), Entry(n=2)])
        ledger.session.bulk_insert_mappings(sa_inspect(Entry), [{"n": 3}])
    with pytest.raises(UnexpectedRollback), transaction():
        ledger.insert(4)
        with pytest.raises(IntegrityError):
            ledger.session.bulk_insert_mappings(sa_inspect(Entry), [{"n": 5}, {"n": 5}])
    assert ledger.saved() == [1, 2, 3]
