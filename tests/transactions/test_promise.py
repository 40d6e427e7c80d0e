"""The one law: a block that ends normally, and only such a block, has its work saved.

Programs are made at random from blocks inside blocks, writes, errors that are caught or not,
and everything an application should not do. A model of a few lines knows what must be there
afterwards: it looks at nothing but how each block ended.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from flask_dbkit import (
    Rollback,
    TransactionError,
    attempts,
    current_transaction,
    on_commit,
    savepoint,
    transaction,
)

from .conftest import Entry, Ledger

KINDS = (
    "join",
    "join in less time",
    "attempt",
    "savepoint",
    "savepoint option",
    "savepoint in less time",
    "begin_nested",
    "connection.begin_nested",
)
WRITES = ("add", "insert", "core", "bulk")
ERRORS = ("duplicate add", "duplicate insert", "duplicate core", "syntax", "no table")
TAMPERING = (
    "commit",
    "flush",
    "read",
    "query",
    "no_autoflush",
    "text COMMIT",
    "text ROLLBACK",
    "session.rollback",
    "session.close",
    "connection.rollback",
)
ENDS = ("raise ValueError", "raise Rollback", "set_rollback_only")


@dataclass
class Step:
    """One thing a program does; blocks have steps of their own."""

    what: str
    caught: bool = False
    steps: list[Step] = field(default_factory=list)


leaves = st.builds(
    Step,
    st.sampled_from((*WRITES, *WRITES, *ERRORS, *TAMPERING, *ENDS)),
    st.booleans(),
)
programs = st.recursive(
    leaves,
    lambda steps: st.builds(
        Step, st.sampled_from(KINDS), st.booleans(), st.lists(steps, min_size=1, max_size=4)
    ),
    max_leaves=10,
)


class Boundary:
    """A block that work is undone to: what it holds, and whether it was told to end silently."""

    def __init__(self) -> None:
        self.work: list[object] = []
        self.silent = False


class Run:
    """Runs a program and keeps the model beside it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.numbers = itertools.count(1)
        self.boundaries: list[Boundary] = []
        self.scopes: list[Boundary] = []
        self.called: list[int] = []
        self.in_connection = False

    def block(self, kind: str) -> AbstractContextManager[Any]:
        session = self.ledger.session
        makers: dict[str, Callable[[], AbstractContextManager[Any]]] = {
            "join": transaction,
            "join in less time": lambda: transaction(lock_timeout=9, statement_timeout=9),
            "attempt": lambda: next(attempts(retry=3)),
            "savepoint": savepoint,
            "savepoint option": lambda: transaction(savepoint=True),
            "savepoint in less time": lambda: transaction(savepoint=True, lock_timeout=8),
            "begin_nested": session.begin_nested,
            "connection.begin_nested": lambda: session.connection().begin_nested(),
        }
        return makers[kind]()

    def run(self, steps: list[Step]) -> list[object]:
        """Run the steps of one block; return the work they did and did not undo."""
        work: list[object] = []
        for step in steps:
            if step.caught:
                with suppress(ValueError, SQLAlchemyError, TransactionError):
                    work += self.step(step)
            else:
                work += self.step(step)
        return work

    def step(self, step: Step) -> list[object]:
        if step.what in KINDS:
            return self.nested(step)
        return getattr(self, "do_" + step.what.replace(".", " ").split()[0])(step.what)  # type: ignore[no-any-return]

    def nested(self, step: Step) -> list[object]:
        mine = Boundary() if step.what.startswith("savepoint") else self.scopes[-1]
        work: list[object] = []
        ended = False
        self.scopes.append(mine)
        around, self.in_connection = self.in_connection, step.what == "connection.begin_nested"
        try:
            with self.block(step.what):
                work = self.run(step.steps)
                # Objects added are written at the latest when the block ends.
                ended = True
        except Rollback:
            if not step.what.startswith("savepoint"):
                self.scopes[-2].silent = True
            raise
        finally:
            self.scopes.pop()
            self.in_connection = around
        if step.what.startswith("savepoint") and (mine.silent or not ended):
            return []
        return work

    def number(self) -> int:
        return next(self.numbers)

    def do_add(self, _: str) -> list[object]:
        n = self.number()
        self.ledger.add(n)
        if self.in_connection:
            self.ledger.session.flush()  # a connection's savepoint does not know of objects
        return [n]

    def do_insert(self, _: str) -> list[object]:
        n = self.number()
        self.ledger.insert(n)
        on_commit(self.called.append, n)
        return [n]

    def do_core(self, _: str) -> list[object]:
        n = self.number()
        self.ledger.session.connection().execute(insert(Entry.__table__).values(n=n))
        return [n]

    def do_bulk(self, _: str) -> list[object]:
        n, m = self.number(), self.number()
        self.ledger.session.execute(insert(Entry), [{"n": n}, {"n": m}])
        return [n, m]

    def do_duplicate(self, what: str) -> list[object]:
        how = what.split()[1]
        if how == "add":
            self.ledger.add(0)
            self.ledger.session.flush()
        elif how == "insert":
            self.ledger.insert(0)
        else:
            self.ledger.session.connection().execute(insert(Entry.__table__).values(n=0))
        return []

    def do_syntax(self, _: str) -> list[object]:
        self.ledger.session.execute(text("SELEC 1"))
        return []

    def do_no(self, _: str) -> list[object]:
        self.ledger.session.execute(text("SELECT 1 FROM nowhere"))
        return []

    def do_commit(self, _: str) -> list[object]:
        self.ledger.session.commit()
        return []

    def do_flush(self, _: str) -> list[object]:
        self.ledger.session.flush()
        return []

    def do_read(self, _: str) -> list[object]:
        self.ledger.read()
        return []

    def do_query(self, _: str) -> list[object]:
        self.ledger.session.execute(update(Entry).where(Entry.n < 0).values(note="x"))
        self.ledger.session.execute(delete(Entry).where(Entry.n < 0))
        return []

    def do_no_autoflush(self, _: str) -> list[object]:
        with self.ledger.session.no_autoflush:
            self.ledger.session.scalars(select(Entry)).all()
        return []

    def do_text(self, what: str) -> list[object]:
        self.ledger.session.execute(text(f"/* so */ {what.split()[1].title()}"))
        return []

    def do_session(self, what: str) -> list[object]:
        getattr(self.ledger.session, what.split(".")[1])()
        return []

    def do_connection(self, _: str) -> list[object]:
        self.ledger.session.connection().rollback()
        return []

    def do_raise(self, what: str) -> list[object]:
        raise Rollback if what.endswith("Rollback") else ValueError

    def do_set_rollback_only(self, _: str) -> list[object]:
        info = current_transaction()
        assert info is not None
        info.set_rollback_only()
        self.scopes[-1].silent = True
        return []


