"""The pages of the documentation as the tests read them."""

from __future__ import annotations

import importlib.util
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

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
        language: The word behind the fence, such as ``python`` or ``{literalinclude}``.
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


def _blocks(page: Path, text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        language, _, argument = match["info"].strip().partition(" ")
        body = textwrap.dedent(match["body"])
        yield Block(page, language, argument, body)
        if language.startswith("{"):
            yield from _blocks(page, body)


def included(page: Path) -> Iterator[tuple[Path, Block]]:
    """Yield each file a page includes with the block that does it."""
    for block in blocks(page):
        if block.language == "{literalinclude}":
            yield (page.parent / block.argument).resolve(), block


def load_from_code() -> ModuleType:
    """Import the Sphinx extension that writes the reference."""
    spec = importlib.util.spec_from_file_location("from_code", DOCS / "_ext" / "from_code.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
