"""The rules about the file of a revision, read from its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from .findings import RevisionSource
from .view import Hit

__all__ = ["FolderFacts", "examine_file"]

_EXECUTE = frozenset({"execute", "text", "exec_driver_sql", "scalar"})


@dataclass(frozen=True)
class FolderFacts:
    """What the rules about one file have to know of the rest.

    Attributes:
        model_modules: Modules that hold mapped classes.
        model_names: Names of mapped classes, and of the ``SQLAlchemy`` object.
        packages: First parts of the names of those modules, and of the application.
        suffixes: Endings of ``upgrade_`` that the file has to have, see :mod:`..folder`.
        joins: Whether the revision follows several others.
    """

    model_modules: frozenset[str] = frozenset()
    model_names: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()
    joins: bool = False


def examine_file(source: RevisionSource, around: FolderFacts) -> Iterator[Hit]:
    """Yield what is wrong with a file, without running it."""
    yield from _emptiness(source, around)
    yield from _imports(source, around)
    yield from _built_sql(source)
    yield from _databases(source, around)


def _functions(source: RevisionSource, direction: str) -> list[ast.FunctionDef]:
    """Return what does the work: ``upgrade()``, or every ``upgrade_<bind>()``."""
    every = [node for node in source.tree.body if isinstance(node, ast.FunctionDef)]
    parts = [node for node in every if node.name.startswith(f"{direction}_")]
    whole = [node for node in every if node.name == direction]
    if whole and parts and _asks_for_database(whole[0]):
        return parts
    return whole


def _asks_for_database(function: ast.FunctionDef) -> bool:
    """Tell whether a function wants to be told the database, see :mod:`..revisions`."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    required = arguments[: len(arguments) - len(function.args.defaults)]
    return bool(required) or any(each.arg == "engine_name" for each in arguments)


def _is_made_elsewhere(source: RevisionSource, direction: str) -> bool:
    """Tell whether a function is imported, or the result of a call: its body is not here."""
    for node in source.tree.body:
        names: list[str] = []
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            names = [each.id for each in node.targets if isinstance(each, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        if direction in names:
            return True
    return False


def _does_nothing(node: ast.FunctionDef) -> bool:
    return all(
        isinstance(each, ast.Pass)
        or (isinstance(each, ast.Return) and each.value is None)
        or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        for each in node.body
    )


def _emptiness(source: RevisionSource, around: FolderFacts) -> Iterator[Hit]:
    if _is_made_elsewhere(source, "upgrade") or _is_made_elsewhere(source, "downgrade"):
        return
    upgrades, downgrades = _functions(source, "upgrade"), _functions(source, "downgrade")
    if all(map(_does_nothing, upgrades)):
        if not around.joins:
            line = upgrades[0].lineno if upgrades else 1
            yield Hit("DM002", line, "upgrade() does nothing")
        return
    if all(map(_does_nothing, downgrades)):
        line = downgrades[0].lineno if downgrades else upgrades[0].lineno
        yield Hit("DM001", line, "downgrade() does nothing")
        return
    back = {node.name.removeprefix("downgrade"): node for node in downgrades}
    for node in upgrades:
        other = back.get(node.name.removeprefix("upgrade"))
        if not _does_nothing(node) and (other is not None and _does_nothing(other)):
            yield Hit("DM001", other.lineno, f"{other.name}() does nothing")


def _imports(source: RevisionSource, around: FolderFacts) -> Iterator[Hit]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in around.model_modules or _is_models(alias.name):
                    yield Hit("DM003", node.lineno, f"import {alias.name}")
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = {alias.name for alias in node.names}
            own = module.partition(".")[0] in around.packages or node.level > 0
            mapped = own and names & around.model_names
            modules = {f"{module}.{name}" for name in names} & around.model_modules
            if mapped or modules or _is_models(module) or (own and "models" in names):
                yield Hit("DM003", node.lineno, f"from {module} import {', '.join(sorted(names))}")


def _is_models(module: str) -> bool:
    return "models" in module.split(".")


def _built_sql(source: RevisionSource) -> Iterator[Hit]:
    seen: set[int] = set()
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in _EXECUTE and _is_built(node.args[0]) and node.lineno not in seen:
            seen.add(node.lineno)
            yield Hit("DM006", node.lineno, f"{name}({_kind(node.args[0])})")


def _is_built(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.Add)):
        return _has_text(node) and not _is_literal(node)
    if isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "format":
            return isinstance(function.value, (ast.Constant, ast.JoinedStr))
    return False


def _has_text(node: ast.expr) -> bool:
    return any(
        isinstance(each, ast.Constant) and isinstance(each.value, str) for each in ast.walk(node)
    )


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        adds = isinstance(node.op, ast.Add)
        return adds and _is_literal(node.left) and _is_literal(node.right)
    return isinstance(node, ast.Constant)


def _kind(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "f'...'"
    return "'...' % ..." if isinstance(node, ast.BinOp) else "'...'.format(...)"


def _databases(source: RevisionSource, around: FolderFacts) -> Iterator[Hit]:
    whole = source.function("upgrade")
    if whole is None or not _asks_for_database(whole):
        return
    names = {node.name for node in source.tree.body if isinstance(node, ast.FunctionDef)}
    for suffix in sorted(around.suffixes | _mentioned(names)):
        for direction in ("upgrade", "downgrade"):
            if f"{direction}_{suffix}" not in names:
                yield Hit("DM007", whole.lineno, f"{direction}_{suffix}() is missing")


def _mentioned(names: set[str]) -> set[str]:
    """Return the databases that any function of the file is for."""
    return {
        name.removeprefix(f"{direction}_")
        for name in names
        for direction in ("upgrade", "downgrade")
        if name.startswith(f"{direction}_")
    }
