"""Who ends the transaction of a scope: the scope, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import InvalidRequestError

from flask_dbkit import (
    OwnershipError,
    current_transaction,
    on_commit,
    on_rollback,
    savepoint,
    transaction,
)
from flask_dbkit.transactions import engine_guards

from .conftest import Entry, Ledger


def test_commit_inside_a_scope_is_refused_and_changes_nothing(ledger: Ledger) -> None:
    """The scope goes on after the refusal, and saves what came before and after."""
    with transaction():
        ledger.add(1)
        with pytest.raises(OwnershipError, match="commits at its end"):
            ledger.db.session.commit()
        ledger.add(2)
    assert ledger.saved() == [1, 2]


def test_a_refused_commit_that_is_let_go_saves_nothing(ledger: Ledger) -> None:
    """It leaves the block as any exception does."""
    with pytest.raises(OwnershipError), transaction():
        ledger.add(1)
        ledger.db.session.commit()
    assert ledger.saved() == []


def test_commit_inside_a_savepoint_releases_nothing(ledger: Ledger) -> None:
    """SQLAlchemy would commit the outer transaction and the savepoint with it."""
    with transaction():
        ledger.insert(1)
        with savepoint():
            ledger.insert(2)
            with pytest.raises(OwnershipError):
                ledger.db.session.commit()
            ledger.insert(3)
        ledger.insert(4)
    assert ledger.saved() == [1, 2, 3, 4]


def test_commit_inside_ones_own_begin_nested_is_refused_too(ledger: Ledger) -> None:
    """The application's savepoint is still open afterwards."""
    with transaction():
        ledger.insert(1)
        with ledger.db.session.begin_nested():
            ledger.insert(2)
            with pytest.raises(OwnershipError):
                ledger.db.session.commit()
            ledger.insert(3)
    assert ledger.saved() == [1, 2, 3]


ENDINGS: dict[str, Callable[[Ledger], object]] = {
    "session.rollback()": lambda ledger: ledger.db.session.rollback(),
    "session.close()": lambda ledger: ledger.db.session.close(),
    "session.remove()": lambda ledger: ledger.db.session.remove(),
    "session.reset()": lambda ledger: ledger.db.session.reset(),
    "session.invalidate()": lambda ledger: ledger.session.invalidate(),
    "connection.rollback()": lambda ledger: ledger.db.session.connection().rollback(),
    "transaction.rollback()": lambda ledger: ledger.session.get_transaction().rollback(),  # type: ignore[union-attr]
    "transaction.close()": lambda ledger: ledger.session.get_transaction().close(),  # type: ignore[union-attr]
}


def endings(ledger: Ledger) -> dict[str, Callable[[Ledger], object]]:
    if ledger.database.name == "sqlite-memory":  # the connection is the database
        return {name: end for name, end in ENDINGS.items() if "invalidate" not in name}
    return ENDINGS


@pytest.mark.parametrize("name", ENDINGS)
def test_ending_the_transaction_last_in_the_block_is_noticed_at_its_end(
    ledger: Ledger, name: str
) -> None:
    """The block would end normally with its work gone: the exit says so."""
    if name not in endings(ledger):
        name = "session.close()"
    with pytest.raises(OwnershipError), transaction():
        ledger.insert(1)
        ENDINGS[name](ledger)
    assert ledger.saved() == []
    with transaction():
        ledger.insert(2)
    assert ledger.saved() == [2]


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("how", ["add", "insert"])
def test_work_after_ending_the_transaction_is_not_saved(
    ledger: Ledger, name: str, how: str
) -> None:
    """Neither what came before nor what came after; and the error is ours."""
    if name not in endings(ledger):
        name = "session.close()"
    with pytest.raises(OwnershipError), transaction():
        ledger.insert(1)
        ENDINGS[name](ledger)
        getattr(ledger, how)(2)
    ledger.db.session.rollback()  # the session after remove() is another one, and nobody's
    assert ledger.saved() == []


def test_work_on_the_session_that_replaced_a_removed_one_is_not_committed(
    ledger: Ledger,
) -> None:
    """``remove()`` makes a second session; a commit on it would look like success."""
    with pytest.raises(OwnershipError), transaction():
        ledger.insert(1)
        ledger.db.session.remove()
        ledger.insert(2)
        with pytest.raises(OwnershipError):
            ledger.db.session.commit()
        ledger.db.session.rollback()
    assert ledger.saved() == []


