"""Concurrent writers and readers on one SQLite file: speed, latency, and what gets lost.

A *write* is what a form handler does: a new application context and session, SELECT one of
10,000 accounts, ``balance += 1``, INSERT one entry, COMMIT. A *read* is the SELECT alone.
The workloads are ``write`` (nothing else) and ``mixed`` (90 % reads); the shapes ``1x1``,
``1x8`` and ``4x2`` are processes x threads. Contenders:

* ``bare``: Flask-SQLAlchemy as it comes.
* ``snippet``: the listener everybody copies (WAL, foreign keys, busy timeout, synchronous).
* ``ungated``: Flask-DBKit, writes begin IMMEDIATE, ``DBKIT_SQLITE_WRITER_GATE = False``.
* ``automatic``: Flask-DBKit, plain sessions that are upgraded at their first write.
* ``immediate``: Flask-DBKit, writes begin IMMEDIATE, in front of them the gate.
* ``raw``: Python's ``sqlite3`` with BEGIN IMMEDIATE and no ORM: the limit.
* ``raw-gate``: the same behind the gate: what the gate costs when nothing hides it.
* ``django``: Django's ``atomic()`` with its IMMEDIATE mode, if Django is installed.

*CPU us/op* is processor time, which other programs change little. *Lost* is the number of
increments that were acknowledged and are not in the table afterwards.
*Refused* counts the busy error that automatic mode raises by design when a row it had read was
changed before its first write. Every run starts on a fresh copy of the same file, in fresh
processes; the contenders take turns within a round, and ratios compare medians of one run.

Goals for ``immediate``: no error and nothing lost; at least 2.3 times the writes of ``bare`` and
0.9 times those of ``ungated``; no write slower than 100 ms (1x8) and 200 ms (4x2); alone, at
least 0.95 times ``snippet``; mixed reads with a p99 of at most 1.1 times that of ``snippet``.

    python benchmarks/sqlite_concurrency.py              # about six minutes
    python benchmarks/sqlite_concurrency.py --quick      # does it run?
    python benchmarks/sqlite_concurrency.py --seconds 60 --rounds 1 --workloads write
    python benchmarks/sqlite_concurrency.py --accounts 20  # everybody wants the same rows

Exits with 1 if ``automatic`` or ``immediate`` lost an update or had an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, event
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import DBKit
from flask_dbkit.databases.sqlite.gate import gate_for

BUSY_TIMEOUT_S = 5.0
READ_SHARE = {"write": 0.0, "mixed": 0.9}
SHAPES = ("1x1", "1x8", "4x2")
CONTENDERS = (
    "bare",
    "snippet",
    "ungated",
    "automatic",
    "immediate",
    "raw",
    "raw-gate",
    "django",
)
OURS = ("automatic", "immediate")

SCHEMA = """
CREATE TABLE account (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, balance INTEGER NOT NULL);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES account (id),
    amount INTEGER NOT NULL
);
"""
SNIPPET = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}",
)

Operation = Callable[[int], None]
"""Reads, or reads and writes, the account with this primary key."""


# -- the contenders ---------------------------------------------------------------------------


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Contender:
    """One way to do the two operations.

    Attributes:
        read: SELECT one account.
        write: SELECT it, increment its balance, INSERT an entry, COMMIT.
        thread: Entered by each thread around its operations.
    """

    read: Operation
    write: Operation
    thread: Callable[[], Any] = _nothing


def build(name: str, path: str) -> Contender:
    """Return one contender on the database file ``path``."""
    if name.startswith("raw"):
        return _raw(path, gated=name == "raw-gate")
    if name == "django":
        return _django(path)
    return _flask_sqlalchemy(name, path)


db = SQLAlchemy()


class Account(db.Model):  # type: ignore[name-defined,misc,unused-ignore]
    """What is read, and incremented."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    balance: Mapped[int]


