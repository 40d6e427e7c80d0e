"""What is to be checked: each check as it is registered, and those an application adds."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .runner import HealthRun, Outcome

__all__ = ["GROUPS", "Check", "Registry", "check_group"]

GROUPS = ("liveness", "readiness", "startup")
"""What may be asked: is it alive, may it have traffic, has it come up?"""

_OWN_NAMES = ("db:", "pool:", "disk:", "wal:", "replica:", "migrations", "backup:", "draining")


@dataclass(frozen=True)
class Check:
    """One check, as it is registered.

    Attributes:
        name: Unique in an application.
        work: ``work(run)`` returns what was found, by name of the check. It runs in a thread
            of its own, without an application context, and never twice at the same time.
        groups: The groups it belongs to.
        critical: The groups in which its failure is one of the group; elsewhere it is a warning.
        critical_by_name: The same for further names of what ``work`` returns.
        timeout_s: Its deadline; ``None`` for the application's.
        ttl_s: How long its answer is kept; ``None`` for the application's.
        timeout_code: The code when it does not answer.
        component: What kind of thing it looks at.
        at_once: It waits for nothing: it is asked each time, in the thread that asks.
    """

    name: str
    work: Callable[[HealthRun], Outcome]
    groups: frozenset[str] = frozenset({"readiness"})
    critical: frozenset[str] = frozenset(GROUPS)
    critical_by_name: Mapping[str, frozenset[str]] = field(default_factory=dict)
    timeout_s: float | None = None
    ttl_s: float | None = None
    timeout_code: str = "check.timeout"
    component: str = "component"
    at_once: bool = False


class Registry:
    """What an application adds: checks of its own, and who may see details.

    One registry may serve several applications; it holds nothing of any of them.
    """

    def __init__(self) -> None:
        self.functions: dict[str, tuple[Callable[[], object], Check]] = {}
        self.authorizer: Callable[[Any], bool] | None = None

    def add(
        self,
        function: Callable[[], object],
        name: object,
        *,
        groups: Iterable[str],
        critical: bool,
        timeout: object,
        ttl: object,
    ) -> None:
        """Register a check; one of the same name is replaced.

        Raises:
            ValueError: The name, a group or a number cannot be used.
        """
        if not isinstance(name, str) or not name or name.startswith(_OWN_NAMES):
            raise ValueError(
                f"A check cannot be called {name!r}. Use a text that does not begin with one of:"
                f" {', '.join(_OWN_NAMES)}. Those are the library's own checks."
            )
        chosen = frozenset({groups} if isinstance(groups, str) else groups)
        for group in sorted(chosen, key=str):
            check_group(group)
        if not chosen:
            raise ValueError(f"Check {name!r} is in no group. Use any of: {', '.join(GROUPS)}.")
        self.functions[name] = (
            function,
            Check(
                name,
                _unbound,
                groups=chosen,
                critical=frozenset(GROUPS) if critical else frozenset(),
                timeout_s=_seconds("timeout", timeout, 0.001),
                ttl_s=_seconds("ttl", ttl, 0),
            ),
        )


def _seconds(option: str, value: object, low: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= low:
        raise ValueError(f"{option}={value!r} is no time. Use seconds from {low}, or None.")
    return float(value)


def _unbound(run: HealthRun) -> Outcome:
    raise AssertionError("a registered check runs in the context of an application")


def check_group(group: str) -> None:
    """Refuse a group that does not exist.

    Raises:
        ValueError: It names the nearest one.
    """
    if group not in GROUPS:
        nearest = difflib.get_close_matches(str(group), GROUPS, n=1, cutoff=0.5)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{group!r} is no group of checks. Use one of: {', '.join(GROUPS)}.{hint}")
