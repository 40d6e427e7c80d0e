"""How long a transaction may wait, and a statement run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NO_TIMEOUTS", "Timeouts"]


@dataclass(frozen=True)
class Timeouts:
    """Limits in seconds; ``None`` is the connection's own."""

    lock_s: float | None = None
    statement_s: float | None = None

    def __bool__(self) -> bool:
        return self.lock_s is not None or self.statement_s is not None


NO_TIMEOUTS = Timeouts()
