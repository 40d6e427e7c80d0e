"""Docstrings as Markdown: Google's sections with reST inside, as this project writes them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["entry", "markdown"]

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|References|Note|Notes):$")
_TITLES = {"Args": "Arguments", "Note": "Note", "Notes": "Notes"}
_ROLE = re.compile(r":(?:py:)?[a-z]+:`~?(?:[^`<]*<)?([^`>]+)>?`")
_WIDEST = 88
_PACKAGES = re.compile(r"\b(?:flask_dbkit|sqlalchemy|collections|typing)(?:\.[a-z_]+)*\.")


def markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    written: list[str] = []
    inside = False
    for line in _blocks(inspect.cleandoc(text).splitlines()):
        inside ^= line.startswith("```")
        if inside or line or (written and written[-1]):
            written.append(line)
    return "\n".join(written).strip()


def _blocks(lines: list[str]) -> Iterator[str]:
    number = 0
    while number < len(lines):
        line = lines[number]
        below, after = _indented(lines, number + 1)
        if match := _SECTION.match(line):
            yield from ["", f"**{_TITLES.get(match[1], match[1])}**", ""]
            yield from _entries(below, named=match[1] in ("Args", "Attributes", "Raises"))
            number = after
        elif line.startswith(".. code-block::"):
            yield from ["", "```python", *_trimmed(below), "```", ""]
            number = after
        elif match := re.match(r"\.\. version(added|changed):: (\S+)", line):
            yield from ["", f"*{'New' if match[1] == 'added' else 'Changed'} in {match[2]}.*"]
            number = after
        elif line.endswith("::") and below:
            yield from [_inline(line[:-1]), "", "```python", *_trimmed(below), "```", ""]
            number = after
        elif re.fullmatch(r"=+( +=+)+", line):
            number = yield from _table(lines, number)
        else:
            yield _inline(line)
            number += 1


def _indented(lines: list[str], start: int) -> tuple[list[str], int]:
    """Return the indented lines from ``start`` on, dedented, and where they end."""
    end = start
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    return textwrap.dedent("\n".join(lines[start:end])).splitlines(), end


def _trimmed(lines: list[str]) -> list[str]:
    return "\n".join(lines).strip("\n").splitlines()


def _entries(lines: list[str], *, named: bool) -> Iterator[str]:
    for line in lines:
        match = re.match(r"([*\w.]+)(?: \([^)]*\))?: (.*)", line) if named else None
        if match:
            yield f"- `{match[1]}`: {_inline(match[2])}"
        elif line.startswith("* "):
            yield f"- {_inline(line[2:])}"
        elif not line.strip():
            yield ""
        elif named:
            yield f"  {_inline(line.strip())}"
        else:
            yield _inline(line.strip())


def _table(lines: list[str], start: int) -> Any:
    edges = [match.span() for match in re.finditer("=+", lines[start])]
    rows, number = [], start + 1
    while not re.fullmatch(r"=+( +=+)+", lines[number]) or number == start + 2:
        if number != start + 2:  # the line below the head
            cells = [
                lines[number][begin : edges[at + 1][0] if at + 1 < len(edges) else None].strip()
                for at, (begin, _) in enumerate(edges)
            ]
            rows.append("| " + " | ".join(_inline(cell) for cell in cells) + " |")
        number += 1
    yield from [rows[0], "|" + "---|" * len(edges), *rows[1:]]
    return number + 1


def _inline(text: str) -> str:
    text = _ROLE.sub(lambda match: f"`{match[1].rpartition('.')[2]}`", text)
    return text.replace("``", "`")


class _Text:
    """An annotation as it is written: one that is text already would be shown in quotes."""

    def __init__(self, annotation: Any) -> None:
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        self._text = _PACKAGES.sub("", text)

    def __repr__(self) -> str:
        return self._text


class _Default:
    def __init__(self, value: Any) -> None:
        self._text = value.__name__ if inspect.isfunction(value) else repr(value)

    def __repr__(self) -> str:
        return self._text


def signature(name: str, function: Callable[..., Any]) -> str:
    """Return how something is called, over several lines when it is long."""
    try:
        whole = inspect.signature(function)
    except (TypeError, ValueError):
        return name
    parameters = [
        _readable(one)
        for one in whole.parameters.values()
        if one.name not in ("self", "cls", "_unknown")
    ]
    returns = whole.return_annotation if not inspect.isclass(function) else whole.empty
    whole = whole.replace(
        parameters=parameters,
        return_annotation=returns if returns is whole.empty else _Text(returns),
    )
    text = f"{name}{whole}"
    if len(text) <= _WIDEST or not parameters:
        return text
    rows: list[str] = []
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not any(row.startswith("*") for row in rows):
            rows.append("*")
        rows.append(str(one))
    body = "".join(f"    {row},\n" for row in rows)
    arrow = "" if returns is whole.empty else f" -> {_Text(returns)!r}"
    return f"{name}(\n{body}){arrow}"


def _readable(one: inspect.Parameter) -> inspect.Parameter:
    if one.annotation is not one.empty:
        one = one.replace(annotation=_Text(one.annotation))
    return one if one.default is one.empty else one.replace(default=_Default(one.default))


def entry(
    name: str, value: Any, *, level: int = 3, called: bool = True, members: bool = True
) -> str:
    """Describe one public name: how it is called, what it says of itself, what it has.

    Args:
        name: How a reader writes it.
        value: The function, class or value.
        level: Of its heading.
        called: Show how it is called.
        members: Describe the public methods of a class as well.
    """
    is_class = inspect.isclass(value)
    parts = [f"{'#' * level} {name}", ""]
    if called and callable(value) and not (is_class and value.__init__ is object.__init__):
        parts += ["```python", signature(name, value), "```", ""]
    parts += [markdown(inspect.getdoc(value) or "")]
    if is_class and members:
        for member, function in _members(value):
            head = f"{name}.{member}"
            if not isinstance(function, property):
                head = signature(head, function)
            parts += ["", "```python", head, "```", "", markdown(inspect.getdoc(function) or "")]
    return "\n".join(parts) + "\n"


def _members(value: type[Any]) -> Iterator[tuple[str, Any]]:
    seen = set()
    ours = [one for one in value.__mro__ if one.__module__.startswith("flask_dbkit")]
    others = [one for one in value.__mro__ if one not in ours]
    for owner in ours:
        for name, member in vars(owner).items():
            function = getattr(member, "__func__", member)
            if name.startswith("_") or name in seen or not inspect.getdoc(function):
                continue
            if any(hasattr(base, name) for base in others):
                continue  # what SQLAlchemy calls, not what an application does
            if inspect.isfunction(function) or isinstance(member, property):
                seen.add(name)
                yield name, function
