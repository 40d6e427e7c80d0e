"""Run checks, each with a deadline, and make findings of what they say.

A check may hang for as long as a database does, so nobody waits for it: it runs in a thread, and
at its deadline the answer is that it did not come to its end.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from .checks import OWN, Check
from .examination import Examination
from .exceptions import NotExamined
from .findings import Finding, Found, rank

__all__ = ["DEADLINE_S", "examine"]

DEADLINE_S = 10.0
"""Seconds a check may take."""


def examine(
    given: Examination,
    checks: Iterable[Check],
    *,
    ignored: Iterable[str] = (),
    deadline_s: float = DEADLINE_S,
) -> list[Finding]:
    """Run checks one after the other.

    Args:
        given: What they look at.
        checks: Those to run.
        ignored: ``id``, or ``id:object``, of findings to leave out.
        deadline_s: Seconds each may take.

    Returns:
        What was found: the worst first, then by id and object.
    """
    found = [finding for one in checks for finding in _run(one, given, deadline_s)]
    left_out = frozenset(ignored)
    kept = [finding for finding in found if not _is_ignored(finding, left_out)]
    return sorted(
        kept,
        key=lambda each: (
            -rank(each.level),
            each.id,
            each.file or "",
            each.line or 0,
            each.object or "",
        ),
    )


def _run(one: Check, given: Examination, deadline_s: float) -> list[Finding]:
    found: list[Found] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with given.context():
                found.extend(one.examine(given))
        except NotExamined:
            pass  # DK090 tells
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name=f"dbkit-doctor-{one.id}", daemon=True)
    thread.start()
    thread.join(deadline_s)
    findings = [_finding(one, each) for each in list(found)]
    if thread.is_alive():
        message = f"{one.id} ({one.title}) has not ended after {deadline_s:g} s"
        return [*findings, _finding(OWN, Found(message, object=one.id))]
    return [*findings, *(_failure(one, error) for error in failures)]


def _failure(one: Check, error: BaseException) -> Finding:
    # Its class and place, and not its text: a database's error may hold what nobody should read.
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    message = f"{one.id} ({one.title}) raised {type(error).__name__}{where}"
    return _finding(OWN, Found(message, object=one.id))


def _finding(one: Check, found: Found) -> Finding:
    return Finding(
        one.id,
        found.level or one.level,
        found.object,
        found.message,
        one.cause,
        found.fix or one.fix,
        one.link,
        found.place,
    )


def _is_ignored(finding: Finding, ignored: frozenset[str]) -> bool:
    return any(name in ignored for name in _names(finding))


def _names(finding: Finding) -> Iterator[str]:
    yield finding.id
    yield f"{finding.id}:{finding.object}"
    if finding.file is not None:
        yield f"{finding.id}:{finding.file}"
