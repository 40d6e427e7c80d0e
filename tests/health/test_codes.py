"""Every code a check can give is described, and none that is described is gone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from flask_dbkit.health import CODES

SOURCE = Path(__file__).parents[2] / "src" / "flask_dbkit"
PREFIXES = ("db.", "disk.", "wal.", "replica.", "migrations.", "backup.", "check.")
MODULES = [
    *(path for path in (SOURCE / "health").rglob("*.py") if path.name != "codes.py"),
    SOURCE / "migrations" / "health.py",
]


def _sources() -> Iterator[ast.AST]:
    for path in MODULES:
        yield ast.parse(path.read_text(encoding="utf-8"))
    # Its errors have codes of their own, which are no health check's.
    for node in ast.walk(
        ast.parse((SOURCE / "backups" / "current.py").read_text(encoding="utf-8"))
    ):
        if isinstance(node, ast.FunctionDef) and node.name == "age_check":
            yield node


def _codes_in_the_source() -> set[str]:
    found = set()
    for source in _sources():
        for node in ast.walk(source):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                if text.startswith(PREFIXES) and text.replace(".", "").replace("_", "").isalpha():
                    found.add(text)
    return found | {"draining"}


def test_the_table_of_codes_is_that_of_the_source() -> None:
    """Who is woken by a code finds what it means."""
    assert _codes_in_the_source() == set(CODES)


def test_every_code_says_what_was_found_and_where_to_look() -> None:
    """In whole sentences, and with a status."""
    for name, code in CODES.items():
        assert code.status in ("fail", "warn"), name
        for text in (code.meaning, code.remedy):
            assert text[0].isupper(), name
            assert text.endswith((".", "?")), name
