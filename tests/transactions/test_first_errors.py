"""Which error is answered: the first one of the transaction, and what COMMIT's own answer means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from flask_dbkit import (
    CommitOutcomeUnknown,
    Retry,
    UnexpectedRollback,
    after_end,
    get_or_create,
    on_commit,
    on_rollback,
    run,
    savepoint,
    transaction,
    upsert,
)

from .conftest import Entry, Ledger, code_of

OPEN = ["08006", "08003", "40003", "57P01"]
REPLAYED = ["40001", "40P01"]
PROVEN = ["23514", "P0001"]


@pytest.fixture
def failing_commit(ledger: Ledger) -> Ledger:
    """COMMIT fails with the code that stands in the note of a new entry."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$"
            " BEGIN RAISE EXCEPTION 'at COMMIT' USING ERRCODE = NEW.note; END $$"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW WHEN (NEW.note IS NOT NULL) EXECUTE FUNCTION fail()"
        )
    return ledger


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("code", [*OPEN, *REPLAYED, *PROVEN])
def test_an_answer_to_commit_that_proves_nothing_is_no_rollback(
    failing_commit: Ledger, code: str
) -> None:
    """Nothing is replayed, and hooks are told that nobody knows; what proves a rollback is one."""
    heard: list[str] = []
    attempts: list[int] = []

    def write() -> None:
        attempts.append(1)
        on_commit(heard.append, "committed")
        on_rollback(lambda _: heard.append("rolled back"))
        after_end(heard.append)
        failing_commit.session.add(Entry(n=1, note=code))

    with pytest.raises(Exception) as raised:
        run(write, retry=Retry(attempts=2, base=0, on=("disconnect",)))
    if code in OPEN:
        assert isinstance(raised.value, CommitOutcomeUnknown)
        assert isinstance(raised.value.__cause__, DBAPIError)
        assert (len(attempts), heard) == (1, ["unknown"])
    else:
        assert code_of(raised.value) == code
        expected = 2 if code in REPLAYED else 1
        assert (len(attempts), heard) == (expected, ["rolled back", "rolled_back"] * expected)
    assert failing_commit.saved() == []


@pytest.fixture(params=["this engine", "every engine"])
def hidden_errors(request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[None]:
    """A listener of a library puts an error of its own in the place of the database's."""

    def hide(context: Any) -> None:
        raise LookupError("something else")

    target = ledger.engine if request.param == "this engine" else Engine
    event.listen(target, "handle_error", hide)
    yield
    event.remove(target, "handle_error", hide)


@pytest.mark.usefixtures("hidden_errors")
def test_a_database_error_poisons_whatever_a_listener_makes_of_it(ledger: Ledger) -> None:
    """The scope hears of it from the driver, before any listener does."""
    with pytest.raises(UnexpectedRollback) as raised, transaction():
        ledger.insert(1)
        with pytest.raises(LookupError):
            ledger.session.execute(text("INSERT INTO entry (n) VALUES (1)"))
    assert isinstance(raised.value.__cause__, Exception)
    assert not isinstance(raised.value.__cause__, LookupError)
    assert ledger.saved() == []
    with transaction():
        ledger.insert(1)
        with pytest.raises(LookupError), savepoint():
            ledger.session.execute(text("INSERT INTO entry (n) VALUES (1)"))
    assert ledger.saved() == [1]


def _get(ledger: Ledger) -> None:
    get_or_create(Entry, n=2)


def _upsert(ledger: Ledger) -> None:
    upsert(Entry, [{"n": 2}], by="n")


def _own(ledger: Ledger) -> None:
    with savepoint():
        ledger.insert(2)


def _nested(ledger: Ledger) -> None:
    with ledger.session.begin_nested():
        ledger.insert(2)


def _outside(ledger: Ledger) -> None:
    ledger.insert(3)
    _nested(ledger)


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize("use", [_get, _upsert, _own, _nested, _outside], ids=lambda f: f.__name__)
def test_the_error_of_a_deadlock_is_not_hidden_by_that_of_its_savepoint(
    ledger: Ledger, use: Callable[[Ledger], None]
) -> None:
    """The server drops the savepoints with the transaction, as here by a trigger."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER dead BEFORE INSERT ON entry FOR EACH ROW IF NEW.n = 2 THEN"
            " SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock'; END IF"
        )

    def drop_savepoints(context: Any) -> None:
        if context.original_exception.args[0] == 1213:
            context.connection.connection.dbapi_connection.rollback()

    event.listen(ledger.engine, "handle_error", drop_savepoints)
    try:
        with pytest.raises(DBAPIError) as raised:
            if use is _outside:
                use(ledger)
            else:
                with transaction():
                    ledger.insert(1)
                    use(ledger)
    finally:
        event.remove(ledger.engine, "handle_error", drop_savepoints)
        ledger.db.session.rollback()
    original: Any = raised.value.orig
    assert original.args[0] == 1213
    assert ledger.saved() == []


def test_a_conflict_is_answered_by_its_own_error(ledger: Ledger) -> None:
    """No savepoint is lost then, and nothing is noted."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(IntegrityError) as raised, ledger.session.begin_nested():
            ledger.insert(1)
    assert not getattr(raised.value, "__notes__", ())
    assert ledger.saved() == [1]
