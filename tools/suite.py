"""Run the test suite once, in one environment.

python tools/suite.py                     # everything
python tools/suite.py tests/test_x.py -x  # some of it
python tools/suite.py --coverage          # everything, and the coverage must suffice
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from venvs import ROOT, SetupError, ensure, say

# Every process writes a file of its own beside this one: coverage-<host>.<pid>.<random>.
COVERAGE = ROOT / ".coverage-data" / "coverage"

_NOT_RUN = re.compile(r"not run: .*")
_COUNT = re.compile(r"(\d+) (passed|failed|errors?)\b")
_FAILED = re.compile(r"(?:FAILED|ERROR) (tests/.+?)(?: - .*)?")


@dataclass
class Outcome:
    """What one run of the suite gave."""

    exit_code: int
    passed: int = 0
    failed: int = 0
    remarks: tuple[str, ...] = ()
    duration_s: float = 0.0
    failures: tuple[str, ...] = ()


def cores() -> int:
    """Count the processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def forget_coverage() -> None:
    """Remove what earlier runs have measured."""
    shutil.rmtree(COVERAGE.parent, ignore_errors=True)
    COVERAGE.parent.mkdir()


def run_pytest(python: Path, arguments: list[str], *, coverage: bool = True) -> Outcome:
    """Run pytest; show its output while reading the counts from it."""
    environment = {**os.environ, "COVERAGE_FILE": str(COVERAGE), "PYTHONUNBUFFERED": "1"}
    # The tests start hundreds of processes: each would compile the library anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # A later -n among the arguments wins: "-n 0" runs everything in one process.
    workers = ["-n", str(cores())]
    measure = ["-m", "coverage", "run"] if coverage else []
    command = [str(python), *measure, "-m", "pytest", *workers, *arguments]
    if sys.stdout.isatty():
        command.append("--color=yes")
    begin = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip())
            exit_code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it got the same signal, and tidies up
            raise
    counts = {kind.rstrip("s"): int(number) for number, kind in _COUNT.findall(_closing(lines))}
    return Outcome(
        exit_code=exit_code,
        passed=counts.get("passed", 0),
        failed=counts.get("failed", 0) + counts.get("error", 0),
        remarks=tuple(match.group() for line in lines if (match := _NOT_RUN.search(line))),
        duration_s=time.monotonic() - begin,
        failures=tuple(match[1] for line in lines if (match := _FAILED.fullmatch(line))),
    )


def _closing(lines: list[str]) -> str:
    """Find pytest's last line, the one with the counts."""
    return next((line for line in reversed(lines) if re.search(r" in [\d.]+s", line)), "")


def report_coverage(python: Path) -> int:
    """Combine what every process has measured, print the table, and judge it."""
    environment = {**os.environ, "COVERAGE_FILE": str(COVERAGE)}
    for command in (["combine", "--quiet"], ["report"]):
        done = subprocess.run(
            [str(python), "-m", "coverage", *command], cwd=ROOT, env=environment, check=False
        )
        if done.returncode != 0:
            break
    return done.returncode


def main() -> int:
    """Run the suite in ``.venv``."""
    # Measuring takes a quarter of the time.
    measure = "--coverage" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--coverage"]
    if measure:
        forget_coverage()
    try:
        python = ensure(purposes=("tests",))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    outcome = run_pytest(python, arguments, coverage=measure)
    if outcome.exit_code != 0 or not measure or arguments:
        return outcome.exit_code
    say("Branch coverage")
    return report_coverage(python)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