def test_work_on_a_session_that_took_the_place_of_a_forgotten_one_is_refused(
    ledger: Ledger,
) -> None:
    """``registry.clear()`` closes nothing: the scope still has its session, and nobody the new."""
    with pytest.raises(OwnershipError, match=r"registry\.clear\(\)"), transaction():
        ledger.insert(1)
        ledger.db.session.registry.clear()
        ledger.add(2)
        if not ledger.database.name.startswith("sqlite"):  # there it would wait for the first
            ledger.insert(3)
    ledger.db.session.rollback()
    assert ledger.saved() == []
    with transaction():  # forgotten as the last thing, it has lost nothing
        ledger.insert(4)
        ledger.db.session.registry.clear()
    assert ledger.saved() == [4]


def test_commit_on_the_connection_is_refused_and_changes_nothing(ledger: Ledger) -> None:
    """``session.connection().commit()`` would commit behind the scope's back."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(OwnershipError):
            ledger.db.session.connection().commit()
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


def test_commit_on_the_connections_transaction_saves_nothing(ledger: Ledger) -> None:
    """It cannot be refused without harm, so it is turned into a rollback."""
    with pytest.raises(OwnershipError), transaction():
        ledger.insert(1)
        current = ledger.db.session.connection().get_transaction()
        assert current is not None
        current.commit()
    assert ledger.saved() == []
    with transaction():
        ledger.insert(2)
    assert ledger.saved() == [2]


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT", "commit;", " /* now */ COMMIT", "-- now\nCOMMIT", "ROLLBACK", "BEGIN",
        "SAVEPOINT mine", "RELEASE SAVEPOINT mine", "ROLLBACK TO SAVEPOINT mine",
        "START TRANSACTION", "END", "ABORT", "# now\nCOMMIT", "/*!50000 COMMIT */", ";ROLLBACK",
        "SELECT 1; COMMIT", "PREPARE TRANSACTION 'mine'", "Commit Work", "XA COMMIT 'mine'",
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["session", "driver"])
def test_transaction_control_as_text_is_refused_before_it_is_sent(
    ledger: Ledger, statement: str, way: str
) -> None:
    """The scope goes on as if nothing had been said."""
    with transaction():
        ledger.insert(1)
        with ledger.statements() as sent, pytest.raises(OwnershipError, match="as text"):
            if way == "session":
                ledger.db.session.execute(text(statement))
            else:
                ledger.db.session.connection().exec_driver_sql(statement)
        ledger.insert(2)
    assert ledger.saved() == [1, 2]
    assert not [item for item in sent if item == "INSERT"]


def test_transaction_control_outside_a_scope_is_nobodys_business(ledger: Ledger) -> None:
    """The guard is the scope's; a plain session does what it is told."""
    ledger.db.session.execute(text("SAVEPOINT mine"))
    ledger.db.session.execute(text("RELEASE SAVEPOINT mine"))
    ledger.db.session.rollback()


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
def test_a_commit_through_the_drivers_cursor_is_noticed_at_the_end(
    ledger: Ledger, statement: str
) -> None:
    """SQLAlchemy sees nothing of it; the driver's state tells before our COMMIT."""
    with pytest.raises(OwnershipError), transaction():
        ledger.insert(1)
        cursor = ledger.db.session.connection().connection.cursor()
        cursor.execute(statement)
        cursor.close()


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize(
    "statement", ["SET autocommit=1", "SET SESSION autocommit = 1", "UNLOCK TABLES"]
)
def test_what_commits_by_the_way_is_refused_on_mariadb(ledger: Ledger, statement: str) -> None:
    """These commit without saying so."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(OwnershipError):
            ledger.db.session.execute(text(statement))
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


@pytest.mark.backends("sqlite-file", "sqlite-memory")
@pytest.mark.parametrize("on", ["connection", "cursor"])
def test_a_script_of_the_driver_is_refused_before_it_commits(ledger: Ledger, on: str) -> None:
    """``executescript()`` commits first; outside a scope it does what it always did."""
    script = "INSERT INTO entry (n) VALUES (2); INSERT INTO entry (n) VALUES (3);"

    def run() -> None:
        raw: Any = ledger.db.session.connection().connection.dbapi_connection
        if on == "connection":
            raw.executescript(script)
        else:
            cursor = raw.cursor()
            try:
                cursor.executescript(script)
            finally:
                cursor.close()

    with transaction():
        ledger.insert(1)
        with pytest.raises(OwnershipError, match="executescript"):
            run()
    assert ledger.saved() == [1]
    run()
    ledger.db.session.rollback()
    assert ledger.saved() == [1, 2, 3]


def test_a_locking_read_outside_a_scope_is_told_of_once(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has said when its lock ends. Inside a scope there is nothing to tell."""
    engine_guards._told.clear()
    statement = select(Entry.note).where(Entry.n == 1).with_for_update()
    with transaction():
        ledger.db.session.execute(statement)
    assert "locking read" not in caplog.text
    for _ in range(2):
        ledger.db.session.execute(statement)
        ledger.db.session.rollback()
    assert caplog.text.count("locking read") == 1


