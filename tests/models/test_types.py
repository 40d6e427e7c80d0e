"""What goes into a ``UTCDateTime`` comes out again, on every database."""

# Parents that a fixture picks at run time mean nothing to a type checker; tests/typing is for that.
# mypy: disable-error-code="name-defined,misc,valid-type,no-redef,attr-defined"
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportRedeclaration=false
# pyright: reportIncompatibleVariableOverride=false, reportUntypedBaseClass=false
# pyright: reportCallIssue=false

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.schema import CreateTable

from flask_dbkit import UTCDateTime, declarative_base

NOON = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)
INDIA = timezone(timedelta(hours=5, minutes=30))


@pytest.fixture
def events(engine: Engine) -> Table:
    table = Table(
        "event", MetaData(), Column("id", Integer, primary_key=True), Column("at", UTCDateTime)
    )
    table.create(engine)
    return table


def _store(engine: Engine, table: Table, *values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(insert(table), [{"at": value} for value in values])


def _read(engine: Engine, table: Table) -> list[datetime | None]:
    with engine.connect() as connection:
        return list(connection.scalars(select(table.c.at).order_by(table.c.id)))


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        NOON.replace(microsecond=0),
        NOON.replace(microsecond=1),
        NOON.replace(microsecond=999999),
        NOON.astimezone(INDIA),
        datetime(1000, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
        datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
        None,
    ],
)
def test_a_value_comes_back_equal_and_in_utc(
    engine: Engine, events: Table, value: datetime | None
) -> None:
    """A point in time is kept to the microsecond, whatever zone it was given in."""
    _store(engine, events, value)
    (read,) = _read(engine, events)
    assert read == value
    assert read is None or read.tzinfo is UTC


