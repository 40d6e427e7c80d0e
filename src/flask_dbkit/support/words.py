"""Which word was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["closest", "did_you_mean", "shorten"]


def closest(given: object, words: Iterable[str]) -> str | None:
    """Return the word of ``words`` that is spelled most like ``given``, if any is near."""
    if not isinstance(given, str):
        return None
    by_lower = {word.lower(): word for word in words}
    found = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=0.6)
    if found:
        return by_lower[found[0]]
    # Of two letters that changed places in a short word difflib finds one only.
    letters = sorted(given.lower())
    return next((by_lower[word] for word in by_lower if sorted(word) == letters), None)


def did_you_mean(given: object, words: Iterable[str]) -> str:
    """Return `` Did you mean 'added'?`` for the nearest word, or nothing."""
    nearest = closest(given, words)
    return f" Did you mean {nearest!r}?" if nearest is not None else ""


def shorten(value: object, limit: int = 80) -> str:
    """Return ``repr(value)``, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
