"""Make the virtual environments everything else runs in.

    python tools/venvs.py demo            # .venv with what the demo needs
    python tools/venvs.py tests lint      # .venv with what the tests and the checks need

Uses ``uv`` when it is there, else ``venv`` and ``pip``. Installs again only when
``pyproject.toml`` asks for something else than last time. Plain standard library: this
runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / ".venv"

SQLALCHEMY_LINES = {"2.0": "sqlalchemy>=2.0.40,<2.1", "2.1": "sqlalchemy>=2.1,<2.2"}
DEFAULT_LINE = "2.1"


@dataclass(frozen=True)
class Packages:
    """What one purpose needs: extras of the project, dependency groups, the project itself."""

    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    project: bool = True


_EVERY_EXTRA = (
    *("demo", "lint", "migrate", "mysql", "otel", "postgresql", "prometheus", "remote"),
)

PURPOSES = {
    "demo": Packages(extras=("demo", "migrate", "mysql", "postgresql")),
    "tests": Packages(extras=_EVERY_EXTRA, groups=("tests",)),
    "lint": Packages(extras=_EVERY_EXTRA, groups=("lint",)),
    "docs": Packages(groups=("docs",), project=False),  # pages are plain Markdown
    "benchmarks": Packages(extras=_EVERY_EXTRA, groups=("benchmarks",)),
}


class SetupError(Exception):
    """An environment could not be made; the message says what to do."""


def say(text: str) -> None:
    """Tell what happens next."""
    print(f"==> {text}", flush=True)


def python_of(venv: Path) -> Path:
    """Return the interpreter inside an environment."""
    return venv / "bin" / "python"


def ensure(
    venv: Path = DEFAULT,
    *,
    purposes: tuple[str, ...],
    line: str = DEFAULT_LINE,
    python: str = sys.executable,
) -> Path:
    """Make the environment, or bring it up to date, or find that nothing is to be done.

    Args:
        venv: Where it is.
        purposes: Keys of :data:`PURPOSES`.
        line: The SQLAlchemy line, a key of :data:`SQLALCHEMY_LINES`.
        python: The interpreter to make it with.

    Returns:
        The interpreter inside it.

    Raises:
        SetupError: A step failed. Its own output has been shown already.
    """
    _make(venv, python)
    for purpose in purposes:
        packages = PURPOSES[purpose]
        stamp = venv / f".dbkit-{purpose}"
        mark = _mark(packages, line)
        if stamp.exists() and stamp.read_text() == mark:
            continue
        which = f" (SQLAlchemy {line})" if packages.project else ""
        say(f"Installing what {purpose} needs into {_short(venv)}{which}")
        stamp.unlink(missing_ok=True)
        _install(venv, packages, line)
        stamp.write_text(mark)
    return python_of(venv)


def _make(venv: Path, python: str) -> None:
    wanted = _version(python)
    if python_of(venv).exists():
        if _version(str(python_of(venv))) == wanted:
            return
        say(f"{_short(venv)} is of another Python; making it anew")
    shutil.rmtree(venv, ignore_errors=True)
    uv = shutil.which("uv")
    say(f"Making {_short(venv)} with Python {wanted}, using {'uv' if uv else 'venv and pip'}")
    if uv:
        _run([uv, "venv", "--quiet", "--python", python, str(venv)])
        return
    try:
        _run([python, "-m", "venv", str(venv)])
    except SetupError as error:
        shutil.rmtree(venv, ignore_errors=True)
        raise SetupError(
            f"{error}\nThis Python cannot make virtual environments. On Debian and Ubuntu:"
            " apt-get install python3-venv. Or install uv."
        ) from None
    # Dependency groups (PEP 735) need pip 25.1.
    # https://pip.pypa.io/en/stable/news/#v25-1
    _run([str(python_of(venv)), "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1"])


def _install(venv: Path, packages: Packages, line: str) -> None:
    arguments = []
    if packages.project:
        project = f"{ROOT}[{','.join(packages.extras)}]" if packages.extras else str(ROOT)
        arguments = ["--editable", project, SQLALCHEMY_LINES[line]]
    for group in packages.groups:
        arguments += ["--group", f"{ROOT / 'pyproject.toml'}:{group}"]
    uv = shutil.which("uv")
    if uv:
        _run([uv, "pip", "install", "--quiet", "--python", str(python_of(venv)), *arguments])
    else:
        _run([str(python_of(venv)), "-m", "pip", "install", "--quiet", *arguments])


def _mark(packages: Packages, line: str) -> str:
    """Describe what is to be installed; a new description means a new installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = {
        "build": project["build-system"],
        "project": project["project"],
        "groups": project["dependency-groups"],
        "packages": [packages.extras, packages.groups, SQLALCHEMY_LINES[line]],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _version(python: str) -> str:
    code = "import platform; print(platform.python_version())"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False
    ).stdout.strip()


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        raise SetupError(f"Failed: {' '.join(command)}")


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main() -> int:
    """Bring an environment up to date for the purposes on the command line."""
    parser = argparse.ArgumentParser(description="Make an environment, or bring it up to date.")
    parser.add_argument("purposes", nargs="+", choices=sorted(PURPOSES))
    parser.add_argument("--into", type=Path, default=DEFAULT, help="where it is; .venv if left out")
    arguments = parser.parse_args()
    try:
        ensure(arguments.into.absolute(), purposes=tuple(arguments.purposes))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
