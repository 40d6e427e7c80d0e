"""What a check is, and the list of those that there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ..exceptions import closest
from .exceptions import UnknownCheck
from .findings import LEVELS, Found

if TYPE_CHECKING:
    from .examination import Examination

__all__ = ["OWN", "Check", "Registry", "check"]

_ID = re.compile(r"[A-Z]{2,8}\d{3,4}")
_OURS = re.compile(r"DK[01]\d\d")

Examine = Callable[["Examination"], Iterable[Found]]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        id: Never changes, and is never given to another check.
        title: What it finds, in a few words.
        examine: Yields what it finds.
        level: Of its findings.
        cause: Why what it finds is no good.
        fix: What to do about it.
        link: Where more of it is written.
        tags: What it looks at.
        database: Whether it asks a database.
        deploy: Whether it is about the place the application is deployed to, and runs with
            ``--deploy`` only.
    """

    id: str
    title: str
    examine: Examine
    level: str
    cause: str
    fix: str
    link: str | None = None
    tags: frozenset[str] = frozenset()
    database: bool = False
    deploy: bool = False


def check(
    id: str,  # noqa: A002 - what it is called everywhere
    title: str,
    *,
    cause: str,
    fix: str,
    level: str = "warning",
    link: str | None = None,
    tags: Iterable[str] = (),
    database: bool = False,
    deploy: bool = False,
) -> Callable[[Examine], Check]:
    """Make a check of a function, in the ``doctor`` modules of the rooms; see :class:`Check`."""

    def made(examine: Examine) -> Check:
        return Check(id, title, examine, level, cause, fix, link, frozenset(tags), database, deploy)

    return made


OWN = Check(
    "DK000",
    "A check could not be run to its end",
    lambda _: (),
    "warning",
    "What it looks for is not known to be in order.",
    "Run it alone with --tag, and report the error if the check is one of the library's.",
)
"""What is found when a check fails itself."""


class Registry:
    """The checks of the library's rooms, and those that applications add.

    One registry may serve several applications; it holds nothing of any of them.
    """

    def __init__(self) -> None:
        self._modules: dict[str, None] = {}
        self._added: dict[str, Check] = {}

    def offer(self, modules: Iterable[str]) -> None:
        """Add the checks of modules, which are imported when checks are asked for."""
        self._modules.update(dict.fromkeys(modules))

    def add(self, made: Check) -> None:
        """Add a check of an application; one of the same id is replaced.

        Raises:
            ValueError: The id is none, or is one of the library's; or there is no such level.
        """
        if not _ID.fullmatch(str(made.id)) or _OURS.fullmatch(made.id):
            raise ValueError(
                f"A check cannot have the id {made.id!r}. Use capital letters and three digits,"
                " such as 'DK900' or 'SHOP001'. DK000 to DK199 are the library's."
            )
        if made.level not in LEVELS:
            raise ValueError(f"There is no level {made.level!r}. Use one of: {', '.join(LEVELS)}.")
        self._added[made.id] = made

    def __iter__(self) -> Iterator[Check]:
        """Yield every check, by its id."""
        return iter(sorted(self._all().values(), key=lambda one: (len(one.id), one.id)))

    def __getitem__(self, wanted: str) -> Check:
        """Return one check.

        Raises:
            UnknownCheck: There is none of this id.
        """
        known = self._all()
        found = known.get(wanted.strip().upper())
        if found is None:
            nearest = closest(wanted, known)
            hint = f" Did you mean {nearest!r}?" if nearest is not None else ""
            raise UnknownCheck(f"There is no check {wanted!r}.{hint}")
        return found

    @property
    def tags(self) -> list[str]:
        """The tags that checks have."""
        return sorted({tag for one in self for tag in one.tags})

    def _all(self) -> dict[str, Check]:
        offered = [
            value
            for module in self._modules
            for value in vars(import_module(module)).values()
            if isinstance(value, Check)
        ]
        return {one.id: one for one in [OWN, *offered, *self._added.values()]}
