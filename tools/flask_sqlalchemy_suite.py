"""Run Flask-SQLAlchemy's own test suite with a DBKit on every application, and compare.

The library promises that everything Flask-SQLAlchemy documents keeps working. This takes the
source archive of the installed Flask-SQLAlchemy from the package index, runs its tests three
times (plain; with ``DBKit(app, db=db)`` in place of ``db.init_app(app)``; with the DBKit after
it) and names every test that fails with the kit and not without.

    python tools/flask_sqlalchemy_suite.py [--keep DIRECTORY]

It runs in the Python that starts it, which needs the library, Flask-SQLAlchemy, pytest and pip.
Exits with 1 when the kit breaks a test.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

ALLOWED = {
    # Without any database URL the kit uses its development file, where Flask-SQLAlchemy raises.
    "test_no_binds_error",
}

PLUGIN = """
import os
import warnings

from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import DBKit

plain = SQLAlchemy.init_app
wiring = os.environ["DBKIT_SUITE_WIRING"]
inside = set()


def init_app(self, app):
    if id(app) in inside or "sqlalchemy" in app.extensions:
        return plain(self, app)
    if wiring == "before":
        inside.add(id(app))
        try:
            DBKit(app, db=self)
        finally:
            inside.discard(id(app))
        return None
    plain(self, app)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        DBKit(app, db=self)


if wiring != "none":
    SQLAlchemy.init_app = init_app
"""

OUTCOME = re.compile(r"^(FAILED|ERROR) (\S+)", re.MULTILINE)


def fetch(directory: Path) -> Path:
    """Download and unpack the source archive; return its folder."""
    release = version("flask-sqlalchemy")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", "flask-sqlalchemy", "--dest", str(directory)),
            f"flask-sqlalchemy=={release}",
        ],
        check=True,
    )
    archive = next(directory.glob("*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")


def run(source: Path, wiring: str) -> set[str]:
    """Run the suite once; return the names of the tests that did not pass."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "dbkit_suite_plugin", "-rfE", "tests"],
        cwd=source,
        env={
            **os.environ,
            "DBKIT_SUITE_WIRING": wiring,
            "PYTHONPATH": str(source),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"{wiring:<7} {done.stdout.strip().splitlines()[-1]}", flush=True)
    if done.returncode not in (0, 1):
        sys.exit(done.stdout + done.stderr)
    return {name for _, name in OUTCOME.findall(done.stdout)}


def main() -> int:
    """Compare the three runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="unpack here, and leave it there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        source = fetch(directory)
        (source / "dbkit_suite_plugin.py").write_text(PLUGIN)
        plain = run(source, "none")
        broken = set()
        for wiring in ("before", "after"):
            broken |= {f"{wiring}: {name}" for name in run(source, wiring) - plain}
    bad = sorted(name for name in broken if not any(word in name for word in ALLOWED))
    for name in bad:
        print(f"only with the kit: {name}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
