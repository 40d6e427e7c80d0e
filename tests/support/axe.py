"""Pages for everybody: what axe finds, on a desk and on a phone, in light and in dark."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["findings", "prepare"]

# https://github.com/dequelabs/axe-core, as the package brings it.
_AXE = files("axe_playwright_python") / "axe.min.js"
_LOOKS = ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"))
# What else axe looks for stands in the markup, which is the same in every look.
_RULES_OF_A_LOOK = ["color-contrast", "scrollable-region-focusable", "target-size"]


def prepare(page: Page) -> None:
    """Let every document that the page opens from now on have axe."""
    page.add_init_script(_AXE.read_text(encoding="utf-8"))


def findings(page: Page) -> list[str]:
    """Return what is wrong with the document that is open, in each look."""
    found: list[Any] = []
    for number, (width, scheme) in enumerate(_LOOKS):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{width}: scrolls sideways")
        options = {"runOnly": {"type": "rule", "values": _RULES_OF_A_LOOK}} if number else {}
        for violation in page.evaluate("axe.run", options)["violations"]:
            where = [node["target"] for node in violation["nodes"]][:3]
            found.append(f"{width} {scheme}: {violation['help']} at {where}")
    return found
