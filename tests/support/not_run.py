"""Tests that cannot run here are told, not skipped.

A skip looks like success. So a test whose database or browser is missing is taken out of
the run, counted, and named in one line at the end, with the way to get what is missing.
Under ``CI=true`` such a line makes the run fail.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest


@dataclass(frozen=True)
class Resource:
    """Something outside the test suite that some tests cannot do without.

    Attributes:
        available: Tells whether it is there. Asked once, and only if a test needs it.
        remedy: What to do to get it.
    """

    available: Callable[[], bool]
    remedy: str


@dataclass
class NotRun:
    """Takes tests out of the run and remembers why."""

    resources: Mapping[str, Resource]
    needed: Callable[[pytest.Item], frozenset[str]]
    counts: Counter[str] = field(default_factory=Counter)
    _known: dict[str, bool] = field(default_factory=dict)

    def _missing(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = self.resources[name].available()
        return not self._known[name]

    def split(self, items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
        """Split collected tests into those that can run and those that cannot."""
        kept: list[pytest.Item] = []
        removed: list[pytest.Item] = []
        for item in items:
            missing = sorted(name for name in self.needed(item) if self._missing(name))
            self.counts.update(missing[:1])
            (removed if missing else kept).append(item)
        return kept, removed

    def take_over(self, counts: Mapping[str, int]) -> None:
        """Take in what another process left out; each one collects all tests, so the same."""
        for name, count in counts.items():
            self.counts[name] = max(count, self.counts[name])

    @property
    def lines(self) -> list[str]:
        """One line per missing resource."""
        return [
            f"not run: {name} ({count} test{'s'[: count != 1]}): {self.resources[name].remedy}"
            for name, count in sorted(self.counts.items())
        ]

    @property
    def is_failure(self) -> bool:
        """Whether the run has to fail for it."""
        return bool(self.counts) and in_ci()


def in_ci() -> bool:
    """Tell whether a machine reads the result, so that nothing may be left out."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}
