"""The checks of one application: which belong to which group, and what they say together."""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from weakref import WeakSet

from ..databases.forking import after_fork_in_child
from .registry import Check, Registry, check_group
from .report import FAIL, WARN, Report, Result, _Finding, worst
from .runner import HealthRun, Outcome, Rules, Runner, Ticket
from .settings import HealthSettings

__all__ = ["AppHealth", "Incident", "log_error"]

logger = logging.getLogger("flask_dbkit.health")

_DETAILS = ("readiness", "liveness", "startup")  # whose view of a check the details show
_HISTORY = 20


@dataclass(frozen=True)
class Incident:
    """A check that began to fail or to warn.

    Attributes:
        name: The check.
        status: ``fail`` or ``warn``.
        code: The reason.
        since: When it was first seen.
    """

    name: str
    status: str
    code: str | None
    since: datetime


@dataclass
class _State:
    """What is forgotten in a forked child: threads and locks stay with the parent."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    runners: dict[tuple[str, object], Runner] = field(default_factory=dict)
    instant: dict[str, Result] = field(default_factory=dict)
    started: Report | None = None


class AppHealth:
    """The checks of one application, their runs, and what was seen of them.

    Args:
        config: The application's settings.
        registry: The checks of the application.
        context: Makes an application context, for the checks of the application.
    """

    def __init__(
        self,
        config: HealthSettings,
        registry: Registry,
        context: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._config, self._context = config, context
        self._checks: list[Check] = []
        self.registry = registry
        self.draining = False
        self.background = True
        """Whether long checks may go on in the background; not in a process that ends soon."""
        self._history: deque[Incident] = deque(maxlen=_HISTORY)
        self._state = _State()
        _living.add(self)

    def add(self, check: Check) -> None:
        """Add one of the library's own checks."""
        self._checks.append(check)

    def ask_after(self, name: str, further: Callable[[Check], Check]) -> None:
        """Let a check ask one thing more when it has found that all is well.

        One after the other and in the same thread, so that a database that hangs takes one
        thread and one connection.

        Args:
            name: One of the library's own checks.
            further: Returns the check of what is asked more, from the check it follows.
        """
        at = next(at for at, check in enumerate(self._checks) if check.name == name)
        check = self._checks[at]
        more = further(check)
        self._checks[at] = replace(
            check,
            work=_InTurn(check, more),
            critical_by_name={**check.critical_by_name, more.name: more.critical},
        )

    def drain(self) -> None:
        """Let readiness fail from now on."""
        if not self.draining:
            self.draining = True
            logger.info("Draining: readiness fails from now on.")

    def run(self, group: str) -> Report:
        """Run the checks of a group, or give the answers that are still fresh.

        Args:
            group: One of :data:`GROUPS`. A startup that has passed stays passed.

        Raises:
            ValueError: There is no such group.
        """
        check_group(group)
        if group == "startup" and self._state.started is not None:
            return self._state.started
        report = self._report([(check, group) for check in self._of(group)])
        if group == "startup" and report.status != FAIL:
            self._state.started = report
        return report

    def examine(self) -> Report:
        """Run the checks of every group, each as the most important of its groups sees it."""
        chosen: dict[str, tuple[Check, str]] = {}
        for group in _DETAILS:
            if group == "startup" and self._state.started is not None:
                continue
            for check in self._of(group):
                chosen.setdefault(check.name, (check, group))
        return self._report(chosen.values())

    def incidents(self) -> list[Incident]:
        """Return what went wrong lately, the newest first."""
        return list(reversed(self._history))

    def _of(self, group: str) -> Iterator[Check]:
        for check in self._checks:
            if group in check.groups:
                yield check
        for function, check in list(self.registry.functions.values()):
            if group in check.groups:
                yield replace(check, work=_Own(function, check.name, self._context))
        if group == "readiness" and self.draining:
            yield _DRAINING

    def _report(self, chosen: Iterable[tuple[Check, str]]) -> Report:
        # All of them are begun before any is waited for: the answer comes when the slowest
        # deadline is over, not their sum.
        begun = [(check, group, self._begin(check)) for check, group in chosen]
        statuses: list[str] = []
        entries: dict[str, list[dict[str, Any]]] = {}
        for check, group, (runner, ticket) in begun:
            outcome = ticket.answer if runner is None else runner.finish(ticket)
            assert outcome is not None
            for name, result in outcome.items():
                critical = check.critical_by_name.get(name, check.critical)
                soft = group not in critical and result.status == FAIL
                statuses.append(WARN if soft else result.status)
                entries.setdefault(name, []).append(result.as_dict())
        return Report(worst(statuses), entries)

    def _begin(self, check: Check) -> tuple[Runner | None, Ticket]:
        state = self._state
        if check.at_once:
            outcome = check.work(HealthRun(0))
            for name, result in outcome.items():
                self._observe(name, state.instant.get(name), result)
                state.instant[name] = result
            return None, Ticket(outcome)
        key = (check.name, getattr(check.work, "identity", check.work))
        with state.lock:
            runner = state.runners.get(key)
            if runner is None:
                runner = state.runners[key] = self._make_runner(check)
        return runner, runner.begin()

    def _make_runner(self, check: Check) -> Runner:
        config = self._config
        timeout_s = config.health_timeout if check.timeout_s is None else check.timeout_s

        def late(run: HealthRun) -> Outcome:
            name = run.late_name or check.name
            code = check.timeout_code if name == check.name else "check.timeout"
            took_ms = run.elapsed_ms()
            result = Result(
                FAIL, run.late_code or code, took_ms, "ms", {}, check.component, took_ms
            )
            return {**run.found, name: result}

        def failed(error: BaseException) -> Outcome:
            log_error(check.name, error)
            return {check.name: Result(FAIL, "check.error", component=check.component)}

        return Runner(
            check.work,
            name=check.name,
            rules=Rules(
                timeout_s,
                config.health_ttl if check.ttl_s is None else check.ttl_s,
                config.health_fail_after,
                config.health_pass_after,
            ),
            on_timeout=late,
            on_error=failed,
            observe=self._observe,
        )

    def _observe(self, name: str, before: Result | None, now: Result) -> None:
        if before is not None and (before.status, before.code) == (now.status, now.code):
            return
        if now.status in (FAIL, WARN):
            self._history.append(Incident(name, now.status, now.code, now.time))
            logger.warning("Health check %s: %s (%s)", name, now.status, now.code)
        elif before is not None and before.status in (FAIL, WARN):
            logger.info("Health check %s: pass again", name)

    def _renew(self) -> object:
        """Forget the parent's threads and locks; return them, to be kept alive."""
        inherited, self._state = self._state, _State()
        return inherited