def test_begin_inside_a_scope_is_an_error_and_the_scope_usable(ledger: Ledger) -> None:
    """SQLAlchemy refuses it by itself."""
    with transaction():
        ledger.insert(1)
        with pytest.raises(InvalidRequestError):
            ledger.db.session.begin()
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


def test_ones_own_begin_nested_works_as_usual(ledger: Ledger) -> None:
    """It releases, and it rolls back to itself."""
    with transaction():
        ledger.insert(1)
        with ledger.db.session.begin_nested():
            ledger.insert(2)
        with pytest.raises(ZeroDivisionError), ledger.db.session.begin_nested():
            ledger.insert(3)
            raise ZeroDivisionError
        ledger.insert(4)
    assert ledger.saved() == [1, 2, 4]


def test_a_begin_nested_that_was_left_open_is_saved_with_the_scope(ledger: Ledger) -> None:
    """The COMMIT takes open savepoints along, as it does in the database."""
    with transaction():
        ledger.insert(1)
        ledger.db.session.begin_nested()
        ledger.insert(2)
    assert ledger.saved() == [1, 2]


def test_hooks_of_a_scope_ended_by_somebody_else_see_a_rollback(ledger: Ledger) -> None:
    """What waits for the commit must not run."""
    log: list[object] = []
    with pytest.raises(OwnershipError), transaction():
        on_commit(log.append, "committed")
        on_rollback(lambda error: log.append(type(error).__name__))
        ledger.insert(1)
        ledger.db.session.rollback()
    assert log == ["OwnershipError"]


def test_a_scope_inside_a_begin_block_is_refused(ledger: Ledger) -> None:
    """Somebody else's block will end that transaction: no promise could be kept."""
    with ledger.db.session.begin():
        ledger.insert(1)
        with pytest.raises(OwnershipError, match=r"session\.begin\(\)"), transaction():
            pass
        assert current_transaction() is None
    assert ledger.saved() == [1]


def test_a_scope_inside_a_bare_begin_nested_is_refused(ledger: Ledger) -> None:
    """Its COMMIT would be a RELEASE."""
    with ledger.db.session.begin_nested():
        with pytest.raises(OwnershipError, match="begin_nested"), transaction():
            pass
    ledger.db.session.rollback()


def test_expunging_pending_objects_saves_the_rest(ledger: Ledger) -> None:
    """Taking objects out of the session is the application's own doing."""
    with transaction():
        first, second = ledger.add(1, 2)
        ledger.db.session.expunge(second)
    assert ledger.saved() == [1]
    assert isinstance(first, Entry)


def test_a_nested_context_cannot_open_a_scope_inside_an_outer_one(ledger: Ledger) -> None:
    """It would be another session and another transaction, committed on its own."""
    with transaction():
        ledger.insert(1)
        with ledger.app.app_context():
            with pytest.raises(OwnershipError, match="independent=True"), transaction():
                ledger.insert(2)
        ledger.insert(3)
    assert ledger.saved() == [1, 3]


@pytest.mark.requires("server")
def test_an_independent_scope_commits_on_its_own(ledger: Ledger) -> None:
    """An audit entry stays although the work it tells of is rolled back."""
    with pytest.raises(ZeroDivisionError), transaction():
        ledger.insert(1)
        with ledger.app.app_context(), transaction(independent=True):
            ledger.insert(2)
        raise ZeroDivisionError
    assert ledger.saved() == [2]


@pytest.mark.requires("file")
@pytest.mark.backends("sqlite-file")
def test_an_independent_scope_on_sqlite_is_refused_beside_an_outer_write(ledger: Ledger) -> None:
    """It would wait for the outer scope, which waits for it."""
    with transaction():
        ledger.insert(1)
        with (
            ledger.app.app_context(),
            pytest.raises(OwnershipError, match="write lock"),
            transaction(independent=True),
        ):
            ledger.insert(2)
        ledger.insert(3)
    assert ledger.saved() == [1, 3]


@pytest.mark.backends("sqlite-memory")
def test_an_independent_scope_in_memory_is_always_refused(ledger: Ledger) -> None:
    """There is one connection, so there is one transaction."""
    with transaction():
        with ledger.app.app_context():
            with pytest.raises(OwnershipError), transaction(independent=True):
                pass
        ledger.insert(1)
    assert ledger.saved() == [1]
