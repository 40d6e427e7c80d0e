"""Run one check with a deadline that holds, at most once at a time, and remember the answer.

A check may hang for as long as the kernel believes that the server is alive, so nobody waits
for the check itself: it runs in a thread, and whoever asks waits until the deadline. At the
deadline the answer is "did not answer", the check is told to let go, and no second thread is
started while the first one is still there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..support.threads import in_our_thread
from .report import FAIL, PASS, Result

__all__ = ["HealthRun", "Outcome", "Rules", "Runner", "Ticket"]

Outcome = Mapping[str, Result]
"""What one run found, by name of the check: a database has several things to tell."""

# Threads that wait for one run, the one that started it included. More would occupy the threads
# of the server while a database hangs; they get the answer of the run before.
_WAITERS = 2
_LOOK_S = 0.02
_LONGEST_STOP_S = 30.0  # so long the clock may stand still
_STALE_S = 15.0  # an answer older than this is no answer, so they wait after all


@dataclass(frozen=True)
class Rules:
    """How a check is run.

    Attributes:
        timeout_s: The deadline.
        ttl_s: How long an answer is given again without asking.
        fail_after: So many failures in a row until a check that passed is failing.
        pass_after: So many good answers in a row until a check that failed is passing.
    """

    timeout_s: float
    ttl_s: float
    fail_after: int = 1
    pass_after: int = 1


class HealthRun:
    """One run of a check: when it has to be over, and how to make it let go.

    Attributes:
        started: In seconds of ``time.monotonic()``.
        deadline: The same.
        found: What is known already, and stands if the rest is late.
        late_name: The check that would be late; ``None`` for the one that is run.
        late_code: What it waits for, as the code of the answer if it is still waiting at the
            deadline; ``None`` if it does not know.
    """

    def __init__(self, timeout_s: float) -> None:
        self.started = time.monotonic()
        self.deadline = self.started + timeout_s
        self.found: Outcome = {}
        self.late_name: str | None = None
        self.late_code: str | None = None
        self.waiting = 0
        self.overdue = False
        self._stopped_at: float | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._release: Callable[[], object] | None = None

    def left_s(self) -> float:
        """Return the seconds until the deadline, 0 when it is over."""
        now = time.monotonic() if self._stopped_at is None else self._stopped_at
        return max(0.0, self.deadline - now)

    @contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """Stop the clock inside the block: for what a process does once, such as an import.

        On a machine that is busy an import takes longer than a check may, and says nothing about
        what is checked.
        """
        self._stopped_at = time.monotonic()
        try:
            yield
        finally:
            took_s = time.monotonic() - self._stopped_at
            self.started, self.deadline = self.started + took_s, self.deadline + took_s
            self._stopped_at = None

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the beginning."""
        return round((time.monotonic() - self.started) * 1000, 3)

    def release_with(self, release: Callable[[], object] | None) -> None:
        """Say how the run can be ended from outside; ``None`` when it no longer can be.

        Args:
            release: Called in another thread, at most once; at once if it is too late already.
        """
        with self._lock:
            self._release = release
            if release is not None and self.overdue:
                self._release = None
                release()

    def give_up(self) -> None:
        """Make the run end, by the way it named itself."""
        with self._lock:
            self.overdue = True
            release, self._release = self._release, None
            if release is not None:
                release()

    def end(self) -> None:
        """Wake those who wait."""
        self._ended.set()

    def wait(self) -> bool:
        """Wait until the run has ended or its deadline is over; tell whether it has ended."""
        latest = time.monotonic() + self.left_s() + _LONGEST_STOP_S
        while not self._ended.wait(self.left_s() if self._stopped_at is None else _LOOK_S):
            stopped = self._stopped_at is not None and time.monotonic() < latest
            if not stopped and self.left_s() == 0:
                return self._ended.is_set()
        return True


