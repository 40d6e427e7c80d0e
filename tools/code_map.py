"""The map of the code: one line a module, taken from the module itself.

`pages.py` writes it into its page, with everything else that is written there. Called by itself,
this does the same.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "flask_dbkit"


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


if __name__ == "__main__":
    import pages

    sys.exit(pages.main(sys.argv[1:]))
