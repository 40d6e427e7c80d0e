"""Findings for people in a terminal: what to do first, what to do next, what to know."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from .checks import Check
from .findings import Finding, rank

__all__ = ["explain", "render_text"]

_HEADS = {
    "error": ("Put right before anything else", "red"),
    "warning": ("Put right before you ship", "yellow"),
    "info": ("Good to know", "blue"),
}
_INDENT = " " * 4
_CODES = {"red": "31", "yellow": "33", "blue": "34", "bold": "1", "dim": "2", "green": "32"}


class _Paint:
    """Colours for a terminal, or none."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, *styles: str) -> str:
        if not self._colour or not text:
            return text
        codes = ";".join(_CODES[style] for style in styles)
        return f"\x1b[{codes}m{text}\x1b[0m"


def render_text(findings: Sequence[Finding], *, width: int, colour: bool, checked: int) -> str:
    """Return the findings, those that are to be put right first on top.

    Equal findings of one check stand together, with the cause and the fix once.

    Args:
        findings: The worst first, by id.
        width: Of the terminal.
        colour: Whether it shows colours.
        checked: How many checks were run.
    """
    paint = _Paint(colour=colour)
    if not findings:
        return paint(f"{checked} checks, no finding.", "green")
    lines: list[str] = []
    for level, group in groupby(findings, key=lambda each: each.level):
        title, hue = _HEADS[level]
        lines += [paint(title, "bold", hue), ""]
        for _, equal in groupby(group, key=lambda each: (each.id, each.fix)):
            lines += [*_block(list(equal), width, paint, hue), ""]
    lines.append(_summary(findings, checked))
    return "\n".join(lines)


def _block(findings: list[Finding], width: int, paint: _Paint, hue: str) -> Iterator[str]:
    first = findings[0]
    for each in findings:
        mark = f"{each.id}  " if each is first else " " * (len(first.id) + 2)
        about = each.object if each.object and each.object not in each.message else None
        told = ", ".join(filter(None, dict.fromkeys((about, each.place))))
        where = f" ({told})" if told else ""
        head, *rest = _wrapped(each.message + where, width, len(mark))
        yield paint(mark, "bold", hue) + paint(head, "bold")
        yield from (" " * len(mark) + paint(line, "bold") for line in rest)
    yield from _wrapped_under(first.cause, width)
    yield from _wrapped_under(f"Fix: {first.fix}", width)
    if first.link:
        yield _INDENT + paint(first.link, "dim")


def _wrapped(text: str, width: int, used: int) -> list[str]:
    return textwrap.wrap(
        text, max(30, width - used), break_long_words=False, break_on_hyphens=False
    )


def _wrapped_under(text: str, width: int) -> list[str]:
    return [_INDENT + line for line in _wrapped(text, width, len(_INDENT))]


def _summary(findings: Iterable[Finding], checked: int) -> str:
    levels = [each.level for each in findings]
    words = []
    for level in sorted(set(levels), key=rank, reverse=True):
        count = levels.count(level)
        words.append(f"{count} {level}{'' if count == 1 or level == 'info' else 's'}")
    return f"{checked} checks: {', '.join(words)}.\nMore of one: flask dbkit doctor --explain ID"


def explain(check: Check, *, width: int, colour: bool) -> str:
    """Return all that is known of one check."""
    paint = _Paint(colour=colour)
    runs = ["asks the databases"] if check.database else []
    runs += ["with --deploy only"] if check.deploy else []
    facts = [f"level {check.level}", f"tags {', '.join(sorted(check.tags)) or 'none'}", *runs]
    lines = [
        paint(f"{check.id}  {check.title}", "bold"),
        _INDENT + "; ".join(facts),
        "",
        *_wrapped_under(check.cause, width),
        "",
        *_wrapped_under(f"Fix: {check.fix}", width),
    ]
    return "\n".join([*lines, "", _INDENT + check.link] if check.link else lines)
