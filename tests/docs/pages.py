"""The pages of the documentation as the tests read them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pages import marks, without_marks

__all__ = [
    "DOCS",
    "README",
    "ROOT",
    "SNIPPETS",
    "Block",
    "anchors",
    "blocks",
    "included",
    "pages",
    "typed",
]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
SNIPPETS = ROOT / "examples" / "snippets"

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+|:::+)(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: The file it is in.
        language: The word behind the fence, such as ``python`` or ``{toctree}``.
        argument: What follows the word.
        body: Its lines, without indentation.
    """

    page: Path
    language: str
    argument: str
    body: str


def pages() -> list[Path]:
    """Return the sources of every page."""
    return sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, those inside admonitions included."""
    yield from _blocks(page, page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return what a link to a heading of the page may name, as code hosts and MyST make it."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = found.get(slug, 0)
        found[slug] = number + 1
        if number:
            found[f"{slug}-{number}"] = 1
    return set(found)


def typed(page: Path) -> Iterator[Block]:
    """Yield the blocks that were typed into a page, and not written there by ``tools/pages.py``."""
    yield from _blocks(page, without_marks(page.read_text(encoding="utf-8")))


def _blocks(page: Path, text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        language, _, argument = match["info"].strip().partition(" ")
        body = textwrap.dedent(match["body"])
        yield Block(page, language, argument, body)
        if language.startswith("{"):
            yield from _blocks(page, body)


def included(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file a page shows code of, with the part; empty for all of it."""
    for mark in marks(page):
        if mark.kind == "code":
            yield ROOT / mark.what, mark.part
