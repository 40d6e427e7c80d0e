"""``dbkit.health``: what an application says to its health checks, and asks them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from flask import Flask, current_app, has_app_context

from ..application import application_of
from ..support.calls import explained_methods
from .checks import AppHealth
from .registry import Registry
from .report import Fail, Report, Warn, passed

__all__ = ["Health"]

F = TypeVar("F", bound=Callable[[], object])
A = TypeVar("A", bound=Callable[[Any], bool])


@explained_methods()
class Health:
    """The health checks of the applications of one :class:`DBKit`, as ``dbkit.health``.

    .. versionadded:: 0.1
    """

    Fail = Fail
    Warn = Warn
    passed = staticmethod(passed)

    def __init__(self, applications: Callable[[], Iterable[Flask]]) -> None:
        self._applications = applications
        self.registry = Registry()

    def check(
        self,
        name: str,
        *,
        groups: Iterable[str] = ("readiness",),
        critical: bool = True,
        timeout: float | None = None,
        ttl: float | None = None,
    ) -> Callable[[F], F]:
        """Register a check of the application; a decorator for a function without arguments.

        It returns ``None`` or :func:`passed`, or raises :class:`Fail` or :class:`Warn`. Any other
        exception is a failure with the code ``check.error``, and the log names its class and
        line. What was not measured by itself shows how long the check took. It runs in a
        thread of its own with an application context, never twice at the same time; the answer
        does not wait for it longer than ``timeout``.

        Args:
            name: Shown in the details. A check of the same name is replaced.
            groups: Of ``liveness``, ``readiness`` and ``startup``.
            critical: Whether its failure is one of the group, or a warning.
            timeout: Its deadline in seconds; ``None`` is ``DBKIT_HEALTH_TIMEOUT``.
            ttl: Seconds its answer is kept; ``None`` is ``DBKIT_HEALTH_TTL``.

        Raises:
            ValueError: The name is one of the library's own, or an argument cannot be used.

        .. versionadded:: 0.1
        """

        def register(function: F) -> F:
            self.registry.add(
                function, name, groups=groups, critical=critical, timeout=timeout, ttl=ttl
            )
            return function

        return register

    def authorize(self, function: A) -> A:
        """Say who may see details, if ``DBKIT_HEALTH_DETAILS`` is ``"authorized"``.

        Args:
            function: ``function(request) -> bool``. At the probes it is asked ahead of the
                application's request hooks, with an application context and without a session;
                there it should look at headers only. One that raises has not allowed it.

        Returns:
            The function, so that this is a decorator as well.

        .. versionadded:: 0.1
        """
        self.registry.authorizer = function
        return function

    def drain(self) -> None:
        """Let readiness fail from now on, with the code ``draining``.

        Of the current application, or outside a context of every application in this process
        that this ``DBKit`` serves.

        .. versionadded:: 0.1
        """
        for health in self._current():
            health.drain()

    def run(self, group: str) -> Report:
        """Run the checks of one group, or give answers that are still fresh.

        Args:
            group: ``"liveness"``, ``"readiness"`` or ``"startup"``.

        Raises:
            ValueError: There is no such group.
            RuntimeError: There is no current application, and not exactly one was initialised.

        .. versionadded:: 0.1
        """
        found = self._current()
        if len(found) != 1:
            raise RuntimeError(
                f"This DBKit serves {len(found)} applications. Call dbkit.health.run() inside"
                " 'with app.app_context():'."
            )
        return found[0].run(group)

    def _current(self) -> list[AppHealth]:
        served = list(self._applications())
        if has_app_context():
            served = [app for app in served if app == current_app] or served
        found = [application_of(app) for app in served]
        return [each.part(AppHealth) for each in found]
