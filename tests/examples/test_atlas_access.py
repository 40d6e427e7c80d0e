"""The pages of the demo for everybody: axe finds nothing, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from atlas import loader
from atlas.extensions import db
from atlas.models import Place

from tests.examples.small_world import MakeAtlas, make_source
from tests.support import axe
from tests.support.serving import served

if TYPE_CHECKING:
    from playwright.sync_api import Page

LONG = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch"
LIST = "/?per_page=5&population__gte=1.000.000&sort=secret"


@pytest.fixture
def address(make_atlas: MakeAtlas) -> Iterator[str]:
    app = make_atlas(DEBUG=True)
    with app.app_context():
        loader.load(db.session(), make_source, lambda done, total: None)
        places = db.session.scalars(db.select(Place).order_by(Place.id).limit(3)).all()
        for place in places:
            place.name, place.country_code = LONG, places[0].country_code
        db.session.commit()
    with served(app) as address:
        yield address


@pytest.mark.browser
@pytest.mark.backends("sqlite-file")
def test_axe_finds_nothing_on_any_page(address: str, page: Page) -> None:
    """Names, contrast, headings, keyboard; and no page is wider than a phone."""
    axe.prepare(page)
    found = {}
    for path in (
        "/?per_page=5", LIST, "/places/1", "/places/1/merge", "/countries",
        "/places/404404", "/feed", "/behind/n-plus-one",
        "/health", "/behind/source/places.index", "/behind/two-tabs/1",
    ):  # fmt: skip
        page.goto(address + path)
        found[path] = axe.findings(page)
    for path, field, value in (
        ("/countries/AA/edit", "iso3", "BBX"),  # another country's
        ("/places/1/edit", "population", "many"),
    ):
        page.goto(address + path)
        page.fill(f"[name={field}]", value)
        page.click("button.button")
        found[path] = axe.findings(page)
        # Whoever listens hears what went wrong first, and the link leads to the field.
        focused = page.evaluate("document.activeElement")
        assert page.evaluate("document.activeElement.getAttribute('role')") == "alert", focused
        page.click(f"[role=alert] a[href='#{field}']")
        assert page.evaluate("document.activeElement.name") == field
    assert {path: each for path, each in found.items() if each} == {}


@pytest.mark.browser
@pytest.mark.backends("sqlite-file")
def test_two_tabs_show_the_conflict_with_both_values(address: str, page: Page) -> None:
    """What the strip promises: the second to save is told, and sees what is stored."""
    page.goto(f"{address}/places/1")
    page.get_by_role("link", name="Conflict in two tabs").click()
    tabs: list[Page] = []
    for number in ("first", "second"):
        with page.context.expect_page() as opened:
            page.locator(".steps a").nth(len(tabs)).click()
        tab = opened.value
        tab.fill("[name=region_code]", number)
        tabs.append(tab)
    for tab in tabs:
        tab.get_by_role("button", name="Save").click()
    assert tabs[1].get_by_role("alert").is_visible()
    assert "Stored now: first" in tabs[1].locator("#region_code-now").inner_text()
    assert tabs[1].input_value("[name=region_code]") == "second"
