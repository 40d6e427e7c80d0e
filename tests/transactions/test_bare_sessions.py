"""What a bare session does where a scope says something: the other columns of the explanation.

They are run so that the page does not go on saying of SQLAlchemy what is true no more.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, event, func, insert, select, text, update
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InvalidRequestError,
    OperationalError,
    PendingRollbackError,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from .conftest import Entry, code_of

pytestmark = pytest.mark.backends("sqlite-file", "postgresql")


@pytest.fixture
def entries(engine: Engine) -> Iterator[Engine]:
    """A bare engine whose table of entries has the row 1."""
    Entry.metadata.create_all(engine, tables=[Entry.__table__])
    with Session(engine) as session, session.begin():
        session.add(Entry(n=1))
    yield engine
    with engine.begin() as connection:
        Entry.__table__.drop(connection)


def saved(engine: Engine) -> list[int]:
    """Return what another session finds, and leave the row 1."""
    with Session(engine) as session:
        found = list(session.scalars(select(Entry.n).where(Entry.n > 1).order_by(Entry.n)))
        session.execute(Entry.__table__.delete().where(Entry.n > 1))
        session.commit()
    return found


def fail(session: Session) -> None:
    """Flush what breaks a constraint, and catch the error."""
    session.add(Entry(n=1))
    with pytest.raises(IntegrityError):
        session.flush()


def fail_by_statement(session: Session) -> None:
    with pytest.raises(DBAPIError):
        session.execute(text("SELECT nothing FROM nowhere"))


def test_a_caught_error_ends_a_begin_block_silently(entries: Engine) -> None:
    """With the flush's error everywhere; with a statement's on PostgreSQL, and not on SQLite."""
    session = Session(entries)
    with session.begin():
        session.execute(insert(Entry).values(n=2))
        fail(session)
    assert saved(entries) == []
    with session.begin():
        session.execute(insert(Entry).values(n=2))
        fail_by_statement(session)
    assert saved(entries) == ([2] if entries.dialect.name == "sqlite" else [])
    session.execute(insert(Entry).values(n=2))
    fail_by_statement(session)
    session.commit()
    assert saved(entries) == ([2] if entries.dialect.name == "sqlite" else [])
    session.execute(insert(Entry).values(n=2))
    fail(session)
    with pytest.raises(PendingRollbackError):
        session.commit()
    session.rollback()
    session.close()


def test_a_flush_error_caught_in_a_savepoint_loses_the_savepoint_alone(entries: Engine) -> None:
    """It ends normally, and the rest is saved."""
    session = Session(entries)
    for _ in range(2):  # in a begin block, and with commit()
        session.add(Entry(n=2))
        session.flush()
        with session.begin_nested():
            session.add(Entry(n=3))
            session.flush()
            fail(session)
        session.commit()
        assert saved(entries) == [2]
    with session.begin(), pytest.raises(InvalidRequestError, match="already"), session.begin():
        pass  # a block in another one, as a loader that has read before it
    session.close()


def test_an_early_end_of_a_begin_block_saves_half_or_nothing(entries: Engine) -> None:
    """``commit()`` saves what came before; ``rollback()`` and ``remove()`` say nothing."""
    session = Session(entries)
    with pytest.raises(InvalidRequestError), session.begin():
        session.add(Entry(n=2))
        session.commit()
        session.add(Entry(n=3))
        session.flush()
    assert saved(entries) == [2]
    session.rollback()
    with session.begin():
        session.add(Entry(n=2))
        session.flush()
        session.rollback()
    assert saved(entries) == []
    registry = scoped_session(sessionmaker(entries))
    with registry.begin():
        registry.add(Entry(n=2))
        registry.remove()
        registry.add(Entry(n=3))
    registry.remove()
    assert saved(entries) == []
    for begun in (True, False):
        with pytest.raises(ZeroDivisionError), session.begin() if begun else session:
            session.execute(insert(Entry).values(n=2))
            session.execute(text("COMMIT"))
            raise ZeroDivisionError
        session.close()
        assert saved(entries) == [2]


def test_a_loader_before_a_begin_block_is_in_its_way(entries: Engine) -> None:
    """SQLAlchemy has begun by itself."""
    with Session(entries) as session:
        session.scalar(select(func.count()).select_from(Entry))
        with pytest.raises(InvalidRequestError, match="already begun"), session.begin():
            pass


def test_an_after_commit_listener_that_fails_leaves_the_session_unusable(entries: Engine) -> None:
    """It comes before the connection is back, and the session takes no SQL there."""
    session = Session(entries)
    refused: list[Exception] = []

    @event.listens_for(session, "after_commit")
    def after_commit(each: Session) -> None:
        assert entries.pool.checkedout() == 1  # type: ignore[attr-defined]
        with pytest.raises(InvalidRequestError) as caught:
            each.scalar(select(1))
        refused.append(caught.value)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), session.begin():
        session.add(Entry(n=2))
        session.flush()
    assert len(refused) == 1
    with pytest.raises(InvalidRequestError):
        session.scalar(select(1))
    event.remove(session, "after_commit", after_commit)
    session.close()
    assert saved(entries) == [2]


@pytest.mark.backends("postgresql")
def test_a_retry_inside_a_savepoint_fails_as_long_as_the_snapshot_lives(entries: Engine) -> None:
    """So it is the whole transaction that has to be replayed."""
    change = update(Entry).values(note="mine")
    engine = entries.execution_options(isolation_level="REPEATABLE READ")
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Entry)) == 1
        with Session(entries) as other, other.begin():
            other.execute(update(Entry).values(note="theirs"))
        for _ in range(3):
            with pytest.raises(OperationalError) as caught, session.begin_nested():
                session.execute(change)
            assert code_of(caught.value) == "40001"
        session.rollback()
        session.execute(change)
        session.commit()
