"""``make test-matrix`` runs what it says, and takes nothing for granted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def matrix(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module behind the target, which lives outside the package."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import matrix

    yield matrix
    for name in ("matrix", "suite", "venvs"):
        sys.modules.pop(name, None)


def test_this_python_meets_both_lines_and_every_other_one_of_them(matrix: ModuleType) -> None:
    """No Python of the machine and no SQLAlchemy line is left out; the last has peer loading."""
    pythons = dict.fromkeys(["3.90", "3.91", "3.92", HERE], "python")
    planned = matrix.plan(pythons)
    assert [each.lazy for each in planned] == [False, False, False, False, True]
    chosen = [(each.version, each.line) for each in planned]
    assert chosen[:2] == [(HERE, "2.1"), (HERE, "2.0")]
    assert [version for version, _ in chosen[2:]] == ["3.92", "3.91", "3.90"]
    assert {line for _, line in chosen[2:]} == {"2.0", "2.1"}

    *plain, last = matrix.plan({HERE: "python"})
    assert (last.lazy, last.is_default, last.venv) == (True, False, plain[0].venv)
    assert [(each.version, each.line, each.lazy) for each in plain] == [
        (HERE, "2.1", False),
        (HERE, "2.0", False),
    ]


def test_a_python_that_does_not_run_is_not_counted(
    matrix: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A version manager's shim for a version that is switched off is no Python."""
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\necho 'not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = matrix.find_pythons()
    assert "3.99" not in found
    assert found[HERE] == sys.executable


def test_a_combination_whose_environment_fails_makes_the_run_fail(
    matrix: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was expected and did not run is a failure, never a shorter table."""

    def fail(*args: object, **kwargs: object) -> None:
        raise matrix.SetupError("Failed: pip install")

    monkeypatch.setattr(matrix, "ensure", fail)
    monkeypatch.setattr(matrix, "find_pythons", lambda: {HERE: sys.executable})
    monkeypatch.setattr(matrix, "forget_coverage", lambda: None)
    monkeypatch.setattr(sys, "argv", ["matrix.py", "-k", "nothing"])
    assert matrix.main() == 1
    printed = capsys.readouterr().out
    assert printed.count("not run: Failed: pip install") == 3
    assert printed.splitlines()[-1] == "0 passed, 3 failed"


@pytest.mark.parametrize(
    ("closing", "passed", "failed"),
    [
        ("===== 2 failed, 201 passed in 154.31s (0:02:34) =====", 201, 2),
        ("== 1 failed, 7 passed, 2 deselected, 3 errors in 1.03s ==", 7, 4),
        ("195 passed, 8 deselected in 124.90s (0:02:04)", 195, 0),
        ("a test was killed in the middle", 0, 0),
    ],
)
def test_the_counts_are_those_of_pytest(
    matrix: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    closing: str,
    passed: int,
    failed: int,
) -> None:
    """The table shows what the run printed."""
    import suite

    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho '{closing}'\n")
    fake.chmod(0o755)
    monkeypatch.setattr(suite, "COVERAGE", tmp_path / "data" / "coverage")
    outcome = suite.run_pytest(fake, [])
    assert (outcome.passed, outcome.failed, outcome.exit_code) == (passed, failed, 0)


@pytest.mark.parametrize(("fails", "passed", "failed"), [(1, 9, 0), (2, 8, 1)])
def test_what_fails_beside_the_others_is_run_once_more_alone(
    matrix: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fails: int,
    passed: int,
    failed: int,
) -> None:
    """The table names it in any case, and it is a failure if it fails again."""
    fake = tmp_path / "python"
    fake.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        f"if [ $(wc -l < {tmp_path}/calls) -le {fails} ]; then\n"
        "  echo 'FAILED tests/a.py::test_b[x y] - AssertionError: c'\n"
        "  echo '== 1 failed, 8 passed in 2.00s =='; exit 1\nfi\n"
        "echo '1 passed in 0.10s'\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(matrix, "ensure", lambda *_, **__: fake)
    one = matrix.plan({HERE: sys.executable})[1]
    outcome = matrix.run(one, ["-k", "b"])
    assert (outcome.passed, outcome.failed, outcome.exit_code) == (passed, failed, int(failed > 0))
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert first.endswith("-k b")
    assert second.endswith("-n 0 tests/a.py::test_b[x y]")
    matrix.print_table({one: outcome})
    word = "failed" if failed else "passed only when run again, alone"
    assert f"{word}: tests/a.py::test_b[x y]" in capsys.readouterr().out
