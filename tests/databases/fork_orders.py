"""Fork in one order of events, and write down what was acknowledged.

The parent that forks is a child of this process, so that it can be the first to end. Whoever
commits a row appends a line to ``acknowledged`` in the folder; whoever is refused the file appends
the error to ``refused``.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from flask_dbkit import DBKit, transaction
from tests.support import forks

CHILDREN, ROWS = 3, 5


class World:
    """One application on two files, and the notes about them."""

    def __init__(self, folder: Path, journal: str) -> None:
        self.folder = folder
        app = Flask("forker", instance_path=str(folder))
        app.config |= {
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/main.db",
            "DBKIT_SLOW_MS": None,  # what the children write to stderr is looked at
            "SQLALCHEMY_BINDS": {"other": f"sqlite:///{folder}/other.db"},
            "DBKIT_SQLITE_PRAGMAS": {"journal_mode": journal},
        }
        self.app, self.db = app, SQLAlchemy()
        self.dbkit = DBKit(app, db=self.db)
        with app.app_context():
            for engine in self.db.engines.values():
                with engine.begin() as connection:
                    connection.execute(text("CREATE TABLE item (n INTEGER)"))

    def note(self, kind: str, line: str) -> None:
        with (self.folder / kind).open("a") as file:
            file.write(line.replace("\n", " ") + "\n")

    def write(self, bind: str | None = None) -> None:
        """Commit rows through the kit, one by one, and note each."""
        try:
            with self.app.app_context():
                for n in range(ROWS):
                    with transaction():
                        engine = self.db.engines[bind]
                        insert = text("INSERT INTO item VALUES (:n)")
                        self.db.session.execute(insert, {"n": n}, bind_arguments={"bind": engine})
                    self.note("acknowledged", bind or "main")
                    time.sleep(0.002)
        except OperationalError as error:
            self.note("refused", f"{bind or 'main'} {error.orig}")

    def wait_for_rows(self) -> None:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            if any((self.folder / name).exists() for name in ("acknowledged", "refused")):
                return
            time.sleep(0.002)


# -- what the parent's connections do at the fork ------------------------------------------------


@contextmanager
def idle(world: World) -> Any:
    world.write()
    world.write("other")
    yield


@contextmanager
def probed(world: World) -> Any:
    """The probes, and the thorough look in the background that they start, have just been there."""
    world.dbkit.health.run("readiness")
    yield


@contextmanager
def reading(world: World) -> Any:
    with world.app.app_context():
        world.db.session.execute(text("SELECT count(*) FROM item")).all()
        yield
        world.db.session.rollback()


@contextmanager
def writing(world: World) -> Any:
    with world.app.app_context():
        world.db.session.execute(text("INSERT INTO item VALUES (-1)"))
        yield
        world.db.session.commit()
        world.note("acknowledged", "main")


@contextmanager
def checked_out(world: World) -> Any:
    with world.app.app_context(), world.db.engine.connect():
        yield


@contextmanager
def in_a_thread(world: World) -> Any:
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with world.app.app_context():
            world.db.session.execute(text("SELECT count(*) FROM item")).all()
            ready.set()
            done.wait(20)
            world.db.session.rollback()

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(20)
    yield
    done.set()
    thread.join()


@contextmanager
def backed_up(world: World) -> Any:
    from flask_dbkit.backups.on_sqlite.copying import open_file

    raw = open_file(world.folder / "main.db")
    raw.execute("BEGIN").execute("SELECT count(*) FROM item").fetchone()
    yield
    raw.close()


@contextmanager
def by_the_driver(world: World) -> Any:
    raw = sqlite3.connect(world.folder / "main.db")
    raw.execute("SELECT count(*) FROM item").fetchone()
    yield
    raw.close()


@contextmanager
def by_another_engine(world: World) -> Any:
    engine = create_engine(f"sqlite:///{world.folder}/main.db")
    with engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM item")).all()
    yield
    engine.dispose()


# -- who writes, and what the parent does meanwhile ----------------------------------------------


def by_fork(work: Callable[[], object]) -> Callable[[], object]:
    pid = forks.fork(work)
    return lambda: forks.exit_code(pid)


def by_multiprocessing(work: Callable[[], object]) -> Callable[[], object]:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process.join


def grandchild(work: Callable[[], object]) -> Callable[[], object]:
    """A child that has used the file itself forks one more, which outlives it."""

    def work_and_fork() -> None:
        work()
        wait = by_fork(work)
        work()
        wait()

    return by_fork(work_and_fork)


def closes(world: World) -> None:
    with world.app.app_context():
        for engine in world.db.engines.values():
            with engine.connect() as connection:  # or it would have nothing to close
                connection.execute(text("SELECT count(*) FROM item")).all()
            engine.dispose()


def goes_on(world: World) -> None:
    world.write()
    closes(world)


def exits(world: World) -> None:
    raise SystemExit


STATES: tuple[Any, ...] = (
    idle,
    probed,
    reading,
    writing,
    checked_out,
    in_a_thread,
    backed_up,
    by_the_driver,
    by_another_engine,
)
FORKS: tuple[Any, ...] = (by_fork, by_multiprocessing, grandchild)
PARENTS: tuple[Any, ...] = (closes, goes_on, exits)


def main(folder: Path, journal: str, order: str) -> None:
    """Let a parent fork its children in one order of events, and wait for the last of them."""
    first, second, third = order.split("-")
    state = next(each for each in STATES if each.__name__ == first)
    how = next(each for each in FORKS if each.__name__ == second)
    then = next(each for each in PARENTS if each.__name__ == third)
    alive, kept_open = os.pipe()

    def parent() -> None:
        os.close(alive)
        warnings.simplefilter("ignore")  # of threads beside a fork
        world = World(folder, journal)
        with ExitStack() as stack:
            stack.enter_context(state(world))
            waits = [how(world.write) for _ in range(CHILDREN - 1)]
            waits.append(how(lambda: world.write("other")))
            world.wait_for_rows()
            if then is exits:
                os._exit(0)
            if state in (idle, probed):
                then(world)
        then(world)
        for wait in waits:
            wait()

    pid = forks.fork(parent)
    os.close(kept_open)
    os.read(alive, 1)  # ends when the last process is gone
    os.close(alive)
    assert forks.succeeded(pid)
