"""What ``make build`` makes can be installed and imported by itself."""

from __future__ import annotations

import re
import shlex
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, run

pytestmark = pytest.mark.packaging


def test_the_wheel_holds_the_package_its_types_and_nothing_else(built: Path) -> None:
    """A user gets ``flask_dbkit`` with ``py.typed`` and the licence, no tests, no tools."""
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "flask_dbkit/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "flask_dbkit",
        "flask_sqlalchemy_dbkit",  # the metadata, by the name of the distribution
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    on_disk = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "flask_dbkit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("flask_dbkit/")} == on_disk


def test_the_source_archive_holds_what_running_the_tests_takes(built: Path) -> None:
    """Who packages the library elsewhere can test it from the archive."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md"} <= names
    assert {"Makefile", "tools/venvs.py", "tests/conftest.py"} <= names
    assert not any(name.startswith((".git/", ".venv", "docs/_build")) for name in names)


def test_the_wheel_works_in_a_clean_environment_without_any_extra(
    built: Path, tmp_path: Path
) -> None:
    """The README's line for a clone is enough to import it and to ask its version."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    readme = (ROOT / "README.md").read_text()
    (line,) = re.findall(r"^    pip (install --find-links dist .+)$", readme, re.MULTILINE)
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "--quiet", *shlex.split(line), cwd=built.parent)

    code = (
        "import flask_dbkit, pathlib;"
        "from importlib import metadata, util;"
        "print(metadata.version('flask-sqlalchemy-dbkit'));"
        "print(pathlib.Path(flask_dbkit.__file__).with_name('py.typed').exists());"
        "print([name for name in ('psycopg', 'psycopg2', 'pymysql', 'alembic')"
        " if util.find_spec(name)]);"
        "print(flask_dbkit.__file__)"
    )
    version, typed, extras, place = run(
        python, "-I", "-W", "error", "-c", code, cwd=tmp_path
    ).splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version == project["version"]
    assert typed == "True"
    assert extras == "[]"
    assert place.startswith(str(tmp_path))

    extra = "pip install 'flask-sqlalchemy-dbkit[{}]'".format
    # No driver is there but Python's own: what a URL would need is named, with its extra.
    code = (
        "import flask, flask_dbkit, sys;"
        "app = flask.Flask('shop', instance_path=sys.argv[2]);"
        "app.config['SQLALCHEMY_DATABASE_URI'] = sys.argv[1];"
        "dbkit = flask_dbkit.DBKit()\n"
        "try: dbkit.init_app(app)\n"
        "except flask_dbkit.ConfigError as error: print(error)\n"
        "else: print(app.test_cli_runner().invoke(args=['dbkit', 'info']).exit_code)\n"
    )
    for url, answer in {
        "sqlite:///shop.db": "0",
        "postgres://me@localhost/shop": extra("postgresql"),
        "postgresql+psycopg2://me@localhost/shop": extra("postgresql"),
        "mysql://me@localhost/shop": extra("mysql"),
        "mariadb+pymysql://me@localhost/shop": extra("mysql"),
    }.items():
        printed = run(python, "-I", "-W", "error", "-c", code, url, tmp_path, cwd=tmp_path)
        assert answer in printed.rstrip(), url
        assert "Traceback" not in printed