@pytest.mark.backends("sqlite-memory", "postgresql", "mariadb")
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(
        st.datetimes(
            min_value=datetime(1000, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
            max_value=datetime(9999, 12, 30),  # noqa: DTZ001
            timezones=st.sampled_from([UTC, INDIA, timezone(timedelta(hours=-11))]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_database_orders_as_python_does(
    engine: Engine, events: Table, values: list[datetime]
) -> None:
    """The stored form sorts and compares like the time it stands for."""
    with engine.begin() as connection:
        connection.execute(events.delete())
    _store(engine, events, *values)
    with engine.connect() as connection:
        ordered = list(connection.scalars(select(events.c.at).order_by(events.c.at)))
        after = set(connection.scalars(select(events.c.at).where(events.c.at > values[0])))
        same = set(connection.scalars(select(events.c.at).where(events.c.at == values[0])))
    assert ordered == sorted(values)
    assert after == {value for value in values if value > values[0]}
    assert same == {values[0]}


def test_neighbouring_microseconds_are_told_apart(engine: Engine, events: Table) -> None:
    """A keyset page starts right after the last row: one microsecond decides."""
    later = NOON + timedelta(microseconds=1)
    _store(engine, events, NOON, later)
    with engine.connect() as connection:
        assert connection.scalars(select(events.c.at).where(events.c.at > NOON)).all() == [later]
        assert connection.scalars(select(events.c.at).where(events.c.at <= NOON)).all() == [NOON]
        assert connection.scalar(select(func.max(events.c.at))) == later


def test_a_statement_with_literal_binds_says_the_same(engine: Engine, events: Table) -> None:
    """A statement printed with its values, as a log or a migration does, finds the same rows."""
    _store(engine, events, NOON, NOON.replace(microsecond=0))
    for value in (NOON, NOON.replace(microsecond=0), NOON.astimezone(INDIA)):
        statement = select(func.count()).where(events.c.at == value)
        text = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
        with engine.connect() as connection:
            assert connection.exec_driver_sql(text.replace("%", "%%")).scalar() == 1


@pytest.mark.backends("postgresql")
def test_intervals_are_added_where_the_database_has_them(engine: Engine, events: Table) -> None:
    """A ``timedelta`` in a statement is an interval, and the sum is a point in time in UTC."""
    _store(engine, events, NOON)
    hour = timedelta(hours=1)
    with engine.connect() as connection:
        assert connection.scalar(select(events.c.at + hour)) == NOON + hour
        total = connection.scalar(select(events.c.at - hour))
        assert total == NOON - hour
        assert total is not None
        assert total.tzinfo is UTC
        assert connection.scalar(select(events.c.at - (NOON - hour))) == hour
        assert connection.scalar(select(events.c.id).where(events.c.at - hour < NOON)) == 1


@pytest.mark.backends("postgresql")
def test_the_time_zone_of_the_server_session_does_not_matter(engine: Engine, events: Table) -> None:
    """PostgreSQL answers in the zone of the session; what arrives is in UTC all the same."""
    _store(engine, events, NOON)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET TIME ZONE 'Asia/Kolkata'")
        value = connection.scalar(select(events.c.at))
    assert value == NOON
    assert value is not None
    assert value.tzinfo is UTC


def test_sqlite_text_with_an_offset_is_converted() -> None:
    """A row another program wrote in ISO 8601 with an offset is the time it says."""
    engine = create_engine("sqlite://")
    table = Table("event", MetaData(), Column("at", UTCDateTime))
    with engine.begin() as connection:
        table.create(connection)
        connection.exec_driver_sql("INSERT INTO event VALUES ('2026-07-01T17:30:00.123456+05:30')")
        assert connection.scalar(select(table.c.at)) == NOON
    engine.dispose()


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (datetime(2026, 1, 1), ValueError, "naive datetime"),  # noqa: DTZ001
        (date(2026, 1, 1), TypeError, "a date"),
        ("2026-01-01T00:00:00Z", TypeError, "a str"),
        (0, TypeError, "a int"),
        (timedelta(1), TypeError, "a timedelta"),
        (datetime.min.replace(tzinfo=INDIA), ValueError, "outside the years"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), ValueError, "outside"),
    ],
)
def test_a_value_that_is_no_point_in_time_is_refused_by_column(
    engine: Engine, events: Table, value: Any, kind: type[Exception], words: str
) -> None:
    """Guessing a zone would shift every later comparison, so nothing is guessed."""
    with pytest.raises(StatementError, match=words) as caught:
        _store(engine, events, value)
    assert type(caught.value.orig) is kind
    assert "column event.at was given" in str(caught.value)
    assert _read(engine, events) == []


def test_a_refused_comparison_names_the_column_too(engine: Engine, events: Table) -> None:
    """A naive value in a WHERE clause would compare with a guess just the same."""
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with engine.connect() as connection, pytest.raises(StatementError, match=r"event\.at"):
        connection.execute(select(events).where(events.c.at > naive))


def test_the_column_of_a_mixin_is_named_by_the_model_that_uses_it(session: Session) -> None:
    """Declarative copies a mixin's columns: each copy has to know its own table."""
    base = declarative_base()

    class Seen:
        seen: Mapped[datetime] = mapped_column("seen_at")

    class Bird(Seen, base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Fish(Seen, base):
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(session.connection())
    for model, place in ((Bird, "bird.seen_at"), (Fish, "fish.seen_at")):
        with pytest.raises(StatementError, match=f"column {place} was given"):
            session.execute(insert(model), [{"seen": datetime(2026, 1, 1)}])  # noqa: DTZ001
        assert not session.new


def test_a_type_object_shared_by_columns_names_them_all() -> None:
    """A name that may be the wrong one would send the reader astray."""
    kind = UTCDateTime()
    Table("trip", MetaData(), Column("start", kind), Column("end", kind))
    with pytest.raises(ValueError, match=r"One of the UTCDateTime columns trip\.end, trip\.start"):
        kind.process_bind_param(datetime(2026, 1, 1), sqlite.dialect())  # noqa: DTZ001


def test_a_value_without_a_column_is_refused_all_the_same() -> None:
    """``literal(value, UTCDateTime)`` has no column to name."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(StatementError, match="A UTCDateTime value"):
        connection.execute(select(literal(datetime(2026, 1, 1), UTCDateTime)))  # noqa: DTZ001
    engine.dispose()


@pytest.mark.parametrize(
    ("dialect", "ddl"),
    [
        (postgresql.dialect(), "TIMESTAMP WITH TIME ZONE"),
        (mysql.dialect(), "DATETIME(6)"),
        (sqlite.dialect(), "DATETIME"),
    ],
)
def test_the_column_type_keeps_what_the_database_can(dialect: Any, ddl: str) -> None:
    """A zone where there is one, and six digits where they have to be asked for."""
    table = Table("event", MetaData(), Column("at", UTCDateTime))
    assert f"at {ddl}" in str(CreateTable(table).compile(dialect=dialect))


def test_the_type_survives_copies() -> None:
    """Metadata is copied by migrations and pickled by caches, refusals included."""
    table = Table("event", MetaData(), Column("at", UTCDateTime))
    for copied in (
        table.to_metadata(MetaData()).c.at.type,
        pickle.loads(pickle.dumps(table)).c.at.type,
    ):
        assert isinstance(copied, UTCDateTime)
        assert copied.python_type is datetime
        assert repr(copied) == "UTCDateTime()"
        with pytest.raises(ValueError, match=r"event\.at"):
            copied.process_bind_param(datetime(2026, 1, 1), sqlite.dialect())  # noqa: DTZ001
