"""Moments that SQL wrote, and not the type: compared with values of Python as what they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import bindparam, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_dbkit import UTCDateTime


class Base(DeclarativeBase):
    pass


class Visit(Base):
    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=func.now(), index=True)


NOON = datetime(2026, 1, 31, 12, 0, 20, tzinfo=UTC)
WRITTEN = {
    1: "2026-01-31 12:00:20",
    2: "2026-01-31 12:00:20.0",
    3: "2026-01-31 12:00:20.000000",
    4: "2026-01-31 12:00:20.500",
    5: "2026-01-31 12:00:20.500000",
    6: "2026-01-31 12:00:20.000001",
    7: "2026-01-31 12:00:19.999999",
    8: "2026-01-31 12:00:21",
}
VALUES = [NOON, NOON + timedelta(milliseconds=500), NOON + timedelta(microseconds=1)]
SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@pytest.fixture
def visits(session: Session) -> Session:
    Base.metadata.create_all(session.connection())
    zone = "+00" if session.connection().dialect.name == "postgresql" else ""
    for number, at in WRITTEN.items():
        session.execute(text(f"INSERT INTO visit (id, at) VALUES ({number}, '{at}{zone}')"))
    session.execute(text("INSERT INTO visit (id) VALUES (99)"))
    session.commit()
    return session


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_the_same_moment_is_equal_however_it_was_written(visits: Session) -> None:
    """Old rows and new ones, rows of a server default and imported ones, in one column."""
    rows = {number: datetime.fromisoformat(f"{at}+00:00") for number, at in WRITTEN.items()}
    known = select(Visit.id).where(Visit.id < 99)

    def found(criterion: Any, **values: Any) -> set[int]:
        return set(visits.scalars(known.where(criterion), values))

    for value in VALUES:
        for sign, compare in SIGNS.items():
            wanted = {number for number, at in rows.items() if compare(at, value)}
            assert found(compare(Visit.at, value)) == wanted, (sign, value)
            bound = bindparam("v", type_=UTCDateTime())
            assert found(compare(Visit.at, bound), v=value) == wanted, (sign, value)
        assert found(Visit.at.in_([value])) == {n for n, at in rows.items() if at == value}
        assert found(Visit.at.not_in([value])) == {n for n, at in rows.items() if at != value}
        assert found(Visit.at.between(NOON, value)) == {
            n for n, at in rows.items() if NOON <= at <= value
        }
    made = visits.get_one(Visit, 99).at
    assert visits.scalars(select(Visit.id).where(Visit.at == made)).all() == [99]


@pytest.mark.backends("sqlite-file")
def test_an_index_serves_the_comparison_of_moments(visits: Session) -> None:
    """Each comparison is a range of the texts as they stand in the index."""
    for criterion in (Visit.at == NOON, Visit.at >= NOON, Visit.at < NOON):
        sql = str(select(Visit.id).where(criterion).compile(visits.connection()))
        plan = visits.execute(text(f"EXPLAIN QUERY PLAN {sql.replace('?', repr('2026'))}")).all()
        assert "USING COVERING INDEX" in str(plan)
