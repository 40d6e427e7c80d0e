"""Functions to call around the end of a transaction."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from .exceptions import OnCommitError

__all__ = [
    "NO_HOOKS",
    "Hook",
    "Hooks",
    "Mark",
    "hooks_captured",
    "run_after_commit",
    "run_logged",
    "run_now",
]

logger = logging.getLogger("flask_dbkit.transactions")


@dataclass(frozen=True)
class Hook:
    """A function and the arguments bound to it when it was registered.

    Attributes:
        function: What to call.
        args: Positional arguments.
        kwargs: Keyword arguments.
        robust: A failure is logged and never raised.
    """

    function: Callable[..., object]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    robust: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"A hook must be callable, not {self.function!r}.")

    @property
    def name(self) -> str:
        """A name for the log: of the function itself, behind any ``partial``."""
        function: Any = self.function
        while isinstance(function, functools.partial):
            function = function.func
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        return f"{getattr(function, '__module__', '?')}.{name}"

    def __call__(self, *more: object) -> object:
        """Call it; what the scope has to say comes before the arguments bound to it."""
        return self.function(*more, *self.args, **self.kwargs)


Mark = tuple[int, int, int]

NO_HOOKS: Mark = (0, 0, 0)
"""The mark of an empty :class:`Hooks`."""


@dataclass
class Hooks:
    """The hooks of one scope tree, in the order they were registered."""

    before_commit: list[Hook] = field(default_factory=list)
    on_commit: list[Hook] = field(default_factory=list)
    on_rollback: list[Hook] = field(default_factory=list)
    after_end: list[Hook] = field(default_factory=list)

    def mark(self) -> Mark:
        """Return how many there are now, for :meth:`take_since`."""
        return len(self.before_commit), len(self.on_commit), len(self.on_rollback)

    def take_since(self, mark: Mark) -> list[Hook]:
        """Drop what was registered since ``mark``; return the dropped ``on_rollback`` hooks."""
        before_commit, on_commit, on_rollback = mark
        del self.before_commit[before_commit:], self.on_commit[on_commit:]
        taken = self.on_rollback[on_rollback:]
        del self.on_rollback[on_rollback:]
        return taken


_capturing: ContextVar[Callable[[Hook], bool]] = ContextVar("flask_dbkit.capturing")


@contextmanager
def hooks_captured(execute: bool = False) -> Iterator[list[Hook]]:
    """List the ``on_commit`` hooks whose transaction commits in a block, for tests.

    Args:
        execute: Call them as well.

    Yields:
        The hooks, as they come. Each can be called.
    """
    captured: list[Hook] = []

    def capture(hook: Hook) -> bool:
        captured.append(hook)
        return execute

    token = _capturing.set(capture)
    try:
        yield captured
    finally:
        _capturing.reset(token)


def _is_to_run(hook: Hook) -> bool:
    capture = _capturing.get(None)
    return capture is None or capture(hook)


def run_after_commit(hooks: Iterable[Hook]) -> None:
    """Call every hook, whether or not one before it failed.

    Raises:
        OnCommitError: After the last one, with what those that are not robust raised.
        BaseException: After the last one, what was no error but the wish to stop: a
            ``KeyboardInterrupt``, a ``SystemExit``.
    """
    errors: list[Exception] = []
    stop: BaseException | None = None
    for hook in filter(_is_to_run, hooks):
        try:
            hook()
        except Exception as error:
            if hook.robust:
                logger.exception("The on_commit hook %s failed.", hook.name)
            else:
                errors.append(error)
        except BaseException as error:
            stop = stop or error
    if stop is not None:
        if errors:
            stop.add_note(f"on_commit hooks failed too: {'; '.join(map(repr, errors))}")
        raise stop
    if errors:
        raise OnCommitError(errors) from errors[0]


def run_logged(hooks: Iterable[Hook], kind: str, value: object) -> None:
    """Call hooks whose failure must not hide what has happened: it is logged.

    Raises:
        BaseException: After the last one, the wish of one of them to stop.
    """
    stop: BaseException | None = None
    for hook in hooks:
        try:
            hook(value)
        except Exception:
            logger.exception("The %s hook %s failed.", kind, hook.name)
        except BaseException as error:
            stop = stop or error
    if stop is not None:
        raise stop


def run_now(hook: Hook) -> None:
    """Run an ``on_commit`` hook outside any scope."""
    if not _is_to_run(hook):
        return
    try:
        hook()
    except Exception:
        if not hook.robust:
            raise
        logger.exception("The on_commit hook %s failed.", hook.name)
