"""Whether what the doctor was told makes sense."""

from __future__ import annotations

from collections.abc import Iterator

from .checks import check
from .examination import Examination
from .findings import Found

__all__ = ["unreachable"]


@check(
    "DK090",
    "A database does not answer",
    level="error",
    tags=("databases",),
    cause="Nothing that asks this database could be checked, and the application cannot work.",
    fix="Start it, or correct the URL; --no-db checks what can be checked without.",
    database=True,
)
def unreachable(given: Examination) -> Iterator[Found]:
    """Connect once to each."""
    for bind in given.binds:
        problem = given.problem_of(bind)
        if problem is not None:
            yield Found(f"{bind.name} does not answer: {problem}", object=bind.name)
