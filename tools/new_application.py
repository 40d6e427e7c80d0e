"""Check the style and the types of the application that ``flask dbkit init`` writes.

The arguments are handed to mypy.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

BIN = Path(sys.executable).parent


def main() -> int:
    """Write one, and run on it what its README names."""
    with tempfile.TemporaryDirectory() as folder:
        checks = (
            ["python", "-m", "flask_dbkit", "init", "--name", "shop"],
            ["ruff", "check", "--quiet", "--no-cache"],
            ["ruff", "format", "--check", "--quiet", "--diff", "--no-cache"],
            ["mypy", *sys.argv[1:]],
        )
        for program, *arguments in checks:
            done = subprocess.run(
                [str(BIN / program), *arguments],
                cwd=folder,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                print(done.stdout)
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
