"""Replaying a whole transaction: when, how often, and what is forgotten in between."""

# Models that share one test's metadata mean nothing to a type checker.
# mypy: disable-error-code="name-defined,misc,valid-type,attr-defined"
# mypy: disable-error-code="return,no-any-return,var-annotated,func-returns-value"
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import io
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, StatementError
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from flask_dbkit import (
    CommitOutcomeUnknown,
    DBKit,
    OnCommitError,
    OptionMismatch,
    OwnershipError,
    Retry,
    Rollback,
    TransactionError,
    attempts,
    current_transaction,
    declarative_base,
    in_transaction,
    on_commit,
    on_rollback,
    run,
    savepoint,
    transaction,
)
from tests.support.databases import Database
from tests.support.threads import side_by_side

Base: Any = declarative_base()


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(40), unique=True)
    balance: Mapped[int] = mapped_column(default=0)


class World:
    """An application with two accounts, and a way to disturb it from outside."""

    def __init__(self, app: Flask, database: Database) -> None:
        self.app, self.database = app, database
        self.db = SQLAlchemy(model_class=Base)
        DBKit(app, db=self.db)
        with app.app_context():
            Base.metadata.create_all(self.db.engine)
            with transaction():
                self.db.session.add_all([Account(name="a"), Account(name="b")])

    @property
    def session(self) -> Any:
        return self.db.session

    @property
    def checked_out(self) -> int:
        return self.db.engine.pool.checkedout()

    def get(self, name: str) -> Any:
        return self.session.scalars(sa.select(Account).filter_by(name=name)).one()

    def names(self) -> list[str]:
        with self.app.app_context(), transaction(read_only=True):
            return sorted(self.session.scalars(sa.select(Account.name)))

    def balances(self) -> list[int]:
        with self.app.app_context(), transaction(read_only=True):
            return list(self.session.scalars(sa.select(Account.balance).order_by(Account.name)))

    def elsewhere(self, work: Callable[[], None]) -> None:
        """Do something in a transaction of another thread, and wait for its end."""
        errors: list[BaseException] = []

        def target() -> None:
            try:
                with self.app.app_context(), transaction():
                    work()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=target)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        if errors:
            raise errors[0]


