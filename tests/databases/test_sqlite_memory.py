"""In memory, every session of the process shares one connection, and still owns its work."""

from __future__ import annotations

import gc
import logging
import sqlite3
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, insert, make_url, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from flask_dbkit.config import Config
from flask_dbkit.databases import EngineContext, support_for
from tests.databases.conftest import KitEngine, add_account
from tests.databases.test_sqlite_control import BALANCE, account, code, entry


@pytest.fixture
def make_memory(prepare_engine: KitEngine) -> KitEngine:
    def make(**options: object) -> Engine:
        engine = prepare_engine("sqlite://", **options)
        add_account(engine)
        return engine

    return make


@pytest.fixture
def memory(make_memory: KitEngine) -> Engine:
    """An in-memory engine as Flask-SQLAlchemy makes it, with the tables of the tests."""
    return make_memory(DBKIT_SQLITE_BUSY_TIMEOUT_MS=60)


def numbers(engine: Engine) -> list[int]:
    with Session(engine) as session:
        return list(session.scalars(select(entry.c.n).order_by(entry.c.id)))


def test_it_is_said_once_and_how_to_avoid_it(
    prepare_engine: KitEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """One connection for all is a trap in tests: the log says so when the engine is prepared."""
    with caplog.at_level(logging.WARNING, "flask_dbkit.sqlite"):
        prepare_engine("sqlite://")
    assert len(caplog.records) == 1
    assert "shares one connection" in caplog.text
    assert "Use a file" in caplog.text


def test_an_inner_read_does_not_destroy_outer_work(memory: Engine) -> None:
    """A nested session that only reads used to roll the outer one's rows back."""
    with Session(memory) as outer:
        outer.execute(insert(entry).values(n=1))
        with Session(memory) as inner:
            assert inner.scalars(select(entry.c.n)).all() == [1]
        with Session(memory) as inner:
            inner.execute(BALANCE)
            inner.commit()
        with Session(memory) as inner:
            inner.execute(BALANCE)
            inner.rollback()
        outer.execute(insert(entry).values(n=2))
        outer.commit()
    assert numbers(memory) == [1, 2]


def test_outer_work_can_still_be_rolled_back_after_an_inner_commit(memory: Engine) -> None:
    """The inner session commits nothing but its own, and that was nothing."""
    with Session(memory) as outer:
        outer.execute(insert(entry).values(n=1))
        with Session(memory) as inner:
            inner.execute(BALANCE)
            inner.commit()
        outer.rollback()
    assert numbers(memory) == []


def test_an_inner_write_is_refused_while_the_outer_session_has_written(memory: Engine) -> None:
    """Both on one connection could only be committed together: an error says what to do."""
    with Session(memory) as outer:
        outer.execute(insert(entry).values(n=1))
        with Session(memory) as inner:
            inner.execute(BALANCE)
            with pytest.raises(OperationalError, match="one connection") as caught:
                inner.execute(insert(entry).values(n=2))
            assert code(caught) == sqlite3.SQLITE_LOCKED
            with pytest.raises(OperationalError, match="one connection"):
                inner.execute(text("COMMIT"))
        outer.commit()
        with Session(memory) as inner:
            inner.execute(insert(entry).values(n=3))
            inner.commit()
    assert numbers(memory) == [1, 3]


def test_an_announced_inner_write_is_refused_too(memory: Engine) -> None:
    """BEGIN IMMEDIATE inside another session's writes is the same thing."""
    with Session(memory) as outer:
        outer.execute(insert(entry).values(n=1))
        announcing = memory.execution_options(dbkit_sqlite_begin="immediate")
        with announcing.connect() as inner, pytest.raises(OperationalError, match="connection"):
            inner.execute(BALANCE)
        outer.commit()
    with memory.connect().execution_options(dbkit_sqlite_begin="immediate") as connection:
        connection.execute(insert(entry).values(n=2))
        connection.commit()
    assert numbers(memory) == [1, 2]


def test_an_outer_session_that_only_read_steps_aside(memory: Engine) -> None:
    """The usual test: a fixture has read, the request writes, the fixture reads on."""
    with Session(memory) as outer:
        assert outer.execute(BALANCE).scalar_one() == 0
        with Session(memory) as inner:
            inner.execute(insert(entry).values(n=1))
            inner.commit()
        assert outer.scalars(select(entry.c.n)).all() == [1]
        outer.execute(insert(entry).values(n=2))
        outer.commit()
    assert numbers(memory) == [1, 2]


def test_an_outer_session_is_refused_when_its_reads_became_outdated(memory: Engine) -> None:
    """It stepped aside, and the row it had read was changed: no lost update here either."""
    with Session(memory) as outer:
        balance = outer.execute(BALANCE).scalar_one()
        with Session(memory) as inner:
            inner.execute(update(account).values(balance=5))
            inner.commit()
        for _ in range(2):
            with pytest.raises(OperationalError) as caught:
                outer.execute(update(account).values(balance=balance + 1))
            assert code(caught) == sqlite3.SQLITE_BUSY_SNAPSHOT
        outer.rollback()
        assert outer.execute(BALANCE).scalar_one() == 5
        outer.execute(update(account).values(balance=6))
        outer.commit()


def test_reads_before_between_and_after_nested_reads_do_not_refuse_a_write(memory: Engine) -> None:
    """Nobody wrote, so nothing is outdated, however often the connection changed hands."""
    with Session(memory) as outer:
        for _ in range(3):
            outer.execute(BALANCE)
            with Session(memory) as inner:
                inner.execute(BALANCE)
        outer.execute(select(entry.c.n))
        outer.execute(insert(entry).values(n=1))
        outer.commit()
    assert numbers(memory) == [1]


def test_very_many_reads_do_not_refuse_a_write_when_nobody_else_wrote(memory: Engine) -> None:
    """Reads are repeated only if somebody has written in between."""
    with Session(memory) as outer:
        for _ in range(300):
            outer.execute(BALANCE)
        with Session(memory) as inner:
            inner.execute(BALANCE)
        outer.execute(insert(entry).values(n=1))
        outer.rollback()
        for _ in range(300):
            outer.execute(BALANCE)
        with Session(memory) as inner:
            inner.execute(insert(entry).values(n=2))
            inner.commit()
        with pytest.raises(OperationalError) as caught:
            outer.execute(insert(entry).values(n=3))
        assert code(caught) == sqlite3.SQLITE_BUSY_SNAPSHOT
    assert numbers(memory) == [2]


def test_what_a_guest_read_of_undone_work_cannot_be_written_back(memory: Engine) -> None:
    """It saw uncommitted rows that were then rolled back, or changed once more."""
    with Session(memory) as outer, Session(memory) as inner:
        outer.execute(update(account).values(balance=7))
        assert inner.execute(BALANCE).scalar_one() == 7
        outer.rollback()
        with pytest.raises(OperationalError) as caught:
            inner.execute(update(account).values(balance=8))
        assert code(caught) == sqlite3.SQLITE_BUSY_SNAPSHOT
    with Session(memory) as outer, Session(memory) as inner:
        outer.execute(update(account).values(balance=9))
        assert inner.execute(BALANCE).scalar_one() == 9
        outer.commit()
        inner.execute(update(account).values(balance=10))
        inner.commit()
        assert inner.execute(BALANCE).scalar_one() == 10


def test_savepoints_of_a_guest_leave_the_owners_alone(memory: Engine) -> None:
    """Both are called ``sa_savepoint_1``; rolling the guest's back must undo nothing."""
    with Session(memory) as outer, Session(memory) as inner:
        outer.execute(insert(entry).values(n=1))
        with outer.begin_nested():
            nested = inner.begin_nested()
            inner.execute(BALANCE)
            outer.execute(insert(entry).values(n=2))
            nested.rollback()
            with inner.begin_nested():
                inner.execute(BALANCE)
        outer.commit()
    assert numbers(memory) == [1, 2]


def test_savepoints_survive_stepping_aside(memory: Engine) -> None:
    """A displaced transaction finds its savepoints again when it comes back."""
    with Session(memory) as outer:
        outer.execute(BALANCE)
        nested = outer.begin_nested()
        with Session(memory) as inner:
            inner.execute(insert(entry).values(n=1))
            inner.commit()
        outer.execute(insert(entry).values(n=2))
        nested.rollback()
        outer.execute(insert(entry).values(n=3))
        outer.commit()
    assert numbers(memory) == [1, 3]


def test_outer_rollback_undoes_a_released_savepoint(memory: Engine) -> None:
    """The promise for files holds in memory too."""
    with Session(memory) as session:
        session.execute(BALANCE)
        with session.begin_nested():
            session.execute(insert(entry).values(n=1))
        session.rollback()
    assert numbers(memory) == []


def test_a_read_only_transaction_refuses_only_its_own_writes(memory: Engine) -> None:
    """``query_only`` would bind everybody on the connection, so it is not used here."""
    with memory.connect().execution_options(dbkit_sqlite_read_only=True) as reader:
        reader.execute(BALANCE)
        with pytest.raises(OperationalError, match="readonly") as caught:
            reader.execute(insert(entry).values(n=1))
        assert code(caught) == sqlite3.SQLITE_READONLY
        with Session(memory) as other:
            other.execute(insert(entry).values(n=2))
            other.commit()
    assert numbers(memory) == [2]


def test_autocommit_commits_nobody_elses_work(memory: Engine) -> None:
    """The driver switches to autocommit by a COMMIT: refused while somebody has written."""
    with Session(memory) as outer:
        outer.execute(insert(entry).values(n=1))
        for engine in (memory, memory.execution_options(isolation_level="AUTOCOMMIT")):
            with pytest.raises((OperationalError, sqlite3.OperationalError), match="connection"):
                engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        outer.rollback()
    assert numbers(memory) == []
    with memory.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM"))
        connection.execute(insert(entry).values(n=2))
        with Session(memory) as other:
            other.execute(insert(entry).values(n=3))
            with pytest.raises(OperationalError, match="one connection"):
                connection.execute(insert(entry).values(n=4))
            assert connection.execute(select(entry.c.n)).scalars().all() == [2, 3]
            other.rollback()
        connection.execute(insert(entry).values(n=5))
    with memory.connect() as connection:
        connection.execute(insert(entry).values(n=6))
        connection.rollback()
    assert numbers(memory) == [2, 5]


def test_an_autocommitted_write_outdates_what_was_read(memory: Engine) -> None:
    """It changes rows like any other write."""
    with Session(memory) as outer:
        outer.execute(BALANCE)
        with memory.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(update(account).values(balance=5))
        with pytest.raises(OperationalError):
            outer.execute(update(account).values(balance=1))


def test_other_isolation_levels_may_be_asked_for(memory: Engine) -> None:
    """They change nothing for others."""
    with Session(memory) as outer:
        outer.execute(insert(entry).values(n=1))
        with memory.connect().execution_options(isolation_level="SERIALIZABLE") as inner:
            inner.execute(BALANCE)
        outer.commit()
    assert numbers(memory) == [1]


def test_a_transaction_that_the_database_rolled_back_cannot_go_on(memory: Engine) -> None:
    """As with a file: half of the work must not be committed."""
    with memory.connect() as connection:
        connection.execute(insert(entry).values(id=1, n=1))
        with pytest.raises(DBAPIError):
            connection.execute(text("INSERT OR ROLLBACK INTO entry (id, n) VALUES (1, 2)"))
        for go_on in (lambda: connection.execute(insert(entry).values(n=3)), connection.commit):
            with pytest.raises(OperationalError, match="rolled this transaction back"):
                go_on()
        connection.rollback()
    assert numbers(memory) == []


def test_an_error_of_one_session_does_not_end_anothers_transaction(memory: Engine) -> None:
    """A guest's mistake is its own."""
    with Session(memory) as outer:
        outer.execute(insert(entry).values(n=1))
        with Session(memory) as inner, pytest.raises(DBAPIError):
            inner.execute(text("SELECT nothing"))
        outer.commit()
    assert numbers(memory) == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_forgotten_session_does_not_block_the_next(memory: Engine) -> None:
    """What was thrown away without being closed is rolled back by whoever comes next."""
    session = Session(memory)
    session.execute(insert(entry).values(n=1))
    del session
    gc.collect()
    with Session(memory) as following:
        following.execute(insert(entry).values(n=2))
        following.commit()
    assert numbers(memory) == [2]


def in_thread(work: Callable[[], None]) -> list[BaseException]:
    """Run ``work`` in a thread of its own, to its end; return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return raised


def test_another_thread_waits_for_the_end_of_a_write(make_memory: KitEngine) -> None:
    """Its own write follows, and neither row is missing."""
    memory = make_memory()
    waiting = threading.Event()

    def work() -> None:
        with Session(memory) as other:
            waiting.set()
            other.execute(insert(entry).values(n=2))
            other.commit()

    with Session(memory) as session:
        session.execute(insert(entry).values(n=1))
        thread = threading.Thread(target=work)
        thread.start()
        assert waiting.wait(30)
        session.execute(insert(entry).values(n=11))
        session.commit()
    thread.join(30)
    assert numbers(memory) == [1, 11, 2]


def test_another_thread_gives_up_after_its_busy_timeout(memory: Engine) -> None:
    """A write that never ends is the busy error for the others, read or write."""

    def read() -> None:
        with Session(memory) as other:
            other.execute(BALANCE)

    with Session(memory) as session:
        session.execute(insert(entry).values(n=1))
        (error,) = in_thread(read)
        assert isinstance(error, OperationalError)
        assert "one connection" in str(error)
        session.commit()
    assert numbers(memory) == [1]


def in_six_threads(work: Callable[[], None]) -> None:
    """Run it in six threads at once."""
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_threads_lose_no_row_and_no_update(make_memory: KitEngine) -> None:
    """Every acknowledged row is there; nobody's rollback hits anybody else's work."""
    memory = make_memory()
    done: list[int] = []

    def work() -> None:
        for n in range(60):
            try:
                with Session(memory) as session:
                    balance = session.execute(BALANCE).scalar_one()
                    session.execute(insert(entry).values(n=n))
                    session.execute(
                        update(account).where(account.c.id == 1).values(balance=balance + 1)
                    )
                    if n % 3 == 0:
                        session.rollback()
                        continue
                    session.commit()
                done.append(n)
            except OperationalError:
                continue

    in_six_threads(work)
    assert len(numbers(memory)) == len(done) > 0
    with Session(memory) as session:
        assert session.execute(BALANCE).scalar_one() == len(done)


def test_threads_that_read_the_same_are_given_whole_answers(make_memory: KitEngine) -> None:
    """The driver hands its prepared statements to every thread, and resets them under the others.

    From Python 3.12 on a row went missing, or came without its values, once in a few hundred.
    """
    memory = make_memory()
    answers: list[object] = []

    def work() -> None:
        for _ in range(400):
            with Session(memory) as session:
                answers.extend(session.execute(BALANCE).all())

    in_six_threads(work)
    assert answers == [(0,)] * 2400


def test_the_applications_own_cache_of_statements_is_kept() -> None:
    """In the engine options or in the URL; whoever sets it has one thread, or knows."""
    context = EngineContext(None, "app", Config.from_mapping({}))
    support = support_for(make_url("sqlite://"))
    made = support.engine_options(make_url("sqlite://"), context)
    assert made == {"connect_args": {"cached_statements": 0}}
    own = support.engine_options(make_url("sqlite://?cached_statements=32"), context)
    assert own == {"connect_args": {}}
