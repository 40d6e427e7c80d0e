"""The writers of a file take fair turns, and nobody who is gone keeps the others waiting."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import OperationalError

from flask_dbkit.databases.sqlite.engine import SIDE_FILE_SUFFIX
from flask_dbkit.databases.sqlite.gate import TURN_S, WriterGate, gate_for
from tests.databases.conftest import KitEngine
from tests.databases.test_sqlite_control import code, entry, rows
from tests.support.forks import Child, Talk

LONG_S = 30.0


@pytest.fixture
def file(path: Path) -> Path:
    sqlite3.connect(path).close()
    path.touch()
    return path


@pytest.fixture
def gate(file: Path) -> WriterGate:
    return WriterGate(str(file))


def test_one_writer_at_a_time_passes(gate: WriterGate) -> None:
    """It is held until it is released, by whichever thread, and then free for the next."""
    assert gate.try_acquire()
    assert not gate.try_acquire()
    assert not gate.acquire(timeout_s=0.02)
    thread = threading.Thread(target=gate.release)
    thread.start()
    thread.join()
    assert gate.acquire(timeout_s=LONG_S)
    gate.release()


def test_waiters_pass_in_the_order_they_came(gate: WriterGate) -> None:
    """Whoever has waited a whole turn is next, the longest waiter first."""
    order: list[int] = []
    assert gate.acquire(timeout_s=LONG_S)
    threads = []

    def write(n: int) -> None:
        assert gate.acquire(timeout_s=LONG_S)
        order.append(n)
        gate.release()

    for n in range(5):
        thread = threading.Thread(target=write, args=(n,))
        thread.start()
        threads.append(thread)
        while len(gate._queue._waiters) < n + 1:
            threading.Event().wait(0.001)
    threading.Event().wait(TURN_S * 2)
    gate.release()
    assert not gate.try_acquire()  # somebody has waited too long to be overtaken
    for thread in threads:
        thread.join(LONG_S)
    assert order == [0, 1, 2, 3, 4]


def test_a_runner_may_come_back_while_nobody_has_waited_long(gate: WriterGate) -> None:
    """Who writes again and again goes on within a turn: each switch of threads costs time."""
    gate._queue._last.release = time.monotonic() + LONG_S  # as if it had been here just now
    assert gate.try_acquire()
    thread, entered = _start_waiter(gate)
    gate._queue._waiters[0].since += LONG_S  # as if it had only just come
    gate.release()
    assert gate.try_acquire()
    gate.release()
    assert entered.wait(LONG_S)  # a free lock goes to the first waiter soon
    thread.join(LONG_S)


def test_a_single_write_is_followed_by_whoever_waits(gate: WriterGate) -> None:
    """Who was not here just now is not expected back, so nobody waits a turn for it."""
    assert gate.try_acquire()
    thread, entered = _start_waiter(gate)
    waiter = gate._queue._waiters[0]
    waiter.since += LONG_S  # as if it had only just come
    gate.release()
    assert waiter.chosen
    assert entered.wait(LONG_S)
    thread.join(LONG_S)


def _start_waiter(gate: WriterGate) -> tuple[threading.Thread, threading.Event]:
    """Start a thread that waits for a held gate, notes that it had it, and gives it back."""
    entered = threading.Event()

    def wait() -> None:
        assert gate.acquire(timeout_s=LONG_S)
        entered.set()
        gate.release()

    thread = threading.Thread(target=wait)
    thread.start()
    while not gate._queue._waiters:
        threading.Event().wait(0.001)
    return thread, entered


class _Interrupt(Exception):
    """Raised by a signal, as a time limit of a worker would."""


@pytest.fixture
def interrupted() -> Iterator[None]:
    """Interrupt the main thread a little later."""

    def handle(number: int, frame: object) -> None:
        raise _Interrupt

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupted_waiter_leaves_the_queue(gate: WriterGate, interrupted: None) -> None:
    """Otherwise the lock would be handed to somebody who is not there any more."""
    assert gate.acquire(timeout_s=LONG_S)
    with pytest.raises(_Interrupt):
        gate.acquire(timeout_s=LONG_S)
    gate.release()
    assert gate.acquire(timeout_s=0)
    gate.release()


def hold_gate(file: Path) -> Child:
    """Start another process, which holds the gate until it is let go on."""

    def hold(talk: Talk) -> None:
        gate = WriterGate(str(file))
        assert gate.acquire(LONG_S)
        talk.say("held")
        talk.wait()
        gate.release()
        talk.say("released")

    return Child(hold)


@pytest.fixture
def holder(file: Path) -> Iterator[Child]:
    """Another process, which holds the gate until it is let go on."""
    child = hold_gate(file)
    assert child.hear() == "held"
    yield child
    child.kill()


def test_an_interrupted_wait_for_another_process_keeps_nothing(
    gate: WriterGate, holder: Child, interrupted: None
) -> None:
    """Neither the place in the queue nor the mark that somebody waits."""
    with pytest.raises(_Interrupt):
        gate.acquire(timeout_s=LONG_S)
    holder.let_go_on()
    assert gate.acquire(timeout_s=LONG_S)
    gate.release()


def test_another_process_is_kept_out_until_the_gate_opens(gate: WriterGate, holder: Child) -> None:
    """The side file carries the lock from process to process."""
    assert not gate.try_acquire()
    assert not gate.acquire(timeout_s=0.05)
    holder.let_go_on()
    assert holder.hear() == "released"
    assert gate.acquire(timeout_s=LONG_S)
    gate.release()


def test_a_killed_holder_keeps_nobody_waiting(gate: WriterGate, holder: Child) -> None:
    """The kernel gives back the lock of a process that dies, however it dies."""
    waiting = threading.Event()
    entered: list[bool] = []

    def wait() -> None:
        waiting.set()
        entered.append(gate.acquire(timeout_s=LONG_S))

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(LONG_S)
    holder.kill()
    thread.join(LONG_S)
    assert entered == [True]
    gate.release()


def test_a_killed_writer_leaves_a_sound_database_and_an_open_gate(
    file_engine: KitEngine, path: Path
) -> None:
    """After kill -9 inside a write transaction its rows are gone, and the next writer gets in."""
    engine = file_engine()

    def write(talk: Talk) -> None:
        with engine.connect() as connection:
            connection.execute(insert(entry).values(n=1))
            talk.say("written")
            talk.wait()

    writer = Child(write)
    assert writer.hear() == "written"
    writer.kill()
    with engine.begin() as connection:
        connection.execute(insert(entry).values(n=2))
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    assert rows(engine) == 1


def test_every_spelling_of_a_path_has_one_gate(file: Path) -> None:
    """Links and relative paths lead to the same file, so to the same queue."""
    link = file.with_name("link.db")
    link.symlink_to(file)
    first = gate_for(str(file))
    assert gate_for(str(link)) is first
    assert gate_for(os.path.relpath(file)) is first
    assert gate_for(str(file) + "-other") is not first


def test_whoever_may_write_the_database_may_write_the_side_file(file: Path) -> None:
    """A group that shares the database shares its gate, whatever the umask says."""
    file.chmod(0o664)
    before = os.umask(0o077)
    try:
        gate = WriterGate(str(file))
        assert gate.acquire(timeout_s=LONG_S)
        gate.release()
    finally:
        os.umask(before)
    side = Path(str(file) + SIDE_FILE_SUFFIX)
    assert stat.S_IMODE(side.stat().st_mode) == 0o664
    assert side.stat().st_uid == file.stat().st_uid


def test_a_gate_that_is_gone_keeps_no_file_open(file: Path) -> None:
    """Applications come and go in a test run; their descriptors do too."""

    def count() -> int:
        names = Path("/proc/self/fd").iterdir()
        return sum(os.path.realpath(name).startswith(str(file)) for name in names)

    gate = WriterGate(str(file))
    assert gate.acquire(timeout_s=LONG_S)
    gate.release()
    assert count() == 1
    del gate
    gc.collect()
    assert count() == 0


def test_without_a_side_file_the_queue_inside_the_process_still_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder where nothing can be made costs fairness between processes, and is said once."""
    gate = WriterGate(str(tmp_path / "missing" / "test.db"))
    with caplog.at_level(logging.INFO, "flask_dbkit.sqlite"):
        for _ in range(2):
            assert gate.acquire(timeout_s=LONG_S)
            assert not gate.try_acquire()
            gate.release()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "No advisory lock" in caplog.text


