"""``transaction()`` and its company, for the session of the current application.

The promise: *a block never ends normally unless its work is committed*, with ``raise Rollback``
and ``set_rollback_only()`` as its two spoken exceptions.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from flask import Flask, current_app, has_app_context, has_request_context, request
from flask import globals as globals_
from sqlalchemy.orm import Session

from ..application import current_application, only_application
from .exceptions import NoTransaction, OwnershipError
from .frames import Frame, TransactionInfo
from .hooks import Hook, run_now
from .leaving import leave
from .opening import hook_target, is_in_scope, open_scope
from .options import PLAIN, Retry, ScopeOptions, Surroundings, as_retry, refuse_retry
from .retrying import Attempt, check_replayable, run_in_scope
from .retrying import attempts as core_attempts
from .work import marks_of

__all__ = [
    "after_end",
    "attempts",
    "before_commit",
    "current_transaction",
    "in_transaction",
    "job",
    "non_transactional",
    "on_commit",
    "on_rollback",
    "require_transaction",
    "run",
    "savepoint",
    "session_scope",
    "stream",
    "transaction",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_PLAIN = (*(False,) * 4, *(None,) * 6)
_SAVEPOINT = ScopeOptions(savepoint=True, inherits=True)

NON_TRANSACTIONAL = "__dbkit_non_transactional__"
"""Attribute of a view that per-request mode leaves alone."""
RETRY = "__dbkit_retry__"
"""Attribute of a decorated function: the policy it was given."""


def _find() -> tuple[Session, Surroundings]:
    state = current_application()
    return state.db.session(), state.part(Surroundings)


class Scope:
    """A context manager and decorator; may be used again, also while it is open."""

    __slots__ = ("_frames", "_options", "_retry")

    def __init__(self, options: ScopeOptions, retry: Retry | int | None = None) -> None:
        self._options = options
        self._retry = retry
        self._frames: dict[int | None, Frame] = {}

    def __enter__(self) -> TransactionInfo:
        if self._retry is not None:
            refuse_retry(self._retry)
        state = current_application()
        frame = open_scope(state.db.session.registry(), self._options, state.part(Surroundings))
        frames, me = self._frames, frame.tree.owner
        frame.same_scope = frames.get(me)
        frames[me] = frame
        return frame

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        # True for Rollback only; said as "bool", a checker would miss a return behind every block.
        me = threading.get_ident()
        frame = self._frames.pop(me, None)
        if frame is None:
            return leave(self._frame_of_another(), error)
        if frame.same_scope is not None:
            self._frames[me] = frame.same_scope
        return leave(frame, error)

    def _frame_of_another(self) -> Frame:
        """Return what another thread has entered, for the tree to refuse its end."""
        for frame in list(self._frames.values()):
            return frame  # it stays, for the thread that it belongs to
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
            return run_in_scope(_find, self._options, policy, call, input_read)

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
def transaction(
    function: Callable[P, R] | None = None,
    /,
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
        retry: Decorator only: total attempts, or a :class:`Retry`.

    Returns:
        A context manager that yields a :class:`TransactionInfo`; or the wrapped function.

    Raises:
        OwnershipError: The transaction is somebody else's, or was ended by somebody else.
        UnexpectedRollback: At the end, when a caught error had undone the work.
        OptionMismatch: Options that do not fit the scope in force.

    .. versionadded:: 0.1
    """
    # fmt: off
    given = (
        savepoint, durable, read_only, independent,
        isolation, begin, lock_timeout, statement_timeout, adopt, multi_bind,
    )
    # fmt: on
    if given == _PLAIN:
        options = PLAIN
    else:
        options = ScopeOptions.parse(
            {
                "savepoint": savepoint,
                "durable": durable,
                "read_only": read_only,
                "isolation": isolation,
                "begin": begin,
                "lock_timeout": lock_timeout,
                "statement_timeout": statement_timeout,
                "adopt": adopt,
                "multi_bind": multi_bind,
                "independent": independent,
            }
        )
    scope = Scope(options, retry)
    return scope if function is None else scope(function)


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
def require_transaction(function: Callable[P, R] | None = None, /) -> Scope | Callable[P, R]:
    """Join the scope that is open; a context manager, and a decorator with or without brackets.

    Raises:
        NoTransaction: There is none.

    .. versionadded:: 0.1
    """
    scope = _InnerScope("require_transaction", ScopeOptions(inherits=True))
    return scope if function is None else scope(function)


