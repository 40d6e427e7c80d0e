"""Run the test suite on every Python of this machine and on both SQLAlchemy lines.

The Python that runs this gets both lines; every other one gets one of them, in turn, so
that each Python and each line is met without running the full product. The last of them runs
where lazy attributes load for all peers (``DBKIT_LAZY="peers"``).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from suite import Outcome, forget_coverage, report_coverage, run_pytest
from venvs import DEFAULT, DEFAULT_LINE, ROOT, SQLALCHEMY_LINES, SetupError, ensure, say

_OLDEST = (3, 11)

# A machine that does several things at once makes a test of two processes late now and then. So
# few failures are looked at once more, each alone; the table names them in any case.
_MOST_AGAIN = 3
_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

# What does not depend on the Python or the SQLAlchemy line runs once.
_ONCE_ONLY = ["-m", "not browser and not packaging"]

# What differs between Pythons is the sqlite3 module and the language: the servers, the demo and
# the documentation are the same to all of them.
_OTHER_PYTHONS = [
    *("--backend", "sqlite-file", "--backend", "sqlite-memory"),
    *("--ignore", "tests/examples", "--ignore", "tests/docs", "--ignore", "tests/support"),
    *("--ignore", "tests/lists/test_laws.py"),
]

# What looks for the loops that peer loading repairs, and what says itself which setting is on.
_NOT_LAZY = [
    *("--ignore", "tests/observability", "--ignore", "tests/peer_loading"),
    *("--ignore", "tests/test_config.py"),
]


@dataclass(frozen=True)
class Combination:
    """One Python with one SQLAlchemy line, and perhaps every application with peer loading."""

    version: str
    line: str
    python: str
    lazy: bool = False

    @property
    def is_default(self) -> bool:
        """Whether ``make test`` runs the same."""
        return self._has_default_versions and not self.lazy

    @property
    def _has_default_versions(self) -> bool:
        return self.version == _HERE and self.line == DEFAULT_LINE

    @property
    def remark(self) -> str:
        """What tells it from another one with the same versions."""
        return ", DBKIT_LAZY=peers" if self.lazy else ""

    @property
    def venv(self) -> Path:
        """Where its environment is."""
        if self._has_default_versions:
            return DEFAULT
        return ROOT / ".venvs" / f"py{self.version}-sa{self.line}"


def find_pythons() -> dict[str, str]:
    """Find every Python from 3.11 on that really runs.

    A version manager leaves shims for versions that are switched off, so each one is
    started and asked. Its own directory of versions is looked into as well.

    Returns:
        Version to program: ``{"3.11": "/usr/bin/python3.11", …}``, oldest first.
    """
    candidates: list[str] = []
    for directory in os.get_exec_path():
        candidates += map(str, Path(directory).glob("python3.*"))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += map(str, sorted(pyenv.glob("versions/*/bin/python3.*"), reverse=True))

    found: dict[str, str] = {_HERE: sys.executable}
    for program in candidates:
        match = re.fullmatch(r"python(3\.\d+)", Path(program).name)
        if match is None or match[1] in found:
            continue
        if tuple(map(int, match[1].split("."))) >= _OLDEST and _answers(program, match[1]):
            found[match[1]] = program
    return dict(sorted(found.items(), key=lambda pair: tuple(map(int, pair[0].split(".")))))


def _answers(program: str, version: str) -> bool:
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [program, "-c", code], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() == version


def plan(pythons: dict[str, str]) -> list[Combination]:
    """Choose the combinations: the default one first."""
    here = pythons[_HERE]
    lines = sorted(SQLALCHEMY_LINES, key=lambda line: line != DEFAULT_LINE)
    chosen = [Combination(_HERE, line, here) for line in lines]
    others = [version for version in pythons if version != _HERE]
    for number, version in enumerate(reversed(others)):  # the newest gets the newest line
        chosen.append(Combination(version, lines[number % len(lines)], pythons[version]))
    if len(others) < 2:  # no line is met with peer loading alone
        return [*chosen, Combination(_HERE, DEFAULT_LINE, here, lazy=True)]
    return [*chosen[:-1], replace(chosen[-1], lazy=True)]


def run(combination: Combination, arguments: list[str]) -> Outcome:
    """Make the environment of one combination and run the suite in it."""
    say(f"Python {combination.version}, SQLAlchemy {combination.line}{combination.remark}")
    try:
        python = ensure(
            combination.venv,
            purposes=("tests",),
            line=combination.line,
            python=combination.python,
        )
    except SetupError as error:
        print(error, file=sys.stderr)
        return Outcome(exit_code=1, remarks=(f"not run: {str(error).splitlines()[0]}",))
    lazy = ["--lazy", "peers"] if combination.lazy else []
    if combination.lazy:
        arguments = [*lazy, *_NOT_LAZY, *arguments]
    if not combination.is_default:
        arguments = [*_ONCE_ONLY, *arguments]
    if combination.version != _HERE or combination.lazy:
        arguments = [*_OTHER_PYTHONS, *arguments]
    # Measuring takes a quarter of the time, and the default combination runs every test.
    outcome = run_pytest(python, arguments, coverage=combination.is_default)
    if 0 < len(outcome.failures) == outcome.failed <= _MOST_AGAIN:
        return _run_again(python, outcome, lazy)
    return outcome


def _run_again(python: Path, outcome: Outcome, arguments: list[str]) -> Outcome:
    """Run alone what failed beside the others, and let the table say what became of it."""
    say(f"Once more, alone: {', '.join(outcome.failures)}")
    again = run_pytest(python, [*arguments, "-n", "0", *outcome.failures], coverage=False)
    duration_s = outcome.duration_s + again.duration_s
    if again.exit_code != 0 or again.passed != outcome.failed:
        return replace(outcome, duration_s=duration_s)
    found = tuple(f"passed only when run again, alone: {each}" for each in outcome.failures)
    return Outcome(
        exit_code=0,
        passed=outcome.passed + again.passed,
        remarks=(*outcome.remarks, *found),
        duration_s=duration_s,
    )


def print_table(outcomes: dict[Combination, Outcome]) -> None:
    """Print one row per combination."""
    print("\nPython  SQLAlchemy  passed  failed   time  result")
    for combination, outcome in outcomes.items():
        minutes, seconds = divmod(round(outcome.duration_s), 60)
        print(
            f"{combination.version:<8}{combination.line:<10}"
            f"{outcome.passed:>8}{outcome.failed:>8}  {minutes:>2}:{seconds:02}  "
            f"{'ok' if outcome.exit_code == 0 else f'exit {outcome.exit_code}'}"
            f"{combination.remark}"
        )
        for line in (*outcome.remarks, *(f"failed: {each}" for each in outcome.failures)):
            print(f"        {line}")


def main() -> int:
    """Run every combination, then judge all of them and the coverage of the default one."""
    forget_coverage()
    arguments = sys.argv[1:]
    combinations = plan(find_pythons())
    say(
        "To run: "
        + "; ".join(
            f"Python {each.version} + SQLAlchemy {each.line}{each.remark}" for each in combinations
        )
    )
    outcomes = {each: run(each, arguments) for each in combinations}

    coverage_code = 0
    if not arguments:
        say(f"Branch coverage on Python {_HERE}, SQLAlchemy {DEFAULT_LINE}")
        coverage_code = report_coverage(Path(sys.executable))
    print_table(outcomes)

    broken = [each for each, outcome in outcomes.items() if outcome.exit_code != 0]
    empty = [each for each, outcome in outcomes.items() if outcome.passed == 0]
    failed = sum(outcome.failed for outcome in outcomes.values())
    # A run that ended without a failed test, by a crash or a missing server, failed too.
    failed += sum(1 for each in {*broken, *empty} if outcomes[each].failed == 0)
    failed += coverage_code != 0
    if coverage_code != 0:
        print("The coverage is too low.")
    print(f"\n{sum(outcome.passed for outcome in outcomes.values())} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
