"""The Python files of an application, read once for all checks that look at code."""

from __future__ import annotations

import ast
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

__all__ = ["Source", "Sources", "dotted", "is_of_tests", "last_name", "shown"]

_TEST_FOLDERS = frozenset({"tests", "test", "testing"})
_LEFT_OUT = _TEST_FOLDERS | {
    *("__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"),
    *("docs", "static", "templates", "instance"),
}
_TEST_FILES = re.compile(r"(test_.*|.*_test|tests?|conftest|setup|noxfile)\.py")
_IGNORE = re.compile(
    r"#\s*dbkit:\s*ignore\s+(?P<ids>[A-Za-z]{2,8}\d{3,4}(?:[\s,]+[A-Za-z]{2,8}\d{3,4})*)"
)
_MOST_FILES = 5000

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        path: The file.
        shown: Its path as people and code hosts write it.
        text: Its content.
        tree: The same, parsed.
    """

    path: Path
    shown: str
    text: str
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[tuple[ast.AST, ast.AST]]:
        """Every node with the function it is in, or the module, from top to bottom."""
        found: list[tuple[ast.AST, ast.AST]] = []

        def visit(node: ast.AST, around: ast.AST) -> None:
            inner = node if isinstance(node, Function) else around
            for child in ast.iter_child_nodes(node):
                found.append((child, inner))
                visit(child, inner)

        visit(self.tree, self.tree)
        return found

    @property
    def calls(self) -> Iterator[tuple[ast.Call, ast.AST]]:
        """Every call with the function it is in, or the module."""
        for node, around in self.nodes:
            if isinstance(node, ast.Call):
                yield node, around

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """What names of the module are given once and for all."""
        found: dict[str, ast.expr] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found[target.id] = node.value
            elif (
                isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
            ):
                found[node.target.id] = node.value
        return found

    def place(self, node: ast.AST) -> str:
        """Return ``file.py:12`` of a node."""
        return f"{self.shown}:{getattr(node, 'lineno', 1)}"

    def is_ignored(self, check_id: str, node: ast.AST) -> bool:
        """Tell whether ``# dbkit: ignore DK100 reason`` stands in the lines of a node, or above."""
        first = getattr(node, "lineno", 1)
        last = getattr(node, "end_lineno", None) or first
        lines = self._lines[max(0, first - 2) : last]
        if len(lines) == last - first + 2 and not lines[0].lstrip().startswith("#"):
            lines = lines[1:]  # the line above counts if it is a comment alone
        return any(
            check_id in match["ids"].upper() for line in lines for match in _IGNORE.finditer(line)
        )

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.splitlines()


class Sources:
    """The files of one application: its package, or its module with what it has loaded.

    Tests, revisions, virtual environments and what is generated are left out.

    Args:
        import_name: Of the application.
        root: Its folder.
    """

    def __init__(self, import_name: str, root: str | Path) -> None:
        self._import_name, self._root = import_name, Path(root)

    def __iter__(self) -> Iterator[Source]:
        return iter(self._files)

    @cached_property
    def _files(self) -> list[Source]:
        return [source for path in self._paths() if (source := _read(path)) is not None]

    @cached_property
    def modules(self) -> list[tuple[ModuleType, Source]]:
        """The modules of these files that are loaded, each with its file."""
        found = []
        for module in list(sys.modules.values()):
            source = self._by_name.get(getattr(module, "__file__", None) or "")
            if source is not None:
                found.append((module, source))
        return found

    def place_of(self, cls: type[object], attribute: str | None = None) -> str | None:
        """Return ``file.py:12`` where a class, or an attribute of it, is written.

        Returns:
            The place of the class for an attribute that is written elsewhere; ``None`` for a class
            that is.
        """
        found = self._written(cls)
        if found is None:
            return None
        source, node = found
        inside = (one for one in node.body if attribute in [*_targets(one)])
        return source.place(next(inside, node))

    def has(self, cls: type[object], attribute: str | None = None) -> bool:
        """Tell whether a class, or an attribute of it, is the application's own.

        A library may make classes, and add attributes to those of others. Without any source it
        is taken for the application's.
        """
        if not self._files:
            return True
        if attribute is None:
            return self._written(cls) is not None
        written = filter(None, map(self._written, cls.__mro__))
        return any(attribute in [*_targets(one)] for _, node in written for one in node.body)

    def _written(self, cls: type[object]) -> tuple[Source, ast.ClassDef] | None:
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        source = self._by_name.get(file or "")
        if source is None:
            return None
        name = cls.__qualname__.rpartition(".")[2]
        return next(
            (
                (source, node)
                for node, _ in source.nodes
                if isinstance(node, ast.ClassDef) and node.name == name
            ),
            None,
        )

    @cached_property
    def _by_name(self) -> dict[str, Source]:
        return {str(source.path): source for source in self}

    def _paths(self) -> list[Path]:
        module = sys.modules.get(self._import_name)
        file = getattr(module, "__file__", None)
        if module is None or file is None:
            return []
        top = sys.modules.get(self._import_name.partition(".")[0], module)
        if not hasattr(top, "__path__"):
            return _loaded_below(Path(file))
        folder = Path(str(getattr(top, "__file__", None) or file)).parent
        beside = sorted(folder.parent.glob("*.py")) if folder.parent != Path(sys.prefix) else []
        found = [*_below(folder), *filter(_counts, beside)]
        return found[:_MOST_FILES]


def _targets(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement of a class gives."""
    if isinstance(node, ast.AnnAssign):
        yield from (node.target.id,) if isinstance(node.target, ast.Name) else ()
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, without those that are not what is served."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not _is_left_out(path):
                yield from _below(path)
        elif path.suffix == ".py" and _counts(path):
            yield path


def _is_left_out(folder: Path) -> bool:
    return (
        folder.name in _LEFT_OUT
        or folder.name.startswith(".")
        or (folder / "pyvenv.cfg").exists()
        or (folder / "env.py").exists()  # revisions have a linter of their own
    )


def _counts(path: Path) -> bool:
    return not _TEST_FILES.fullmatch(path.name)


def is_of_tests(path: Path) -> bool:
    """Tell whether a file is one of tests, by its name and its folders below the current one."""
    return not _counts(path) or not _TEST_FOLDERS.isdisjoint(Path(shown(path)).parts[:-1])


def _loaded_below(file: Path) -> list[Path]:
    """Return the file of an application that is one module, and what it has loaded beside it."""
    root, found = file.parent, {file}
    beginning = f"{root}{os.sep}"
    for module in list(sys.modules.values()):
        other = getattr(module, "__file__", None)
        if isinstance(other, str) and other.startswith(beginning) and other.endswith(".py"):
            path = Path(other)
            folders = [root / part for part in path.relative_to(root).parents][:-1]
            if _counts(path) and not any(map(_is_left_out, folders)):
                found.add(path)
    return sorted(found)


def _read(path: Path) -> Source | None:
    try:
        text = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in somebody's texts
            tree = ast.parse(text, str(path))
    except (OSError, SyntaxError, ValueError):
        return None  # it cannot be imported either
    return Source(path, shown(path), text, tree)


def shown(path: Path) -> str:
    """Return a path as people write it: from the current folder on, if it is below."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()


def dotted(node: ast.AST) -> str:
    """Return ``db.session.execute`` of an expression; calls and what else is between are ``?``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def last_name(node: ast.AST) -> str:
    """Return ``execute`` of ``db.session.execute``."""
    return dotted(node).rpartition(".")[2]
