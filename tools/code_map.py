"""Write the map of the code into its page: one line a module, taken from the module itself.

python tools/code_map.py           # writes it
python tools/code_map.py --check   # tells whether it is up to date
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "flask_dbkit"
PAGE = ROOT / "docs" / "explanation" / "code.md"
BEGIN, END = "<!-- map: written by tools/code_map.py -->\n", "<!-- end of the map -->\n"


def first_line(path: Path) -> str:
    """Return what a module says of itself, in one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    if not paragraph:
        raise SystemExit(f"{path.relative_to(ROOT)} has no docstring.")
    return paragraph.replace("``", "`").replace(":mod:", "").replace("|", "\\|")


def rows(folder: Path) -> list[str]:
    """Return a table of the modules of one folder and of the folders in it."""
    found = ["", "| module | |", "|---|---|"]
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        if inside == Path("__init__.py") or "template" in inside.parts:
            continue
        name = f"{inside.parent}/" if inside.name == "__init__.py" else str(inside)
        found.append(f"| `{name}` | {first_line(path)} |")
    return found


def written() -> str:
    """Return the map."""
    lines = ["### The top level", "", "| module | |", "|---|---|"]
    lines += [f"| `{path.name}` | {first_line(path)} |" for path in sorted(PACKAGE.glob("*.py"))]
    for face in sorted(PACKAGE.glob("*/__init__.py")):
        room = face.parent
        lines += ["", f"### `{room.name}/`", "", first_line(face), *rows(room)]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the text of the page with the map as it has to be."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE.relative_to(ROOT)} has no place for the map.")
    return f"{before}{BEGIN}\n{written()}\n{END}{after}"


def main() -> int:
    """Write the map, or compare it."""
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in sys.argv[1:]:
        if old != new:
            print("The map of the code is out of date: python tools/code_map.py")
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
