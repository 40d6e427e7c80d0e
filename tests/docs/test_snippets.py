"""Everything the documentation shows was run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, README, ROOT, SNIPPETS, blocks, included, pages, typed
from tests.support.databases import Database
from tests.support.warm_python import WarmPython

TUTORIAL = SNIPPETS / "tutorial"
_BACKENDS = re.compile(r"^Backends: (.*)$", re.MULTILINE)
_COMMAND = re.compile(r"^\$ (.*)$")
# Commands that set up a machine, or that other tests run.
_NOT_OURS = (
    "python -m venv",
    "source ",
    "pip install",
    "mkdir ",
    "cd ",
    "make ",
    "gunicorn ",
    "export ",
    "DATABASE_URL=",
)


def _snippets(backend: str) -> list[str]:
    found = []
    for path in sorted(SNIPPETS.glob("*.py")):
        match = _BACKENDS.search(path.read_text(encoding="utf-8"))
        if backend in (match[1].split() if match else ["sqlite-file"]):
            found.append(path.name)
    return found


def _check_snippet(python: WarmPython, name: str, cwd: Path, **environment: str) -> None:
    # Copied, so that a relative database path does not lead into the repository.
    shutil.copy(SNIPPETS / name, cwd)
    done = python.run(["python", "-W", "error", name], cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", _snippets("sqlite-file"))
def test_a_snippet_does_on_sqlite_what_its_page_says(
    name: str, warm_python: WarmPython, tmp_path: Path
) -> None:
    """A reader can run every file of ``examples/snippets`` without configuring anything."""
    _check_snippet(warm_python, name, tmp_path)


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("name", _snippets("postgresql"))
def test_a_snippet_does_on_postgresql_what_its_page_says(
    name: str, database: Database, warm_python: WarmPython, tmp_path: Path
) -> None:
    """``DATABASE_URL`` is all it takes to run a snippet on PostgreSQL."""
    _check_snippet(warm_python, name, tmp_path, DATABASE_URL=database.url)


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize("name", _snippets("mariadb"))
def test_a_snippet_does_on_mariadb_what_its_page_says(
    name: str, database: Database, warm_python: WarmPython, tmp_path: Path
) -> None:
    """``DATABASE_URL`` is all it takes to run a snippet on MariaDB."""
    _check_snippet(warm_python, name, tmp_path, DATABASE_URL=database.url)


def test_pages_show_python_from_files_that_are_run() -> None:
    """No Python is typed into a page, where nothing would notice that it is wrong."""
    inline = [
        f"{block.page.relative_to(ROOT)}: {block.body.splitlines()[0]}"
        for page in [README, *pages()]
        for block in typed(page)
        if block.language in ("python", "py", "{code-block}", "{code}", "")
    ]
    assert inline == []


def test_pages_can_be_read_without_being_built() -> None:
    """On a code host and in an editor there are no directives: the code is on the page."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        found = {block.language for block in blocks(page) if block.language.startswith("{")}
        assert found <= {"{toctree}", "{include}"}, page.name
        assert "{include}" not in found or page.name == "changelog.md"
        assert re.findall(r"\{[a-z:]+\}`|^\([\w-]+\)=$|^: |\[]\(", text, re.MULTILINE) == [], (
            page.name
        )


def test_every_snippet_is_shown_on_a_page() -> None:
    """A snippet nobody shows is dead weight; a part nobody shows was forgotten."""
    shown: dict[Path, set[str]] = {}
    for page in [README, *pages()]:
        for path, part in included(page):
            shown.setdefault(path, set()).add(part)
    for path in sorted(SNIPPETS.rglob("*.py")):
        assert path in shown, path.name
        parts = re.findall(r"^ *# start (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(parts) <= shown[path] | ({"*"} if "" in shown[path] else set()), path.name


def _tutorial(tmp_path: Path, step: int = 5) -> Path:
    folder = tmp_path / "reading-list"
    shutil.copytree(TUTORIAL / "templates", folder / "templates")
    for name in ("books.csv", "conftest.py", "test_app.py"):
        shutil.copy(TUTORIAL / name, folder)
    shutil.copy(TUTORIAL / f"step_{step}.py", folder / "app.py")
    return folder


_STEP = re.compile(
    r"Save this as\s+`(?P<name>[\w./]+)`[^`]*?(?:`\w+`[^`]*?)*\n+<!-- code: [^\n]* -->\n```\S*\n"
    r"(?P<text>.*?)^```$"
    r"|^```console\n(?P<session>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def test_the_tutorial_works_as_it_is_printed(warm_python: WarmPython, tmp_path: Path) -> None:
    """From an empty folder: each file is saved where the page says so, each command typed."""
    saved = []
    for step in _STEP.finditer((DOCS / "tutorial.md").read_text(encoding="utf-8")):
        if step["name"]:
            (tmp_path / step["name"]).parent.mkdir(exist_ok=True)
            (tmp_path / step["name"]).write_text(step["text"], encoding="utf-8")
            saved.append(step["name"])
            continue
        for command, expected in _parse_session(step["session"]):
            if not command.startswith((*_NOT_OURS, "flask run")):
                _compare(expected, _typed(warm_python, command, tmp_path))
    assert saved[-4:] == ["books.csv", "app.py", "conftest.py", "test_app.py"]
    assert saved.count("app.py") == 5


def _sessions() -> dict[str, list[str]]:
    """The console blocks of each page that shows our own commands, those of a new folder apart."""
    found = {}
    for page in [README, *(page for page in pages() if page.name != "tutorial.md")]:
        parts = page.read_text(encoding="utf-8").split("<!-- in a new folder -->")
        for number, part in enumerate(parts):
            sessions = re.findall(r"^```console\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
            if any(re.search(r"^\$ (flask|python) ", text, re.MULTILINE) for text in sessions):
                found[f"{page.relative_to(ROOT).as_posix()} {number}"] = sessions
    return found


@pytest.mark.parametrize("sessions", _sessions().values(), ids=_sessions())
def test_commands_print_what_the_page_shows(
    sessions: list[str], warm_python: WarmPython, tmp_path: Path
) -> None:
    """A ``console`` block is a session: each line shown is printed, ``…`` standing for anything."""
    folder = _tutorial(tmp_path)
    for path in SNIPPETS.glob("*.py"):
        if f"--app {path.stem} " in "".join(sessions):
            shutil.copy(path, folder)  # an application a session may name
    for text in sessions:
        for command, expected in _parse_session(text):
            if command.startswith(_NOT_OURS) or command.startswith("flask run"):
                continue
            if not command.startswith(("flask ", "python ")):
                raise AssertionError(f"{command!r} is shown, and no test runs it")
            _compare(expected, _typed(warm_python, command, folder))


def _typed(python: WarmPython, command: str, cwd: Path) -> str:
    """Run what a reader types, with the output of a command in ``$(…)``; return what is printed."""
    while inner := re.search(r"\$\((.*?)\)", command):
        command = command.replace(inner[0], python.run(inner[1], cwd).stdout.strip(), 1)
    done = python.run(command, cwd)
    return done.stdout + done.stderr


def _parse_session(text: str) -> list[tuple[str, list[str]]]:
    session: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        match = _COMMAND.match(line)
        if match:
            session.append((match[1], []))
        elif line.strip() and session:
            session[-1][1].append(line.rstrip())
    return session


def _compare(expected: list[str], printed: str) -> None:
    for line in expected:
        pattern = ".*".join(re.escape(part.strip()) for part in line.split("…"))
        assert re.search(pattern, printed), f"expected {line!r} in:\n{printed}"


def test_no_page_names_a_snippet_that_is_gone() -> None:
    """``examples/snippets/…`` in the text of a page is a file."""
    for page in [README, *pages()]:
        for name in re.findall(r"examples/[\w/.-]+\.\w+", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.relative_to(DOCS.parent)}: {name}"
