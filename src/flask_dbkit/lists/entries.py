"""Published names and what they stand for: a mapping, or columns that have names of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["entries_of"]


def entries_of(kind: str, given: object) -> dict[Any, Any]:
    """Return the entries of an allowlist by their published names.

    Args:
        kind: The class, for the message: it says how to write what was given.
        given: A mapping, or an iterable of columns, whose attributes name them.

    Raises:
        TypeError: It is neither, or has an entry without a name.
        ValueError: Two of the columns have one name.
    """
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(_advice(kind, given, [given] if isinstance(given, str) else ["title"]))
    listed = list(given)
    names = [_name(entry) for entry in listed]
    if None in names:
        words = [entry if isinstance(entry, str) else _name(entry) for entry in listed]
        raise TypeError(_advice(kind, given, [word for word in words if word] or ["title"]))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"{kind} was given two columns that are called {twice!r}. Name them:"
            f" {kind}({{{twice!r}: …, 'author': …}})."
        )
    return dict(zip(names, listed, strict=True))


def _name(entry: Any) -> str | None:
    target = getattr(entry, "expr", getattr(entry, "target", entry))
    name = getattr(target, "key", None)
    return name if isinstance(name, str) else None


def _advice(kind: str, given: object, names: Iterable[Any]) -> str:
    example = ", ".join(f"{name!r}: Model.{name}" for name in dict.fromkeys(map(str, names)))
    return (
        f"{kind} takes a mapping from published names to columns, or a list of columns, not"
        f" {given!r}. Write {kind}({{{example}}}, …)."
    )
