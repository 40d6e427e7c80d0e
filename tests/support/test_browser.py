"""The browser is a real one, and its absence is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]


@pytest.mark.browser
def test_a_page_is_rendered_and_its_script_runs(page: Page) -> None:
    """Layout and scripts are those of the browser a person would use."""
    page.set_content("<h1>hello</h1><script>document.title = 6 * 7</script>")
    assert page.title() == "42"
    assert page.locator("h1").bounding_box() is not None


@pytest.mark.parametrize(
    ("ci", "processes", "exit_code", "line"),
    [
        ("", "0", 5, "\nnot run: browser (1 test): "),
        ("true", "2", 1, "\nERROR: not run: browser (1 test): "),
    ],
)
def test_without_a_browser_the_tests_are_told_as_not_run(
    ci: str, processes: str, exit_code: int, line: str
) -> None:
    """What is missing is no success: one visible line, and a failure in CI."""
    pytest_command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", processes)
    done = subprocess.run(
        [*pytest_command, __file__, "-k", "rendered"],
        cwd=ROOT,
        env={**os.environ, "DBKIT_TEST_CHROMIUM": "/nowhere/chromium", "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert line in done.stdout
    assert done.returncode == exit_code
    assert "DBKIT_TEST_CHROMIUM" in done.stdout
