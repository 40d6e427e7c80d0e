"""What is said of the data when somebody else ended the transaction, and what comes after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from flask_dbkit import OwnershipError, after_end, on_rollback, transaction

from .conftest import Ledger


def raw_of(ledger: Ledger) -> Any:
    return ledger.session.connection().connection.dbapi_connection


WAYS: dict[str, Callable[[Ledger], object]] = {
    "session.rollback()": lambda ledger: ledger.session.rollback(),
    "session.close()": lambda ledger: ledger.session.close(),
    "connection.rollback()": lambda ledger: ledger.session.connection().rollback(),
    "driver's COMMIT": lambda ledger: raw_of(ledger).cursor().execute("COMMIT"),
    "driver's ROLLBACK": lambda ledger: raw_of(ledger).cursor().execute("ROLLBACK"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fails", [False, True], ids=["ends normally", "fails"])
def test_what_is_said_of_the_data_is_true(ledger: Ledger, way: str, fails: bool) -> None:
    """A rollback is called one; of what may have been a COMMIT nothing is claimed."""
    heard: list[str] = []
    with pytest.raises((OwnershipError, LookupError)) as raised, transaction():
        after_end(heard.append)
        on_rollback(lambda _: heard.append("rolled back"))
        ledger.insert(1)
        WAYS[way](ledger)
        if fails:
            raise LookupError
    saved = ledger.saved()
    known = not way.startswith("driver")
    if isinstance(raised.value, OwnershipError):
        assert ("may be saved or not" in str(raised.value)) is not known
        assert ("It was rolled back" in str(raised.value)) is known
    if known:
        assert saved == []
        assert heard == ["rolled back", "rolled_back"]
    elif saved:
        assert heard == ["unknown"]
    with transaction():
        ledger.insert(2)
    assert ledger.saved() == [*saved, 2]


@pytest.mark.parametrize("name", ["commit", "rollback"])
def test_the_driver_s_own_end_is_noticed_behind_another_write(ledger: Ledger, name: str) -> None:
    """The driver has begun another transaction by then, and says that it is in one."""
    heard: list[str] = []
    with pytest.raises(OwnershipError, match=rf"driver's own {name}\(\)"), transaction():
        after_end(heard.append)
        ledger.insert(1)
        raw = raw_of(ledger)
        getattr(raw, name)()
        raw.cursor().execute("INSERT INTO entry (n) VALUES (2)")
    assert ledger.saved() == ([1] if name == "commit" else [])
    assert heard == ["unknown" if name == "commit" else "rolled_back"]


ENGINES = ["InnoDB", "Aria", "MyISAM", "MEMORY"]


@pytest.fixture
def engines(ledger: Ledger) -> Ledger:
    """One more table for each engine, some of them without transactions."""
    with ledger.engine.begin() as connection:
        for engine in ENGINES:
            connection.exec_driver_sql(f"CREATE TABLE t_{engine} (i int) ENGINE={engine}")
    return ledger


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize("engine", ENGINES)
def test_tables_without_transactions_raise_no_false_alarm(engines: Ledger, engine: str) -> None:
    """The server opens no transaction for them, and none is missed; nor when nothing matches."""
    heard: list[str] = []
    session = engines.session
    for statement in (
        f"INSERT INTO t_{engine} VALUES (1)",
        f"UPDATE t_{engine} SET i = 3 WHERE i = 2",
        f"DELETE FROM t_{engine} WHERE i = 2",
        f"INSERT INTO t_{engine} VALUES (2) RETURNING i",
    ):
        with transaction():
            after_end(heard.append)
            session.execute(text(statement))
    with transaction():
        after_end(heard.append)
        session.execute(text(f"INSERT INTO t_{engine} VALUES (3)"))
        engines.insert(1)
    assert heard == ["committed"] * 5
    assert sorted(session.scalars(text(f"SELECT i FROM t_{engine}"))) == [1, 2, 3]
    session.rollback()
    with pytest.raises(OwnershipError, match="may be saved or not"), transaction():
        engines.insert(2)
        session.execute(text(f"INSERT INTO t_{engine} VALUES (4)"))
        raw_of(engines).cursor().execute("ROLLBACK")


@pytest.fixture
def procedures(ledger: Ledger) -> Ledger:
    """Procedures that commit, and go on."""
    with ledger.engine.begin() as connection:
        for name, body in {
            "p_writes": "INSERT INTO entry (n) VALUES (60)",
            "p_commits": "BEGIN INSERT INTO entry (n) VALUES (50); COMMIT; END",
            "p_goes_on": "BEGIN COMMIT; INSERT INTO entry (n) VALUES (70); END",
            "p_changes": "BEGIN SET autocommit = 1; INSERT INTO entry (n) VALUES (80); END",
            "p_answers": "BEGIN SELECT 1; COMMIT; INSERT INTO entry (n) VALUES (90); SELECT 2; END",
        }.items():
            connection.exec_driver_sql(f"CREATE PROCEDURE {name}() {body}")
    return ledger


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize("how", ["{}", "EXECUTE IMMEDIATE '{}'"])
@pytest.mark.parametrize("name", ["p_commits", "p_goes_on", "p_changes", "p_answers"])
@pytest.mark.parametrize("after", ["ends", "fails", "goes on"])
def test_a_commit_inside_a_procedure_is_noticed(
    procedures: Ledger, name: str, how: str, after: str
) -> None:
    """The savepoint that stood before the call is gone; and so is the connection, afterwards."""
    heard: list[str] = []
    expected = LookupError if after == "fails" else OwnershipError
    with pytest.raises(expected), transaction():
        after_end(heard.append)
        procedures.insert(1)
        procedures.session.execute(text(how.format(f"CALL {name}()"))).close()
        if after == "goes on":
            procedures.insert(2)
        if after == "fails":
            raise LookupError
    assert heard == ["unknown"]
    saved = procedures.saved()
    assert 1 in saved
    assert 2 not in saved
    with pytest.raises(LookupError), transaction():
        procedures.insert(3)
        raise LookupError
    assert procedures.saved() == saved


@pytest.mark.backends("mariadb")
def test_a_procedure_that_only_writes_is_part_of_the_scope(procedures: Ledger) -> None:
    """Nothing is noticed, since nothing has happened."""
    with transaction():
        procedures.insert(1)
        procedures.session.execute(text("CALL p_writes()"))
        with procedures.session.begin_nested():
            procedures.insert(2)
    assert procedures.saved() == [1, 2, 60]
    with pytest.raises(LookupError), transaction():
        procedures.session.execute(text("DELETE FROM entry"))
        procedures.session.execute(text("CALL p_writes()"))
        raise LookupError
    assert procedures.saved() == [1, 2, 60]
