"""Arguments of a query string, from any mapping, as pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["RESERVED", "Pairs", "check_number", "pairs_of"]

Pairs = tuple[tuple[str, str], ...]

RESERVED = ("sort", "direction", "page", "per_page", "cursor")
"""The parameters every list has; no filter may be called so."""


def pairs_of(arguments: Mapping[str, Any] | Iterable[tuple[str, Any]] | None) -> Pairs:
    """Return every parameter with its value, repeated ones too, in order.

    Args:
        arguments: A ``MultiDict``, a mapping to text or to lists of text, or pairs already.
    """
    if arguments is None:
        return ()
    # Asking for what it has costs a third of asking whether it is a Mapping.
    several_each: Any = getattr(arguments, "lists", None) or getattr(arguments, "items", None)
    items: Any = several_each() if several_each is not None else arguments
    found: list[tuple[str, str]] = []
    for name, value in items:
        several = value if isinstance(value, (list, tuple)) else [value]
        found += [(str(name), str(one)) for one in several if one is not None]
    return tuple(found)


def check_number(name: str, value: object) -> None:
    """Refuse what is no whole number from 1.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}. Use a whole number from 1.")
