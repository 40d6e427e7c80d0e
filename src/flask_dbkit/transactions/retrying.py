"""Replaying a whole transaction: when it helps, how long to wait, what to forget in between.

Only the outermost transaction can be replayed: a serialization failure inside a savepoint comes
back for as long as the snapshot around it lives. And only from a clean session: objects added
or changed before the replayed body vanish with the rollback of the first attempt.
"""

from __future__ import annotations

import functools
import inspect
import logging
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

from sqlalchemy import event
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ..databases import errors_for
from ..databases.errors import ErrorCodes
from .exceptions import (
    CommitOutcomeUnknown,
    OnCommitError,
    OptionMismatch,
    OwnershipError,
    PartialCommit,
    TransactionError,
)
from .leaving import leave, leave_own
from .opening import open_scope, stray_work
from .options import Retry, ScopeDefaults, ScopeOptions, needs_known_codes
from .state import Block, RecordedError, TransactionInfo, record_of

__all__ = ["Attempt", "Replay", "attempts", "check_replayable", "run_in_scope"]

R = TypeVar("R")
Find = Callable[[], tuple[Session, ScopeDefaults]]

logger = logging.getLogger("flask_dbkit.transactions")


@dataclass(frozen=True)
class Replay:
    """What the rim knows of a function that may have to run a second time.

    Attributes:
        find: Returns the session and what the application says of its scopes; asked for at
            every attempt.
        input_read: Returns how far an input was read that cannot be read a second time; an
            attempt that moved it is not replayed.
    """

    find: Find
    input_read: Callable[[], object] = lambda: None


def run_in_scope(
    replay: Replay, options: ScopeOptions, policy: Retry, function: Callable[[], R]
) -> R:
    """Call ``function`` in a scope, and again where the policy says so.

    Args:
        replay: Where the session is, and whether the input can be read again.
        options: Of the scope.
        policy: Ignored when the scope joins another one.
        function: Called without arguments, once per attempt.

    Returns:
        What the last call returned; ``None`` when it raised :exc:`Rollback`.
    """
    if policy.attempts == 1:
        return _run_once(replay.find, options, function)
    result: R | None = None
    for attempt in attempts(replay, options, policy):
        result = None
        with attempt:
            result = function()
    return cast("R", result)


def _run_once(find: Find, options: ScopeOptions, function: Callable[[], R]) -> R:
    session, defaults = find()
    block = open_scope(session, options, defaults)
    try:
        result = function()
    except BaseException as error:
        if not leave_own(block, error):
            raise
        return cast("R", None)
    leave_own(block, None)
    return result


def attempts(replay: Replay, options: ScopeOptions, policy: Retry) -> Iterator[Attempt]:
    """Yield one context manager per attempt, until one ends normally.

    Each opens an outermost scope; inside an open scope there is one attempt, which joins.

    Args:
        replay: Where the session is, and whether the input can be read again.
        options: Of the scope.
        policy: Ignored when the scope joins another one.
    """
    session, defaults = replay.find()
    record = record_of(session)
    if record.unit is not None:
        yield Attempt(_Course(replay, options, Retry(attempts=1)), 1)
        return
    if needs_known_codes(policy):
        _check_codes(policy, defaults)
    if policy.attempts > 1:
        stray = stray_work(session, record.transactions)
        if stray is not None:
            raise OwnershipError(
                f"The session has uncommitted work: {stray}. The rollback of a failed attempt"
                " would lose it for good. Commit it, or do it inside the replayed function."
            )
    course = _Course(replay, options, policy, started=time.monotonic())
    for number in range(1, policy.attempts + 1):
        attempt = Attempt(course, number)
        yield attempt
        if attempt.error is None:
            return
        # The connection went back with the rollback: nothing is held while waiting.
        time.sleep(attempt.pause_s)


@dataclass
class _Course:
    """What the attempts of one replay share.

    Attributes:
        replay: Where the session is, and whether the input can be read again.
        options: Of every attempt's scope.
        policy: When to go on.
        started: The clock when the first attempt began.
        used_up: Objects that failed attempts had added, by id; kept alive, so that no other
            object gets their id.
        failure: Why the attempt before failed.
    """

    replay: Replay
    options: ScopeOptions
    policy: Retry
    started: float = 0.0
    used_up: dict[int, object] = field(default_factory=dict)
    failure: BaseException | None = None


