"""The sentences of a page of the documentation, and the tests that show them.

A sentence is named by how it begins. One that is new, or was changed at its beginning, is found
until somebody says what shows it; so is the name of a test that is gone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

__all__ = [
    "LEADS_ON",
    "ROOT",
    "Shown",
    "gone",
    "sentences",
    "without_one_entry",
    "without_sentence",
]

ROOT = Path(__file__).resolve().parents[2]
LEADS_ON = "It says what is shown below it."

Shown = Mapping[str, tuple[str, ...] | str]
"""By the beginning of a sentence: the tests that show it, or why none has to."""

_NO_PROSE = re.compile(r"^```.*?^```$|<!--.*?-->", re.DOTALL | re.MULTILINE)
_END = re.compile(r'(?<=[.?!])\s+(?=["A-Z*`[])|(?<=[.!]\*)\s+|(?<=\.\*\*)\s+')


def sentences(page: Path) -> Iterator[str]:
    """Yield the sentences of a page, and the rows of its tables; no headings, no code."""
    prose = _NO_PROSE.sub("", page.read_text(encoding="utf-8")).strip()
    for block in re.split(r"\n\s*\n", prose):
        lines = [line.strip() for line in block.strip().splitlines()]
        if lines[0].startswith("#"):
            continue
        if lines[0].startswith("|"):
            yield from lines[2:]
            continue
        for item in re.split(r"(?:^|\n)- ", "\n".join(lines)):
            text = " ".join(item.removeprefix(">").split())
            yield from filter(None, _END.split(text))


def without_one_entry(page: Path, shown: Shown) -> list[str]:
    """Return the sentences of a page that no entry names, or more than one."""
    return [sentence for sentence in sentences(page) if sum(map(sentence.startswith, shown)) != 1]


def without_sentence(page: Path, shown: Shown) -> list[str]:
    """Return the entries that name no sentence of a page."""
    said = list(sentences(page))
    return [one for one in shown if not any(sentence.startswith(one) for sentence in said)]


def gone(shown: Shown) -> set[str]:
    """Return the named tests that are not there."""
    return {name for tests in shown.values() if not isinstance(tests, str) for name in tests} - (
        _functions()
    )


@cache
def _functions() -> frozenset[str]:
    return frozenset(
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )
