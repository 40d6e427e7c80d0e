"""The tables about lists are those of the code."""

from __future__ import annotations

import re

from flask_dbkit.arguments import RESERVED
from flask_dbkit.filtering import OPERATORS
from tests.docs.pages import DOCS, ROOT

PAGE = (DOCS / "reference/lists.md").read_text(encoding="utf-8")


def test_the_reference_holds_every_operator_and_reserved_parameter() -> None:
    """A reader can rely on the tables."""
    table = PAGE.partition("## Operators")[2].partition("## Reserved")[0]
    first_cells = "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))
    assert sorted(re.findall(r"`(\w+)`", first_cells)) == sorted(OPERATORS)
    reserved = PAGE.partition("## Reserved parameters")[2].partition("##")[0]
    assert re.findall(r"`(\w+)`", reserved) == list(RESERVED)


def test_the_reference_holds_every_error_code() -> None:
    """Each code the library can answer with, and no other."""
    sources = (ROOT / "src/flask_dbkit").rglob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    named = r"(?:mistake\(\s*[\w\"]+,\s*|_refused\(|one\.wrong\(\"per_page\",\s*)\"(\w+)\""
    assert set(re.findall(named, text)) == set(
        re.findall(r"^\| `query\.(\w+)`", PAGE, re.MULTILINE)
    )