@pytest.fixture
def world(
    make_app: Callable[..., Flask], database: Database, request: pytest.FixtureRequest
) -> World:
    return World(make_app(**getattr(request, "param", {})), database)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time."""
    slept: list[float] = []
    real = time.sleep

    def sleep(seconds: float) -> None:
        # Locks are polled with short sleeps of their own.
        if threading.current_thread() is threading.main_thread() and seconds > 0.0021:
            slept.append(seconds)
        else:
            real(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    return slept


@pytest.fixture
def context(world: World) -> Iterator[World]:
    with world.app.app_context():
        yield world


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


# -- conflicts the databases make ------------------------------------------------------------


@pytest.mark.backends("postgresql", "mariadb")
@pytest.mark.parametrize("way", ["run", "attempts", "decorator"])
def test_a_deadlock_victim_is_replayed_and_both_succeed(
    world: World, naps: list[float], way: str
) -> None:
    """A deadlock costs time, never work."""
    both_hold_one = threading.Barrier(2, timeout=15)
    calls: list[str] = []

    def move(first: str, second: str) -> None:
        calls.append(first)
        world.session.execute(
            sa.update(Account).filter_by(name=first).values(balance=Account.balance + 1)
        )
        if len(calls) <= 2:
            both_hold_one.wait()
        world.session.execute(
            sa.update(Account).filter_by(name=second).values(balance=Account.balance + 1)
        )

    def go(first: str, second: str) -> None:
        with world.app.app_context():
            if way == "run":
                run(move, first, second)
            elif way == "decorator":
                transaction(retry=3)(move)(first, second)
            else:
                for attempt in attempts():
                    with attempt:
                        move(first, second)

    assert side_by_side(partial(go, "a", "b"), partial(go, "b", "a")) == []
    assert len(calls) == 3
    assert world.balances() == [2, 2]


@pytest.mark.backends("postgresql")
def test_a_serialization_failure_at_a_statement_is_replayed(
    context: World, naps: list[float]
) -> None:
    """The final state is one that a serial order could have left."""
    seen: list[int] = []

    @transaction(isolation="REPEATABLE READ", retry=3)
    def double_and_add() -> None:
        account = context.get("a")
        seen.append(account.balance)
        if len(seen) == 1:
            context.elsewhere(lambda: add("a", 5))
        account.balance = account.balance * 2 + 1

    def add(name: str, amount: int) -> None:
        context.get(name).balance += amount

    double_and_add()
    assert seen == [0, 5]
    assert context.balances()[0] == 11


@pytest.mark.backends("postgresql")
def test_a_serialization_failure_at_commit_is_replayed(context: World, naps: list[float]) -> None:
    """Write skew shows only at COMMIT: each reads what the other one writes."""
    calls: list[int] = []

    def skew(mine: str) -> None:
        total = sum(context.session.scalars(sa.select(Account.balance)))
        context.get(mine).balance = total + 1

    @transaction(isolation="SERIALIZABLE", retry=3)
    def first() -> int | None:
        skew("a")
        context.session.flush()
        calls.append(1)
        if len(calls) == 1:
            other = threading.Thread(target=second)
            other.start()
            other.join(15)
        info = current_transaction()
        return info.attempt if info is not None else None

    def second() -> None:
        with context.app.app_context(), transaction(isolation="SERIALIZABLE"):
            skew("b")

    assert first() == 2
    assert context.balances() == [2, 1]


@pytest.mark.backends("postgresql")
def test_a_serialization_failure_behind_a_wrapper_is_replayed(
    context: World, naps: list[float]
) -> None:
    """The first database error decides, whatever the application makes of it."""
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        try:
            with savepoint():
                raise_sqlstate(context, "40001" if len(calls) == 1 else None)
        except DBAPIError as error:
            raise ValueError("could not be saved") from error

    run(body)
    assert len(calls) == 2


@pytest.mark.backends("postgresql")
def test_a_swallowed_conflict_is_replayed(context: World, naps: list[float]) -> None:
    """What would be an UnexpectedRollback is cured by another attempt."""
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        context.session.add(Account(name=f"c{len(calls)}"))
        if len(calls) == 1:
            with pytest.raises(DBAPIError):
                raise_sqlstate(context, "40P01")

    run(body)
    assert context.names() == ["a", "b", "c2"]


def raise_sqlstate(world: World, code: str | None) -> None:
    if code is not None:
        world.session.execute(sa.text(f"DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$"))


def raise_errno(world: World, code: int | None) -> None:
    if code is not None:
        world.session.execute(
            sa.text(f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'made up'")
        )


RETRIED = {"postgresql": ["40001", "40P01"], "mariadb": [1213, 1020]}
NOT_RETRIED = {
    "postgresql": ["55P03", "57014", "40003", "25006", "22012", "23502", "23505", "57P01"],
    "mariadb": [1205, 3572, 1062, 1452, 1792, 1969, 3024, 1317],
}
RAISE: dict[str, Any] = {"postgresql": raise_sqlstate, "mariadb": raise_errno}


@pytest.mark.backends("postgresql", "mariadb")
def test_the_codes_of_conflicts_are_replayed(context: World, naps: list[float]) -> None:
    """The table of codes, as the servers' manuals give it."""
    name = context.database.name
    for code in RETRIED[name]:
        calls = count_calls(context, lambda code=code: RAISE[name](context, code), 2)
        assert calls == 2, code


@pytest.mark.backends("postgresql", "mariadb")
def test_other_codes_are_not_replayed_unless_they_are_listed(
    context: World, naps: list[float]
) -> None:
    """A replay cures conflicts; anything else is the application's own decision."""
    name = context.database.name
    for code in NOT_RETRIED[name]:
        calls = count_calls(context, lambda code=code: RAISE[name](context, code), 1)
        assert calls == 1, code
        calls = count_calls(
            context,
            lambda code=code: RAISE[name](context, code),
            2,
            Retry(attempts=2, on=(code,)),
        )
        assert calls == 2, code


def count_calls(
    world: World, fail: Callable[[], None], expected: int, retry: Retry | None = None
) -> int:
    """Count how often a body runs whose first call fails."""
    calls = 0

    def body() -> None:
        nonlocal calls
        calls += 1
        world.session.execute(sa.select(Account)).all()
        if calls == 1:
            fail()

    if expected == 1:
        with pytest.raises(DBAPIError) as caught:
            run(body, retry=retry)
        assert "attempt 1 of" in notes(caught.value)
    else:
        run(body, retry=retry)
    assert world.checked_out == 0
    return calls


@pytest.mark.backends("mariadb")
def test_a_deadlock_hidden_behind_a_lost_savepoint_is_replayed(
    world: World, naps: list[float]
) -> None:
    """The server drops the savepoint with the transaction, and 1305 is what escapes."""
    both_hold_one = threading.Barrier(2, timeout=15)
    calls: list[str] = []

    def move(first: str, second: str) -> None:
        calls.append(first)
        add(first)
        with world.session.begin_nested():
            if len(calls) <= 2:
                both_hold_one.wait()
            add(second)

    def add(name: str) -> None:
        world.session.execute(
            sa.update(Account).filter_by(name=name).values(balance=Account.balance + 1)
        )

    def go(first: str, second: str) -> None:
        with world.app.app_context():
            run(move, first, second)

    assert side_by_side(partial(go, "a", "b"), partial(go, "b", "a")) == []
    assert len(calls) == 3
    assert world.balances() == [2, 2]


@pytest.fixture
def writer(world: World) -> Iterator[sqlite3.Connection]:
    """A program of its own that writes to the same file, past the kit."""
    path = sa.make_url(world.database.url).database
    assert path is not None
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("world", [{"DBKIT_SQLITE_BUSY_TIMEOUT_MS": 30}], indirect=True)
def test_a_busy_database_is_tried_again_and_the_last_result_returned(
    context: World, writer: sqlite3.Connection, naps: list[float]
) -> None:
    """A writer that holds the lock past the busy timeout costs a second attempt."""
    writer.execute("BEGIN IMMEDIATE")
    results: list[int] = []

    def body() -> int:
        results.append(len(results) + 1)
        if len(results) == 2:
            writer.execute("COMMIT")
        context.session.add(Account(name="c"))
        context.session.flush()
        return results[-1]

    assert run(body) == 2
    assert results == [1, 2]
    assert context.names() == ["a", "b", "c"]


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("world", [{"DBKIT_SQLITE_BUSY_TIMEOUT_MS": 30}], indirect=True)
def test_a_database_that_stays_busy_ends_in_its_own_error(
    context: World, writer: sqlite3.Connection, naps: list[float]
) -> None:
    """The last error arrives unchanged, and says which attempt it ended."""
    writer.execute("BEGIN IMMEDIATE")
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        context.session.add(Account(name="c"))

    with pytest.raises(OperationalError) as caught:
        run(body, retry=4)
    assert calls == [1] * 4
    assert notes(caught.value).splitlines()[-1] == "attempt 4 of 4"
    assert context.checked_out == 0
    writer.execute("COMMIT")
    run(body)
    assert context.names() == ["a", "b", "c"]


@pytest.mark.backends("sqlite-file")
def test_a_stale_snapshot_of_a_deferred_scope_is_replayed(
    context: World, writer: sqlite3.Connection, naps: list[float]
) -> None:
    """BUSY_SNAPSHOT never goes away inside the transaction, and at once outside of it."""
    seen: list[int] = []

    @transaction(begin="deferred", retry=3)
    def body() -> None:
        account = context.get("a")
        seen.append(account.balance)
        if len(seen) == 1:
            writer.execute("UPDATE account SET balance = 7 WHERE name = 'a'")
        account.balance += 1

    body()
    assert seen == [0, 7]
    assert context.balances() == [8, 0]


@pytest.mark.backends("sqlite-file")
def test_sqlite_errors_are_named_by_their_primary_or_extended_code(context: World) -> None:
    """``on=`` takes the number of the family (19) and that of the member (2067)."""
    for code, expected in (
        (sqlite3.SQLITE_CONSTRAINT, 2),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, 2),
        (sqlite3.SQLITE_CONSTRAINT_CHECK, 1),
    ):
        calls = []

        def body(calls: list[int] = calls) -> None:
            calls.append(1)
            context.session.add(Account(name="a"))

        with pytest.raises(IntegrityError):
            run(body, retry=Retry(attempts=2, base=0, on=(code,)))
        assert len(calls) == expected, code


# -- what is not replayed --------------------------------------------------------------------


def test_a_broken_constraint_runs_once(context: World, naps: list[float]) -> None:
    """A replay would break it again."""
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        context.session.add(Account(name="a"))

    with pytest.raises(IntegrityError) as caught:
        run(body, retry=5)
    assert calls == [1]
    assert naps == []
    assert "attempt 1 of 5" in notes(caught.value)


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_other_exceptions_run_once_and_arrive_as_they_are(
    context: World, naps: list[float], error: BaseException
) -> None:
    """The very same exception object."""
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        context.session.add(Account(name="c"))
        raise error

    with pytest.raises(type(error)) as caught:
        run(body, retry=Retry(on=(OSError,)))
    assert caught.value is error
    assert calls == [1]
    assert context.names() == ["a", "b"]


@pytest.mark.backends("sqlite-file")
def test_a_silent_rollback_ends_the_attempts_with_no_result(context: World) -> None:
    """``raise Rollback`` is no failure: there is nothing to replay and nothing to return."""
    calls: list[int] = []

    @transaction(retry=3)
    def body() -> str:
        calls.append(1)
        context.session.add(Account(name="c"))
        raise Rollback

    assert body() is None
    assert run(body) is None
    assert calls == [1, 1]
    assert context.names() == ["a", "b"]


