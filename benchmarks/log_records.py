"""What the filter of log records costs: ordinary records, and texts made to be slow.

    python benchmarks/log_records.py

A hostile text repeats the beginning of something a driver writes. Linear means that the last
column, nanoseconds a character, does not grow with the length.
"""

from __future__ import annotations

import logging
import time

from flask_dbkit.errors.redaction import Redact

UNITS = ("a b c d e ", "Key (a)=(", "\nDETAIL:  ", "Duplicate entry '", "[SQL: ", "(sqlite3.A")
SIZES = (100, 10_000, 100_000, 1_000_000)


def seconds(text: str) -> float:
    """Return the shortest of some runs."""
    filter_, best = Redact(), float("inf")
    for _ in range(5):
        record = logging.LogRecord("x", logging.INFO, "", 0, "nothing for %s", (text,), None)
        begun = time.perf_counter()
        filter_.filter(record)
        best = min(best, time.perf_counter() - begun)
    return best


def main() -> None:
    """Print a row for each text."""
    print(f"{'text':20} {'characters':>10} {'µs':>12} {'ns/character':>13}")
    for unit in UNITS:
        for size in SIZES:
            took = seconds((unit * (size // len(unit) + 1))[:size])
            print(f"{unit!r:20} {size:>10,} {took * 1e6:>12,.1f} {took / size * 1e9:>13.2f}")


if __name__ == "__main__":
    main()
