"""Write into the pages of the documentation what stands elsewhere: code, tables, the map.

python tools/pages.py           # writes
python tools/pages.py --check   # tells which pages are out of date

A page says between two comments what belongs there, and this writes it:

    <!-- code: examples/snippets/library.py, sort -->
    <!-- end -->

`code` takes a file, or a part of it: what stands between its comments `# start sort` and
`# end sort`, `def name`, or `lines 3-18`. `table` takes the name of a function in
`reference.py`, and `names` public names.
So a page can be read wherever Markdown can, and still shows only what the tests have run.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

_LANGUAGES = {
    ".cfg": "text",
    ".csv": "text",
    ".env": "text",
    ".html": "html+jinja",
    ".py": "python",
    ".service": "ini",
    ".sh": "sh",
    ".timer": "ini",
    ".toml": "toml",
    ".worker": "dockerfile",
    ".yaml": "yaml",
    "": "dockerfile",
}
_MARKED = re.compile(
    r"^(?P<indent> *)<!-- (?P<kind>code|table|names): (?P<what>[^\n]+?) -->\n"
    r"(?P<body>.*?)^(?P=indent)<!-- end -->$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Mark:
    """One place of a page that is written from elsewhere.

    Attributes:
        page: The file it is in.
        kind: ``code``, ``table`` or ``names``.
        what: The file, the table, or the names.
        part: Which part of the file; empty for all of it.
    """

    page: Path
    kind: str
    what: str
    part: str


def sources() -> list[Path]:
    """Return every page a reader can open."""
    below = (path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
    return [ROOT / "README.md", *sorted(below)]


def marks(page: Path) -> Iterator[Mark]:
    """Yield the marks of a page."""
    for match in _MARKED.finditer(page.read_text(encoding="utf-8")):
        yield _mark(page, match)


def without_marks(text: str) -> str:
    """Return what of a page is not written from elsewhere."""
    return _MARKED.sub("", text)


def _mark(page: Path, match: re.Match[str]) -> Mark:
    what, _, part = match["what"].partition(", ")
    return Mark(page, match["kind"], what, part)


def code(path: Path, part: str) -> tuple[str, str]:
    """Return the language of a file, and one part of its text.

    Raises:
        SystemExit: The file or the part is not there, or is there twice.
    """
    text = path.read_text(encoding="utf-8")
    language = _LANGUAGES[path.suffix]
    if not part:
        return language, text[_docstring_ends(text) :] if path.suffix == ".py" else text
    if part.startswith("lines "):
        first, last = part.removeprefix("lines ").split("-")
        return language, "\n".join(text.splitlines()[int(first) - 1 : int(last)])
    if part.startswith("def "):
        return language, _function(path, text, part.removeprefix("def "))
    lines = text.splitlines()
    comments = (("# start", "# end", language), ("{# start", "{# end", "html+jinja"))
    for start, end, marked in comments:
        begins = [number for number, line in enumerate(lines) if _is(line, start, part)]
        ends = [number for number, line in enumerate(lines) if _is(line, end, part)]
        if len(begins) == len(ends) == 1:
            return marked, textwrap.dedent("\n".join(lines[begins[0] + 1 : ends[0]]))
    raise SystemExit(f"{path.relative_to(ROOT)} has no part {part!r}, or has it twice.")


def _is(line: str, word: str, part: str) -> bool:
    return line.strip() in (f"{word} {part}", f"{word} {part} #}}")


def _docstring_ends(text: str) -> int:
    # A snippet begins by telling which page it belongs to: not part of what a reader saves.
    tree = ast.parse(text)
    if ast.get_docstring(tree) is None:
        return 0
    return sum(len(line) for line in text.splitlines(keepends=True)[: tree.body[0].end_lineno])


def _function(path: Path, text: str, name: str) -> str:
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    raise SystemExit(f"{path.relative_to(ROOT)} has no function {name!r}.")


def _fenced(language: str, text: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}\n"


def _written(mark: Mark) -> str:
    if mark.kind == "code":
        path = ROOT / mark.what
        if not path.exists():
            raise SystemExit(f"{mark.page.relative_to(ROOT)}: there is no {mark.what}.")
        return _fenced(*code(path, mark.part))
    # Imported here: the documentation is built without the library.
    import reference

    text = reference.TEXTS[mark.what]() if mark.kind == "table" else reference.names(mark.what)
    return f"\n{text.strip()}\n\n"


def written(page: Path) -> str:
    """Return the text of a page as it has to be."""

    def replace(match: re.Match[str]) -> str:
        body = textwrap.indent(_written(_mark(page, match)), match["indent"])
        first, last = match[0].splitlines()[0], f"{match['indent']}<!-- end -->"
        return f"{first}\n{body}{last}"

    return _MARKED.sub(replace, page.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    check = "--check" in arguments
    stale = []
    for page in sources():
        text = written(page)
        if text != page.read_text(encoding="utf-8"):
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"Out of date: {', '.join(stale)}. Run: python tools/pages.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