class Entry(db.Model):  # type: ignore[name-defined,misc,unused-ignore]
    """What is inserted with each increment."""

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id))
    amount: Mapped[int]


def _flask_sqlalchemy(name: str, path: str) -> Contender:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{path}"
    if name in ("bare", "snippet"):
        db.init_app(app)
    else:
        app.config["DBKIT_SQLITE_WRITER_GATE"] = name != "ungated"
        DBKit(app, db=db)
    if name == "snippet":
        with app.app_context():

            @event.listens_for(db.engine, "connect")
            def connect(connection: sqlite3.Connection, _record: object) -> None:
                for statement in SNIPPET:
                    connection.execute(statement)

    announced = {"dbkit_sqlite_begin": "immediate"} if name in ("ungated", "immediate") else None

    def read(key: int) -> None:
        with app.app_context():
            assert db.session.get(Account, key) is not None

    def write(key: int) -> None:
        with app.app_context():
            if announced is not None:
                db.session.connection(execution_options=announced)
            account = db.session.get(Account, key)
            assert account is not None
            account.balance += 1
            db.session.add(Entry(account_id=key, amount=1))
            db.session.commit()

    return Contender(read, write)


def _raw(path: str, *, gated: bool) -> Contender:
    local = threading.local()
    gate = gate_for(path) if gated else None

    @contextmanager
    def connected() -> Iterator[None]:
        local.raw = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        for statement in SNIPPET:
            local.raw.execute(statement)
        yield
        local.raw.close()

    def read(key: int) -> None:
        local.raw.execute("SELECT id, name, balance FROM account WHERE id = ?", (key,)).fetchall()

    def write(key: int) -> None:
        if gate is None:
            transaction(key)
        elif gate.acquire(BUSY_TIMEOUT_S):
            try:
                transaction(key)
            finally:
                gate.release()

    def transaction(key: int) -> None:
        execute = local.raw.execute
        execute("BEGIN IMMEDIATE")
        try:
            query = "SELECT id, name, balance FROM account WHERE id = ?"
            ((_, _, balance),) = execute(query, (key,)).fetchall()
            execute("UPDATE account SET balance = ? WHERE id = ?", (balance + 1, key))
            execute("INSERT INTO entry (account_id, amount) VALUES (?, 1)", (key,))
            execute("COMMIT")
        except BaseException:
            if local.raw.in_transaction:
                execute("ROLLBACK")
            raise

    return Contender(read, write, connected)


def _django(path: str) -> Contender:
    import django  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from django.conf import settings  # type: ignore[import-not-found,import-untyped,unused-ignore]

    options = {
        "timeout": BUSY_TIMEOUT_S,
        "transaction_mode": "IMMEDIATE",
        "init_command": ";".join(SNIPPET),
    }
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": path,
                "CONN_MAX_AGE": None,
                "OPTIONS": options,
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    from django.db import models, transaction  # type: ignore[import-not-found,import-untyped,unused-ignore]

    class DjangoAccount(models.Model):  # type: ignore[misc,unused-ignore]
        name = models.CharField(max_length=100)
        balance = models.IntegerField()

        class Meta:
            app_label, db_table = "bench", "account"

    class DjangoEntry(models.Model):  # type: ignore[misc,unused-ignore]
        account = models.ForeignKey(DjangoAccount, on_delete=models.DO_NOTHING)
        amount = models.IntegerField()

        class Meta:
            app_label, db_table = "bench", "entry"

    def read(key: int) -> None:
        DjangoAccount.objects.get(pk=key)

    def write(key: int) -> None:
        with transaction.atomic():
            account = DjangoAccount.objects.get(pk=key)
            account.balance += 1
            account.save()
            DjangoEntry.objects.create(account_id=key, amount=1)

    return Contender(read, write)


# -- one process of a run ---------------------------------------------------------------------


@dataclass
class Tally:
    """What the threads of one run did; latencies in seconds."""

    reads: array[float] = field(default_factory=lambda: array("d"))
    writes: array[float] = field(default_factory=lambda: array("d"))
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)


