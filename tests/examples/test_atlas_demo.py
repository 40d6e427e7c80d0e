"""The demo as ``make demo`` runs it: the real data, a real server and a real browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from atlas import loader
from atlas.extensions import db

from tests.examples.small_world import NAMES, MakeAtlas, make_source
from tests.support.databases import Database
from tests.support.warm_python import WarmPython

if TYPE_CHECKING:
    from playwright.sync_api import Page

ATLAS = Path(__file__).parents[2] / "examples" / "atlas"
PLACES = "234,908"
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


class Demo:
    """One run of ``run.py`` on a free port, ended with the block."""

    def __init__(self, python: WarmPython, database_url: str, **environment: str) -> None:
        asked = {"DATABASE_URL": database_url, "FLASK_SECRET_KEY": "test", "PORT": "0"}
        command = ["python", str(ATLAS / "run.py")]
        self.process = python.start(command, ATLAS, **(asked | environment))
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.process.close()

    def address(self) -> str:
        """Wait until it serves, and return where, as it printed it."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            found = re.fullmatch(r"Places: +(http://\S+)/", line.strip())
            if found:
                return found[1]
        raise AssertionError(self.lines, self.process.errors())


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('atlas') / 'atlas.db'}"


@pytest.fixture(scope="module")
def demo(warm_python: WarmPython, database_url: str) -> Iterator[Demo]:
    """The demo, with all of its data, for the tests of this file."""
    with Demo(warm_python, database_url) as demo:
        demo.address()
        yield demo


@pytest.fixture(scope="module")
def address(demo: Demo) -> str:
    return demo.lines[-1].removeprefix("Places:").strip().rstrip("/")


def test_the_first_start_says_what_it_loads(demo: Demo) -> None:
    """In a log, which is no terminal, these are lines and not a progress bar."""
    first, second, _ = demo.lines
    assert first == "The database is empty: loading the places of the world."
    assert re.fullmatch(rf"Loaded {PLACES} places in \d+\.\d seconds\.", second)


def test_the_second_start_is_instant(
    demo: Demo, warm_python: WarmPython, database_url: str
) -> None:
    """It loads nothing again and serves, and Ctrl-C ends it quietly."""
    with Demo(warm_python, database_url) as second:
        second.address()
        os.kill(second.process.pid, signal.SIGINT)
        assert "Traceback" not in second.process.errors()
        assert second.process.returncode == 0
        assert len(second.lines) == 1


@pytest.mark.requires("server")
def test_the_demo_runs_on_a_server_and_at_the_address_it_is_given(
    database: Database, make_atlas: MakeAtlas, warm_python: WarmPython
) -> None:
    """``DATABASE_URL``, as platforms write it, ``HOST`` and ``PORT`` are all it takes."""
    with make_atlas().app_context():
        loader.load(db.session(), make_source, lambda done, total: None)
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
    without_driver = re.sub(r"\+\w+", "", database.url, count=1)
    with Demo(warm_python, without_driver, HOST="127.0.0.2", PORT=str(port)) as demo:
        address = demo.address()
        assert address == f"http://127.0.0.2:{port}"
        assert len(demo.lines) == 1, "nothing was to be loaded"
        with urllib.request.urlopen(address, timeout=30) as answer:
            page = answer.read().decode()
    assert any(name in page for name in NAMES)


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_a_visitor_pages_and_edits(address: str, page: Page, width: str, tmp_path: Path) -> None:
    """The whole way of a visitor, on a screen and on a phone, without an error on the console."""
    problems: list[str] = []
    foreign: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            foreign.append(request.url) if not request.url.startswith(address) else None
        ),
    )
    w, h = WIDTHS[width]
    page.set_viewport_size({"width": w, "height": h})

    page.goto(address)
    assert PLACES in page.locator("main").inner_text()
    rows = page.locator("tbody tr")
    assert rows.count() == 25
    first = rows.first.inner_text()
    check_layout(page)
    page.screenshot(path=tmp_path / "front.png", full_page=True)

    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**/?page=2")
    assert rows.count() == 25
    assert rows.first.inner_text() != first

    page.goto(f"{address}/places/1796236")
    assert page.get_by_role("heading", level=1).inner_text() == "Shanghai"
    check_layout(page)
    page.screenshot(path=tmp_path / "place.png", full_page=True)

    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Population").fill("a lot")
    page.get_by_role("button", name="Save").click()
    field = page.get_by_label("Population")
    assert field.get_attribute("aria-invalid") == "true"
    assert page.locator("#population-error").is_visible()
    check_layout(page)
    page.screenshot(path=tmp_path / "mistake.png", full_page=True)
    # The refused form is an answer with an error status, which the browser's console notes.
    assert all("422" in problem for problem in problems)
    problems.clear()

    new = "24874501" if width == "phone" else "24874502"
    field.fill(new)
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/places/1796236")
    assert page.get_by_role("status").inner_text() == "Shanghai is saved."
    assert f"{int(new):,}" in page.locator(".facts").inner_text()
    page.screenshot(path=tmp_path / "saved.png", full_page=True)

    assert problems == []
    assert foreign == []


