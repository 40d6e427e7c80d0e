"""The status page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.health.conftest import Kit, MakeKit
from tests.support.serving import served

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def made(make_kit: MakeKit) -> Kit:
    made = make_kit(
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 1, "max_overflow": 0}, DBKIT_HEALTH_TTL=0
    )

    @made.kit.health.check("search", critical=False)
    def search() -> None:
        raise made.kit.health.Fail("search.down")

    @made.app.after_request
    def forbid(response: object) -> object:
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'")  # type: ignore[attr-defined]
        return response

    return made


@pytest.fixture
def address(made: Kit) -> Iterator[str]:
    with served(made.app) as address:
        yield address


@pytest.mark.browser
def test_a_browser_shows_what_is_wrong_and_what_was(made: Kit, address: str, page: Page) -> None:
    """Every check with its status in words, the last errors, and nothing the browser refuses."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    answer = page.goto(f"{address}/health")
    assert answer is not None
    assert answer.status == 200
    assert page.title() == "warn · shop health"
    assert page.get_by_role("heading", level=1).inner_text() == "shop: warn"
    checks = page.get_by_role("table", name="Checks")
    assert checks.get_by_role("rowheader").all_inner_texts() == [
        "db:default",
        "disk:default",
        "wal:default",
        "pool:default",
        "search",
    ]
    row = checks.get_by_role("row").filter(has_text="search")
    assert row.get_by_role("cell").all_inner_texts()[:2] == ["fail", "search.down"]
    assert "search.down" in page.get_by_role("table", name="Last errors").inner_text()
    # The style is in force: a policy that forbids it would be in the console.
    assert page.locator("main").evaluate("node => getComputedStyle(document.body).fontFamily")
    assert "system-ui" in page.locator("body").evaluate("node => getComputedStyle(node).fontFamily")
    assert complaints == []
    made.path.rename(made.path.with_suffix(".away"))
    failed = page.goto(f"{address}/health")
    assert failed is not None
    assert failed.status == 503
    assert page.title() == "fail · shop health"
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
