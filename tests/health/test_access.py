"""The page of the health check for everybody: axe finds nothing, whatever it has to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.health.conftest import MakeKit
from tests.support import axe
from tests.support.serving import served

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.browser
@pytest.mark.backends("sqlite-file")
def test_axe_finds_nothing_whatever_the_page_says(make_kit: MakeKit, page: Page) -> None:
    """Passing, warning and failing, each in its own colours."""
    made = make_kit(DBKIT_HEALTH_TTL=0)
    failing: set[str] = set()

    def register(name: str, *, critical: bool) -> None:
        @made.kit.health.check(name, critical=critical)
        def check() -> None:
            if name in failing:
                raise RuntimeError("no mail goes out")

    register("mail", critical=False)
    register("search", critical=True)
    axe.prepare(page)
    found = {}
    with served(made.app) as address:
        for state, names in {"pass": (), "warn": ("mail",), "fail": ("mail", "search")}.items():
            failing.update(names)
            answer = page.goto(f"{address}/health")
            assert answer is not None
            assert (answer.status, state in page.inner_text("body")) == (
                503 if state == "fail" else 200,
                True,
            )
            found[state] = axe.findings(page)
    assert {state: each for state, each in found.items() if each} == {}
