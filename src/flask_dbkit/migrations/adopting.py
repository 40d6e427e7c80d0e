"""Let an existing migrations folder use Flask-DBKit's environment."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..support.files import write_file, write_new_file
from .binds import suffix_of
from .folder import Folder
from .template_files import template_text

__all__ = ["Replacement", "adopt", "kept_rules", "left_behind", "plan_adoption"]

_RULES = ("include_object", "include_name")
_SUFFIX = ".before-dbkit"
# In every script.py.mako of Flask-Migrate and of Alembic, and in those made from them by hand.
_STOCK_MARKS = ("${upgrades if upgrades else", "bind_names = []")


# What env.py has that Flask-Migrate writes: run_env() does that itself.
_STOCK_FUNCTIONS = frozenset(
    [
        "get_engine",
        "get_engine_url",
        "get_metadata",
        "do_run_migrations",
        "run_migrations_offline",
        "run_migrations_online",
    ]
)
_STOCK_OPTIONS = frozenset(
    [
        "connection",
        "url",
        "output_buffer",
        "target_metadata",
        "literal_binds",
        "upgrade_token",
        "downgrade_token",
    ]
)


@dataclass(frozen=True)
class Replacement:
    """A file that is to be written anew.

    Attributes:
        path: The file.
        before: Its text.
        after: What it will be.
    """

    path: Path
    before: str
    after: str

    def diff(self) -> str:
        """Return the difference as ``diff -u`` would."""
        return "".join(
            difflib.unified_diff(
                self.before.splitlines(keepends=True),
                self.after.splitlines(keepends=True),
                f"{self.path} (now)",
                f"{self.path} (adopted)",
            )
        )


def plan_adoption(folder: Folder) -> list[Replacement]:
    """Return what :func:`adopt` would change; nothing when the folder is adopted already.

    ``env.py`` is replaced unless it calls ``run_env``; ``script.py.mako`` if it is one of
    Flask-Migrate's. Revisions and ``alembic.ini`` stay as they are.
    """
    folder.config()  # says it when there is none
    planned = []
    if not folder.is_adopted:
        before = folder.environment
        planned.append(Replacement(folder.path / "env.py", before, _with_own_rules(before)))
    planned += _without_replicas(folder)
    mako = folder.path / "script.py.mako"
    if mako.is_file():
        text = mako.read_text(encoding="utf-8")
        if any(mark in text for mark in _STOCK_MARKS):
            planned.append(Replacement(mako, text, template_text("script.py.mako")))
    return planned


def _with_own_rules(before: str) -> str:
    """Return the new ``env.py``, with what the old one says about which objects it is about."""
    after = template_text("env.py")
    kept = [name for name in _RULES if _keyword_of(before, name) is not None]
    if not kept:
        return after
    tree = ast.parse(before)
    wanted = {function for name in kept if (function := _keyword_of(before, name)) is not None}
    sources = _sources_of(tree, before, wanted)
    arguments = ", ".join(["context", *(f"{name}={_keyword_of(before, name)}" for name in kept)])
    head, call = after.rsplit("run_env(context)", 1)
    return f"{head}{sources}\n\n\nrun_env({arguments}){call}"


def _keyword_of(text: str, name: str) -> str | None:
    """Return the function that an ``env.py`` gives to ``context.configure()`` under a name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == name and isinstance(node.value, ast.Name):
            return node.value.id
    return None


def _sources_of(tree: ast.Module, text: str, wanted: set[str]) -> str:
    """Return the statements that make these names, and what those need in turn."""
    taken: set[ast.stmt] = set()
    grows = True
    while grows:
        fresh = [node for node in tree.body if node not in taken and _names(node) & wanted]
        taken |= set(fresh)
        wanted |= {
            each.id for node in fresh for each in ast.walk(node) if isinstance(each, ast.Name)
        }
        grows = bool(fresh)
    ordered = [node for node in tree.body if node in taken]
    return "\n\n".join(str(ast.get_source_segment(text, node)) for node in ordered)


def _names(node: ast.stmt) -> set[str]:
    """Return the names that a statement makes."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(each.asname or each.name).partition(".")[0] for each in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {each.id for each in targets if isinstance(each, ast.Name)}


def kept_rules(planned: list[Replacement]) -> list[str]:
    """Return what of an old ``env.py`` is kept: ``include_object`` and the like."""
    return [
        name
        for each in planned
        if each.path.name == "env.py"
        for name in _RULES
        if f"{name}=" in each.after
    ]


def left_behind(planned: list[Replacement]) -> list[str]:
    """Return what is somebody's own in an old ``env.py``, and not in the new one.

    Functions, and options of ``context.configure()``, as they are to be called in a sentence.
    """
    found = []
    for each in planned:
        if each.path.name != "env.py":
            continue
        tree, kept = ast.parse(each.before), ast.parse(each.after)
        functions = {name for node in kept.body for name in _names(node)} | _STOCK_FUNCTIONS
        found += [
            f"{node.name}()"
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name not in functions
        ]
        options = {
            keyword.arg: None
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "configure"
            for keyword in node.keywords
            if keyword.arg is not None
        }
        taken = {*_STOCK_OPTIONS, *kept_rules(planned)}
        found += [f"{name}=" for name in options if name not in taken]
    return found


def _without_replicas(folder: Folder) -> Iterator[Replacement]:
    """Take the functions for replicas out of every revision."""
    names = {
        f"{direction}_{suffix_of(name)}"
        for name in folder.replicas
        for direction in ("upgrade", "downgrade")
    }
    for path in sorted((folder.path / "versions").glob("*.py")) if names else ():
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        for node in reversed(ast.parse(text).body):
            if isinstance(node, ast.FunctionDef) and node.name in names:
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                del lines[first - 1 : node.end_lineno]
        after = re.sub(r"\n{3,}(?=def |@|\Z)", "\n\n\n", "".join(lines)).rstrip("\n") + "\n"
        if len("".join(lines)) != len(text):
            yield Replacement(path, text, after)


def adopt(planned: list[Replacement]) -> list[Path]:
    """Write the files anew, and keep the old ones beside them.

    Returns:
        The copies of the old files.
    """
    copies = []
    for replacement in planned:
        copies.append(_keep(replacement))
        write_file(replacement.path, replacement.after.encode())
    return copies


def _keep(replacement: Replacement) -> Path:
    path, number = replacement.path, 1
    copy = path.with_name(path.name + _SUFFIX)
    while True:
        try:
            write_new_file(copy, replacement.before.encode())
        except FileExistsError:
            number += 1
            copy = path.with_name(f"{path.name}{_SUFFIX}-{number}")
        else:
            return copy
