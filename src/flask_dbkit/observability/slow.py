"""The log of slow statements, with the plan of a SELECT.

One record of the logger ``flask_dbkit.slow`` for each slow statement. The plan is asked for on the
same connection with the same parameters, without running the statement again, seldom, and never
in a way that could end the application's transaction.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from ..databases.execution import Execution
from ..databases.statements import Kind, first_word
from ..errors.words import mask_literals
from .call_sites import place_of_call
from .plans import plan_of
from .windows import fingerprint

__all__ = ["SlowLog"]

logger = logging.getLogger("flask_dbkit.slow")

_AGAIN_S = 600.0  # a plan of the same statement is asked for again after this time
_PAUSE_S = 1.0  # and of any statement
_MOST = 1000  # fingerprints that are remembered


class SlowLog:
    """Logs slow statements of one application.

    Args:
        explain: Whether plans are asked for.
        facts: Tells what a record says of the request: ``route`` and ``request_id``.
    """

    def __init__(self, *, explain: bool, facts: Callable[[], Mapping[str, Any]]) -> None:
        self._explain, self._facts = explain, facts
        self._lock = threading.Lock()
        self._planned: dict[str, float] = {}
        self._last = float("-inf")

    def note(self, execution: Execution, time_s: float, bind: str) -> None:
        """Log one statement."""
        sql = execution.statement
        mark = fingerprint(sql)
        place, _ = place_of_call()
        facts: dict[str, Any] = {
            "fingerprint": mark,
            "time_ms": round(time_s * 1000, 3),
            "rows": max(0, execution.cursor.rowcount),
            "call_site": f"{place[0]}:{place[1]}" if place is not None else None,
            "bind": bind,
            **self._facts(),
            "plan": self._plan(execution, mark),
        }
        logger.warning(
            "%s ms in %s at %s: %s",
            facts["time_ms"],
            bind,
            facts["call_site"],
            mask_literals(sql),
            extra=facts,
        )

    def _plan(self, execution: Execution, mark: str) -> str | None:
        plain = execution.kind is Kind.READ and not execution.many
        if not self._explain or not plain or first_word(execution.statement) not in _EXPLAINED:
            return None
        if getattr(execution.context, "_is_server_side", False):
            return None  # the connection is busy with its rows
        if not self._is_due(mark):
            return None
        try:
            return plan_of(execution)
        except Exception as error:
            logger.debug("No plan: %s", type(error).__name__)
            return None

    def _is_due(self, mark: str) -> bool:
        now = monotonic()
        with self._lock:
            if now - self._last < _PAUSE_S or now - self._planned.get(mark, -_AGAIN_S) < _AGAIN_S:
                return False
            if len(self._planned) >= _MOST:
                self._planned.clear()
            self._planned[mark] = self._last = now
            return True


_EXPLAINED = frozenset({"SELECT", "WITH"})
