"""From an empty folder to a page in the browser, with what a user installs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import run
from tests.support.databases import Database

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.packaging, pytest.mark.browser]


@contextmanager
def served(flask: Path, folder: Path) -> Iterator[str]:
    """Run ``flask run`` on a free port, and yield the address it prints."""
    server = subprocess.Popen(
        [flask, "run", "--port", "0"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", line)
            if found:
                yield found[1]
                break
        else:
            raise AssertionError("".join(lines))
    finally:
        server.terminate()
        print(server.communicate(timeout=30)[1])  # beside what has failed, if anything has


@pytest.mark.backends("postgresql")
def test_a_new_application_runs_at_once(
    built: Path, tmp_path: Path, page: Page, database: Database
) -> None:
    """The lines of its README, in a new environment: install, test, migrate, look at it.

    The doctor finds nothing in it.

    Once for SQLite and once for PostgreSQL; its style and types are in ``make lint``.
    """
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    programs = tmp_path / "venv" / "bin"
    shop, desk = tmp_path / "shop", tmp_path / "desk"
    begin = (sys.executable, "-m", "flask_dbkit", "init")
    run(*begin, shop)
    run(*begin, desk, "--database", "postgresql")
    (desk / ".env").write_text(
        (desk / ".env.example")
        .read_text()
        .replace("postgresql://user:password@localhost/desk", re.sub(r"\+\w+", "", database.url))
    )
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    # Of its tools for development the tests are enough.
    run(*pip, "install", "-q", "--find-links", built, "-e", shop, "-e", desk, "pytest")

    for folder in (shop, desk):
        chosen = () if folder == shop else ("--dbkit-database", database.url)
        assert "24 passed" in run(programs / "pytest", "-q", *chosen, cwd=folder)
        flask = programs / "flask"
        assert "books and tags" in run(flask, "dbkit", "migrate", "upgrade", cwd=folder)
        assert run(flask, "dbkit", "health", cwd=folder).startswith("pass")
        assert "no finding" in run(flask, "dbkit", "doctor", cwd=folder)
        assert "16 books" in run(flask, "seed", cwd=folder)
        with served(flask, folder) as address:
            _add_a_book(page, address)
    assert "Nothing found" in run(flask, "dbkit", "migrate", "lint", cwd=shop)
    assert (shop / "instance" / "shop.db").exists()
    assert not list((desk / "instance").glob("*.db"))


def _add_a_book(page: Page, address: str) -> None:
    problems: list[str] = []
    page.on("console", lambda message: problems.append(f"{message.text} {message.location}"))
    page.goto(address)
    assert page.locator("tbody tr").count() == 10
    page.get_by_role("link", name="Title, sort ascending").click()
    assert page.locator("tbody td").first.inner_text() == "Beloved"
    page.get_by_role("link", name="Next").click()
    assert page.locator(".dbkit-pager-range").inner_text() == "11–16 of 16"
    page.get_by_role("link", name="Add a book").click()
    for label, text in {"Title": "Momo", "Author": "Michael Ende", "Year": "1973"}.items():
        page.get_by_label(label).fill(text)
    page.get_by_label("Tags").fill("novel, time")
    page.get_by_role("button", name="Save").click()
    assert page.get_by_role("status").inner_text() == "Momo is on the shelf."
    page.get_by_role("link", name="time").click()
    assert page.locator("tbody tr").count() == 1
    assert problems == []