def work(contender: Contender, job: dict[str, Any], tally: Tally, seed: int, stop: float) -> None:
    """Do operations until ``stop`` (a time of the monotonic clock)."""
    draw = random.Random(seed)
    share, accounts = READ_SHARE[job["workload"]], job["accounts"]
    with contender.thread():
        while (started := time.monotonic()) < stop:
            reading = draw.random() < share
            try:
                (contender.read if reading else contender.write)(draw.randint(1, accounts))
            except Exception as error:
                if _is_refusal(error):
                    tally.refused += 1
                else:
                    tally.errors[str(error).splitlines()[0]] += 1
            else:
                taken = tally.reads if reading else tally.writes
                taken.append(time.monotonic() - started)


def _is_refusal(error: Exception) -> bool:
    original = getattr(error, "orig", error)
    return getattr(original, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY_SNAPSHOT


def worker(job: dict[str, Any]) -> None:
    """Run the threads of one process; started by :func:`run` and told when to go."""
    contender = build(job["contender"], job["path"])
    with contender.thread():
        contender.read(1)  # mappers, caches and the first connection are not what is measured
    print("ready", flush=True)
    sys.stdin.readline()
    stop = time.monotonic() + job["seconds"]
    tallies = [Tally() for _ in range(job["threads"])]
    threads = [
        threading.Thread(target=work, args=(contender, job, tally, job["seed"] + number, stop))
        for number, tally in enumerate(tallies)
    ]
    cpu_before = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu = time.process_time() - cpu_before
    total = Tally()
    for tally in tallies:
        total.reads.extend(tally.reads)
        total.writes.extend(tally.writes)
        total.refused += tally.refused
        total.errors += tally.errors
    with Path(job["latencies"]).open("wb") as file:
        total.reads.tofile(file)
        total.writes.tofile(file)
    counts = {"reads": len(total.reads), "writes": len(total.writes)}
    others = {"refused": total.refused, "errors": total.errors, "cpu": cpu}
    print(json.dumps(counts | others), flush=True)


# -- one run: several processes, one file -----------------------------------------------------


@dataclass
class Run:
    """What one contender did in one run; latencies in seconds."""

    seconds: float
    reads: list[float]
    writes: list[float]
    refused: int
    errors: Counter[str]
    lost: int
    cpu: float

    @property
    def rate(self) -> float:
        """Operations per second."""
        return (len(self.reads) + len(self.writes)) / self.seconds


def run(options: argparse.Namespace, contender: str, shape: str, workload: str, seed: int) -> Run:
    """Let one contender work on a fresh file, and count what is in it afterwards."""
    processes, threads = map(int, shape.split("x"))
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="sqlite-concurrency-") as folder:
        path = f"{folder}/bench.db"
        _make_database(path, wal=contender != "bare")
        workers = []
        for number in range(processes):
            job = {
                "contender": contender,
                "path": path,
                "threads": threads,
                "workload": workload,
                "seconds": options.seconds,
                "accounts": options.accounts,
                "seed": seed * 1000 + number * 100,
                "latencies": f"{folder}/latencies-{number}",
            }
            workers.append((job, _start(job)))
        try:
            for _, process in workers:
                _answer(process)
            for _, process in workers:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            total = Run(options.seconds, [], [], 0, Counter(), 0, 0.0)
            for job, process in workers:
                _collect(total, job, json.loads(_answer(process)))
        finally:
            for _, process in workers:
                process.kill()
                process.communicate()
        total.lost = len(total.writes) - _sum_of_balances(path)
    return total


