"""The pages of the demo for everybody: axe finds nothing, on a desk and on a phone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from atlas import loader
from atlas.extensions import db
from atlas.models import Place
from werkzeug.serving import make_server

from tests.examples.small_world import MakeAtlas, make_source

if TYPE_CHECKING:
    from playwright.sync_api import Page

# https://github.com/dequelabs/axe-core, as the package brings it.
AXE = files("axe_playwright_python") / "axe.min.js"
LONG = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch"
LIST = "/?per_page=5&population__gte=1.000.000&sort=secret"
# Widths and colours are two style sheets that know nothing of each other. What else axe looks
# for stands in the markup, which is the same in both.
LOOKS = ((1280, "light"), (390, "dark"))
RULES_OF_A_LOOK = ["color-contrast", "scrollable-region-focusable", "target-size"]


@pytest.fixture
def address(make_atlas: MakeAtlas) -> Iterator[str]:
    app = make_atlas()
    with app.app_context():
        loader.load(db.session(), make_source, lambda done, total: None)
        places = db.session.scalars(db.select(Place).order_by(Place.id).limit(3)).all()
        for place in places:
            place.name, place.country_code = LONG, places[0].country_code
        db.session.commit()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _findings(page: Page) -> list[str]:
    found: Any = []
    for number, (width, scheme) in enumerate(LOOKS):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{width}: scrolls sideways")
        options = {"runOnly": {"type": "rule", "values": RULES_OF_A_LOOK}} if number else {}
        for violation in page.evaluate("axe.run", options)["violations"]:
            where = [node["target"] for node in violation["nodes"]][:3]
            found.append(f"{width} {scheme}: {violation['help']} at {where}")
    return list(found)


@pytest.mark.browser
@pytest.mark.backends("sqlite-file")
def test_axe_finds_nothing_on_any_page(address: str, page: Page) -> None:
    """Names, contrast, headings, keyboard; and no page is wider than a phone."""
    page.add_init_script(AXE.read_text(encoding="utf-8"))
    findings = {}
    for path in (
        "/?per_page=5", LIST, "/places/1", "/places/1/merge", "/countries",
        "/places/404404", "/health", "/behind/source/places.index", "/behind/two-tabs/1",
    ):  # fmt: skip
        page.goto(address + path)
        findings[path] = _findings(page)
    for path, field, value in (
        ("/countries/AA/edit", "iso3", "BBX"),  # another country's
        ("/places/1/edit", "population", "many"),
    ):
        page.goto(address + path)
        page.fill(f"[name={field}]", value)
        page.click("button.button")
        findings[path] = _findings(page)
        # Whoever listens hears what went wrong first, and the link leads to the field.
        focused = page.evaluate("document.activeElement")
        assert page.evaluate("document.activeElement.getAttribute('role')") == "alert", focused
        page.click(f"[role=alert] a[href='#{field}']")
        assert page.evaluate("document.activeElement.name") == field
    assert {path: found for path, found in findings.items() if found} == {}


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
