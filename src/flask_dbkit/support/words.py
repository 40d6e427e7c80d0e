"""Which word was meant, and how things are said."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ago", "closest", "closest_key", "did_you_mean", "shorten"]

_UNITS = frozenset({"MS", "MILLIS", "MILLISECONDS", "S", "SEC", "SECS", "SECOND", "SECONDS"}) | {
    *("M", "MIN", "MINUTES", "H", "HOURS", "D", "DAYS"),
    *("B", "BYTES", "KB", "MB", "GB"),
}
_AGES = ((86_400, "day"), (3600, "hour"), (60, "minute"))
_PREFIX = 2  # words that name a room: DBKIT_HEALTH is no key that lacks a word


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


def closest_key(given: str, keys: Iterable[str]) -> str | None:
    """Return the key that was meant by another name, if any is near.

    Beside a letter that is wrong it is often the last word that is missing, or the unit that is
    another one; by the number of letters that is far away.

    Args:
        given: The name, words joined by underscores.
        keys: Every key there is.
    """
    by_words = {tuple(key.upper().split("_")): key for key in keys}
    words = tuple(given.upper().split("_"))
    if words in by_words:
        return by_words[words]
    stem = _without_unit(words)
    for candidate, key in by_words.items():
        if _without_unit(candidate) == stem:
            return key
    longer = [key for candidate, key in by_words.items() if candidate[: len(stem)] == stem]
    if longer and (len(longer) == 1 or len(stem) > _PREFIX):
        return min(longer, key=len)
    # What all keys begin with says nothing of which one was meant.
    by_rest = {"_".join(candidate[1:]): key for candidate, key in by_words.items()}
    return by_rest.get(closest("_".join(words[1:]), by_rest) or "")


def _without_unit(words: tuple[str, ...]) -> tuple[str, ...]:
    return words[:-1] if words[-1] in _UNITS else words


def did_you_mean(given: object, words: Iterable[str]) -> str:
    """Return `` Did you mean 'added'?`` for the nearest word, or nothing."""
    nearest = closest(given, words)
    return f" Did you mean {nearest!r}?" if nearest is not None else ""


def shorten(value: object, limit: int = 80) -> str:
    """Return ``repr(value)``, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def ago(seconds: float) -> str:
    """Return how long ago something was, such as ``3 hours ago``."""
    for length, unit in _AGES:
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