def run(
    function: Callable[..., R], /, *args: Any, retry: Retry | int | None = None, **kwargs: Any
) -> R:
    """Call a function in a scope, and replay the whole of it after a conflict.

    Args:
        function: Called once per attempt; everything it saves has to be made inside it.
        args: For the function.
        retry: Total attempts, or a :class:`Retry`; 3 attempts by default.
        kwargs: For the function.

    Returns:
        What the attempt that committed returned.

    Raises:
        OwnershipError: The session has uncommitted objects, which a replay would lose.

    .. versionadded:: 0.1
    """
    check_replayable(function)
    policy = as_retry(retry, default=3)
    call = functools.partial(function, *args, **kwargs)
    return run_in_scope(_find, PLAIN, policy, call, input_read)


def attempts(retry: Retry | int | None = None) -> Iterator[Attempt]:
    """Replay a with block, which a loop goes round.

    .. code-block:: python

        for attempt in attempts():
            with attempt:
                ...

    Args:
        retry: Total attempts, or a :class:`Retry`; 3 attempts by default.

    .. versionadded:: 0.1
    """
    return core_attempts(_find, PLAIN, as_retry(retry, default=3), input_read)


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
    hook = Hook(function, args, kwargs, robust)
    session, _ = _find()
    tree = hook_target(session)
    if tree is not None:
        tree.hooks.on_commit.append(hook)
    elif session.in_transaction():
        raise NoTransaction(
            "on_commit() was called while the session has an open transaction outside any scope:"
            " it cannot be known when that commits. Open a transaction() around it."
        )
    else:
        run_now(hook)


def on_rollback(function: Callable[[BaseException], object], /) -> None:
    """Register ``function(error)``, to be called when the enclosing block was rolled back.

    ``error`` is a :exc:`Rollback` when the rollback is a silent one. Failures are logged.

    Raises:
        NoTransaction: There is no scope.

    .. versionadded:: 0.1
    """
    _hooks("on_rollback").on_rollback.append(Hook(function))


def before_commit(function: Callable[[], object], /) -> None:
    """Call ``function()`` inside the scope, just before its COMMIT; its writes are committed.

    Raises:
        NoTransaction: There is no scope.

    .. versionadded:: 0.1
    """
    _hooks("before_commit").before_commit.append(Hook(function))


def after_end(function: Callable[[str], object], /) -> None:
    """Register ``function(outcome)``, to be called at the very end.

    The outcome is ``"committed"``, ``"rolled_back"`` or ``"unknown"``.

    Raises:
        NoTransaction: There is no scope.

    .. versionadded:: 0.1
    """
    _hooks("after_end").after_end.append(Hook(function))


def _hooks(name: str) -> Any:
    tree = hook_target(_find()[0])
    if tree is None:
        raise NoTransaction(f"{name}() needs an open scope. Open one with transaction().")
    return tree.hooks


def current_transaction() -> TransactionInfo | None:
    """Return the innermost open block of the current session, ``None`` outside any scope.

    .. versionadded:: 0.1
    """
    tree = marks_of(_find()[0]).tree
    return tree.frames[-1] if tree is not None and tree.frames else None


def in_transaction() -> bool:
    """Tell whether a scope is open on the current session.

    .. versionadded:: 0.1
    """
    return current_transaction() is not None


@contextmanager
def session_scope(app: Flask | None = None, *, commit: bool = True) -> Iterator[Session]:
    """Run a script's or a job's piece of work: application context, session, clean end.

    Args:
        app: The application; without it the current one, else the only one there is.
        commit: ``False`` rolls back at the end, for a dry run.

    Yields:
        The session, inside an outermost scope.

    Raises:
        RuntimeError: No application is given, current, or the only one.

    .. versionadded:: 0.1
    """
    with ExitStack() as stack:
        # Asked for by name, another application's context does not do.
        if not has_app_context() or (app is not None and _current_app() != app):
            stack.enter_context((app if app is not None else only_application()).app_context())
        # A dry run inside an open scope undoes itself alone.
        info = stack.enter_context(transaction(savepoint=not commit))
        yield current_application().db.session()
        if not commit:
            info.set_rollback_only()


def _current_app() -> Flask:
    app: Flask = _behind(current_app)
    return app


