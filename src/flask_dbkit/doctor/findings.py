"""What a check finds, and how two of these are told apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["LEVELS", "Finding", "Found", "rank"]

LEVELS = ("info", "warning", "error")
"""How bad a finding is, the least bad first."""

_LINE = re.compile(r"(?<![^:\s])(?P<file>[^:\s]+\.\w+):(?P<line>\d+)")
_NUMBER = re.compile(r"\d+")
_AGE = re.compile(r", (?:just now|\d+ (?:minute|hour|day)s? ago)")


def rank(level: str) -> int:
    """Return the place of a level, to compare two."""
    return LEVELS.index(level)


@dataclass(frozen=True)
class Found:
    """What a check says; which check it is, and what that means, is added to it.

    Attributes:
        message: What is there, in one sentence.
        object: What it is about: ``users.team_id``, the name of a bind, or ``shop/views.py:12``.
        fix: What to write instead, if that can be said better than for every case.
        level: Another level than that of the check.
        place: ``file.py:12`` where the object is written, if the object is no place itself.
    """

    message: str
    object: str | None = None
    fix: str | None = None
    level: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Finding:
    """One finding of the doctor.

    Attributes:
        id: Of the check, such as ``DK040``; it never changes.
        level: ``error``, ``warning`` or ``info``.
        object: What it is about: a column, a bind, a setting, or ``file.py:12``.
        message: What is there.
        cause: Why that is no good.
        fix: What to do.
        link: Where more of it is written, if anywhere.
        place: ``file.py:12`` where the object is written, if that is known.

    .. versionadded:: 0.1
    """

    id: str
    level: str
    object: str | None
    message: str
    cause: str
    fix: str
    link: str | None = None
    place: str | None = None

    @property
    def file(self) -> str | None:
        """The file it is in, if that is known."""
        match = self._where()
        return match["file"] if match else None

    @property
    def line(self) -> int | None:
        """The line in the file, from 1."""
        match = self._where()
        return int(match["line"]) if match else None

    @property
    def key(self) -> str:
        """What stays the same when lines move and figures change: for baselines."""
        about = _LINE.sub(lambda match: match["file"], self.object or "")
        said = _NUMBER.sub("#", _AGE.sub("", self.message))
        return f"{self.id}|{about}|{said}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        names = ("id", "level", "object", "message", "cause", "fix", "link")
        return {name: getattr(self, name) for name in names}

    def _where(self) -> re.Match[str] | None:
        return _LINE.fullmatch(self.place or self.object or "")
