"""The one place that every statement passes, and who watches it there."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from flask_dbkit.databases import execution as module
from flask_dbkit.databases.execution import Execution, Order, Watcher, watch
from flask_dbkit.databases.statements import Kind, classify_statement
from flask_dbkit.transactions.engine_guards import guard_engine
from tests.databases.conftest import KitEngine
from tests.support.databases import Database


class Noting(Watcher):
    """Write down what it is told; refuse or answer a statement that holds its word."""

    def __init__(self, name: str, order: Order, notes: list[str]) -> None:
        self.name, self.order, self.notes = name, order, notes

    def before(self, execution: Execution) -> bool | None:
        self.notes.append(f"{self.name} before")
        if f"refused by {self.name}" in execution.statement:
            raise PermissionError(self.name)
        return f"answered by {self.name}" in execution.statement or None

    def after(self, execution: Execution) -> None:
        self.notes.append(f"{self.name} after")

    def failed(self, execution: Execution, error: BaseException) -> None:
        self.notes.append(f"{self.name} failed: {type(error).__name__}")


class Timing(Watcher):
    """Keep what each statement was and how long it took."""

    order = Order.STATISTICS
    timed = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, Kind, bool, Any, float]] = []

    def after(self, execution: Execution) -> None:
        each = execution
        self.seen.append((each.statement, each.kind, each.many, each.parameters, each.duration_s))

    def failed(self, execution: Execution, error: BaseException) -> None:
        self.after(execution)


@pytest.fixture
def engine(prepare_engine: KitEngine, database: Database) -> Engine:
    """An engine as the library prepares it, with the listeners of scopes."""
    engine = prepare_engine(database.url)
    guard_engine(engine)
    return engine


def test_watchers_are_asked_in_order_and_told_the_other_way_round(engine: Engine) -> None:
    """Whatever order they came in; who was not asked is told nothing."""
    notes: list[str] = []
    last = Noting("last", Order.CONTROL, notes)
    for watcher in (last, Noting("first", Order.SCOPE, notes)):
        watch(engine, watcher)
    with engine.connect() as connection:
        notes.clear()
        assert connection.scalar(text("SELECT 7")) == 7
        assert notes == ["first before", "last before", "last after", "first after"]

        notes.clear()
        with pytest.raises(PermissionError):
            connection.execute(text("SELECT 'refused by last'"))
        assert notes == ["first before", "last before", "first failed: PermissionError"]

        notes.clear()
        with pytest.raises(PermissionError):
            connection.execute(text("SELECT 'refused by first'"))
        assert notes == ["first before"]

        notes.clear()
        connection.execute(text("INSERT INTO nowhere VALUES ('answered by last')"))
        assert notes == ["first before", "last before", "first after"]

        notes.clear()
        with pytest.raises(Exception, match="nowhere"):
            connection.execute(text("SELECT n FROM nowhere"))
        name = notes[-1].rpartition(" ")[2]
        assert notes[2:] == [f"last failed: {name}", f"first failed: {name}"]
        connection.rollback()


def test_each_statement_is_classified_once_whoever_watches(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scopes, SQLite's control and statistics share one look at the text."""
    looked: list[str] = []

    def classify(statement: str) -> Kind:
        looked.append(statement)
        return classify_statement(statement)

    monkeypatch.setattr(module, "classify_statement", classify)
    timing = Timing()
    watch(engine, timing)
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE note (id INTEGER, words VARCHAR(9))"))
        looked.clear()
        timing.seen.clear()
        insert = text("INSERT INTO note VALUES (:id, 'one')")
        connection.execute(insert, {"id": 1})
        connection.execute(insert, [{"id": 2}, {"id": 3}])
        connection.exec_driver_sql("SELECT 5")
        connection.execution_options(no_parameters=True).exec_driver_sql("SELECT 6")
        connection.rollback()
    assert looked == [statement for statement, *_ in timing.seen]
    assert [(kind, many) for _, kind, many, *_ in timing.seen] == [
        (Kind.WRITE, False),
        (Kind.WRITE, True),
        (Kind.READ, False),
        (Kind.READ, False),
    ]
    assert len(timing.seen[1][3]) == 2
    assert all(0 < seconds < 5 for *_, seconds in timing.seen)


def test_a_failed_statement_has_its_time_too(engine: Engine) -> None:
    """It was sent, and somebody waited for the answer."""
    timing = Timing()
    watch(engine, timing)
    with engine.connect() as connection:
        with pytest.raises(Exception, match="nowhere"):
            connection.execute(text("DELETE FROM nowhere"))
        connection.rollback()
    assert [statement for statement, *_ in timing.seen][-1] == "DELETE FROM nowhere"
    assert timing.seen[-1][4] > 0


def test_listeners_of_the_application_are_called_as_ever(engine: Engine) -> None:
    """Its own ``do_execute`` listener sees the statement, and may send another one."""

    @event.listens_for(engine, "do_execute")
    def do_execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        cursor.execute(statement.replace("1", "2"), parameters)
        return True

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 2
