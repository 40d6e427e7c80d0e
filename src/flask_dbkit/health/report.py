"""What a check found, and what all checks of a group say together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["FAIL", "PASS", "WARN", "Fail", "Report", "Result", "Warn", "passed", "worst"]

PASS, WARN, FAIL = "pass", "warn", "fail"
_ORDER = (PASS, WARN, FAIL)
# A code is read by machines and shown to whoever may see details: no room for a message, which
# could hold a host or a path.
_CODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")
_RESERVED = frozenset({"status", "code", "componentType", "observedValue", "observedUnit", "time"})


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        status: ``pass``, ``warn`` or ``fail``.
        code: The reason, for machines; ``None`` when there is nothing to say.
        observed: What was measured.
        unit: The unit of ``observed``, for example ``ms``.
        numbers: Further figures by name.
        component: ``datastore``, ``system`` or ``component``.
        duration_ms: How long the check took.
        time: When it ended, in UTC.
    """

    status: str = PASS
    code: str | None = None
    observed: float | str | None = None
    unit: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    component: str = "component"
    duration_ms: float | None = None
    time: datetime = field(default_factory=_now)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, in the words of the health check format.

        References:
            https://datatracker.ietf.org/doc/html/draft-inadarei-api-health-check-06#section-4
        """
        observed = {
            "observedValue": self.observed,
            "observedUnit": self.unit if self.observed is not None else None,
        }
        return {
            "status": self.status,
            "code": self.code,
            "componentType": self.component,
            **{name: value for name, value in observed.items() if value is not None},
            **self.numbers,
            "time": self.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }


class _Finding(Exception):
    """What a check raises instead of returning."""

    status = FAIL

    def __init__(
        self,
        code: object,
        *,
        observed: float | str | None = None,
        unit: str | None = None,
        **numbers: float,
    ) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise ValueError(
                "A code is a word such as 'search.slow': letters, digits and . _ : - up to 64 of"
                " them. It is shown to clients, so it holds no message."
            )
        self.code = code
        self.result = Result(
            self.status, code, _observed(observed), unit, numbers=_numbers(numbers)
        )
        super().__init__(code)


class Fail(_Finding):
    """Raised by a check: this does not work.

    Args:
        code: A word for machines, such as ``search.down``.
        observed: What was measured.
        unit: Its unit.
        **numbers: Further figures, shown by name beside the code.

    .. versionadded:: 0.1
    """


class Warn(_Finding):
    """Raised by a check: this works, and somebody should look at it.

    Args:
        code: A word for machines, such as ``search.slow``.
        observed: What was measured.
        unit: Its unit.
        **numbers: Further figures, shown by name beside the code.

    .. versionadded:: 0.1
    """

    status = WARN


def passed(observed: float | str | None = None, unit: str | None = None) -> Result:
    """Build what a check returns when it has something to show.

    Args:
        observed: What was measured.
        unit: Its unit, for example ``ms``.

    .. versionadded:: 0.1
    """
    return Result(observed=_observed(observed), unit=unit)


def _observed(value: object) -> float | str | None:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        # JSON has no NaN and no infinity.
        return round(value, 3) if math.isfinite(value) else None
    raise TypeError(f"observed is {type(value).__name__}. Use a number, a short text or None.")


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    for name, value in values.items():
        if name in _RESERVED:
            raise ValueError(f"{name}= has a meaning of its own here. Use another name.")
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise TypeError(f"{name}= is no number. Only numbers are shown beside a code.")
    return dict(values)  # type: ignore[arg-type]


def worst(statuses: Iterable[str]) -> str:
    """Return the worst of some statuses, ``pass`` if there are none."""
    return max(statuses, key=_ORDER.index, default=PASS)


@dataclass(frozen=True)
class Report:
    """What the checks of a group say together.

    Attributes:
        status: ``pass``, ``warn`` or ``fail``.
        checks: What each of them found, as plain values: a list of dicts by name of the check.

    .. versionadded:: 0.1
    """

    status: str
    checks: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)

    def as_dict(self, *, details: bool = True) -> dict[str, Any]:
        """Return plain values for JSON.

        Args:
            details: With the checks, or the status alone.
        """
        return {"status": self.status, **({"checks": dict(self.checks)} if details else {})}