@dataclass(frozen=True)
class Ticket:
    """The answer, or the run that will bring it."""

    answer: Outcome | None = None
    run: HealthRun | None = None


class Runner:
    """One check of one application.

    Args:
        work: Runs it once, and ends soon after the run was given up.
        on_timeout: The answer when the deadline of a run is over.
        on_error: The answer when ``work`` raised; called with the exception.
        rules: Deadline, time to live, and when a status changes.
        observe: Told about every new result: ``(name, before, now)``.
    """

    def __init__(
        self,
        work: Callable[[HealthRun], Outcome],
        *,
        name: str,
        rules: Rules,
        on_timeout: Callable[[HealthRun], Outcome],
        on_error: Callable[[BaseException], Outcome],
        observe: Callable[[str, Result | None, Result], None],
    ) -> None:
        self._work, self._name, self._rules = work, name, rules
        self._on_timeout, self._on_error, self._observe = on_timeout, on_error, observe
        self._lock = threading.Lock()
        self._current: HealthRun | None = None
        self._answer: Outcome | None = None
        self._answered_at = float("-inf")
        self._flips: dict[str, _Flip] = {}

    def begin(self) -> Ticket:
        """Start a run unless there is a fresh answer or a run already. Never waits."""
        with self._lock:
            age = time.monotonic() - self._answered_at
            run = self._current
            if self._answer is not None:
                if run is None and age < self._rules.ttl_s:
                    return Ticket(self._answer)
                if run is not None and (
                    run.overdue or (run.waiting >= _WAITERS and age < _STALE_S)
                ):
                    return Ticket(self._answer)
            if run is None:
                run = self._current = HealthRun(self._rules.timeout_s)
                thread = threading.Thread(
                    target=in_our_thread(self._run),
                    args=(run,),
                    name=f"dbkit-health-{self._name}",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError as error:  # no thread is to be had
                    self._current = None
                    return Ticket(self._settle(self._on_error(error)))
            run.waiting += 1
            return Ticket(run=run)

    def finish(self, ticket: Ticket) -> Outcome:
        """Return the answer a ticket stands for, at its deadline at the latest."""
        run = ticket.run
        if run is None:
            assert ticket.answer is not None
            return ticket.answer
        ended = run.wait()
        give_up = False
        with self._lock:
            run.waiting -= 1
            if not ended and self._current is run and not run.overdue:
                run.overdue = give_up = True
                self._settle(self._on_timeout(run))
            answer = self._answer
        if give_up:
            run.give_up()
        assert answer is not None
        return answer

    def _run(self, run: HealthRun) -> None:
        try:
            outcome = self._work(run)
        except BaseException as error:
            outcome = self._on_error(error)
        with self._lock:
            if not run.overdue:  # whoever waited was answered already
                self._settle(outcome)
            self._current = None
        run.end()

    def _settle(self, outcome: Outcome) -> Outcome:
        shown: dict[str, Result] = {}
        for name, result in outcome.items():
            before = self._answer.get(name) if self._answer is not None else None
            flip = self._flips.setdefault(name, _Flip())
            shown[name] = flip.show(result, self._rules)
            self._observe(name, before, shown[name])
        self._answer = shown
        self._answered_at = time.monotonic()
        return shown


class _Flip:
    """Whether a check counts as failing, and what would change that."""

    def __init__(self) -> None:
        self._failing: bool | None = None
        self._against = 0
        self._last_code: str | None = None

    def show(self, result: Result, rules: Rules) -> Result:
        failing = result.status == FAIL
        if failing:
            self._last_code = result.code
        if self._failing is None or failing == self._failing:
            self._failing, self._against = failing, 0
            return result
        self._against += 1
        if self._against >= (rules.fail_after if failing else rules.pass_after):
            self._failing, self._against = failing, 0
            return result
        # Not often enough yet: the status stays, and the code tells what is going on.
        return replace(result, status=FAIL if self._failing else PASS, code=self._last_code)
