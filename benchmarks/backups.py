"""Backups under a writer: are they good, and how long does the writer wait?

    python benchmarks/backups.py             # 100 backups, every copy checked
    python benchmarks/backups.py --rounds 5 --megabytes 100

A process writes all the time, each transaction into two tables. Every copy is opened: it has to
pass ``integrity_check``, hold every row that was committed before it was begun, and both tables
have to be of the same moment. Beside the library's way, the usual ones: ``cp`` of the file, ``cp``
of the file and its ``-wal``, the backup API as most recipes call it, and ``VACUUM INTO``. For each
the latencies of the writer while the copies were being made.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import multiprocessing
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from flask_dbkit.backups import LocalStore, create, database_at, verify

GIVE_UP_S = 20.0
CONTEXT = multiprocessing.get_context("spawn")


def write(path: str, committed: Any, stop: Any, times: Any) -> None:
    """Insert 1, 2, 3 …, and send how long each transaction took."""
    took: list[tuple[float, float]] = []
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        for number in itertools.count(1):
            began = time.monotonic()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO entry VALUES (?, hex(randomblob(150)))", (number,))
            connection.execute("UPDATE account SET total = total + ?", (number,))
            connection.execute("COMMIT")
            took.append((began, time.monotonic() - began))
            committed.value = number
            if stop.is_set():
                break
            time.sleep(0.0005)
    times.send(took)


@contextmanager
def writer(path: Path) -> Iterator[tuple[Any, list[tuple[float, float]]]]:
    committed, stop = CONTEXT.Value("q", 0), CONTEXT.Event()
    receiving, sending = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=write, args=(str(path), committed, stop, sending))
    process.start()
    while committed.value < 100:
        time.sleep(0.01)
    took: list[tuple[float, float]] = []
    try:
        yield committed, took
    finally:
        stop.set()
        took += receiving.recv()
        process.join()


def make(path: Path, megabytes: int, journal_mode: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute("CREATE TABLE account (total INT)")
        connection.execute("INSERT INTO account VALUES (0)")
        connection.execute("CREATE TABLE ballast (data BLOB)")
        for _ in range(megabytes):
            connection.execute("INSERT INTO ballast VALUES (randomblob(1000000))")


def problem_of(copy: Path, before: int) -> str | None:
    """Check one copy by hand."""
    try:
        with closing(sqlite3.connect(copy)) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                return "malformed"
            count, last = connection.execute("SELECT count(*), max(id) FROM entry").fetchone()
            (total,) = connection.execute("SELECT total FROM account").fetchone()
    except sqlite3.DatabaseError:
        return "malformed"
    if count < before:
        return "rows missing"
    if count != last or total != last * (last + 1) // 2:
        return "torn"
    return None


def by_the_library(path: Path, copy: Path) -> None:
    with tempfile.TemporaryDirectory(dir=copy.parent) as folder:
        store, database = LocalStore(Path(folder)), database_at(f"sqlite:///{path}")
        manifest = create(database, store)
        if not verify(store, manifest.id, database).ok:
            raise RuntimeError("verify found something")
        with gzip.open(store.directory / manifest.file) as packed, copy.open("wb") as file:
            shutil.copyfileobj(packed, file)


def by_cp(path: Path, copy: Path) -> None:
    shutil.copyfile(path, copy)


def by_cp_with_wal(path: Path, copy: Path) -> None:
    shutil.copyfile(path, copy)
    wal = Path(f"{path}-wal")
    if wal.exists():
        shutil.copyfile(wal, f"{copy}-wal")


def by_the_module(path: Path, copy: Path) -> None:
    """``Connection.backup()`` in steps, as its documentation shows it."""
    deadline = time.monotonic() + GIVE_UP_S

    def progress(_status: int, remaining: int, _total: int) -> None:
        if remaining and time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)

    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target, pages=1024, progress=progress)


def by_one_step(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def by_vacuum(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path, timeout=60)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "flask dbkit backup": by_the_library,
    "cp": by_cp,
    "cp with -wal": by_cp_with_wal,
    "backup() in steps": by_the_module,
    "backup() in one step": by_one_step,
    "VACUUM INTO": by_vacuum,
}

SLOW = {"backup() in steps": 2}  # each of them takes the whole GIVE_UP_S


def measure(
    name: str, folder: Path, *, megabytes: int, journal_mode: str, rounds: int
) -> tuple[dict[str, int], float, list[float], list[float]]:
    path = folder / "live.db"
    make(path, megabytes, journal_mode)
    outcomes: dict[str, int] = {}
    windows: list[tuple[float, float]] = []
    with writer(path) as (committed, took):
        time.sleep(0.5)  # a time without a copy, to compare with
        for number in range(rounds):
            copy = folder / f"copy-{number}.db"
            before, began = committed.value, time.monotonic()
            try:
                WAYS[name](path, copy)
                windows.append((began, time.monotonic()))
                found = problem_of(copy, before) or "good"
            except TimeoutError:
                windows.append((began, time.monotonic()))
                found = "never finished"
            outcomes[found] = outcomes.get(found, 0) + 1
            for each in folder.glob("copy-*"):
                each.unlink()
    during = [
        took_s
        for began, took_s in took
        if any(began + took_s >= start and began <= end for start, end in windows)
    ]
    quiet = [took_s for began, took_s in took if began < windows[0][0]]
    seconds = sum(end - start for start, end in windows) / len(windows)
    return outcomes, seconds, during, quiet


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100, help="backups by the library")
    parser.add_argument("--others", type=int, default=5, help="copies by each of the other ways")
    parser.add_argument("--megabytes", type=int, default=40, help="size of the database")
    parser.add_argument("--journal-mode", choices=["wal", "delete"], default="wal")
    options = parser.parse_args()
    print(
        f"{options.megabytes} MB, journal_mode={options.journal_mode},"
        f" SQLite {sqlite3.sqlite_version}, one writing process\n"
    )
    print(f"{'':22}{'copies':>7}  {'seconds':>7}  {'writer p50 / p99 / max ms':>26}   outcome")
    bad = 0
    for name in WAYS:
        own = name.startswith("flask")
        with tempfile.TemporaryDirectory() as folder:
            outcomes, seconds, during, quiet = measure(
                name,
                Path(folder),
                megabytes=options.megabytes,
                journal_mode=options.journal_mode,
                rounds=options.rounds
                if own
                else min(options.others, SLOW.get(name, options.others)),
            )
        figures = " / ".join(f"{quantile(during, share) * 1000:.1f}" for share in (0.5, 0.99, 1.0))
        told = ", ".join(f"{count} {word}" for word, count in sorted(outcomes.items()))
        print(f"{name:22}{sum(outcomes.values()):>7}  {seconds:>7.2f}  {figures:>26}   {told}")
        if own:
            alone = " / ".join(f"{quantile(quiet, share) * 1000:.1f}" for share in (0.5, 0.99, 1.0))
            print(f"{'  without a backup':22}{'':>7}  {'':>7}  {alone:>26}")
            bad = sum(outcomes.values()) - outcomes.get("good", 0)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
