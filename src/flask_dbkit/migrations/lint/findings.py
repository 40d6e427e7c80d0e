"""What the linter found, and what its author has said about it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LintFinding", "RevisionSource", "assured"]

_IGNORE = re.compile(
    r"#\s*dbkit:\s*ignore\s+((?:DM\d{3}|DM\dxx|sq:[\w-]+)(?:[\s,]+(?:DM\d{3}|DM\dxx|sq:[\w-]+))*)",
    re.IGNORECASE,
)

_WHOLE_FILE = range(1, 10**9)


@dataclass(frozen=True)
class LintFinding:
    """One finding.

    Attributes:
        rule: Its id: ``DM102``, or ``sq:`` and the name of a rule of squawk.
        level: ``error`` or ``warning``.
        revision: The revision.
        file: The file, ``None`` for the folder.
        line: The line in it, from 1.
        message: What was found, and where.
        fix: What to do instead.
    """

    rule: str
    level: str
    revision: str
    file: Path | None
    line: int
    message: str
    fix: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "file": str(self.file) if self.file else None}


@contextmanager
def assured(reason: str) -> Iterator[None]:
    """Tell the linter that what happens in the block is safe here.

    .. code-block:: python

        with assured("the table has ten rows"):
            op.create_index("ix_shelf_name", "shelf", ["name"])

    Args:
        reason: Why, for the next reader. It does nothing else.

    .. versionadded:: 0.1
    """
    if not reason.strip():
        raise ValueError("assured() wants the reason why this is safe here.")
    yield


class RevisionSource:
    """The text of a revision file, with what it says to the linter.

    ``# dbkit: ignore DM102 reason`` counts for the statement it stands beside; alone on its line
    for the rest of the block, as pylint's do; beside or above ``def`` for the function; above
    everything else for the file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text, str(path))
        self._ignored: list[tuple[range, frozenset[str]]] = []
        self._assured: list[range] = []
        self._read_comments()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.With) and any(map(_is_assured, node.items)):
                self._assured.append(_lines(node))

    def is_ignored(self, ids: tuple[str, ...], line: int) -> bool:
        """Tell whether a finding with any of these ids, at a line, is known to the author."""
        if any(line in lines for lines in self._assured):
            return True
        for lines, ignored in self._ignored:
            if line in lines and any(_matches(each, ignored) for each in ids):
                return True
        return False

    def function(self, name: str) -> ast.FunctionDef | None:
        """Return a function of the file."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return node
        return None

    def _read_comments(self) -> None:
        statements = [node for node in ast.walk(self.tree) if isinstance(node, ast.stmt)]
        body = self.tree.body[1:] if ast.get_docstring(self.tree) else self.tree.body
        first = body[0].lineno if body else 0
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        for token in tokens:
            if token.type != tokenize.COMMENT:
                continue
            line = token.start[0]
            alone = not token.line[: token.start[1]].strip()
            for match in _IGNORE.finditer(token.string):
                lines = _WHOLE_FILE if alone and line < first else _scope(line, alone, statements)
                self._ignored.append((lines, frozenset(re.split(r"[\s,]+", match[1].lower()))))


def _scope(line: int, alone: bool, statements: list[ast.stmt]) -> range:
    """Return the lines of the statement a comment is about."""
    around = [one for one in statements if line in _lines(one)]
    smallest = min(around, key=lambda one: len(_lines(one)), default=None)
    if smallest is not None:
        whole = _lines(smallest)
        in_block = alone and hasattr(smallest, "body")
        return range(line, whole.stop) if in_block else whole
    after = [one for one in statements if one.lineno > line]
    return _lines(min(after, key=lambda one: one.lineno)) if after else range(line, line + 1)


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _is_assured(item: ast.withitem) -> bool:
    call = item.context_expr
    if not isinstance(call, ast.Call):
        return False
    function = call.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    return name in ("assured", "safety_assured")


def _matches(each: str, ignored: frozenset[str]) -> bool:
    lowered = each.lower()
    return lowered in ignored or (lowered.startswith("dm") and f"{lowered[:3]}xx" in ignored)
