"""The commands we tell people to type are there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

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
    """``pip install 'flask-dbkit[…]'`` names extras that exist."""
    text = (ROOT / name).read_text()
    named = {
        extra.strip()
        for group in re.findall(r"flask-dbkit\[([^\]]+)\]", text)
        for extra in group.split(",")
    }
    assert named <= set(PROJECT["project"]["optional-dependencies"])


def test_the_classifiers_agree_with_the_oldest_python() -> None:
    """What the package index shows is what ``requires-python`` allows."""
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    versions = [
        text.rpartition(" ")[2]
        for text in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", text)
    ]
    assert min(versions, key=lambda text: int(text.split(".")[1])) == oldest


def test_the_map_of_the_code_is_up_to_date() -> None:
    """Who looks for something finds its file, with the line it says of itself."""
    command = [sys.executable, "tools/code_map.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
