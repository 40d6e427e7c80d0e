"""A real browser for the tests: the system's own Chromium, without a window."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REMEDY = "apt-get install chromium, or name a Chromium or Chrome in DBKIT_TEST_CHROMIUM"

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Alone with the page under test: no sandbox (refused to root), no graphics card, and no
# talk to anybody else.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """Find the browser's program: ``DBKIT_TEST_CHROMIUM``, else the ``PATH``."""
    named = os.environ.get("DBKIT_TEST_CHROMIUM")
    if named:
        return shutil.which(named)
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


@contextmanager
def launch() -> Iterator[Browser]:
    """Start the browser with a new, empty profile; end it with the block."""
    from playwright.sync_api import sync_playwright

    program = find_chromium()
    assert program is not None, REMEDY
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, args=list(FLAGS)
        )
        try:
            yield browser
        finally:
            browser.close()
