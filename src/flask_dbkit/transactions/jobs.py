"""Pieces of work outside requests: ``session_scope()`` for scripts, ``job()`` for workers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import ParamSpec, TypeVar, overload

from flask import Flask, has_app_context
from sqlalchemy.orm import Session

from ..application import current_app_object, current_application, only_application
from ..support.calls import explained
from .current import run, transaction
from .retrying import check_replayable

__all__ = ["JobBlocks", "job", "session_scope"]


class JobBlocks(list[Callable[[], AbstractContextManager[object]]]):
    """What other rooms put around each job of one application."""


P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
@explained()
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
        if not has_app_context() or (app is not None and current_app_object() != app):
            stack.enter_context((app if app is not None else only_application()).app_context())
        # A dry run inside an open scope undoes itself alone.
        info = stack.enter_context(transaction(savepoint=not commit))
        yield current_application().db.session()
        if not commit:
            info.set_rollback_only()


@overload
def job(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def job(*, retries: int = 0) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
@explained()
def job(
    function: Callable[P, R] | None = None, /, *, retries: int = 0
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Wrap a background job: a new application context, a scope, and nothing left open.

    Args:
        function: The function, when used as ``@job``.
        retries: Further attempts after a conflict with another transaction: ``retries=2`` is what
            ``retry=3`` is elsewhere, three attempts in total.

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
            app = (
                current_app_object()
                if has_app_context()
                else only_application(
                    f"Call {inner.__qualname__}() inside 'with app.app_context():', or initialise"
                    " the application before."
                )
            )
            # Always a context of its own: its end removes the session, so that no connection
            # sits idle in transaction between two jobs.
            with app.app_context(), ExitStack() as around:
                for block in current_application().part(JobBlocks):
                    around.enter_context(block())
                return run(functools.partial(inner, *args, **kwargs), retry=retries + 1)

        return wrapper

    return decorate if function is None else decorate(function)
