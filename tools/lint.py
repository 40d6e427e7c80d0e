"""Check style, types and layers; run every check even when an earlier one failed.

The types have to be right on both SQLAlchemy lines: these spell the same statement
differently. So mypy and pyright run twice, as many checks at once as there are processors.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from suite import cores
from venvs import DEFAULT, DEFAULT_LINE, ROOT, SQLALCHEMY_LINES, SetupError, ensure, say


def main() -> int:
    """Run the checks and print which of them failed."""
    tools = DEFAULT / "bin"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        ensure(purposes=("lint",))
        pythons = {
            line: ensure(
                DEFAULT if line == DEFAULT_LINE else ROOT / ".venvs" / f"py{version}-sa{line}",
                purposes=("lint",) if line == DEFAULT_LINE else ("tests",),
                line=line,
            )
            for line in SQLALCHEMY_LINES
        }
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1

    checks: dict[str, list[str]] = {
        "ruff format": ["ruff", "format", "--check", "--quiet", "--diff", "."],
        "ruff check": ["ruff", "check", "--quiet", "."],
        "layers": ["lint-imports"],
        "circles": ["python", "tools/circles.py"],
        "pages": ["python", "tools/pages.py", "--check"],
    }
    for line, python in pythons.items():
        cache = str(ROOT / ".mypy_cache" / f"sa{line}")
        checks[f"mypy, SQLAlchemy {line}"] = [
            *("mypy", "--python-executable", str(python), "--cache-dir", cache)
        ]
        checks[f"pyright, SQLAlchemy {line}"] = ["pyright", "--pythonpath", str(python)]
        checks[f"a new application, SQLAlchemy {line}"] = [
            *("python", "tools/new_application.py"),
            *("--python-executable", str(python), "--cache-dir", f"{cache}-new"),
        ]

    def run(command: list[str]) -> tuple[subprocess.CompletedProcess[str], float]:
        begin = time.monotonic()
        done = subprocess.run(
            [str(tools / command[0]), *command[1:]],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done, time.monotonic() - begin

    failed = []
    with ThreadPoolExecutor(cores()) as pool:
        for name, (done, duration_s) in zip(checks, pool.map(run, checks.values()), strict=True):
            say(name)
            print(done.stdout, end="")
            print(f"    {'ok' if done.returncode == 0 else 'FAILED'} ({duration_s:.1f} s)")
            if done.returncode != 0:
                failed.append(name)
    print(f"\nFailed: {', '.join(failed)}" if failed else "\nEvery check passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
