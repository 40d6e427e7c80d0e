"""Connections around a fork: a child must not speak on its parent's sockets, nor share its files.

A connection is one conversation. When parent and child both use it, answers reach the wrong
process: of 800 queries in four forked children, 229 got another process's rows. So every
engine drops its pool in the child, without closing what it holds, and opens its own. What has to
be done before, while there is one process only, is asked for with :func:`before_fork`.

References:
    * https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork
    * https://docs.python.org/3/library/os.html#os.register_at_fork
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

from sqlalchemy.engine import Engine

__all__ = [
    "after_fork_in_child",
    "after_fork_in_parent",
    "before_fork",
    "briefly_open",
    "renew_after_fork",
]

_PATIENCE_S = 1.0  # for connections that are open for a moment: the probes' deadline is below it

_engines: WeakSet[Engine] = WeakSet()
_before: list[Callable[[], object]] = []
_after: list[Callable[[], object]] = []
_callbacks: list[Callable[[], object]] = []
_inherited: list[object] = []
"""What the parent owns. Collecting a connection would close it, so the child keeps them."""


def renew_after_fork(engine: Engine) -> None:
    """Give ``engine`` a new pool in every child this process forks."""
    _engines.add(engine)


def before_fork(callback: Callable[[], object]) -> None:
    """Call ``callback`` each time this process is about to fork."""
    _before.append(callback)


def after_fork_in_parent(callback: Callable[[], object]) -> None:
    """Call ``callback`` in this process each time it has forked."""
    _after.append(callback)


def after_fork_in_child(callback: Callable[[], object]) -> None:
    """Call ``callback`` in every forked child; what it returns is kept alive."""
    _callbacks.append(callback)


@contextmanager
def briefly_open() -> Iterator[None]:
    """Let no fork happen inside the block, where a connection is open for a moment.

    A fork waits for the end of the block, a second at most, and no block begins meanwhile.
    """
    turnstile = _turnstile
    turnstile.enter()
    try:
        yield
    finally:
        if turnstile is _turnstile:  # else this is a child, and its parent's lock may be taken
            turnstile.leave()


class _Turnstile:
    """Where forks and short connections let each other pass."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._forks = 0
        self._inside: list[int] = []  # the threads

    def enter(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._forks, _PATIENCE_S)
            self._inside.append(threading.get_ident())

    def leave(self) -> None:
        with self._changed:
            self._inside.remove(threading.get_ident())
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in, and wait for those who are inside."""
        own = threading.get_ident()
        with self._changed:
            self._forks += 1
            self._changed.wait_for(
                lambda: self._inside.count(own) == len(self._inside), _PATIENCE_S
            )

    def open(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


_turnstile = _Turnstile()


def _prepare() -> None:
    _turnstile.close()
    for callback in _before:
        callback()


def _resume() -> None:
    _turnstile.open()
    for callback in _after:
        callback()


def _renew() -> None:
    global _turnstile  # noqa: PLW0603 - who was inside is not here, and may have held its lock
    _turnstile = _Turnstile()
    _inherited.extend(callback() for callback in _callbacks)
    for engine in list(_engines):
        _inherited.append(engine.pool)
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare, after_in_parent=_resume, after_in_child=_renew)