@pytest.mark.browser
def test_two_windows_cannot_overwrite_each_other(address: str, page: Page, tmp_path: Path) -> None:
    """The second window shows both versions, and saving again is a choice."""
    other = page.context.new_page()
    for window in (page, other):
        window.goto(f"{address}/places/1816670/edit")
    page.get_by_label("Population").fill("1")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/places/1816670")
    other.get_by_label("Population").fill("2")
    other.get_by_role("button", name="Save").click()
    assert "Somebody saved this place" in other.get_by_role("alert").inner_text()
    assert other.get_by_label("Population").input_value() == "2"
    assert other.locator("#population-now b").inner_text() == "1"
    other.screenshot(path=tmp_path / "conflict.png", full_page=True)
    other.get_by_role("button", name="Save").click()
    other.wait_for_url("**/places/1816670")
    assert other.locator(".facts dd").first.inner_text() == "2"


@pytest.mark.browser
def test_the_keyboard_reaches_the_content_first(address: str, page: Page) -> None:
    """The first stop of the Tab key leads past the menu, and shows itself."""
    page.goto(address)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert skip.evaluate("link => link === document.activeElement")
    box = skip.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", ["/?sort=-population", "/feed?sort=-population"])
def test_the_pager_is_walked_by_keyboard(
    address: str, page: Page, path: str, width: str, tmp_path: Path
) -> None:
    """Both kinds of pages: one landmark, the current page said, every link reached by Tab."""
    w, h = WIDTHS[width]
    page.set_viewport_size({"width": w, "height": h})
    page.goto(address + path)
    by_number = path.startswith("/?")
    pager = page.get_by_role("navigation", name="Pages")
    assert pager.count() == 1
    names = [item.inner_text() for item in page.locator("tbody th").all()]
    disabled = pager.locator("[aria-disabled=true]")
    if by_number:
        current = pager.locator("[aria-current=page]")
        assert current.get_attribute("aria-label") == "Page 1"
        assert disabled.all_inner_texts() == ["Previous"]
        assert pager.get_by_role("link", name="Page 2", exact=True).count() == 1
    else:
        assert disabled.all_inner_texts() == ["First", "Previous"]
        assert pager.get_by_role("link", name="Last", exact=True).count() == 1
    check_layout(page)
    pager.scroll_into_view_if_needed()
    pager.screenshot(path=tmp_path / f"pager-{width}.png")

    # What leads nowhere is no stop of the Tab key; everything else is, in the order it is read.
    links = pager.locator("a")
    links.first.focus()
    for place in range(links.count()):
        assert links.nth(place).evaluate("link => link === document.activeElement")
        outline = links.nth(place).evaluate("link => getComputedStyle(link).outlineStyle")
        assert outline != "none"
        page.keyboard.press("Tab")
    pager.get_by_role("link", name="Next", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**page=2*" if by_number else "**cursor=*")
    assert not set(names) & {item.inner_text() for item in page.locator("tbody th").all()}
    assert "sort=-population" in page.url
    pager.get_by_role("link", name="Previous", exact=True).click()
    page.wait_for_load_state()
    assert [item.inner_text() for item in page.locator("tbody th").all()] == names
    pager.get_by_role("link", name="Last", exact=True).click() if not by_number else (
        pager.locator("li > a:not([rel])").last.click()
    )
    page.wait_for_load_state()
    assert page.locator("tbody tr").count() > 0
    assert "Next" in pager.locator("[aria-disabled=true]").all_inner_texts()


@pytest.mark.browser
def test_a_visitor_sorts_filters_and_sees_the_queries(
    address: str, page: Page, tmp_path: Path
) -> None:
    """A plain form and the heads of the columns; the foot shows the SQL and its time."""
    page.goto(f"{address}/?sort=name")
    page.get_by_label("Name contains").fill("springfield")
    page.get_by_role("combobox", name="Country").select_option("US")
    page.get_by_label("Population from").fill("1000")
    page.get_by_label("to", exact=True).fill("200000")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**name__icontains=springfield*")
    rows = page.locator("tbody tr")
    assert rows.count() > 5
    assert all("Springfield" in text for text in rows.all_inner_texts())
    page.get_by_role("link", name="Population").click()
    page.wait_for_url("**sort=-population*")
    assert "name__icontains=springfield" in page.url
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Population")
    numbers = [
        int(re.sub(r"\D", "", text)) for text in page.locator("tbody td.number").all_inner_texts()
    ]
    assert numbers == sorted(numbers, reverse=True)
    queries = page.locator("details.queries")
    assert re.fullmatch(
        r"\d queries, \d+\.\d ms in the database", queries.locator("summary").inner_text()
    )
    queries.locator("summary").click()
    assert "ORDER BY place.population DESC" in " ".join(queries.locator("pre").all_inner_texts())
    page.screenshot(path=tmp_path / "filtered.png", full_page=True)


def check_layout(page: Page) -> None:
    """Nothing sticks out to the right, and what can be touched is big enough to touch."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for control in page.locator("button, .button, input:visible, .step").all():
        box = control.bounding_box()
        assert box is not None
        # https://www.w3.org/TR/WCAG22/#target-size-minimum
        assert min(box["width"], box["height"]) >= 24


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PORT": "http"}, "PORT is 'http'. Use a number from 0 to 65535."),
        ({"PORT": "70000"}, "PORT is '70000'"),
        ({"HOST": "no such host"}, "Cannot listen at HOST='no such host'"),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL is no database URL"),
        ({"DATABASE_URL": "sqlite:////no/such/folder/atlas.db"}, "cannot be used"),
        (
            {"DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/atlas"},
            "127.0.0.1:1/atlas cannot be used",
        ),
    ],
)
def test_a_start_that_cannot_work_says_why_in_one_paragraph(
    warm_python: WarmPython, tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    """No traceback, no password, a status a script can see."""
    with Demo(warm_python, f"sqlite:///{tmp_path / 'atlas.db'}", **environment) as demo:
        said = demo.process.errors()
        assert demo.process.returncode == 1
    assert message in said
    assert "Traceback" not in said
    assert "secret" not in said
    assert len(said.strip().splitlines()) <= 3


def test_a_port_in_use_is_named(warm_python: WarmPython, database_url: str) -> None:
    """The most common accident of a demo."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Demo(warm_python, database_url, PORT=str(port)) as demo:
            said = demo.process.errors()
            assert demo.process.returncode == 1
    assert str(port) in said
    assert "Traceback" not in said