@pytest.mark.backends("sqlite-file")
def test_a_rollback_after_a_failed_attempt_does_not_return_its_result(
    context: World, naps: list[float]
) -> None:
    """The result of an attempt goes with it."""
    calls: list[int] = []

    def body() -> str:
        calls.append(1)
        if len(calls) == 2:
            raise Rollback
        context.session.add(Account(name="a"))  # fails at the COMMIT's flush
        return "first"

    assert run(body, retry=Retry(on=(IntegrityError,))) is None


@pytest.mark.backends("sqlite-file")
def test_a_failed_hook_after_the_commit_is_never_replayed(context: World) -> None:
    """The data are committed, whatever the policy lists."""
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        context.session.add(Account(name="c"))
        on_commit(lambda: 1 // 0)

    with pytest.raises(OnCommitError):
        run(body, retry=Retry(on=(Exception,), idempotent=True))
    assert calls == [1]
    assert context.names() == ["a", "b", "c"]


# -- what the policy adds --------------------------------------------------------------------


def test_listed_exception_classes_are_replayed(context: World, naps: list[float]) -> None:
    """Classes of SQLAlchemy, of the driver and of the application alike."""
    driver: Any = context.db.engine.dialect.dbapi
    driver_class = driver.IntegrityError
    for wanted in (IntegrityError, DBAPIError, driver_class, Exception):
        calls: list[int] = []

        def body(calls: list[int] = calls) -> None:
            calls.append(1)
            context.session.add(Account(name="a"))

        with pytest.raises(IntegrityError):
            run(body, retry=Retry(attempts=2, on=(wanted,)))
        assert len(calls) == 2, wanted


def test_a_listed_class_counts_when_its_error_was_swallowed(
    context: World, naps: list[float]
) -> None:
    """The first error of the attempt decides, also for what the policy lists."""
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        if len(calls) == 1:
            context.session.add(Account(name="a"))
            with pytest.raises(IntegrityError):
                context.session.flush()

    run(body, retry=Retry(on=(IntegrityError,)))
    assert len(calls) == 2


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("on", [StaleDataError, [StaleDataError], (StaleDataError, "55P03")])
def test_an_exception_of_the_application_is_replayed_when_listed(
    context: World, naps: list[float], on: Any
) -> None:
    """An optimistic lock that lost, say."""
    calls: list[int] = []

    def body() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise StaleDataError("somebody was faster")
        return len(calls)

    assert run(body, retry=Retry(on=on)) == 3


@pytest.mark.parametrize("on", ["disconnected", "4000", "40p01", True, 1.5, object, BaseException])
def test_a_policy_refuses_what_could_never_match(on: Any) -> None:
    """A slip in ``on=`` would otherwise show only on the day it is needed."""
    with pytest.raises(ValueError, match=r"Retry\(on=\.\.\.\)"):
        Retry(on=(on,))


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("retry", [0, -1, "3", True, 2.0])
def test_a_number_of_attempts_is_a_whole_number_from_one_on(context: World, retry: Any) -> None:
    """Refused at the call or at the decoration, before anything runs."""
    with pytest.raises((TypeError, ValueError)):
        run(lambda: None, retry=retry)
    with pytest.raises((TypeError, ValueError)):
        transaction(retry=retry)(lambda: None)


@pytest.mark.parametrize("name", ["base", "cap", "deadline"])
def test_a_negative_time_is_refused(name: str) -> None:
    """Seconds, 0 or more."""
    values: dict[str, Any] = {name: -1}
    with pytest.raises(ValueError, match="seconds"):
        Retry(**values)


# -- waiting ---------------------------------------------------------------------------------


class Conflict(Exception):
    """Stands for a conflict, by ``on=``."""


def always_conflict() -> None:
    raise Conflict


@pytest.mark.requires("several_connections")
def test_no_connection_is_held_while_waiting(
    context: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever one waits for may need it."""
    held: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        time, "sleep", lambda seconds: held.append((context.checked_out, in_transaction()))
    )

    def body() -> None:
        context.get("a").balance += 1
        context.session.flush()
        assert context.checked_out == 1
        raise Conflict

    with pytest.raises(Conflict):
        run(body, retry=Retry(attempts=4, on=(Conflict,)))
    assert held == [(0, False)] * 3
    assert context.balances() == [0, 0]


@pytest.mark.backends("sqlite-file")
def test_pauses_double_up_to_the_cap_with_full_jitter(context: World, naps: list[float]) -> None:
    """Random between nothing and 50 ms, 100 ms, 200 ms … 2 s."""
    with pytest.raises(Conflict):
        run(always_conflict, retry=Retry(attempts=1200, base=1.0, cap=64.0, on=(Conflict,)))
    assert len(naps) >= 1190  # a pause below the polls of locks is not counted
    assert max(naps) <= 64.0
    assert max(naps[100:]) > 48.0
    assert min(naps[100:]) < 16.0
    assert naps[0] <= 2.0


@pytest.mark.backends("sqlite-file")
def test_the_default_pauses_are_short(context: World, naps: list[float]) -> None:
    """At most 50 ms, then at most 100 ms."""
    for _ in range(20):
        with pytest.raises(Conflict):
            run(always_conflict, retry=Retry(on=(Conflict,)))
    assert max(naps) <= 0.1


@pytest.mark.backends("sqlite-file")
def test_no_attempt_begins_after_the_deadline(
    context: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the beginning of the first attempt, the pause included."""
    now = 1000.0
    begun: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)

    def body() -> None:
        nonlocal now
        begun.append(now)
        now += 1.0
        raise Conflict

    with pytest.raises(Conflict) as caught:
        run(body, retry=Retry(attempts=100, base=0.5, cap=0.5, deadline=5.0, on=(Conflict,)))
    assert 3 <= len(begun) <= 6
    assert begun[-1] <= 1005.0
    assert "the deadline of 5.0 s" in notes(caught.value)


# -- what is forgotten in between ------------------------------------------------------------


@pytest.mark.backends("sqlite-file")
def test_only_the_hooks_of_the_last_attempt_run(context: World, naps: list[float]) -> None:
    """A receipt is sent once; ``on_rollback`` hooks run for each attempt that failed."""
    ran: list[str] = []
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        number = len(calls)
        on_commit(ran.append, f"commit {number}")
        on_rollback(lambda error: ran.append(f"rollback {number} {type(error).__name__}"))
        if number < 3:
            raise Conflict

    run(body, retry=Retry(on=(Conflict,)))
    assert ran == ["rollback 1 Conflict", "rollback 2 Conflict", "commit 3"]


@pytest.mark.backends("sqlite-file")
def test_every_attempt_knows_its_number(context: World, naps: list[float]) -> None:
    """``current_transaction().attempt`` counts from 1; its id is new each time."""
    seen: list[tuple[int, int]] = []
    for attempt in attempts(Retry(on=(Conflict,))):
        with attempt as info:
            seen.append((info.id, info.attempt))
            if info.attempt < 3:
                raise Conflict
    assert [number for _, number in seen] == [1, 2, 3]
    assert len({id_ for id_, _ in seen}) == 3


def test_changes_inside_the_body_are_computed_anew(context: World, naps: list[float]) -> None:
    """A persistent object has its stored value again at the next attempt."""
    account = context.get("a")
    context.session.commit()
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        account.balance += 10
        context.session.flush()
        if len(calls) == 1:
            raise Conflict

    run(body, retry=Retry(on=(Conflict,)))
    assert context.balances()[0] == 10


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("flush", [True, False])
def test_an_object_made_outside_the_body_cannot_be_added_twice(
    context: World, naps: list[float], flush: bool
) -> None:
    """It carries the first attempt's state; a conflict would save it half, or not at all."""
    outside = Account(name="outside")

    def body() -> None:
        context.session.add(outside)
        if flush:
            context.session.flush()
        raise Conflict if naps == [] and not seen else RuntimeError("not reached")

    seen: list[int] = []

    def wrapped() -> None:
        if seen:
            context.session.add(outside)
            context.session.flush()
        seen.append(1)
        body()

    with pytest.raises(TransactionError, match="outside the replayed function") as caught:
        run(wrapped, retry=Retry(on=(Conflict, RuntimeError)))
    assert isinstance(caught.value.__cause__, (Conflict, RuntimeError))
    assert context.names() == ["a", "b"]


def test_keys_the_database_had_given_are_reset(context: World, naps: list[float]) -> None:
    """An object of a failed attempt is new again: no other row's key sticks to it."""
    made: list[Any] = []

    def body() -> None:
        made.append(Account(name="c"))
        context.session.add(made[-1])
        context.session.flush()
        if len(made) == 1:
            assert made[0].id is not None
            raise Conflict

    run(body, retry=Retry(on=(Conflict,)))
    assert made[0].id is None
    assert made[1].id is not None


@pytest.mark.backends("sqlite-file")
def test_keys_the_application_had_given_are_kept(context: World, naps: list[float]) -> None:
    """Only what the database made up is taken back."""
    made: list[Any] = []

    def body() -> None:
        made.append(Account(id=4711, name="c"))
        context.session.add(made[-1])
        context.session.flush()
        if len(made) == 1:
            raise Conflict

    run(body, retry=Retry(on=(Conflict,)))
    assert made[0].id == 4711


# -- where it is refused, and where ignored --------------------------------------------------


@pytest.mark.backends("sqlite-file")
def test_a_with_block_refuses_retry_on_entry(context: World) -> None:
    """A with block cannot be run a second time, so nobody may think it was."""
    ran = []
    with pytest.raises(OptionMismatch, match="replayed"), transaction(retry=3):
        ran.append(1)
    assert ran == []
    assert not in_transaction()


@pytest.mark.parametrize("flushed", [True, False])
@pytest.mark.parametrize("world", [{}, {"DBKIT_TX_STRAY_WORK": "adopt"}], indirect=True)
def test_a_session_with_uncommitted_work_is_refused(context: World, flushed: bool) -> None:
    """The rollback of a failed attempt would lose it; also where scopes adopt such work."""
    calls: list[int] = []
    context.session.add(Account(name="before"))
    if flushed:
        context.session.flush()
    with pytest.raises(OwnershipError, match="uncommitted work"):
        run(lambda: calls.append(1))
    with pytest.raises(OwnershipError):
        transaction(retry=2)(lambda: calls.append(1))()
    with pytest.raises(OwnershipError):
        next(iter(attempts()))
    assert calls == []
    context.session.commit()
    run(lambda: calls.append(1))
    assert calls == [1]


@pytest.mark.backends("sqlite-file")
def test_a_changed_object_is_uncommitted_work_too(context: World) -> None:
    """The change would be lost on replay without any error."""
    context.get("a").balance = 5
    with pytest.raises(OwnershipError, match="uncommitted work"):
        run(lambda: None)


def test_a_session_that_has_only_read_may_be_replayed(context: World, naps: list[float]) -> None:
    """A loader that fetched the user stands in nobody's way."""
    context.get("a")
    calls: list[int] = []

    def body() -> int:
        calls.append(1)
        context.get("a").balance += 1
        if len(calls) == 1:
            raise Conflict
        return len(calls)

    assert run(body, retry=Retry(on=(Conflict,))) == 2
    assert context.balances()[0] == 1


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("way", ["run", "attempts", "decorator"])
def test_retry_inside_a_scope_is_ignored(context: World, naps: list[float], way: str) -> None:
    """A part of a transaction cannot be replayed: the error travels to the outermost scope."""
    calls: list[int] = []
    policy = Retry(on=(Conflict,))

    def body() -> None:
        calls.append(1)
        raise Conflict

    def nested() -> None:
        if way == "run":
            run(body, retry=policy)
        elif way == "decorator":
            transaction(retry=policy)(body)()
        else:
            for attempt in attempts(policy):
                with attempt:
                    body()

    with pytest.raises(Conflict), transaction():
        nested()
    assert calls == [1]
    assert naps == []


@pytest.mark.backends("sqlite-file")
def test_the_outermost_policy_replays_the_nested_ones(context: World, naps: list[float]) -> None:
    """Two levels of three attempts are three attempts, not nine."""
    calls: list[int] = []

    @transaction(retry=Retry(on=(Conflict,)))
    def inner() -> None:
        calls.append(1)
        raise Conflict

    with pytest.raises(Conflict) as caught:
        run(inner, retry=Retry(on=(Conflict,)))
    assert calls == [1] * 3
    assert notes(caught.value) == "attempt 3 of 3"


@pytest.mark.backends("sqlite-file")
def test_leaving_the_loop_early_commits(context: World) -> None:
    """``break`` and ``return`` leave a with block normally."""

    def body() -> str:
        for attempt in attempts():
            with attempt:
                context.session.add(Account(name="c"))
                return "early"
        return "late"

    assert body() == "early"
    assert context.names() == ["a", "b", "c"]


@pytest.mark.backends("sqlite-file")
def test_an_attempt_that_was_caught_outside_ends_the_loop(context: World) -> None:
    """An error that is not replayed has left its block, and there is no other attempt."""
    count = 0
    for attempt in attempts(Retry(attempts=5)):
        count += 1
        with pytest.raises(ZeroDivisionError), attempt:
            raise ZeroDivisionError
    assert count == 1


@pytest.mark.backends("sqlite-file")
def test_an_attempt_inside_another_scope_is_not_replayed(context: World) -> None:
    """Opened around the attempt after the loop began, it makes the attempt a part."""
    count = 0
    for attempt in attempts(Retry(on=(Conflict,))):
        count += 1
        with pytest.raises(Conflict), transaction(), attempt:
            raise Conflict
    assert count == 1


@pytest.mark.backends("sqlite-file")
def test_an_ordinary_run_takes_arguments_and_returns_the_result(context: World) -> None:
    """``run(fn, *args, **kwargs)``."""
    assert run(lambda *args, **named: (args, named), 1, 2, key=3) == ((1, 2), {"key": 3})


@pytest.mark.backends("sqlite-memory")
def test_generators_and_coroutines_are_refused(context: World) -> None:
    """Their bodies would run after the scope, silently outside of it."""

    def generator() -> Iterator[int]:
        yield 1

    async def coroutine() -> None: ...

    for function in (generator, coroutine):
        with pytest.raises(TypeError, match="its body runs after"):
            run(function)


# -- lost connections ------------------------------------------------------------------------


def kill_own_backend(world: World) -> None:
    """End the server's side of this session's connection."""
    if world.database.name == "postgresql":
        pid = world.session.scalar(sa.text("SELECT pg_backend_pid()"))
        statement = f"SELECT pg_terminate_backend({pid})"
    else:
        pid = world.session.scalar(sa.text("SELECT CONNECTION_ID()"))
        statement = f"KILL {pid}"
    engine = sa.create_engine(world.database.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as other:
        other.exec_driver_sql(statement)
    engine.dispose()


@pytest.mark.backends("postgresql", "mariadb")
@pytest.mark.parametrize(
    ("retry", "expected"),
    [(Retry(), 1), (Retry(on=("disconnect",)), 2), (Retry(idempotent=True), 2)],
    ids=["default", "disconnect", "idempotent"],
)
@pytest.mark.parametrize("swallow", [False, True])
def test_a_connection_lost_before_commit_is_replayed_if_asked_for(
    context: World, naps: list[float], retry: Retry, expected: int, swallow: bool
) -> None:
    """Nothing was committed; the next attempt gets another connection."""
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        context.session.add(Account(name="c"))
        context.session.flush()
        if len(calls) == 1:
            kill_own_backend(context)
            try:
                context.session.execute(sa.text("SELECT 1"))
            except DBAPIError:
                if not swallow:
                    raise

    if expected == 1:
        with pytest.raises((DBAPIError, TransactionError)):
            run(body, retry=retry)
        assert context.names() == ["a", "b"]
    else:
        run(body, retry=retry)
        assert context.names() == ["a", "b", "c"]
    assert len(calls) == expected
    assert context.checked_out == 0


def lose_commits(world: World, times: int) -> list[int]:
    """Let the server die under COMMIT, that many times; returns a list that counts them."""
    lost: list[int] = []
    dialect: Any = world.db.engine.dialect
    plain = dialect.do_commit

    def do_commit(checkout: Any) -> None:
        if len(lost) < times:
            lost.append(1)
            if world.database.name == "postgresql":
                pid = checkout.dbapi_connection.info.backend_pid
                statement = f"SELECT pg_terminate_backend({pid})"
            else:
                statement = f"KILL {checkout.dbapi_connection.thread_id()}"
            engine = sa.create_engine(world.database.url, isolation_level="AUTOCOMMIT")
            with engine.connect() as other:
                other.exec_driver_sql(statement)
            engine.dispose()
        plain(checkout)

    dialect.do_commit = do_commit
    return lost


@pytest.mark.backends("postgresql", "mariadb")
@pytest.mark.parametrize(
    "retry", [Retry(), Retry(on=("disconnect", Exception)), Retry(on=(CommitOutcomeUnknown,))]
)
def test_an_unknown_outcome_is_not_replayed(
    context: World, naps: list[float], retry: Retry
) -> None:
    """The work may be saved: doing it again could do it twice."""
    calls: list[int] = []
    lose_commits(context, 1)

    def body() -> None:
        calls.append(1)
        context.session.add(Account(name="c"))

    with pytest.raises(CommitOutcomeUnknown):
        run(body, retry=retry)
    assert calls == [1]
    assert context.checked_out == 0
    run(body)


@pytest.mark.backends("postgresql", "mariadb")
def test_an_unknown_outcome_of_an_idempotent_body_is_replayed(
    context: World, naps: list[float]
) -> None:
    """The body says that it may run twice with one result."""
    calls: list[int] = []
    lose_commits(context, 1)

    def body() -> None:
        calls.append(1)
        found = context.session.scalars(sa.select(Account).filter_by(name="c")).first()
        if found is None:
            context.session.add(Account(name="c"))

    run(body, retry=Retry(idempotent=True))
    assert len(calls) == 2
    assert context.names() == ["a", "b", "c"]


@pytest.mark.backends("postgresql")
def test_a_server_that_is_not_back_yet_counts_as_a_disconnect(
    postgres_server: Callable[..., Any],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    database: Database,
) -> None:
    """A restart takes longer than one pause: connections are refused meanwhile."""
    server = postgres_server()
    driver = sa.make_url(database.url).get_driver_name()
    app = Flask("restarting", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = server.url(driver=driver)
    world = World(app, database)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            monkeypatch.undo()
            server.start()

    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        if len(calls) == 1:
            server.stop()
            monkeypatch.setattr(time, "sleep", sleep)
        world.get("a").balance += 1

    with app.app_context():
        run(body, retry=Retry(attempts=5, on=("disconnect",)))
        assert len(calls) == 4
        assert world.balances()[0] == 1
        world.db.engine.dispose()


# -- views -----------------------------------------------------------------------------------


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize(
    "world", [{"DBKIT_TX_PER_REQUEST": True}, {"DBKIT_TX_PER_REQUEST": False}], indirect=True
)
@pytest.mark.parametrize(
    ("reads", "sends", "attempts_made"),
    [
        ("nothing", {"data": b"body"}, 2),
        ("json", {"json": {"n": 1}}, 2),
        ("form", {"data": {"n": "1"}}, 2),
        ("data", {"data": b"body"}, 2),
        ("empty stream", {}, 2),
        ("stream", {"data": b"body"}, 1),
        ("uncached data", {"data": b"body"}, 1),
        ("files", {"data": {"file": b"content"}}, 1),
        ("saved file", {"data": {"file": b"content"}}, 1),
        ("closed file", {"data": {"file": b"content"}}, 1),
        ("unread files", {"data": {"file": b"content"}}, 2),
    ],
)
def test_a_view_is_replayed_unless_it_streamed_its_input(
    world: World, naps: list[float], reads: str, sends: dict[str, Any], attempts_made: int
) -> None:
    """Form fields and JSON are kept; a stream and files are empty the second time."""
    calls: list[Any] = []
    if "file" in reads:
        sends = {"data": {"file": (io.BytesIO(b"content"), "name.txt")}}

    def read() -> Any:
        uploaded: Any = request.files.get("file") if "file" in reads else None
        actions: dict[str, Callable[[], Any]] = {
            "nothing": lambda: None,
            "json": request.get_json,
            "form": lambda: request.form["n"],
            "data": request.get_data,
            "empty stream": lambda: len(request.stream.read()),
            "stream": lambda: request.stream.read(2),
            "uncached data": lambda: request.get_data(cache=False),
            "files": lambda: len(uploaded.read()),
            "saved file": lambda: uploaded.save(io.BytesIO()),
            "closed file": lambda: [uploaded.close()],
            "unread files": lambda: uploaded.filename,
        }
        return actions[reads]()

    @world.app.post("/")
    @transaction(retry=Retry(on=(Conflict,)))
    def view() -> str:
        calls.append(read())
        world.session.add(Account(name="c"))
        world.session.flush()
        if len(calls) == 1:
            raise Conflict
        return "done"

    client = world.app.test_client()
    if attempts_made == 1:
        with pytest.raises(Conflict) as caught:
            client.post("/", **sends)
        assert "has read the body of the request" in notes(caught.value)
        assert world.names() == ["a", "b"]
    else:
        assert client.post("/", **sends).text == "done"
        assert calls[0] == calls[1]
        assert world.names() == ["a", "b", "c"]
    assert len(calls) == attempts_made


@pytest.mark.backends("sqlite-file")
def test_a_body_read_before_the_replayed_part_stands_in_nobodys_way(
    world: World, naps: list[float]
) -> None:
    """The replayed function gets what was read, however often it is called."""
    calls: list[bytes] = []

    @world.app.post("/")
    def view() -> str:
        content = request.stream.read()

        def save() -> None:
            calls.append(content)
            if len(calls) == 1:
                raise Conflict

        run(save, retry=Retry(on=(Conflict,)))
        return "done"

    assert world.app.test_client().post("/", data=b"body").text == "done"
    assert calls == [b"body", b"body"]


@pytest.mark.backends("sqlite-file")
def test_a_statement_that_cannot_be_compiled_is_not_replayed(context: World) -> None:
    """An error on this side of the driver has no code."""
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        context.session.execute(sa.text("SELECT :missing"))

    with pytest.raises(StatementError):
        run(body)
    assert calls == [1]
