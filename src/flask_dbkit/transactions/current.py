"""``transaction()``, ``savepoint()``, ``run()`` and hooks, on the current session.

The promise: *a block never ends normally unless its work is committed*, with ``raise Rollback``
and ``set_rollback_only()`` as its two spoken exceptions.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, get_overloads, overload

from flask import Flask
from flask.globals import app_ctx
from sqlalchemy.orm import Session

from ..application import current_application
from ..support.calls import check_passed_on, explained, raise_unknown
from .ending import abandon
from .exceptions import NoTransaction, OwnershipError
from .holders import current_flow, is_around
from .hooks import Hook, Hooks, run_now
from .leaving import leave, leave_own
from .opening import hook_target, is_in_scope, open_scope
from .options import (
    PLAIN,
    RETRY,
    Retry,
    ScopeDefaults,
    ScopeOptions,
    as_retry,
    refuse_retry,
)
from .requests import input_read
from .retrying import Attempt, Replay, check_replayable, run_in_scope
from .retrying import attempts as core_attempts
from .state import Block, TransactionInfo, UnitOfWork, record_of

__all__ = [
    "after_end",
    "attempts",
    "before_commit",
    "current_transaction",
    "in_transaction",
    "on_commit",
    "on_rollback",
    "require_transaction",
    "run",
    "savepoint",
    "transaction",
]

P = ParamSpec("P")
R = TypeVar("R")

_BEGUN = "_dbkit_begun"
"""Attribute of an application context that was pushed."""
_SAVEPOINT = ScopeOptions(savepoint=True, inherits=True)


def _find() -> tuple[Session, ScopeDefaults]:
    state = current_application()
    return state.db.session(), state.part(ScopeDefaults)


_REPLAY = Replay(_find, input_read)


class Scope:
    """A context manager and decorator; may be used again, also while it is open."""

    __slots__ = ("_blocks", "_options", "_retry")

    def __init__(self, options: ScopeOptions, retry: Retry | int | None = None) -> None:
        self._options = options
        self._retry = retry
        self._blocks: dict[object, Block] = {}

    def __enter__(self) -> TransactionInfo:
        if self._retry is not None:
            refuse_retry(self._retry)
        state = current_application()
        caller = sys._getframe(1)  # noqa: SLF001 - there is no other way to ask
        session, defaults = state.db.session.registry(), state.part(ScopeDefaults)
        block = open_scope(session, self._options, defaults, caller)
        blocks, unit = self._blocks, block.unit
        me = unit.owner if unit.borrower is None else current_flow()
        block.same_scope = blocks.get(me)
        blocks[me] = block
        return block

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        # True for Rollback only; said as "bool", a checker would miss a return behind every block.
        me = current_flow()
        block = self._blocks.pop(me, None)
        if block is None:
            return leave(self._block_of_another(), error)
        if block.same_scope is not None:
            self._blocks[me] = block.same_scope
        return leave_own(block, error)

    def _block_of_another(self) -> Block:
        """Return what another thread or task has entered, whose end is to be refused."""
        for block in list(self._blocks.values()):
            return block  # it stays, for the one that it belongs to
        raise OwnershipError("This scope is not open: it was left already, or never entered.")

    def _check(self) -> None:
        """Look for what a scope needs around it."""

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        check_replayable(function)
        policy = as_retry(self._retry, default=1)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            self._check()
            call = functools.partial(function, *args, **kwargs)
            return run_in_scope(_REPLAY, self._options, policy, call)

        if self._retry is not None:
            setattr(wrapper, RETRY, policy)
        return wrapper


class _InnerScope(Scope):
    """A scope that must be inside another one."""

    __slots__ = ("_name",)

    def __init__(self, name: str, options: ScopeOptions) -> None:
        super().__init__(options)
        self._name = name

    def __enter__(self) -> TransactionInfo:
        self._check()
        return super().__enter__()

    def _check(self) -> None:
        if not is_in_scope(_find()[0]):
            raise NoTransaction(
                f"{self._name}() needs an open scope around it. Open one with transaction()."
            )


@overload
def transaction(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def transaction(
    *,
    savepoint: bool = False,
    durable: bool = False,
    read_only: bool = False,
    isolation: str | None = None,
    begin: str | None = None,
    lock_timeout: float | None = None,
    statement_timeout: float | None = None,
    adopt: bool | None = None,
    multi_bind: str | None = None,
    independent: bool = False,
    retry: Retry | int | None = None,
) -> Scope: ...
def transaction(  # noqa: D417 - what is collected is described by its names
    function: Callable[P, R] | None = None, /, **given: Any
) -> Scope | Callable[P, R]:
    """Open a transaction scope, or join the one that is open.

    The outermost scope owns the COMMIT; a nested one joins it and sends nothing. A scope that
    uses no database sends nothing either and takes no connection. As a decorator (bare or
    called) it wraps the whole function.

    Args:
        function: The function, when used as ``@transaction``.
        savepoint: Nested, open a SAVEPOINT, sent when something is executed in it.
        durable: Refuse to be nested: the end of the block is the COMMIT.
        read_only: Refuse writes; the ORM's before they are sent, others by the database.
        isolation: ``"READ COMMITTED"``, ``"REPEATABLE READ"``, ``"SERIALIZABLE"`` …; SQLite is
            always serializable.
        begin: On SQLite ``"immediate"`` or ``"deferred"``; default ``DBKIT_SQLITE_BEGIN``.
        lock_timeout: Seconds a statement waits for a lock.
        statement_timeout: Seconds a statement may run.
        adopt: Make uncommitted work from before the scope part of it; default
            ``DBKIT_TX_STRAY_WORK``.
        multi_bind: When several databases were written: ``"raise"`` (default) before any
            COMMIT, ``"two_phase"``, or ``"best_effort"``.
        independent: A transaction of its own in a nested application context.
        retry: Decorator only: total attempts, the first one included, or a :class:`Retry`.

    Returns:
        A context manager that yields a :class:`TransactionInfo`; or the wrapped function.

    Raises:
        OwnershipError: The transaction is somebody else's, or was ended by somebody else.
        UnexpectedRollback: At the end, when a caught error had undone the work.
        OptionMismatch: Options that do not fit the scope in force.

    .. versionadded:: 0.1
    """
    # Collected, not named one by one: to fill in eleven defaults costs as much as half a scope.
    options, retry = PLAIN, None
    if given:
        unknown = {name: value for name, value in given.items() if name not in _TAKEN}
        if unknown:
            raise_unknown(transaction, unknown)
        retry = given.pop("retry", None)
        options = ScopeOptions.parse(given)
        if options == PLAIN:
            options = PLAIN
    scope = Scope(options, retry)
    return scope if function is None else scope(function)


_by_place, _by_name = map(inspect.signature, get_overloads(transaction))
_TAKEN = _by_name.parameters
setattr(
    transaction,
    "__signature__",
    _by_name.replace(
        parameters=[
            *(
                each.replace(default=None, annotation=f"{each.annotation} | None")
                for each in _by_place.parameters.values()
            ),
            *_TAKEN.values(),
        ],
        return_annotation=transaction.__annotations__["return"],
    ),
)


def savepoint() -> AbstractContextManager[TransactionInfo]:
    """Open a savepoint inside a scope: an error that leaves the block undoes the block only.

    Raises:
        NoTransaction: There is no scope around it.

    .. versionadded:: 0.1
    """
    return _InnerScope("savepoint", _SAVEPOINT)


@overload
def require_transaction(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def require_transaction() -> Scope: ...
@explained()
def require_transaction(function: Callable[P, R] | None = None, /) -> Scope | Callable[P, R]:
    """Join the scope that is open; a context manager, and a decorator with or without brackets.

    Raises:
        NoTransaction: There is none.

    .. versionadded:: 0.1
    """
    scope = _InnerScope("require_transaction", ScopeOptions(inherits=True))
    return scope if function is None else scope(function)


@explained()
def run(
    function: Callable[..., R], /, *args: Any, retry: Retry | int | None = None, **kwargs: Any
) -> R:
    """Call a function in a scope, and replay the whole of it after a conflict.

    Args:
        function: Called once per attempt; everything it saves has to be made inside it.
        args: For the function.
        retry: Total attempts, the first one included, or a :class:`Retry`; 3 by default.
        kwargs: For the function.

    Returns:
        What the attempt that committed returned.

    Raises:
        OwnershipError: The session has uncommitted objects, which a replay would lose.

    .. versionadded:: 0.1
    """
    check_passed_on("run", function, kwargs, "retry")
    check_replayable(function)
    policy = as_retry(retry, default=3)
    call = functools.partial(function, *args, **kwargs)
    return run_in_scope(_REPLAY, PLAIN, policy, call)


@explained()
def attempts(retry: Retry | int | None = None) -> Iterator[Attempt]:
    """Replay a with block, which a loop goes round.

    .. code-block:: python

        for attempt in attempts():
            with attempt:
                ...

    Args:
        retry: Total attempts, the first one included, or a :class:`Retry`; 3 by default.

    .. versionadded:: 0.1
    """
    return core_attempts(_REPLAY, PLAIN, as_retry(retry, default=3))


@explained()
def on_commit(
    function: Callable[..., object], /, *args: Any, robust: bool = False, **kwargs: Any
) -> None:
    """Call a function once, after the outermost COMMIT, when the connection is back.

    Dropped when its scope, savepoint or attempt is rolled back. Outside any scope it runs at
    once if the session is idle.

    Args:
        function: Called as ``function(*args, **kwargs)``.
        args: Bound now.
        robust: Log its failure; otherwise the scope raises :exc:`OnCommitError` after all
            hooks have run.
        kwargs: Bound now.

    Raises:
        NoTransaction: The session has an open transaction that no scope owns.

    .. versionadded:: 0.1
    """
    check_passed_on("on_commit", function, kwargs, "robust")
    hook = Hook(function, args, kwargs, robust)
    session, _ = _find()
    unit = hook_target(session)
    if unit is not None:
        unit.make_hooks().on_commit.append(hook)
    elif session.in_transaction():
        raise NoTransaction(
            "on_commit() was called while the session has an open transaction outside any scope:"
            " it cannot be known when that commits. Open a transaction() around it."
        )
    else:
        run_now(hook)


@explained()
def on_rollback(function: Callable[[BaseException], object], /) -> None:
    """Register ``function(error)``, to be called when the enclosing block was rolled back.

    ``error`` is a :exc:`Rollback` when the rollback is a silent one. Failures are logged.

    Raises:
        NoTransaction: There is no scope.

    .. versionadded:: 0.1
    """
    _hooks("on_rollback").on_rollback.append(Hook(function))


@explained()
def before_commit(function: Callable[[], object], /) -> None:
    """Call ``function()`` inside the scope, just before its COMMIT; its writes are committed.

    Raises:
        NoTransaction: There is no scope.

    .. versionadded:: 0.1
    """
    _hooks("before_commit").before_commit.append(Hook(function))


@explained()
def after_end(function: Callable[[str], object], /) -> None:
    """Register ``function(outcome)``, to be called at the very end.

    The outcome is ``"committed"``, ``"rolled_back"`` or ``"unknown"``.

    Raises:
        NoTransaction: There is no scope.

    .. versionadded:: 0.1
    """
    _hooks("after_end").after_end.append(Hook(function))


def _hooks(name: str) -> Hooks:
    unit = hook_target(_find()[0])
    if unit is None:
        raise NoTransaction(f"{name}() needs an open scope. Open one with transaction().")
    if name == "before_commit" and unit.ending:
        raise OwnershipError(
            "before_commit() comes too late: the scope is ending, and has called these hooks."
            " Do it at once, or with on_commit() afterwards."
        )
    return unit.make_hooks()


def current_transaction() -> TransactionInfo | None:
    """Return the innermost open block of the current session, ``None`` outside any scope.

    .. versionadded:: 0.1
    """
    unit = record_of(_find()[0]).unit
    return unit.blocks[-1] if unit is not None and unit.blocks else None


def abandon_at_the_end(_error: BaseException | None = None) -> None:
    """End what was never left, when the application context is over that its session belongs to.

    Else it would stay in the thread, and every scope of later contexts would be refused.
    """
    unit = _open_unit()
    if unit is not None:
        abandon(unit, "the end of its application context")


def abandon_at_the_start() -> None:
    """End what a generator holds that an earlier request has left behind, suspended.

    ``stream_with_context()`` leaves its application context behind with it, and the session.
    """
    unit = _open_unit()
    if unit is not None and unit.blocks and not is_around(unit.blocks[0]):
        abandon(unit, "the beginning of another request")


def begin_without_session(_app: Flask) -> None:
    """End the session of an earlier context that was never popped, and whose ``id()`` is used anew.

    Sessions are found by it. A thread that pushes a context and dies leaves its session behind.
    """
    context: Any = app_ctx._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    if getattr(context, _BEGUN, False):
        return  # it was pushed once more
    setattr(context, _BEGUN, True)
    sessions = current_application().db.session
    if sessions.registry.has():
        unit = _open_unit()
        if unit is not None:
            abandon(unit, "the beginning of another application context")
        sessions.remove()


def _open_unit() -> UnitOfWork | None:
    registry = current_application().db.session.registry
    return record_of(registry()).unit if registry.has() else None


def in_transaction() -> bool:
    """Tell whether a scope is open on the current session.

    .. versionadded:: 0.1
    """
    return current_transaction() is not None
