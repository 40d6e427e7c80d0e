"""Which backups to keep: the newest of each of the last hours, days, weeks and months."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from .manifest import Manifest

__all__ = ["PERIODS", "is_ahead", "superfluous"]

_SLACK = timedelta(minutes=5)  # clocks of two machines differ

PERIODS: Mapping[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": lambda moment: (moment.year, moment.month, moment.day, moment.hour),
    "daily": lambda moment: (moment.year, moment.month, moment.day),
    "weekly": lambda moment: tuple(moment.isocalendar()[:2]),
    "monthly": lambda moment: (moment.year, moment.month),
}
"""The keys of ``DBKIT_BACKUP_KEEP``, and what makes two moments the same period (in UTC)."""


def is_ahead(manifest: Manifest, now: datetime | None = None) -> bool:
    """Tell whether a backup says that it was made later than now: some clock was wrong."""
    return manifest.created_at > (now or datetime.now(UTC)) + _SLACK


def superfluous(
    manifests: Iterable[Manifest], keep: Mapping[str, int], *, now: datetime | None = None
) -> list[Manifest]:
    """Return the backups that no rule keeps, oldest first.

    Each rule ``{"daily": 7}`` keeps the newest backup of each of the last seven days *that have
    one*, for each bind. The newest backup of a bind and its newest verified one are always kept.

    Args:
        manifests: Of any binds, in any order.
        keep: A number of periods by the name of a period; 0 or a missing name keeps none.
        now: The time. A backup from after it is left alone, and stands for no period: it would
            crowd out one whose time is right.
    """
    by_bind: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        if is_ahead(manifest, now):
            continue
        by_bind.setdefault(manifest.bind, []).append(manifest)
    found = [each for of_bind in by_bind.values() for each in _superfluous(of_bind, keep)]
    return sorted(found, key=_age)


def _superfluous(manifests: Sequence[Manifest], keep: Mapping[str, int]) -> list[Manifest]:
    newest_first = sorted(manifests, key=_age, reverse=True)
    kept = {newest_first[0].id}
    kept.update([each.id for each in newest_first if each.verified][:1])
    for name, number in keep.items():
        seen: dict[tuple[int, ...], str] = {}
        for manifest in newest_first:
            seen.setdefault(PERIODS[name](manifest.created_at.astimezone(UTC)), manifest.id)
        kept.update(list(seen.values())[:number])
    return [each for each in newest_first if each.id not in kept]


def _age(manifest: Manifest) -> tuple[datetime, str]:
    return manifest.created_at, manifest.id
