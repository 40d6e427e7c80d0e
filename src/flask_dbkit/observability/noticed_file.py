"""The file in which processes of an application tell each other what they have noticed.

It holds lines of code, routes, names of relationships and counts: no values, no SQL, no hosts. It
is small, and old entries leave it. It is written as a whole, by one process at a time; whoever
cannot write it does without, and what cannot be read counts as empty.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..support.files import read_file, write_file

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

_HAS_LOCKS = fcntl is not None

__all__ = ["BUSY", "Noticed", "NoticedFile", "NoticedRepeat"]

BUSY = 50 * 60
"""So many statements that write, in one minute, are many."""

_MOST_PLACES = 100  # more would tell nothing new
_MOST_MINUTES = 60
_NEW_MINUTES = 3  # may still be added to, by processes that end theirs later
_LONGEST = 300  # characters of a text
_KEPT_S = 7 * 86_400
_LARGEST = 1 << 18  # bytes
_VERSION = 1
_TEXTS = ("relationship", "fix", "route")
_MINUTE = re.compile(r"\d{1,9}", re.ASCII)
_MOST_EVER = 1e12  # seconds, statements
_WAIT_S = 0.02


@dataclass(frozen=True)
class NoticedRepeat:
    """The last time that a line repeated a statement.

    Attributes:
        count: How often.
        relationship: What was loaded one by one, such as ``User.posts``.
        fix: What to write instead.
        route: Of the request.
        at: When, in seconds since 1970.
    """

    count: int
    relationship: str | None
    fix: str
    route: str | None
    at: float


@dataclass(frozen=True)
class Noticed:
    """What was noticed.

    Attributes:
        repeats: By ``file.py:12``.
        writes: Statements that wrote, by the minute since 1970; busy minutes only.
    """

    repeats: dict[str, NoticedRepeat] = field(default_factory=dict)
    writes: dict[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.repeats or self.writes)

    def with_(self, other: Noticed) -> Noticed:
        """Return both together: the newer of two repeats, and the sum of what was written."""
        repeats = dict(self.repeats)
        for place, each in other.repeats.items():
            if place not in repeats or each.at >= repeats[place].at:
                repeats[place] = each
        minutes = sorted(self.writes.keys() | other.writes.keys())
        writes = {one: self.writes.get(one, 0) + other.writes.get(one, 0) for one in minutes}
        return Noticed(repeats, writes)

    def bounded(self, now: float) -> Noticed:
        """Return it without what is old, and the newest or busiest only if it is a lot."""
        since = now - _KEPT_S
        fresh = [pair for pair in self.repeats.items() if pair[1].at >= since]
        newest = sorted(fresh, key=lambda pair: pair[1].at)[-_MOST_PLACES:]
        minutes = sorted(one for one in self.writes if one * 60 >= since)
        closed = minutes[:-_NEW_MINUTES]
        busiest = sorted(closed, key=lambda one: self.writes[one])[-_MOST_MINUTES:]
        kept = sorted({*busiest, *minutes[-_NEW_MINUTES:]})
        return Noticed(dict(newest), {one: self.writes[one] for one in kept})

    def to_json(self) -> bytes:
        """Return what stands in the file."""
        whole = {
            "version": _VERSION,
            "repeats": {place: asdict(each) for place, each in self.repeats.items()},
            "writes": self.writes,
        }
        return json.dumps(whole, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Noticed:
        """Read what :meth:`to_json` has written. Entries that are none are left out."""
        whole: Any = None
        with suppress(ValueError, RecursionError):
            whole = json.loads(data)
        if not isinstance(whole, Mapping) or whole.get("version") != _VERSION:
            return cls()
        repeats = whole.get("repeats")
        writes = whole.get("writes")
        return cls(
            dict(_repeats_in(repeats if isinstance(repeats, Mapping) else {})),
            dict(_writes_in(writes if isinstance(writes, Mapping) else {})),
        )


def _repeats_in(given: Mapping[str, Any]) -> Iterator[tuple[str, NoticedRepeat]]:
    for place, each in given.items():
        if not isinstance(each, Mapping):
            continue
        count, at = _number(each.get("count")), _number(each.get("at"))
        relationship, fix, route = (_text(each.get(name)) for name in _TEXTS)
        if count is not None and at is not None and fix is not None and place.isprintable():
            yield place, NoticedRepeat(int(count), relationship, fix, route, at)


def _writes_in(given: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    for text, value in given.items():
        minute = int(text) if _MINUTE.fullmatch(text) else None
        count = _number(value)
        if minute is not None and count is not None:
            yield minute, int(count)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < _MOST_EVER else None


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    # Another account may have written it, and it is shown in a terminal.
    return "".join(filter(str.isprintable, value[:_LONGEST]))


class NoticedFile:
    """The file of one application.

    Args:
        path: Of the file, which need not exist.
        makes_folder: Tells whether a folder that is not there is made.
    """

    def __init__(self, path: Path, *, makes_folder: Callable[[], bool] = bool) -> None:
        self._path, self._makes_folder = path, makes_folder

    def read(self) -> Noticed:
        """Return what is in it: nothing if it is not there, cannot be read, or is not ours."""
        with suppress(OSError):
            data = read_file(self._path)
            if len(data) <= _LARGEST:
                return Noticed.from_json(data)
        return Noticed()

    def add(self, noticed: Noticed, now: float, patience_s: float) -> bool:
        """Add to what is in it.

        Args:
            noticed: What is new.
            now: What is long before this leaves the file.
            patience_s: How long to wait for another process that writes.

        Returns:
            Whether it stands there now.
        """
        try:
            if self._makes_folder():
                self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone(patience_s):
                whole = self.read().with_(noticed).bounded(now)
                # After a loss of power it is empty rather than late in every request.
                write_file(self._path, whole.to_json(), lasting=False)
        except OSError:
            return False
        return True

    @contextmanager
    def _alone(self, patience_s: float) -> Iterator[None]:
        """Let one process into the block at a time, by a lock on the folder.

        Raises:
            OSError: Another one is in it.
        """
        if not _HAS_LOCKS:  # pragma: no cover - Windows, where a folder cannot be opened either
            yield
            return
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            until = time.monotonic() + patience_s
            while not _is_locked_by_us(descriptor):
                if time.monotonic() >= until:
                    raise BlockingIOError
                time.sleep(_WAIT_S)
            yield
        finally:
            os.close(descriptor)


def _is_locked_by_us(descriptor: int) -> bool:
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
