"""Look for modules of the library that import each other, however long the way round is.

Every import counts: those for types only, because a reader follows them too, and those inside a
function, because that is where a circle hides from Python. ``lint-imports`` looks at rooms; a
circle inside a room, or through one of its faces, is found here only.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "src"
PACKAGE = "flask_dbkit"


def modules(sources: Path = SOURCES) -> dict[str, Path]:
    """Return the file of each module, by the module's name."""
    found = {}
    for path in sorted((sources / PACKAGE).rglob("*.py")):
        parts = path.relative_to(sources).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(sources: Path = SOURCES) -> dict[str, set[str]]:
    """Return which of its own modules each module of the library imports."""
    known = modules(sources)
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        graph[name] = {
            module
            for node in ast.walk(tree)
            for module in _imported(node, package, known)
            if module != name
        }
    return graph


def _imported(node: ast.AST, package: str, known: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")
        base = above[: len(above) - node.level + 1] if node.level else []
        source = ".".join([*base, node.module] if node.module else base)
        for alias in node.names:
            inner = f"{source}.{alias.name}"
            if inner in known:
                yield inner
            elif source in known:
                yield source


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the shortest way round for each group of modules that import each other."""
    found: list[list[str]] = []
    covered: set[str] = set()
    for start in sorted(graph):
        if start not in covered and (way := _way_round(graph, start)) is not None:
            covered.update(way)
            found.append(way)
    return found


def _way_round(graph: Mapping[str, set[str]], start: str) -> list[str] | None:
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for module in sorted(graph[way[-1]]):
            if module == start:
                return [*way, start]
            if module not in seen:
                seen.add(module)
                ways.append([*way, module])
    return None


def main() -> int:
    """Print each circle, and fail if there is one."""
    found = circles(imports())
    for way in found:
        print("A circle of imports: " + " -> ".join(way))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