def _start(job: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "--worker", json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("A worker stopped early; its traceback is above.")
    return line


def _collect(total: Run, job: dict[str, Any], counts: dict[str, Any]) -> None:
    with Path(job["latencies"]).open("rb") as file:
        for taken, name in ((total.reads, "reads"), (total.writes, "writes")):
            latencies = array("d")
            latencies.fromfile(file, counts[name])
            taken.extend(latencies)
    total.cpu += counts["cpu"]
    total.refused += counts["refused"]
    total.errors.update(counts["errors"])


def _make_database(path: str, *, wal: bool) -> None:
    connection = sqlite3.connect(path)
    if wal:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(SCHEMA)
    rows = [(number, f"Account {number}", 0) for number in range(1, 10_001)]
    connection.executemany("INSERT INTO account VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()


def _sum_of_balances(path: str) -> int:
    connection = sqlite3.connect(path)
    (total,) = connection.execute("SELECT sum(balance) FROM account").fetchone()
    connection.close()
    return int(total)


# -- tables -----------------------------------------------------------------------------------


@dataclass
class Cell:
    """All runs of one contender in one shape and workload."""

    runs: list[Run] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(run.rate for run in self.runs)

    @property
    def cpu_us(self) -> float:
        """Processor time per operation, in microseconds."""
        return statistics.median(run.cpu / (run.rate * run.seconds) * 1e6 for run in self.runs)

    @property
    def errors(self) -> int:
        return sum(run.errors.total() for run in self.runs)

    @property
    def lost(self) -> int:
        return sum(run.lost for run in self.runs)

    @property
    def refused(self) -> int:
        return sum(run.refused for run in self.runs)

    def latency_ms(self, kind: str, percent: float) -> float:
        """Return a percentile: the median over the runs; of 100 %, the worst of all runs."""
        values = [_percentile(getattr(run, kind), percent) * 1000 for run in self.runs]
        return max(values) if percent == 100 else statistics.median(values)


def _percentile(values: list[float], percent: float) -> float:
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


Results = dict[tuple[str, str, str], Cell]
"""(shape, workload, contender) -> its runs."""


def print_table(results: Results, shape: str, workload: str) -> None:
    """Print one Markdown table: a row per contender."""
    cells = {c: cell for (s, w, c), cell in results.items() if (s, w) == (shape, workload)}
    kinds = ("reads", "writes") if workload == "mixed" else ("writes",)
    print(f"\n### {workload}, {shape}\n")
    columns = ["contender", "ops/s", "CPU us/op"]
    columns += [f"{kind} p50 / p95 / p99 / max ms" for kind in kinds]
    columns += ["errors", "lost", "refused", "x bare", "x snippet", "x ungated"]
    print("| " + " | ".join(columns) + " |")
    print("|---" + "|--:" * (len(columns) - 1) + "|")
    for name, cell in cells.items():
        row = [name, f"{cell.rate:.0f}", f"{cell.cpu_us:.0f}"]
        for kind in kinds:
            numbers = [cell.latency_ms(kind, percent) for percent in (50, 95, 99, 100)]
            row.append(" / ".join(f"{number:.3g}" for number in numbers))
        row += [str(cell.errors), str(cell.lost), str(cell.refused)]
        for other in ("bare", "snippet", "ungated"):
            row.append(f"{cell.rate / cells[other].rate:.2f}" if other in cells else "")
        print("| " + " | ".join(row) + " |")


@dataclass(frozen=True)
class Goal:
    """One line of the list of goals; ``holds`` compares ``measured`` with its limit."""

    text: str
    limit: str
    measured: float
    holds: bool


def promises(results: Results) -> Iterator[Goal]:
    """Yield what has to hold on every machine, however busy."""
    for shape in SHAPES:
        for name in OURS:
            cells = [cell for (s, _, c), cell in results.items() if (s, c) == (shape, name)]
            if cells:
                wrong = sum(cell.errors + abs(cell.lost) for cell in cells)
                yield Goal(f"{shape} {name}: errors and lost updates", "0", wrong, wrong == 0)


def goals(results: Results) -> Iterator[Goal]:
    """Yield the goals of speed and latency for which there are figures."""

    def at_least(limit: float, shape: str, name: str) -> Iterator[Goal]:
        ours = results.get((shape, "write", "immediate"))
        other = results.get((shape, "write", name))
        if ours and other:
            ratio = ours.rate / other.rate
            yield Goal(f"{shape} writes against {name}", f">= {limit}", ratio, ratio >= limit)

    for shape, limit_ms in (("1x8", 100), ("4x2", 200)):
        yield from at_least(2.3, shape, "bare")
        yield from at_least(0.9, shape, "ungated")
        ours = results.get((shape, "write", "immediate"))
        if ours:
            worst = ours.latency_ms("writes", 100)
            yield Goal(f"{shape} worst write, ms", f"<= {limit_ms}", worst, worst <= limit_ms)
        ours, snippet = (results.get((shape, "mixed", name)) for name in ("immediate", "snippet"))
        if ours and snippet:
            ratio = ours.latency_ms("reads", 99) / snippet.latency_ms("reads", 99)
            yield Goal(
                f"{shape} mixed, p99 of reads against snippet", "<= 1.1", ratio, ratio <= 1.1
            )
    yield from at_least(0.95, "1x1", "snippet")


def print_goals(lines: list[Goal]) -> None:
    """Print each goal with its figure."""
    print("\n### Goals\n\n| | goal | measured | |\n|---|--:|--:|---|")
    for goal in lines:
        verdict = "holds" if goal.holds else "**missed**"
        print(f"| {goal.text} | {goal.limit} | {goal.measured:.3g} | {verdict} |")


def print_errors(results: Results) -> None:
    """Print every kind of error message with its number."""
    for (shape, workload, name), cell in results.items():
        total: Counter[str] = Counter()
        for each in cell.runs:
            total += each.errors
        for text, number in total.most_common(3):
            print(f"\n{workload} {shape} {name}: {number} x {text}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each run")
    parser.add_argument("--rounds", type=int, default=4, help="runs of each contender")
    parser.add_argument("--quick", action="store_true", help="one round of half a second")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, choices=SHAPES)
    parser.add_argument("--workloads", nargs="+", default=list(READ_SHARE), choices=READ_SHARE)
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--accounts", type=int, default=10_000, help="20 for hot rows")
    parser.add_argument("--folder", help="where the databases go; the default is temporary")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(json.loads(options.worker))
        return 0
    if options.quick:
        options.seconds, options.rounds = 0.5, 1
    names = list(options.contenders)
    if "django" in names and importlib.util.find_spec("django") is None:
        names.remove("django")
    results: Results = {}
    cells = [
        (shape, workload)
        for workload in options.workloads
        for shape in options.shapes
        if (shape, workload) != ("1x1", "mixed")
    ]
    for number in range(options.rounds):
        for shape, workload in cells:
            # A different contender goes first each round.
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                print(
                    f"\r{number + 1}/{options.rounds} {workload} {shape} {name:<10}",
                    end="" if sys.stderr.isatty() else "\n",
                    file=sys.stderr,
                    flush=True,
                )
                done = run(options, name, shape, workload, seed=number + 1)
                results.setdefault((shape, workload, name), Cell()).runs.append(done)
    print(file=sys.stderr)
    print(
        f"## SQLite {sqlite3.sqlite_version}, SQLAlchemy {sqlalchemy.__version__},"
        f" Python {sys.version.split()[0]}: {options.rounds} x {options.seconds:g} s,"
        f" {options.accounts:,} accounts"
    )
    order = {name: position for position, name in enumerate(names)}
    results = dict(sorted(results.items(), key=lambda item: order[item[0][2]]))
    for shape, workload in cells:
        print_table(results, shape, workload)
    kept = list(promises(results))
    print_goals([*kept, *goals(results)])
    print_errors(results)
    return 0 if all(goal.holds for goal in kept) else 1


if __name__ == "__main__":
    sys.exit(main())