def _behind(proxy: Any) -> Any:
    return proxy._get_current_object()  # noqa: SLF001 - documented, whatever its name


@overload
def job(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def job(*, retries: int = 0) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def job(
    function: Callable[P, R] | None = None, /, *, retries: int = 0
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Wrap a background job: a new application context, a scope, and nothing left open.

    Args:
        function: The function, when used as ``@job``.
        retries: Further attempts after a conflict with another transaction.

    Raises:
        RuntimeError: At the call, when there is no current application and not exactly one
            in the process.

    .. versionadded:: 0.1
    """
    if type(retries) is not int or retries < 0:
        raise ValueError(f"job(retries={retries!r}): give a whole number, 0 or more.")

    def decorate(inner: Callable[P, R]) -> Callable[P, R]:
        check_replayable(inner)

        @functools.wraps(inner)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            app = _current_app() if has_app_context() else only_application()
            # Always a context of its own: its end removes the session, so that no connection
            # sits idle in transaction between two jobs.
            with app.app_context():
                return run(functools.partial(inner, *args, **kwargs), retry=retries + 1)

        return wrapper

    return decorate if function is None else decorate(function)


def non_transactional(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view that per-request mode (``DBKIT_TX_PER_REQUEST``) leaves without a scope.

    Also for a class of views, for one method of it, and in its ``decorators``.

    .. versionadded:: 0.1
    """
    marked = view
    if inspect.ismethod(view):  # takes no attributes
        marked = functools.wraps(view)(functools.partial(view))
    setattr(marked, NON_TRANSACTIONAL, True)
    return marked


def stream(generator: Iterable[T], read_only: bool = True) -> Iterator[T]:
    """Run a streamed response's generator in a scope of its own.

    The scope opens at the first item and ends when the generator is exhausted; an error rolls
    it back, and so does a client that goes away. The request, the application and ``g`` are
    those of the caller, the session is a new one once the request is over.

    Args:
        generator: Yields the pieces of the body.
        read_only: Refuse writes, which is what a streamed answer should do.

    Raises:
        RuntimeError: There is no application context.
        TypeError: ``generator`` cannot be iterated over: a function not called, or async.

    .. versionadded:: 0.1
    """
    contexts: list[Any] = [_behind(globals_.app_ctx)]
    if has_request_context() and not hasattr(contexts[0], "request"):
        # Two contexts until Flask 3.2 makes one of them.
        contexts.append(_behind(globals_.request_ctx))
    return _Stream(iter(generator), contexts, read_only)


class _Stream(Iterator[T]):
    """Iterates in a context of its own.

    Between two pieces somebody else runs in this thread. What the generator has pushed, and the
    scope it has open, must not be there for them, as it is with ``stream_with_context()``.
    """

    def __init__(self, source: Iterator[T], contexts: list[Any], read_only: bool) -> None:
        self._contexts = contexts
        self._started = False
        self._pieces = self._run(source, contexts, read_only)
        self._context = copy_context()

    @staticmethod
    def _run(source: Iterator[T], contexts: list[Any], read_only: bool) -> Generator[T, None, None]:
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            stack.enter_context(transaction(read_only=read_only))
            close = getattr(source, "close", None)
            if close is not None:
                stack.callback(close)
            yield from source

    def __next__(self) -> T:
        if not self._started:
            self._started = True
            if has_app_context() and _behind(globals_.app_ctx) is self._contexts[0]:
                # Not over yet: whoever pushed it pops it, and the session is theirs.
                self._contexts.clear()
        return self._context.run(next, self._pieces)

    def close(self) -> None:
        """Roll back, unless the end was reached."""
        self._context.run(self._pieces.close)

    __del__ = close


def input_read() -> object:
    """Tell how far the body of the current request was read that cannot be read again.

    JSON and form fields are kept by the request; its stream and uploaded files are not.
    """
    if not has_request_context():
        return None
    read = vars(_behind(request))
    if getattr(request, "_cached_data", None) is not None:
        return None
    if "files" in read:
        positions = [_position(file.stream) for _, file in read["files"].items(multi=True)]
    else:
        positions = [_position(read["stream"])] if "stream" in read else []
    return positions if any(positions) else None


def _position(stream: Any) -> int:
    """Return how many bytes of a stream were read, -1 when it does not say."""
    try:
        return int(stream.tell())
    except (AttributeError, OSError, ValueError):  # no file, no position, closed
        return -1
