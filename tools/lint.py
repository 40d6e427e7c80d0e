"""Check style, types and layers; run every check even when an earlier one failed.

The types have to be right on both SQLAlchemy lines: these spell the same statement
differently. So mypy and pyright run twice.
"""

from __future__ import annotations

import subprocess
import sys
import time

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
    }
    for line, python in pythons.items():
        cache = str(ROOT / ".mypy_cache" / f"sa{line}")
        checks[f"mypy, SQLAlchemy {line}"] = [
            *("mypy", "--python-executable", str(python), "--cache-dir", cache)
        ]
        checks[f"pyright, SQLAlchemy {line}"] = ["pyright", "--pythonpath", str(python)]

    failed = []
    for name, (program, *arguments) in checks.items():
        say(name)
        begin = time.monotonic()
        code = subprocess.run([str(tools / program), *arguments], cwd=ROOT, check=False).returncode
        print(f"    {'ok' if code == 0 else 'FAILED'} ({time.monotonic() - begin:.1f} s)")
        if code != 0:
            failed.append(name)
    print(f"\nFailed: {', '.join(failed)}" if failed else "\nEvery check passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
