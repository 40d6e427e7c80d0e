"""Which SQLite pragmas pay: our defaults, and one pragma changed at a time.

The database is a table of 500,000 orders with two indexes, far larger than SQLite's default
cache of 2 MB and small enough for the operating system to keep. The driver is used bare: an ORM
would add its own time to both sides. The first line of the table is a connection with
``DEFAULT_PRAGMAS``; every other line has one pragma changed, and gives its speed against the
first (1.10: a tenth faster), the median over rounds in which every set-up had its turn. Speed
is operations per second of *processor time*, kernel included, so that other programs do not
count. A line that repeats the defaults shows how much the figures vary.

* ``point``: one order by primary key; ``beside writer``: the same while another connection
  commits after every tenth, which makes SQLite forget its cache;
* ``range``: a customer's orders through an index, sorted by amount;
* ``report``: a tenth of the table grouped and sorted, which needs room for a temporary table;
* ``write``: one UPDATE and one INSERT, committed; ``bulk``: 2,000 UPDATEs in one transaction.

The second table tells how large the ``-wal`` file stays after a long reader let it grow, which
is what ``journal_size_limit`` is for.

    python benchmarks/sqlite_pragmas.py          # about five minutes
    python benchmarks/sqlite_pragmas.py --quick  # does it run?
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flask_dbkit.databases.sqlite.pragmas import DEFAULT_PRAGMAS

DEFAULTS = {**DEFAULT_PRAGMAS, "busy_timeout": 5000}
CHANGES: tuple[dict[str, int | str], ...] = (
    {},
    {"cache_size": -2000},  # SQLite's own
    {"cache_size": -8192},
    {"cache_size": -16_384},
    {"cache_size": -65_536},
    {"mmap_size": 268_435_456},
    {"temp_store": "MEMORY"},
    {"journal_size_limit": -1},  # SQLite's own
)
CUSTOMERS = 10_000

Step = Callable[[sqlite3.Connection, sqlite3.Connection, random.Random, int], None]
"""``(connection, another connection, random numbers, rows of the table)``: one operation."""


def make_database(path: str, rows: int) -> None:
    """Create the table and its indexes."""
    draw = random.Random(1)
    connection = connect(path, {})
    connection.execute(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL,"
        " placed_at TEXT NOT NULL, amount INTEGER NOT NULL, note TEXT NOT NULL)"
    )
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO orders VALUES (?, ?, ?, ?, ?)",
        (
            (
                number,
                draw.randint(1, CUSTOMERS),
                f"{number:09}",
                draw.randint(1, 10**6),
                draw.randbytes(60).hex(),
            )
            for number in range(1, rows + 1)
        ),
    )
    connection.execute("COMMIT")
    connection.execute("CREATE INDEX orders_customer ON orders (customer_id)")
    connection.execute("CREATE INDEX orders_placed_at ON orders (placed_at)")
    connection.close()


def connect(path: str, change: dict[str, int | str]) -> sqlite3.Connection:
    """Open a connection with our defaults, but for ``change``."""
    connection = sqlite3.connect(path, isolation_level=None)
    for name, value in (DEFAULTS | change).items():
        connection.execute(f"PRAGMA {name} = {value}")
    return connection


def point(
    connection: sqlite3.Connection, _: sqlite3.Connection, draw: random.Random, rows: int
) -> None:
    connection.execute("SELECT * FROM orders WHERE id = ?", (draw.randint(1, rows),)).fetchall()


def point_beside_writer(
    connection: sqlite3.Connection, other: sqlite3.Connection, draw: random.Random, rows: int
) -> None:
    for _number in range(10):
        point(connection, other, draw, rows)
    other.execute("UPDATE orders SET amount = 1 WHERE id = ?", (draw.randint(1, rows),))


def range_sorted(
    connection: sqlite3.Connection, _: sqlite3.Connection, draw: random.Random, __: int
) -> None:
    query = "SELECT * FROM orders WHERE customer_id = ? ORDER BY amount DESC"
    connection.execute(query, (draw.randint(1, CUSTOMERS),)).fetchall()


def report(
    connection: sqlite3.Connection, _: sqlite3.Connection, draw: random.Random, rows: int
) -> None:
    start = draw.randint(1, rows - rows // 10)
    query = (
        "SELECT note, sum(amount) FROM orders WHERE placed_at BETWEEN ? AND ?"
        " GROUP BY note ORDER BY 2 DESC LIMIT 10"
    )
    connection.execute(query, (f"{start:09}", f"{start + rows // 10:09}")).fetchall()


def write(
    connection: sqlite3.Connection, _: sqlite3.Connection, draw: random.Random, rows: int
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    _update(connection, draw, rows)
    connection.execute(
        "INSERT INTO orders (customer_id, placed_at, amount, note) VALUES (?, ?, 1, 'new')",
        (draw.randint(1, CUSTOMERS), f"{draw.randint(1, rows):09}"),
    )
    connection.execute("COMMIT")


def bulk(
    connection: sqlite3.Connection, _: sqlite3.Connection, draw: random.Random, rows: int
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for _number in range(2000):
        _update(connection, draw, rows)
    connection.execute("COMMIT")


def _update(connection: sqlite3.Connection, draw: random.Random, rows: int) -> None:
    values = (draw.randint(1, 10**6), draw.randint(1, rows))
    connection.execute("UPDATE orders SET amount = ? WHERE id = ?", values)


WORKLOADS: dict[str, Step] = {
    "point": point,
    "beside writer": point_beside_writer,
    "range": range_sorted,
    "report": report,
    "write": write,
    "bulk": bulk,
}


def rate(step: Step, path: str, change: dict[str, int | str], seconds: float, rows: int) -> float:
    """Return operations per second of processor time, one workload on a new connection."""
    # Not the same numbers again: SQLite does not write a row that stays as it is.
    draw = random.Random()
    connection, other = connect(path, change), connect(path, change)
    try:
        done, started = 0, time.process_time()
        while (used := time.process_time() - started) < seconds:
            step(connection, other, draw, rows)
            done += 1
        return done / used
    finally:
        other.close()
        connection.close()


def wal_bytes_left(path: str, change: dict[str, int | str], rows: int) -> tuple[int, int]:
    """Return the size of the ``-wal`` file at its largest, and after the next checkpoint."""
    writer, reader = connect(path, change), connect(path, change)
    wal = Path(path + "-wal")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM orders WHERE id < 10").fetchall()
    draw = random.Random()
    largest = 0
    for _ in range(20):
        bulk(writer, reader, draw, rows)
        largest = max(largest, wal.stat().st_size)
    reader.execute("COMMIT")
    for _ in range(3):
        write(writer, reader, draw, rows)
    left = wal.stat().st_size
    reader.close()
    writer.close()
    return largest, left


def name_of(change: dict[str, int | str]) -> str:
    """Say what a line of the table is."""
    if not change:
        return "our defaults"
    return ", ".join(f"`{name}={value}`" for name, value in change.items())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.8, help="of each workload and turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--quick", action="store_true", help="one round on a tenth of the rows")
    parser.add_argument("--folder", help="where the database goes; the default is temporary")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds, options.rows = 0.1, 1, options.rows // 10
    names = [name_of(change) for change in CHANGES]
    rates: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="sqlite-pragmas-") as folder:
        path = f"{folder}/bench.db"
        make_database(path, options.rows)
        size_mb = Path(path).stat().st_size / 1e6
        for number in range(options.rounds):
            turn = number % len(CHANGES)
            for workload, step in WORKLOADS.items():
                for change in (*CHANGES[turn:], *CHANGES[:turn]):
                    measured = rate(step, path, change, options.seconds, options.rows)
                    rates.setdefault((name_of(change), workload), []).append(measured)
        wal = {
            limit: wal_bytes_left(path, {"journal_size_limit": limit}, options.rows)
            for limit in (DEFAULTS["journal_size_limit"], -1)
        }

    print(
        f"## SQLite {sqlite3.sqlite_version}, Python {sys.version.split()[0]}:"
        f" {options.rows:,} rows, {size_mb:.0f} MB, {options.rounds} x {options.seconds:g} s\n"
    )
    print("| | " + " | ".join(WORKLOADS) + " |")
    print("|---" + "|--:" * len(WORKLOADS) + "|")
    for name in names:
        row = []
        for workload in WORKLOADS:
            base = rates[names[0], workload]
            if name == names[0]:
                row.append(f"{statistics.median(base):,.0f}/s")
            else:
                pairs = zip(rates[name, workload], base, strict=True)
                row.append(f"{statistics.median(each / all_of for each, all_of in pairs):.2f}")
        print(f"| {name} | " + " | ".join(row) + " |")
    print(f"\nOur defaults: {', '.join(f'`{name}={value}`' for name, value in DEFAULTS.items())}")
    print("\n| `journal_size_limit` | -wal at its largest | after the next checkpoint |")
    print("|--:|--:|--:|")
    for limit, (largest, left) in wal.items():
        print(f"| {limit} | {largest / 1e6:.0f} MB | {left / 1e6:.0f} MB |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
