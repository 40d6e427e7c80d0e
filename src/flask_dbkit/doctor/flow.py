"""Where the value of an expression comes from, as far as one function tells.

Nothing is run: names are followed to what they are given in the same function, and to the
constants of the module. What is not known is neither called safe nor called a client's.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from .sources import Source, dotted, last_name

__all__ = ["Flow"]

_FROM_CLIENT = frozenset(
    {"args", "form", "values", "json", "get_json", "view_args", "headers", "cookies", "data"}
)
_NUMBERS = frozenset({"int", "float", "len", "bool", "round", "abs", "range"})
_QUOTING = frozenset(
    {"quote", "quote_identifier", "format_table", "format_column", "quoted_name", "quote_schema"}
)
_ROUTES = frozenset({"route", "get", "post", "put", "patch", "delete"})
_WRITTEN = frozenset({"__tablename__", "__table__", "fullname"})
_KEEPING = frozenset({"join", "format", "strip", "lower", "upper", "get"})
_DEPTH = 10


class Flow:
    """The names of one function.

    Args:
        source: The file.
        around: The function, or the module.
    """

    def __init__(self, source: Source, around: ast.AST) -> None:
        self._source, self._around = source, around
        self._given: dict[str, list[ast.expr]] = {}
        for node in self._own_nodes():
            self._note(node)

    def built(self, node: ast.expr, depth: int = _DEPTH) -> ast.expr | None:
        """Return the expression that puts a text together from parts that are not constant."""
        if isinstance(node, ast.JoinedStr):
            parts = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
            return node if not all(map(self.is_constant, parts)) else None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and _is_text(node.left):
            return node if not self.is_constant(node.right) else None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            texts = [
                part for part in _summands(node) if _is_text(part) or self.built(part, depth - 1)
            ]
            return node if texts and not all(map(self.is_constant, _summands(node))) else None
        if isinstance(node, ast.Call) and _is_format(node):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            return node if not all(map(self.is_constant, values)) else None
        if isinstance(node, ast.Name) and depth:
            for value in self._values(node.id):
                found = self.built(value, depth - 1)
                if found is not None:
                    return found
        return None

    def is_constant(self, node: ast.expr, depth: int = _DEPTH) -> bool:
        """Tell whether a value is written in the code, is a number, or was quoted."""
        if depth == 0:
            return False
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):  # ["?"] * len(ids)
            return self.is_constant(node.left, depth - 1) or self.is_constant(node.right, depth - 1)
        parts = self._parts(node)
        return parts is not None and all(self.is_constant(part, depth - 1) for part in parts)

    def _parts(self, node: ast.expr) -> list[ast.expr] | None:
        """Return what has to be constant for an expression to be; ``None``: nobody knows."""
        if isinstance(node, ast.Call):
            return _parts_of_call(node)
        if isinstance(node, ast.Name):
            return self._values(node.id) or None
        if isinstance(node, ast.Attribute):
            # Model.__tablename__, table.fullname, Settings.TABLE: written in the code.
            return [] if node.attr in _WRITTEN or node.attr.isupper() else None
        found = _PARTS.get(type(node))
        return None if found is None else found(node)

    def from_client(self, node: ast.AST, depth: int = _DEPTH) -> bool:
        """Tell whether a value comes out of the request."""
        if depth == 0:
            return False
        if isinstance(node, ast.Call) and last_name(node.func) in _NUMBERS:
            return False
        if isinstance(node, ast.Attribute) and _is_of_request(node):
            return True
        if isinstance(node, ast.Name):
            if node.id in self._arguments and node.id not in self._given:
                return self._is_view  # a variable of its rule
            return any(self.from_client(value, depth - 1) for value in self._values(node.id))
        return any(self.from_client(part, depth) for part in _carried(node))

    def is_checked(self, node: ast.expr) -> bool:
        """Tell whether the function compares a name with what is allowed: ``if name in …``."""
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        for other in self._own_nodes():
            if isinstance(other, ast.Compare) and any(
                isinstance(op, (ast.In, ast.NotIn)) for op in other.ops
            ):
                left = {one.id for one in ast.walk(other.left) if isinstance(one, ast.Name)}
                if left & names:
                    return True
        return False

    def _values(self, name: str) -> list[ast.expr]:
        if name in self._given:
            return self._given[name]
        constant = self._source.constants.get(name)
        return [constant] if constant is not None and name not in self._arguments else []

    @property
    def _arguments(self) -> set[str]:
        arguments = getattr(self._around, "args", None)
        if not isinstance(arguments, ast.arguments):
            return set()
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        return {one.arg for one in every}

    @property
    def _is_view(self) -> bool:
        decorators = getattr(self._around, "decorator_list", ())
        return any(last_name(getattr(one, "func", one)) in _ROUTES for one in decorators)

    def _own_nodes(self) -> Iterator[ast.AST]:
        for node, around in self._source.nodes:
            if around is self._around:
                yield node

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind(target, node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            self._bind(node.target, node.value)
        elif isinstance(node, ast.AugAssign):
            self._bind(node.target, ast.BinOp(node.target, ast.Add(), node.value))
        elif isinstance(node, (ast.For, ast.comprehension)):
            self._bind(node.target, node.iter)

    def _bind(self, target: ast.AST, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            if isinstance(value, ast.BinOp) and value.left is target:
                value = value.right  # of +=: what was there before is noted already
            self._given.setdefault(target.id, []).append(value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for each in target.elts:
                self._bind(each, value)


def _carried(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of an expression that its value is made of.

    What an entry of a table is asked for by is not: a table is an allowlist.
    """
    if isinstance(node, ast.Subscript):
        yield node.value
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "get":
        yield node.func
        yield from node.args[1:]
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif not isinstance(node, ast.Compare):
        yield from ast.iter_child_nodes(node)