class Attempt:
    """One attempt as a context manager; swallows an error that is to be followed by another."""

    def __init__(self, course: _Course, number: int) -> None:
        self._course = course
        self._number = number
        self._block: Block | None = None
        self._added: dict[int, tuple[object, list[str]]] = {}
        self.error: BaseException | None = None
        self.pause_s = 0.0

    def __enter__(self) -> TransactionInfo:
        course = self._course
        self._session, defaults = course.replay.find()
        caller = sys._getframe(1)  # noqa: SLF001 - there is no other way to ask
        block = open_scope(self._session, course.options, defaults, caller, attempt=self._number)
        self._block = block
        if course.policy.attempts > 1:
            self._input_at_start = course.replay.input_read()
            event.listen(self._session, "before_flush", self._before_flush)
        return block

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        block = self._block
        assert block is not None
        if self._course.policy.attempts == 1:
            return leave(block, error)
        unit = block.unit
        begun = unit.transactions.values()
        databases = [errors_for(each.connection) for each in begun]
        self._note_added(self._session.new)
        try:
            swallowed = leave(block, error)
            if error is None or swallowed:
                return swallowed
            raised: BaseException = error
        except Exception as failed:
            raised = failed
        finally:
            event.remove(self._session, "before_flush", self._before_flush)
        first = unit.errors[0] if unit.errors else None
        if self._is_worth_another(raised, first, databases):
            self._forget_keys()
            logger.info("Attempt %d failed (%s): replaying.", self._number, type(raised).__name__)
            self.error = self._course.failure = raised
            return True
        if raised is error:
            return False
        raise raised

    def _is_worth_another(
        self, raised: BaseException, first: RecordedError | None, databases: list[ErrorCodes]
    ) -> bool:
        """Decide, and say in a note what was decided against."""
        policy = self._course.policy
        note = f"attempt {self._number} of {policy.attempts}"
        outermost = self._block is not None and self._block.index == 0
        curable = isinstance(raised, Exception) and self._is_curable(raised, first, databases)
        if outermost and curable and self._number < policy.attempts:
            if self._course.replay.input_read() != self._input_at_start:
                note += "; not replayed, because it has read the body of the request"
            elif self._is_in_time():
                return True
            else:
                note += f"; the deadline of {policy.deadline} s allows no other"
        raised.add_note(note)
        return False

    def _is_in_time(self) -> bool:
        policy = self._course.policy
        doublings = min(self._number - 1, 64)  # as a float it would overflow some day
        self.pause_s = random.uniform(0, min(policy.cap, policy.base * 2**doublings))  # noqa: S311 - no secret
        if policy.deadline is None:
            return True
        return time.monotonic() - self._course.started + self.pause_s <= policy.deadline

    def _is_curable(
        self, raised: Exception, first: RecordedError | None, databases: list[ErrorCodes]
    ) -> bool:
        policy = self._course.policy
        if isinstance(raised, (OnCommitError, PartialCommit)):
            return False  # committed, all of it or some: whatever the policy lists
        if isinstance(raised, CommitOutcomeUnknown):
            return policy.idempotent
        known = databases or _known_databases(self._course.replay.find)
        seen: list[BaseException] = [raised]
        if isinstance(raised, DBAPIError) and raised.orig is not None:
            seen.append(raised.orig)
        if first is not None:
            # The first error of the attempt decides: MariaDB's deadlock hides behind a savepoint
            # that does not exist, PostgreSQL's behind whatever wrapped it.
            seen += [first[1], first[2]]
        decisive = seen[-1]
        if any(database.is_retriable(decisive) for database in known):
            return True
        if (policy.idempotent or "disconnect" in policy.on) and any(
            _is_disconnect(error, known) for error in seen
        ):
            return True
        return any(_matches(policy.on, error, known) for error in seen)

    def _before_flush(self, session: Session, context: Any, instances: Any) -> None:
        new = list(session.new)
        for item in new:
            if id(item) in self._course.used_up:
                raise TransactionError(
                    f"{item!r} was made outside the replayed function, and an earlier attempt"
                    " has used it up. Create the objects to be saved inside the function."
                ) from self._course.failure
        self._note_added(new)

    def _note_added(self, items: Iterable[object]) -> None:
        """Remember what the attempt adds, and which primary keys the database will make."""
        for item in items:
            if id(item) not in self._added:
                state: Any = sa_inspect(item)
                keys = [
                    state.mapper.get_property_by_column(column).key
                    for column in state.mapper.primary_key
                ]
                self._added[id(item)] = item, [k for k in keys if state.dict.get(k) is None]

    def _forget_keys(self) -> None:
        """Reset the primary keys the database had given to objects of a failed attempt."""
        for item, missing in self._added.values():
            self._course.used_up[id(item)] = item
            for key in missing:
                item.__dict__.pop(key, None)


def _check_codes(policy: Retry, defaults: ScopeDefaults) -> None:
    """Refuse a policy that would never find anything to retry."""
    engines = list(defaults.bind_names)
    if engines and not any(errors_for(engine).retriable for engine in engines):
        names = ", ".join(sorted({engine.dialect.name for engine in engines}))
        raise OptionMismatch(
            "retry",
            policy.attempts,
            None,
            f"retry={policy.attempts} has no effect on {names}: Flask-DBKit does not know the error"
            " codes of its driver. Name what to retry: Retry(on=(SomeError,)).",
        )


def _known_databases(find: Find) -> list[ErrorCodes]:
    _, defaults = find()
    return [errors_for(engine) for engine in defaults.bind_names]


def _is_disconnect(error: BaseException, databases: list[ErrorCodes]) -> bool:
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return any(database.is_disconnect(error) for database in databases)


def _matches(on: tuple[Any, ...], error: BaseException, databases: list[ErrorCodes]) -> bool:
    codes = {code for database in databases for code in database.codes(error)}
    return any(
        isinstance(error, wanted) if isinstance(wanted, type) else wanted in codes for wanted in on
    )


def check_replayable(function: Callable[..., Any]) -> None:
    """Refuse what cannot run inside a scope: its body would run outside, silently.

    Raises:
        TypeError: A generator function, an async function or an async generator function.
    """
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not (inspect.isfunction(inner) or inspect.ismethod(inner)) and callable(inner):
        inner = getattr(inner, "__call__", inner)  # noqa: B004 - its code is what is asked about
    checks: tuple[tuple[Callable[[Any], bool], Literal["generator", "async"]], ...] = (
        (inspect.isgeneratorfunction, "generator"),
        (inspect.isasyncgenfunction, "async"),
        (inspect.iscoroutinefunction, "async"),
    )
    for is_kind, word in checks:
        if is_kind(inner):
            raise TypeError(
                f"{function!r} is {'a generator' if word == 'generator' else 'an async'} function:"
                " its body runs after the scope has ended. Use 'with transaction():' inside it,"
                " or stream() for a streamed response."
            )
