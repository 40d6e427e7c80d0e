"""The commands we tell people to type are there."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pages
import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Where commands stand: in code, after "    " or between backticks.
_COMMAND = re.compile(
    r"(?:^(?: {4}|\$ )?|`|\|)(?:[A-Z_]+=\S+ )*make (?:--[a-z-]+ )*([a-z][a-z-]*)", re.MULTILINE
)


def test_make_help_lists_every_target() -> None:
    """Nobody has to read the Makefile to find out what it can do."""
    program = shutil.which("make")
    assert program is not None
    printed = subprocess.run(
        [program, "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    listed = re.findall(r"^ +make ([a-z-]+) +\S", printed, re.MULTILINE)
    assert set(listed) == TARGETS
    assert len(listed) == len(set(listed))


def test_every_target_is_declared_to_be_no_file() -> None:
    """A folder named ``tests`` or ``docs`` must not make ``make docs`` do nothing."""
    (declared,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(declared.split()) == TARGETS


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_documented_commands_are_targets(name: str) -> None:
    """A command in the documents works when it is copied from there."""
    commands = set(_COMMAND.findall((ROOT / name).read_text()))
    assert commands, f"{name} names no make target at all"
    assert commands <= TARGETS


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documented_extras_exist(name: str) -> None:
    """``pip install 'flask-sqlalchemy-dbkit[…]'`` names extras that exist."""
    text = (ROOT / name).read_text()
    named = {
        extra.strip()
        for group in re.findall(r"flask-sqlalchemy-dbkit\[([^\]]+)\]", text)
        for extra in group.split(",")
    }
    assert named <= set(PROJECT["project"]["optional-dependencies"])


# What installs, or asks what is installed: "flask-dbkit" itself is somebody else's project.
_OLD_NAME = re.compile(
    r"""(?ix)
    \b(?:install|add|requires?) \b [^\n]{0,80}? (?<![\w./-]) flask[-.]dbkit (?![\w-])
    | (?<![\w./-]) flask-dbkit \s* (?: \[\w | [=~!<>]= )  # with extras, or a version
    | version \( ["'] flask[-_.]dbkit ["']
    | pypi\.org/(?:project|pypi)/flask-dbkit
    | shields\.io/pypi/\w+/flask-dbkit
    | ^name\ =\ "flask-dbkit"
    """,
    re.MULTILINE,
)


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_nothing_installs_the_project_that_has_the_short_name() -> None:
    """Every install line, link and look-up of a version names ``flask-sqlalchemy-dbkit``."""
    found = []
    for path in _tracked():
        if path == Path(__file__) or path.suffix in {".svg", ".png", ".gz"} or not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in _OLD_NAME.finditer(text)]
    assert found == []
    assert PROJECT["project"]["name"] == "flask-sqlalchemy-dbkit"


@pytest.mark.parametrize(
    "line",
    [
        "pip install flask-dbkit",
        "pip install 'flask-dbkit[postgresql]'",
        "uv add flask-dbkit",
        "poetry add Flask-DBKit",
        "RUN pip install --no-cache-dir gunicorn flask-dbkit",
        "flask-dbkit[mysql]>=0.1",
        "flask-dbkit==0.0.1",
        "metadata.version('flask-dbkit')",
        "https://pypi.org/project/flask-dbkit/",
    ],
)
def test_the_old_name_would_be_found(line: str) -> None:
    """The test above reads requirements, Dockerfiles and look-ups as well."""
    assert _OLD_NAME.search(line)
    assert not _OLD_NAME.search(re.sub("(?i)flask-dbkit", "flask-sqlalchemy-dbkit", line))


def test_the_classifiers_agree_with_the_oldest_python() -> None:
    """What the package index shows is what ``requires-python`` allows."""
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    versions = [
        text.rpartition(" ")[2]
        for text in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", text)
    ]
    assert min(versions, key=lambda text: int(text.split(".")[1])) == oldest


def test_the_readme_shows_a_picture_of_the_demo() -> None:
    """In the repository, with words for those who do not see it, and small."""
    (shown,) = re.findall(r"!\[([^\]]+)]\(([^)]+)\)", (ROOT / "README.md").read_text())
    picture = (ROOT / shown[1]).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000
    assert len(shown[0]) > 40


def test_what_is_written_into_the_pages_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """Code on a page is what the tests run, tables are the library's, the map is the modules'."""
    assert (pages.main(["--check"]), *capsys.readouterr()) == (0, "", "")