def check(ledger: Ledger, steps: list[Step], *, loader: bool, options: dict[str, Any]) -> None:
    """Run a program in a scope, and compare the database with what the model says."""
    clear(ledger)
    if loader:
        ledger.read()
    run = Run(ledger)
    whole = Boundary()
    run.scopes.append(whole)
    work: list[object] = []
    ended = False
    try:
        with transaction(**options):
            work = run.run(steps)
            ended = True
    except (ValueError, SQLAlchemyError, TransactionError):
        ended = False
    expected = sorted(work) if ended and not whole.silent else []  # type: ignore[type-var]
    assert [n for n in ledger.saved() if n > 0] == expected, steps
    assert sorted(run.called) == [n for n in expected if n in run.called]
    if not expected:
        assert run.called == []
    assert not ledger.session.in_transaction()


def clear(ledger: Ledger) -> None:
    """Begin every program with one row and a new session."""
    ledger.db.session.remove()
    with transaction():
        ledger.session.execute(delete(Entry).where(Entry.n > 0))


@pytest.fixture
def prepared(ledger: Ledger) -> Ledger:
    with transaction():
        ledger.insert(0)
    return ledger


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(programs, min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from(
        [{}, {"isolation": "SERIALIZABLE"}, {"lock_timeout": 9}, {"begin": "deferred"}]
    ),
)
def test_what_is_saved_is_the_work_of_blocks_that_ended_normally(
    prepared: Ledger, steps: list[Step], loader: bool, options: dict[str, Any]
) -> None:
    """Whatever is swallowed, nested and tampered with; on every database the same."""
    check(prepared, steps, loader=loader, options=options)