def test_a_file_system_without_locks_turns_the_side_file_off(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the side file turns out to be, writing goes on."""
    Path(str(file) + SIDE_FILE_SUFFIX).mkdir()
    gate = WriterGate(str(file))
    with caplog.at_level(logging.INFO, "flask_dbkit.sqlite"):
        assert gate.acquire(timeout_s=LONG_S)
        gate.release()
    assert "No advisory lock" in caplog.text


def test_a_process_whose_turn_is_over_stands_back(gate: WriterGate, file: Path) -> None:
    """A process that keeps coming back lets one that waits have the lock."""
    assert gate.acquire(timeout_s=LONG_S)
    waiting = hold_gate(file)
    entered: list[str] = []
    reader = threading.Thread(target=lambda: entered.append(waiting.hear()))
    reader.start()
    while reader.is_alive():  # write on and on, and the other one gets in all the same
        threading.Event().wait(TURN_S / 20)
        gate.release()
        if not gate.acquire(timeout_s=0.2):
            reader.join(LONG_S)
            break
    else:
        gate.release()
    assert entered == ["held"]
    waiting.let_go_on()
    assert waiting.exit_code() == 0
    assert gate.acquire(timeout_s=LONG_S)
    gate.release()


def test_the_gate_can_be_switched_off(file_engine: KitEngine, path: Path) -> None:
    """Without it there is no side file, and SQLite's own lock does the work."""
    engine = file_engine(DBKIT_SQLITE_WRITER_GATE=False)
    with engine.begin() as connection:
        connection.execute(insert(entry).values(n=1))
    assert not Path(str(path) + SIDE_FILE_SUFFIX).exists()


def test_a_forked_child_does_not_wait_for_its_parents_threads(gate: WriterGate) -> None:
    """The parent holds the gate for itself: the child queues up behind it, and gets in after it."""
    assert gate.acquire(timeout_s=LONG_S)

    def queue_up(talk: Talk) -> None:
        talk.say("not blocked" if gate.acquire(timeout_s=0.05) else "blocked")
        assert gate.acquire(timeout_s=LONG_S)

    child = Child(queue_up)
    assert child.hear() == "blocked"
    gate.release()
    assert child.exit_code() == 0


@pytest.mark.parametrize(
    ("settings", "reads"),
    [({}, False), ({"DBKIT_SQLITE_WRITER_GATE": False}, False), ({}, True)],
    ids=["with the gate", "without it", "a reader without a log"],
)
def test_a_writer_that_waits_for_its_own_thread_is_told_at_once(
    file_engine: KitEngine, settings: dict[str, object], reads: bool
) -> None:
    """Nobody could end the other transaction meanwhile: waiting would be for nothing."""
    pragmas = {"DBKIT_SQLITE_PRAGMAS": {"journal_mode": "DELETE"}} if reads else {}
    engine = file_engine(DBKIT_SQLITE_BUSY_TIMEOUT_MS=20_000, **settings, **pragmas)
    with engine.connect() as first:
        first.execute(entry.select() if reads else insert(entry).values(n=1)).close()
        began = time.monotonic()
        with pytest.raises(OperationalError, match="locked by this very thread") as refused:
            with engine.begin() as second:
                second.execute(insert(entry).values(n=2))
        assert code(refused) == sqlite3.SQLITE_BUSY
        first.commit()
    with engine.connect() as first:
        first.execute(insert(entry).values(n=3))
        thread = threading.Thread(target=first.commit)  # another thread may end it, as ever
        thread.start()
        thread.join()
        with engine.begin() as second:
            second.execute(insert(entry).values(n=4))
    assert time.monotonic() - began < 10
    assert rows(engine) == (2 if reads else 3)
