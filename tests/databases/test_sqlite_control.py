"""A SQLite transaction is what it says it is, and no update is ever lost."""

from __future__ import annotations

import gc
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.databases.conftest import KitEngine, add_account
from tests.support.forks import Child

metadata = MetaData()
account = Table(
    "account", metadata, Column("id", Integer, primary_key=True), Column("balance", Integer)
)
entry = Table("entry", metadata, Column("id", Integer, primary_key=True), Column("n", Integer))

BALANCE = select(account.c.balance).where(account.c.id == 1)


def rows(engine: Engine, table: str = "entry") -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def code(caught: pytest.ExceptionInfo[DBAPIError]) -> int:
    original = caught.value.orig
    assert isinstance(original, sqlite3.Error)
    return original.sqlite_errorcode


@pytest.fixture
def outsider(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program on the same file, which waits for nobody."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    yield connection
    connection.close()


# -- transactions -------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["SELECT count(*) FROM entry", None])
def test_outer_rollback_undoes_a_released_savepoint(file_engine: KitEngine, first: str) -> None:
    """A savepoint belongs to its transaction: releasing it commits nothing."""
    engine = file_engine()
    with engine.connect() as connection:
        if first:
            connection.execute(text(first))
        with connection.begin_nested():
            connection.execute(insert(entry).values(n=1))
        connection.rollback()
    assert rows(engine) == 0


def test_a_session_keeps_the_outer_row_when_a_savepoint_is_rolled_back(
    file_engine: KitEngine,
) -> None:
    """``begin_nested`` undoes what came after it, and nothing before."""
    engine = file_engine()
    with Session(engine) as session:
        session.execute(BALANCE)
        session.execute(insert(entry).values(n=1))
        nested = session.begin_nested()
        session.execute(insert(entry).values(n=2))
        nested.rollback()
        session.commit()
        assert session.scalars(select(entry.c.n)).all() == [1]


def test_rollback_undoes_ddl(file_engine: KitEngine) -> None:
    """CREATE TABLE is inside the transaction like everything else."""
    engine = file_engine()
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE gone (id INTEGER)"))
        connection.rollback()
        tables = connection.execute(text("SELECT name FROM sqlite_master")).scalars().all()
    assert "gone" not in tables


def test_two_reads_of_one_transaction_see_the_same(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """A read is inside the transaction, so what others commit is not seen in it."""
    engine = file_engine()
    with engine.connect() as connection:
        assert connection.execute(BALANCE).scalar_one() == 0
        outsider.execute("UPDATE account SET balance = 5")
        assert connection.execute(BALANCE).scalar_one() == 0


def test_autocommit_still_works(file_engine: KitEngine) -> None:
    """The isolation level AUTOCOMMIT sends no BEGIN: VACUUM runs, each write is there at once."""
    engine = file_engine()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM"))
        connection.execute(insert(entry).values(n=1))
        assert rows(engine) == 1
    with engine.connect() as connection:  # the pooled connection is back to transactions
        connection.execute(insert(entry).values(n=2))
        connection.rollback()
    assert rows(engine) == 1


def test_an_engine_wide_autocommit_is_respected(file_engine: KitEngine) -> None:
    """An application that asks for AUTOCOMMIT everywhere gets it everywhere."""
    engine = file_engine(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(insert(entry).values(n=1))
        connection.rollback()
    assert rows(engine) == 1


def test_vacuum_works_after_a_hand_written_commit(file_engine: KitEngine) -> None:
    """An old habit: end the transaction by hand, then do what cannot be done inside one."""
    engine = file_engine()
    with engine.connect() as connection:
        connection.execute(insert(entry).values(n=1))
        connection.execute(text("COMMIT"))
        connection.execute(text("VACUUM"))
    assert rows(engine) == 1


# -- from reading to writing --------------------------------------------------------------


def test_an_update_computed_from_an_old_read_is_refused(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """The row was changed in between: the busy error, never a lost update."""
    engine = file_engine()
    with engine.connect() as connection:
        balance = connection.execute(BALANCE).scalar_one()
        outsider.execute("UPDATE account SET balance = balance + 5 WHERE id = 1")
        with pytest.raises(OperationalError) as caught:
            connection.execute(update(account).values(balance=balance + 1))
        assert code(caught) == sqlite3.SQLITE_BUSY_SNAPSHOT
    assert outsider.execute("SELECT balance FROM account WHERE id = 1").fetchone() == (5,)


def test_a_refused_transaction_stays_refused_until_it_is_rolled_back(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """A swallowed refusal must not let half of the work through."""
    engine = file_engine()
    with engine.connect() as connection:
        connection.execute(BALANCE)
        outsider.execute("UPDATE account SET balance = 5")
        for _ in range(2):
            with pytest.raises(OperationalError) as caught:
                connection.execute(insert(entry).values(n=1))
            assert code(caught) == sqlite3.SQLITE_BUSY_SNAPSHOT
        connection.commit()
        connection.execute(insert(entry).values(n=2))
        connection.rollback()
        connection.execute(BALANCE)
        connection.execute(insert(entry).values(n=3))
        connection.commit()
        assert connection.execute(select(entry.c.n)).scalars().all() == [3]


def test_a_transaction_goes_on_when_its_reads_still_say_the_same(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """Somebody changed other rows: nothing this transaction knew is different."""
    engine = file_engine()
    with engine.connect() as connection:
        assert connection.execute(BALANCE).scalar_one() == 0
        outsider.execute("UPDATE account SET balance = 7 WHERE id = 2")
        connection.execute(update(account).where(account.c.id == 1).values(balance=1))
        connection.commit()
    assert outsider.execute("SELECT balance FROM account").fetchall() == [(1,), (7,)]


def test_with_a_rollback_journal_an_open_read_keeps_writers_out(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """Without write-ahead logging nobody can write in between, so the upgrade is in place."""
    engine = file_engine(DBKIT_SQLITE_PRAGMAS={"journal_mode": "DELETE"})
    with engine.connect() as connection:
        connection.execute(BALANCE)
        with pytest.raises(sqlite3.OperationalError):
            outsider.execute("UPDATE account SET balance = 7 WHERE id = 2")
        connection.execute(update(account).where(account.c.id == 1).values(balance=1))
        connection.commit()
    assert outsider.execute("SELECT balance FROM account").fetchall() == [(1,), (0,)]


def test_every_kind_of_read_is_compared(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """Parameters, comments, brackets, common table expressions, VALUES, pragmas: all reads."""
    engine = file_engine()
    reads: list[tuple[str, dict[str, int]]] = [
        ("SELECT balance FROM account WHERE id = :id", {"id": 1}),
        ("-- a comment\n /* and\n another */ SELECT balance FROM account", {}),
        ("WITH a AS (SELECT balance FROM account) SELECT * FROM a", {}),
        ("VALUES ((SELECT balance FROM account WHERE id = 1))", {}),
        ("SELECT count(*) FROM pragma_table_info('account')", {}),
        ("PRAGMA user_version", {}),
    ]
    for statement, parameters in reads[:4]:
        outsider.execute("UPDATE account SET balance = 0")
        with engine.connect() as connection:
            connection.execute(text(statement), parameters).all()
            outsider.execute("UPDATE account SET balance = 5")
            with pytest.raises(OperationalError):
                connection.execute(insert(entry).values(n=1))
    with engine.connect() as connection:
        for statement, parameters in reads:
            connection.execute(text(statement), parameters).all()
        outsider.execute("INSERT INTO entry (n) VALUES (1)")
        connection.execute(insert(entry).values(n=2))
        connection.commit()
    assert rows(engine) == 2


WRITES: dict[str, Callable[[Connection], object]] = {
    "insert": lambda c: c.execute(insert(entry).values(n=1)),
    "executemany": lambda c: c.execute(insert(entry), [{"n": 1}, {"n": 2}]),
    "insertmanyvalues": lambda c: c.execute(
        insert(entry).returning(entry.c.id), [{"n": 1}, {"n": 2}]
    ).all(),
    "returning": lambda c: c.execute(insert(entry).values(n=1).returning(entry.c.id)).all(),
    "commented text": lambda c: c.execute(text("/* why */ INSERT INTO entry (n) VALUES (1)")),
    "common table expression": lambda c: c.execute(
        text("WITH a AS (SELECT 1 AS n) INSERT INTO entry (n) SELECT n FROM a")
    ),
    "replace": lambda c: c.execute(text("REPLACE INTO entry (id, n) VALUES (9, 1)")),
    "driver sql": lambda c: c.exec_driver_sql("INSERT INTO entry (n) VALUES (1)"),
    "ddl": lambda c: c.execute(text("CREATE TABLE more (id INTEGER)")),
    "user_version": lambda c: c.execute(text("PRAGMA user_version = 7")),
    "leading semicolon": lambda c: c.execute(text("; INSERT INTO entry (n) VALUES (1)")),
}


@pytest.mark.parametrize("name", WRITES)
def test_every_kind_of_write_takes_the_lock_safely(
    file_engine: KitEngine, outsider: sqlite3.Connection, name: str
) -> None:
    """Each form of writing is seen as one: refused after a stale read, kept after a fresh one."""
    engine = file_engine()
    with engine.connect() as connection:
        connection.execute(BALANCE)
        outsider.execute("UPDATE account SET balance = balance + 1")
        with pytest.raises(OperationalError) as caught:
            WRITES[name](connection)
        assert code(caught) == sqlite3.SQLITE_BUSY_SNAPSHOT
    with engine.connect() as connection:
        connection.execute(BALANCE)
        outsider.execute("INSERT INTO entry (n) VALUES (77)")
        WRITES[name](connection)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            outsider.execute("UPDATE account SET balance = 5")
        connection.commit()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM entry WHERE n = 77")).scalar() == 1


@pytest.mark.parametrize("first", ["PRAGMA user_version = 7", "PRAGMA application_id = 7"])
def test_a_pragma_that_writes_is_part_of_the_transaction(
    file_engine: KitEngine, first: str
) -> None:
    """Hand-made migrations count with ``user_version``: it stays with what follows it."""
    engine = file_engine()
    name = first.split()[1]
    with engine.connect() as connection:
        connection.execute(text(first))
        connection.execute(insert(entry).values(n=1))
        connection.commit()
        assert connection.execute(text(f"PRAGMA {name}")).scalar() == 7
        connection.execute(text(f"PRAGMA {name} = 8"))
        connection.rollback()
        assert connection.execute(text(f"PRAGMA {name}")).scalar() == 7


def test_deferred_foreign_keys_survive_the_first_write(file_engine: KitEngine) -> None:
    """``PRAGMA defer_foreign_keys`` ends with its transaction, so beginning anew would lose it."""
    engine = file_engine()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE child (p INTEGER REFERENCES account (id))"))
    with engine.connect() as connection:
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
        connection.execute(text("INSERT INTO child VALUES (3)"))
        connection.execute(insert(account).values(id=3, balance=0))
        connection.commit()
    assert rows(engine, "child") == 1


def test_writes_on_the_drivers_own_connection_are_kept(file_engine: KitEngine) -> None:
    """Bulk code that goes past SQLAlchemy is part of the transaction, before and after ours."""
    engine = file_engine()
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("CREATE TABLE more (id INTEGER)")
        raw.executemany("INSERT INTO more VALUES (?)", [(1,), (2,)])
        connection.execute(insert(entry).values(n=1))
        raw.execute("INSERT INTO more VALUES (3)")
        connection.commit()
    assert (rows(engine, "more"), rows(engine)) == (3, 1)


def test_what_is_read_past_sqlalchemy_is_not_compared(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """The limit that the page on scopes names: only what SQLAlchemy has read is read again."""
    engine = file_engine()
    balance = "SELECT balance FROM account WHERE id = 1"
    for past in (True, False):
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            if past:
                raw.execute(balance).fetchall()
                connection.execute(text("SELECT 1")).all()
            else:
                connection.execute(text(balance)).all()
            outsider.execute("UPDATE account SET balance = balance + 1 WHERE id = 1")
            outsider.commit()
            if past:
                connection.execute(insert(entry).values(n=1))
                connection.commit()
            else:
                with pytest.raises(OperationalError, match="changed by another"):
                    connection.execute(insert(entry).values(n=2))
    assert rows(engine) == 1


def test_savepoints_stay_open_while_the_transaction_begins_again(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """RELEASE and ROLLBACK TO find their savepoints, whatever happened underneath."""
    engine = file_engine()
    with Session(engine) as session:
        session.execute(BALANCE)
        outer = session.begin_nested()
        released = session.begin_nested()
        released.commit()
        inner = session.begin_nested()
        outsider.execute("INSERT INTO entry (n) VALUES (1)")
        session.execute(insert(entry).values(n=2))
        inner.rollback()
        session.execute(insert(entry).values(n=3))
        outer.commit()
        session.commit()
        assert session.scalars(select(entry.c.n)).all() == [1, 3]


def test_a_savepoint_rolled_back_before_the_first_write_is_still_there(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """ROLLBACK TO keeps its savepoint, as the SQL says."""
    engine = file_engine()
    with engine.connect() as connection:
        connection.execute(BALANCE)
        for statement in ("SAVEPOINT a", 'SAVEPOINT "b"', "ROLLBACK TO SAVEPOINT a"):
            connection.execute(text(statement))
        outsider.execute("INSERT INTO entry (n) VALUES (1)")
        connection.execute(insert(entry).values(n=2))
        connection.execute(text("RELEASE SAVEPOINT a"))
        connection.commit()
    assert rows(engine) == 2


def test_too_many_reads_are_not_repeated(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """After very many reads, or very many rows, a foreign write in between is the busy error."""
    engine = file_engine()
    with engine.connect() as connection:
        for _ in range(300):
            connection.execute(BALANCE).all()
        connection.execute(insert(entry).values(n=1))  # nobody wrote: no need to repeat
        connection.rollback()
        for _ in range(300):
            connection.execute(BALANCE).all()
        outsider.execute("INSERT INTO entry (n) VALUES (1)")
        with pytest.raises(OperationalError) as caught:
            connection.execute(insert(entry).values(n=2))
        assert code(caught) == sqlite3.SQLITE_BUSY_SNAPSHOT
        connection.rollback()
        count = "WITH RECURSIVE c(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM c LIMIT 100001)"
        connection.execute(text(f"{count} SELECT x, (SELECT n FROM entry) FROM c")).all()
        outsider.execute("UPDATE account SET balance = 5")
        with pytest.raises(OperationalError):
            connection.execute(insert(entry).values(n=2))
    assert rows(engine) == 1


def test_rows_still_being_fetched_are_not_mixed_with_newer_ones(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """A half-read result pins its snapshot, so a stale write beside it is refused."""
    engine = file_engine()
    with engine.begin() as connection:
        connection.execute(insert(entry), [{"n": n} for n in range(10)])
    with engine.connect() as connection:
        result = connection.execute(select(entry.c.n))
        assert result.fetchone() == (0,)
        outsider.execute("UPDATE account SET balance = 5")
        with pytest.raises(OperationalError) as caught:
            connection.execute(insert(entry).values(n=10))
        assert code(caught) & 0xFF == sqlite3.SQLITE_BUSY
        result.close()
        connection.rollback()
        connection.execute(insert(entry).values(n=10))
        connection.commit()
    assert rows(engine) == 11


def test_writing_while_fetching_works_when_nobody_else_writes(file_engine: KitEngine) -> None:
    """The lock is taken in place: the half-read result goes on."""
    engine = file_engine()
    with engine.begin() as connection:
        connection.execute(insert(entry), [{"n": n} for n in range(10)])
    with engine.begin() as connection:
        for (n,) in connection.execute(select(entry.c.n)):
            connection.execute(update(account).where(account.c.id == 1).values(balance=n))
    with engine.connect() as connection:
        assert connection.execute(BALANCE).scalar_one() == 9


def test_a_busy_database_can_be_tried_again_in_the_same_transaction(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """Nothing was read yet, so nothing can be stale: the next try may succeed."""
    engine = file_engine(DBKIT_SQLITE_BUSY_TIMEOUT_MS=0)
    with engine.connect() as connection:
        outsider.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"):
            connection.execute(insert(entry).values(n=1))
        outsider.execute("ROLLBACK")
        connection.execute(insert(entry).values(n=2))
        connection.commit()
    assert rows(engine) == 1


def test_a_stale_transaction_gives_up_when_it_cannot_begin_again(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """It had to let its snapshot go and could not get the lock: reads go on, writes do not."""
    engine = file_engine(DBKIT_SQLITE_BUSY_TIMEOUT_MS=0)
    with engine.connect() as connection:
        connection.execute(BALANCE)
        nested = connection.begin_nested()
        outsider.execute("INSERT INTO entry (n) VALUES (1)")
        outsider.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(OperationalError, match="locked"):
                connection.execute(insert(entry).values(n=2))
        outsider.execute("ROLLBACK")
        with pytest.raises(OperationalError, match="locked"):
            connection.execute(insert(entry).values(n=2))
        nested.rollback()
        assert connection.execute(BALANCE).scalar_one() == 0


# -- how a transaction begins -------------------------------------------------------------


def test_a_transaction_that_announces_writes_begins_with_the_lock(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """The execution option makes BEGIN IMMEDIATE of it, before anything is read."""
    engine = file_engine()
    for connecting in (
        engine.connect().execution_options(dbkit_sqlite_begin="immediate"),
        engine.execution_options(dbkit_sqlite_begin="immediate").connect(),
    ):
        with connecting as connection:
            connection.execute(BALANCE)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                outsider.execute("UPDATE account SET balance = 5")
    with engine.connect() as connection:  # the option did not stick to the pooled connection
        connection.execute(BALANCE)
        outsider.execute("UPDATE account SET balance = 5")


def test_engine_options_announce_writes_too(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """``execution_options`` of ``create_engine`` are known as well."""
    engine = file_engine(execution_options={"dbkit_sqlite_begin": "immediate"})
    with engine.connect() as connection:
        connection.execute(BALANCE)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            outsider.execute("UPDATE account SET balance = 5")


def test_whoever_is_asked_can_announce_writes(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """Without an option the engine's context answers, and an option overrules it."""
    engine = file_engine(wants_write=lambda: True)
    with engine.connect() as connection:
        connection.execute(BALANCE)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            outsider.execute("UPDATE account SET balance = 5")
    with engine.connect().execution_options(dbkit_sqlite_begin="deferred") as connection:
        connection.execute(BALANCE)
        outsider.execute("UPDATE account SET balance = 5")


def test_a_begin_that_is_refused_leaves_a_usable_connection(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """BEGIN IMMEDIATE may be busy; nothing is open then, and the gate is free."""
    engine = file_engine(DBKIT_SQLITE_BUSY_TIMEOUT_MS=0)
    outsider.execute("BEGIN IMMEDIATE")
    with engine.connect().execution_options(dbkit_sqlite_begin="immediate") as connection:
        with pytest.raises(OperationalError, match="locked"):
            connection.execute(BALANCE)
        outsider.execute("ROLLBACK")
        connection.execute(insert(entry).values(n=1))
        connection.commit()
    assert rows(engine) == 1


# -- the application's own ways -----------------------------------------------------------


def test_the_begin_listener_of_the_well_known_recipe_may_stay(
    file_engine: KitEngine, outsider: sqlite3.Connection
) -> None:
    """``isolation_level = None`` and BEGIN in a listener: the safe upgrade works all the same.

    https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#serializable-isolation-savepoints-transactional-ddl
    """
    engine = file_engine()

    @event.listens_for(engine, "connect")
    def connect(raw: sqlite3.Connection, record: object) -> None:
        raw.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    engine.dispose()
    with engine.connect() as connection:
        connection.execute(BALANCE)
        outsider.execute("INSERT INTO entry (n) VALUES (1)")
        connection.execute(insert(entry).values(n=2))
        connection.commit()
        with connection.begin_nested():
            connection.execute(insert(entry).values(n=3))
        connection.rollback()
        connection.execute(BALANCE)
        outsider.execute("UPDATE account SET balance = 5")
        with pytest.raises(OperationalError) as caught:
            connection.execute(insert(entry).values(n=4))
        assert code(caught) == sqlite3.SQLITE_BUSY_SNAPSHOT
    with engine.connect().execution_options(dbkit_sqlite_begin="immediate") as connection:
        connection.execute(BALANCE)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            outsider.execute("UPDATE account SET balance = 6")
    assert rows(engine) == 2


def test_a_drivers_own_isolation_level_none_is_autocommit(file_engine: KitEngine) -> None:
    """Given in ``connect_args`` without a listener, it is what the application asked for."""
    engine = file_engine(connect_args={"isolation_level": None})
    with engine.connect() as connection:
        connection.execute(insert(entry).values(n=1))
        connection.rollback()
    assert rows(engine) == 1


@pytest.mark.parametrize("level", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_drivers_own_isolation_level_works(file_engine: KitEngine, level: str) -> None:
    """The words the driver knows make no difference: BEGIN is ours."""
    engine = file_engine(connect_args={"isolation_level": level})
    with Session(engine) as session:
        session.execute(BALANCE)
        with session.begin_nested():
            session.execute(insert(entry).values(n=1))
        session.rollback()
    assert rows(engine) == 0


if sys.version_info >= (3, 12):

    @pytest.mark.parametrize("autocommit", [True, False])
    def test_the_drivers_new_transaction_modes_work(
        file_engine: KitEngine, outsider: sqlite3.Connection, autocommit: bool
    ) -> None:
        """``autocommit=`` of Python 3.12: commits commit, rollbacks undo, the gate opens."""
        engine = file_engine(
            connect_args={"autocommit": autocommit}, DBKIT_SQLITE_BUSY_TIMEOUT_MS=0
        )
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
            for n in range(3):
                connection.execute(BALANCE)
                outsider.execute("INSERT INTO entry (n) VALUES (77)")
                connection.execute(insert(entry).values(n=n))
                connection.commit()
                with engine.connect() as other:  # the gate is open again
                    other.execute(update(account).values(balance=n))
                    other.commit()
            with connection.begin_nested():
                connection.execute(insert(entry).values(n=99))
            connection.rollback()
            connection.execute(BALANCE)
            outsider.execute("UPDATE account SET balance = 50")
            with pytest.raises(OperationalError):
                connection.execute(insert(entry).values(n=100))
        assert outsider.execute("SELECT n FROM entry WHERE n <> 77").fetchall() == [
            (0,),
            (1,),
            (2,),
        ]


def test_connections_of_the_applications_own_creator_are_controlled(
    prepare_engine: KitEngine, path: Path
) -> None:
    """``creator`` and ``poolclass`` are the application's; pragmas and BEGIN are still ours."""
    engine = prepare_engine("sqlite://", creator=lambda: sqlite3.connect(path), poolclass=NullPool)
    add_account(engine)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        with connection.begin_nested():
            connection.execute(insert(entry).values(n=1))
        connection.rollback()
    assert rows(engine) == 0


# -- errors that end a transaction --------------------------------------------------------


def test_a_transaction_that_the_database_rolled_back_cannot_go_on(file_engine: KitEngine) -> None:
    """Some errors undo everything. Going on would commit the second half without the first."""
    engine = file_engine()
    with engine.connect() as connection:
        connection.execute(insert(entry).values(id=1, n=1))
        with pytest.raises(DBAPIError):
            connection.execute(text("INSERT OR ROLLBACK INTO entry (id, n) VALUES (1, 2)"))
        with pytest.raises(OperationalError, match="rolled this transaction back") as caught:
            connection.execute(insert(entry).values(n=3))
        assert code(caught) == sqlite3.SQLITE_ABORT_ROLLBACK
        with pytest.raises(OperationalError, match="rolled this transaction back"):
            connection.commit()
        connection.rollback()
        connection.execute(insert(entry).values(n=4))
        connection.commit()
        assert connection.execute(select(entry.c.n)).scalars().all() == [4]


def test_an_ordinary_error_ends_nothing(file_engine: KitEngine) -> None:
    """A violated constraint undoes its statement only, as SQLite has it."""
    engine = file_engine()
    with engine.connect() as connection:
        connection.execute(insert(entry).values(id=1, n=1))
        with pytest.raises(DBAPIError):
            connection.execute(insert(entry).values(id=1, n=2))
        connection.execute(insert(entry).values(n=3))
        connection.commit()
    assert rows(engine) == 2


def test_a_failed_commit_can_be_rolled_back(file_engine: KitEngine) -> None:
    """A deferred foreign key fails at COMMIT: nothing is saved, and the next writer gets in."""
    engine = file_engine(DBKIT_SQLITE_BUSY_TIMEOUT_MS=0)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE child (p INTEGER REFERENCES account (id)"
                " DEFERRABLE INITIALLY DEFERRED)"
            )
        )
    with Session(engine) as session:
        session.execute(text("INSERT INTO child VALUES (99)"))
        with pytest.raises(DBAPIError, match="FOREIGN KEY"):
            session.commit()
        session.rollback()
        session.execute(insert(entry).values(n=1))
        session.commit()
    assert (rows(engine), rows(engine, "child")) == (1, 0)


# -- the gate is given back ---------------------------------------------------------------


def write(engine: Engine) -> None:
    """Write one row, in this thread, waiting for nobody."""
    with engine.begin() as connection:
        connection.execute(insert(entry).values(n=1))


@pytest.fixture
def impatient(file_engine: KitEngine) -> Engine:
    return file_engine(DBKIT_SQLITE_BUSY_TIMEOUT_MS=0)


def test_the_next_writer_gets_in_after_commit_rollback_and_close(impatient: Engine) -> None:
    """However a transaction ends, the gate opens."""
    for end in ("commit", "rollback", "close"):
        connection = impatient.connect()
        connection.execute(insert(entry).values(n=1))
        getattr(connection, end)()
        write(impatient)
        connection.close()


def test_the_next_writer_gets_in_after_an_invalidated_connection(impatient: Engine) -> None:
    """Invalidating throws the connection away, and its gate with it."""
    with impatient.connect() as connection:
        connection.execute(insert(entry).values(n=1))
        connection.invalidate()
        write(impatient)
        connection.rollback()
        write(impatient)
    assert rows(impatient) == 2


@pytest.mark.parametrize("end", ["commit", "close", "forget"])
def test_the_next_writer_gets_in_after_a_detached_connection(impatient: Engine, end: str) -> None:
    """A detached connection is nobody's but its holder's; it still has the gate to give back."""
    connection = impatient.connect()
    connection.execute(insert(entry).values(n=1))
    connection.detach()
    if end == "forget":
        connection.connection.dbapi_connection.close()  # type: ignore[union-attr]
        connection = impatient.connect()
        gc.collect()
    else:
        getattr(connection, end)()
    write(impatient)
    connection.close()
    assert rows(impatient) == (2 if end == "commit" else 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_next_writer_gets_in_after_a_forgotten_connection(impatient: Engine) -> None:
    """A connection that is garbage collected is rolled back and gives its gate back."""
    connection = impatient.connect()
    connection.execute(insert(entry).values(n=1))
    del connection
    gc.collect()
    write(impatient)
    assert rows(impatient) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_next_writer_gets_in_after_a_thread_died_writing(impatient: Engine) -> None:
    """Nothing of the thread is left, so nothing of its transaction is."""

    def die() -> None:
        session = Session(impatient)
        session.execute(insert(entry).values(n=1))

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    gc.collect()
    write(impatient)
    assert rows(impatient) == 1


def test_the_next_writer_gets_in_after_the_engine_was_disposed_of(impatient: Engine) -> None:
    """Disposing closes what is in the pool; what is out goes on and comes back."""
    with impatient.connect() as connection:
        connection.execute(insert(entry).values(n=1))
        impatient.dispose()
        connection.commit()
        connection.invalidate()  # nobody else would close it
    write(impatient)
    assert rows(impatient) == 2


@pytest.mark.parametrize("gate", [True, False])
def test_two_sessions_in_one_thread_cannot_both_write(file_engine: KitEngine, gate: bool) -> None:
    """The second one waits its time and gets the busy error; then the first can go on."""
    engine = file_engine(DBKIT_SQLITE_BUSY_TIMEOUT_MS=50, DBKIT_SQLITE_WRITER_GATE=gate)
    with Session(engine) as first, Session(engine) as second:
        first.execute(insert(entry).values(n=1))
        assert second.execute(BALANCE).scalar_one() == 0
        with pytest.raises(OperationalError, match="locked") as caught:
            second.execute(insert(entry).values(n=2))
        assert code(caught) & 0xFF == sqlite3.SQLITE_BUSY
        first.commit()
        second.rollback()
        second.execute(insert(entry).values(n=3))
        second.commit()
    assert rows(engine) == 2


# -- no lost update -----------------------------------------------------------------------


@contextmanager
def retried() -> Iterator[list[int]]:
    """Count the busy errors instead of raising them."""
    busy: list[int] = []
    try:
        yield busy
    except OperationalError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0)
        if code & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        busy.append(code)


def deposit(engine: Engine, times: int) -> int:
    """Read an account and write it back, ``times`` times; tell how often that was acknowledged."""
    done = 0
    for n in range(times):
        with retried() as busy, Session(engine) as session:
            where = account.c.id == 1 + n % 2
            balance = session.execute(select(account.c.balance).where(where)).scalar_one()
            session.execute(update(account).where(where).values(balance=balance + 1))
            session.commit()
        done += not busy
    return done


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_threads_lose_no_update(file_engine: KitEngine, gate: bool, journal_mode: str) -> None:
    """The balance is the number of acknowledged deposits, on rows that everybody wants."""
    engine = file_engine(
        DBKIT_SQLITE_WRITER_GATE=gate, DBKIT_SQLITE_PRAGMAS={"journal_mode": journal_mode}
    )
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(deposit(engine, 40))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        total = connection.execute(text("SELECT sum(balance) FROM account")).scalar_one()
    assert len(done) == 6
    assert total == sum(done) > 0


def test_processes_lose_no_update(file_engine: KitEngine) -> None:
    """The same with real processes, and with threads of this one."""
    engine = file_engine()
    workers = [Child(lambda talk: talk.say(deposit(engine, 60))) for _ in range(3)]
    here = deposit(engine, 60)
    done = [int(worker.hear()) for worker in workers]
    assert [worker.exit_code() for worker in workers] == [0] * 3
    with engine.connect() as connection:
        total = connection.execute(text("SELECT sum(balance) FROM account")).scalar_one()
    assert total == here + sum(done) > 0


def test_a_file_that_was_closed_before_a_fork_is_open_to_the_child(file_engine: KitEngine) -> None:
    """Whatever of the connection is not collected yet; its inode may be another file's by now."""
    engine = file_engine()
    with engine.connect() as connection:
        kept = connection.connection.info
    engine.dispose()
    child = Child(lambda talk: talk.say(deposit(engine, 1)))
    assert (child.hear(), child.exit_code()) == ("1", 0)
    assert kept


def test_announced_writers_meet_no_busy_error(file_engine: KitEngine) -> None:
    """Transactions that begin for writing wait for each other instead of failing."""
    engine = file_engine().execution_options(dbkit_sqlite_begin="immediate")
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(deposit(engine, 30))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [30] * 4


# -- nothing else is touched --------------------------------------------------------------


def test_an_engine_of_other_code_is_not_touched(file_engine: KitEngine, path: Path) -> None:
    """Listeners belong to one engine: another one on the same file keeps the driver's ways."""
    file_engine()
    foreign = create_engine(f"sqlite:///{path}")
    with foreign.connect() as connection:
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 0
        assert connection.execute(text("PRAGMA cache_size")).scalar() == -2000
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        assert not raw.in_transaction
    foreign.dispose()
