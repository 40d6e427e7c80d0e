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
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from sqlalchemy import event, inspect as sa_inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ..exceptions import CommitOutcomeUnknown, OwnershipError, TransactionError
from .databases import DatabaseScopes, scopes_for
from .options import Retry, ScopeOptions
from .scope import Frame, Surroundings, TransactionInfo, _pending, open_scope
from .work import marks_of

__all__ = ["Attempt", "attempts", "check_replayable", "run_in_scope"]

P = ParamSpec("P")
R = TypeVar("R")
Find = Callable[[], tuple[Session, Surroundings]]

logger = logging.getLogger("flask_dbkit.transactions")


def run_in_scope(
    find: Find, options: ScopeOptions, policy: Retry, function: Callable[[], R]
) -> R:
    """Call ``function`` in a scope, and again where the policy says so.

    Args:
        find: Returns the session, asked for at every attempt.
        options: Of the scope.
        policy: Ignored when the scope joins another one.
        function: Called without arguments, once per attempt.

    Returns:
        What the last call returned.
    """
    result: list[R] = []
    for attempt in attempts(find, options, policy):
        with attempt:
            result.append(function())
    return result[-1]


def attempts(find: Find, options: ScopeOptions, policy: Retry) -> Iterator[Attempt]:
    """Yield one context manager per attempt, until one ends normally.

    Each opens an outermost scope; inside an open scope there is one attempt, which joins.
    """
    session, _ = find()
    if marks_of(session).tree is not None:
        yield Attempt(find, options, Retry(attempts=1), 1, {})
        return
    if policy.attempts > 1 and _pending(session):
        raise OwnershipError(
            "The session has uncommitted objects, which the rollback of a failed attempt would"
            " lose for good. Commit them, or create them inside the replayed function."
        )
    started = time.monotonic()
    seen: dict[int, object] = {}
    for number in range(1, policy.attempts + 1):
        attempt = Attempt(find, options, policy, number, seen, started)
        yield attempt
        if attempt.error is None:
            return
        # The connection went back with the rollback: nothing is held while waiting.
        time.sleep(attempt.pause_s)


class Attempt:
    """One attempt as a context manager; swallows an error that is to be followed by another."""

    def __init__(
        self,
        find: Find,
        options: ScopeOptions,
        policy: Retry,
        number: int,
        seen: dict[int, object],
        started: float = 0.0,
    ) -> None:
        self._find, self._options, self._policy = find, options, policy
        self._number, self._seen, self._started = number, seen, started
        self._frame: Frame | None = None
        self._keys: list[tuple[object, list[str]]] = []
        self.error: BaseException | None = None
        self.pause_s = 0.0

    def __enter__(self) -> TransactionInfo:
        session, surroundings = self._find()
        self._frame = open_scope(session, self._options, surroundings, attempt=self._number)
        self._session = session
        if self._policy.attempts > 1:
            event.listen(session, "before_flush", self._before_flush)
        return self._frame.info

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        frame = self._frame
        assert frame is not None
        databases = [scopes_for(work.connection.dialect) for work in frame.tree.works.values()]
        try:
            swallowed = frame.leave(error)
            if error is None or swallowed:
                return swallowed
            raised: BaseException = error
        except Exception as failed:
            raised = failed
        finally:
            if self._policy.attempts > 1:
                event.remove(self._session, "before_flush", self._before_flush)
        if self._may_go_on(raised, frame.tree.first_error, databases):
            self._forget_keys()
            logger.info("Attempt %d failed (%r): replaying.", self._number, type(raised).__name__)
            self.error = raised
            return True
        if self._policy.attempts > 1 and frame.index == 0:
            raised.add_note(f"attempt {self._number} of {self._policy.attempts}")
        if raised is error:
            return False
        raise raised

    def _may_go_on(
        self,
        raised: BaseException,
        first: BaseException | None,
        databases: list[DatabaseScopes],
    ) -> bool:
        policy = self._policy
        if self._number >= policy.attempts or not isinstance(raised, Exception):
            return False
        if not self._is_curable(raised, first, databases):
            return False
        longest = min(policy.cap, policy.base * 2 ** (self._number - 1))
        self.pause_s = random.uniform(0, longest)
        if policy.deadline is None:
            return True
        return time.monotonic() - self._started + self.pause_s <= policy.deadline

    def _is_curable(
        self,
        raised: BaseException,
        first: BaseException | None,
        databases: list[DatabaseScopes],
    ) -> bool:
        policy = self._policy
        if isinstance(raised, CommitOutcomeUnknown):
            return policy.idempotent
        escaped = raised.orig if isinstance(raised, DBAPIError) else raised
        # The first error of the attempt decides: MariaDB's deadlock hides behind a savepoint
        # that does not exist, PostgreSQL's behind whatever wrapped it.
        decisive = first if first is not None else escaped
        known = databases or [scopes_for(bind) for bind in _dialects(self._find)]
        if decisive is not None and any(known_.is_retriable(decisive) for known_ in known):
            return True
        wanted = [item for item in (decisive, escaped, raised) if item is not None]
        if isinstance(raised, DBAPIError) and raised.connection_invalidated:
            if policy.idempotent or "disconnect" in policy.on:
                return True
        return any(_matches(policy.on, item, known) for item in wanted)

    def _before_flush(self, session: Session, context: Any, instances: Any) -> None:
        for item in session.new:
            if id(item) in self._seen:
                raise TransactionError(
                    f"{item!r} was made outside the replayed function, and an earlier attempt"
                    " has used it up. Create the objects to be saved inside the function."
                )
            state: Any = sa_inspect(item)
            missing = [
                attribute.key
                for column in state.mapper.primary_key
                for attribute in (state.mapper.get_property_by_column(column),)
                if state.dict.get(attribute.key) is None
            ]
            self._keys.append((item, missing))

    def _forget_keys(self) -> None:
        """Reset the primary keys the database had given to objects of a failed attempt."""
        for item, missing in self._keys:
            self._seen[id(item)] = item  # kept alive, so that no other object gets its id
            for key in missing:
                item.__dict__.pop(key, None)


def _dialects(find: Find) -> list[Any]:
    _, surroundings = find()
    return [engine.dialect for engine in surroundings.bind_names]


def _matches(on: tuple[Any, ...], error: BaseException, databases: list[DatabaseScopes]) -> bool:
    codes = {database.code(error) for database in databases} - {None}
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