class _Own:
    """A check of the application: a function without arguments."""

    def __init__(
        self,
        function: Callable[[], object],
        name: str,
        context: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.identity = function
        self._name, self._context = name, context

    def __call__(self, run: HealthRun) -> Mapping[str, Result]:
        try:
            with self._context():
                found = self.identity()
        except _Finding as finding:
            result = finding.result
        else:
            if found is not None and not isinstance(found, Result):
                raise TypeError(f"a check returns None or passed(...), not {type(found).__name__}")
            result = found or Result()
        took_ms = run.elapsed_ms()
        if result.observed is None:
            result = replace(result, observed=took_ms, unit="ms")
        return {self._name: replace(result, duration_ms=took_ms, time=Result().time)}


_DRAINING = Check(
    "draining",
    lambda _run: {"draining": Result(FAIL, "draining", component="system")},
    at_once=True,
)


class _InTurn:
    """Runs a check, and another one when the first has not failed."""

    def __init__(self, first: Check, more: Check) -> None:
        self._first, self._more = first, more

    def __call__(self, run: HealthRun) -> Outcome:
        found = self._first.work(run)
        if found[self._first.name].status == FAIL:
            return found
        run.found, run.late_name = found, self._more.name
        try:
            return {**found, **self._more.work(run)}
        except Exception as error:
            log_error(self._more.name, error)
            return {**found, self._more.name: Result(FAIL, "check.error", component="datastore")}


def log_error(name: str, error: BaseException) -> None:
    """Log that a check raised, without the text of the exception."""
    # The text of an exception may hold a URL or a password; its class and place do not.
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "no line known"
    logger.error("Health check %s raised %s at %s", name, type(error).__name__, place)


_living: WeakSet[AppHealth] = WeakSet()


def _renew_all() -> object:
    return [health._renew() for health in list(_living)]  # noqa: SLF001 - one module


after_fork_in_child(_renew_all)
