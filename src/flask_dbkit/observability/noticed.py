"""What was seen of the requests of this process, for who asks later: repeats, and writes."""

from __future__ import annotations

import time
from collections.abc import Iterable

from .windows import QueryStats, Repeat

__all__ = ["NoticedWork"]

_MOST = 100  # places; more would tell nothing new


class NoticedWork:
    """Counts the writes of an application's requests, and keeps where statements were repeated.

    Attributes:
        writes: Statements that wrote.
        repeats: The last finding of each place, with its route.
    """

    def __init__(self) -> None:
        self.writes = 0
        self.repeats: dict[str, tuple[Repeat, str | None]] = {}
        self._since = time.monotonic()

    @property
    def for_s(self) -> float:
        """Seconds since the application was made."""
        return time.monotonic() - self._since

    def note(self, stats: QueryStats, repeats: Iterable[Repeat], route: str | None) -> None:
        """Note a request that has ended."""
        self.writes += stats.writes
        for each in repeats:
            if each.call_site is not None and len(self.repeats) < _MOST:
                self.repeats[each.call_site] = (each, route)
