"""Readiness that fails as soon as the process is asked to stop."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from weakref import WeakSet

from .checks import AppHealth

__all__ = ["drain_on_sigterm"]

logger = logging.getLogger("flask_dbkit.health")

_draining: WeakSet[AppHealth] = WeakSet()


def drain_on_sigterm(health: AppHealth) -> None:
    """Let the readiness of an application fail when the process gets SIGTERM.

    The handler that was there, a server's, is called afterwards. Without one, which would be
    the end of the process at once, the first SIGTERM only drains, and a second one ends it.
    """
    _draining.add(health)
    before = signal.getsignal(signal.SIGTERM)
    if getattr(before, "drains_dbkit", False):
        return
    if threading.current_thread() is not threading.main_thread():
        logger.warning(
            "DBKIT_HEALTH_DRAIN_ON_SIGTERM has no effect: the application was not made in the"
            " main thread. Call dbkit.health.drain() where the server tells that it stops."
        )
        return

    def drain(number: int, frame: FrameType | None) -> None:
        for each in list(_draining):
            each.drain()
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)

    setattr(drain, "drains_dbkit", True)
    signal.signal(signal.SIGTERM, drain)