def _is_of_request(node: ast.Attribute) -> bool:
    name = dotted(node)
    return node.attr in _FROM_CLIENT and name.split(".")[-2:-1] == ["request"]


def _is_text(node: ast.AST) -> bool:
    return (isinstance(node, ast.Constant) and isinstance(node.value, str)) or isinstance(
        node, ast.JoinedStr
    )


def _summands(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _summands(node.left)
        yield from _summands(node.right)
    else:
        yield node


def _is_format(node: ast.Call) -> bool:
    function = node.func
    is_attribute = isinstance(function, ast.Attribute) and function.attr == "format"
    return is_attribute and _is_text(getattr(function, "value", node))


def _parts_of_call(node: ast.Call) -> list[ast.expr] | None:
    name = last_name(node.func)
    if name in _NUMBERS or name in _QUOTING:
        return []
    if not isinstance(node.func, ast.Attribute) or name not in _KEEPING:
        return None
    # A text made of constants, and what a table of constants has.
    given = [] if name == "get" else node.args
    return [node.func.value, *given, *(keyword.value for keyword in node.keywords)]


_PARTS: dict[type[ast.AST], Callable[[Any], list[ast.expr]]] = {
    ast.Constant: lambda node: [],
    ast.Tuple: lambda node: node.elts,
    ast.List: lambda node: node.elts,
    ast.Set: lambda node: node.elts,
    ast.Dict: lambda node: node.values,
    ast.JoinedStr: lambda node: node.values,
    ast.FormattedValue: lambda node: [node.value],
    ast.BinOp: lambda node: [node.left, node.right],
    ast.IfExp: lambda node: [node.body, node.orelse],
    ast.BoolOp: lambda node: node.values,
    ast.Subscript: lambda node: [node.value],  # of a table of constants
    ast.GeneratorExp: lambda node: [node.elt],
    ast.ListComp: lambda node: [node.elt],
}
"""What has to be constant for an expression of a kind to be."""
