"""Whose a scope is: the thread or task that opened it, and the block of code that is around it.

A scope belongs to one flow of execution: a thread, or a task of an event loop, because SQLAlchemy's
session is safe for neither several threads nor several tasks. And a block may join only a scope
that is around it. That is not so when a generator holds the scope: while the generator is
suspended, the body of the loop that reads it is code of somebody else's, whose work would be rolled
back with the generator's.

References:
    https://docs.sqlalchemy.org/en/20/orm/session_basics.html#is-the-session-thread-safe-is-asyncsession-safe-to-share-in-concurrent-tasks
"""

from __future__ import annotations

import inspect
import sys
import threading
from asyncio import Task, current_task
from asyncio.events import _get_running_loop
from types import FrameType

from .exceptions import OwnershipError
from .state import Block, UnitOfWork

__all__ = [
    "check_around",
    "check_owner",
    "current_flow",
    "holder_of",
    "is_around",
    "is_of_this_flow",
]

_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_OPENERS = frozenset({"__enter__", "__aenter__", "enter_context", "enter_async_context"})
"""Functions that return while what they have opened stays open."""
_HANDS_ON = frozenset({"contextlib", "_pytest", "pytest_asyncio"})
"""Packages that suspend a generator to let a block run inside it: context managers, fixtures."""


def current_flow() -> object:
    """Return what runs now: a task of an event loop, or a thread by its number."""
    # Documented for event loops, and forty times as fast as the error of get_running_loop().
    loop = _get_running_loop()
    if loop is None:
        # By its full name: gevent may put another function there after the import.
        return threading.get_ident()
    return current_task(loop) or loop


def check_owner(unit: UnitOfWork) -> None:
    """Refuse a caller from another thread, greenlet or task.

    While a thread waits for an event loop that runs inside it, or has lent the unit to one in
    another thread, the first flow that comes may use it, and after its end the next one.

    Raises:
        OwnershipError: The unit of work is not this one's.
    """
    flow = current_flow()
    if flow == unit.owner:
        return
    same_thread = unit.thread == threading.get_ident()
    if (unit.lent or same_thread) and not isinstance(unit.owner, Task):
        borrower = unit.borrower
        if borrower is None or (isinstance(borrower, Task) and borrower.done()):
            unit.borrower = borrower = flow
        if borrower == flow:
            return
    if same_thread:
        raise OwnershipError(
            "This transaction() scope belongs to another task, and sessions must not be shared"
            " between tasks that run side by side. Open the scope in the task that ends it, and"
            " give each task of its own an application context: with app.app_context(): ..."
        )
    raise OwnershipError(
        "This transaction() scope belongs to another thread, and sessions must not be"
        " shared between threads. Push an application context of the thread's own:"
        " with app.app_context(): ..."
    )


def is_of_this_flow(unit: UnitOfWork) -> bool:
    """Tell whether a unit of work is the caller's, its own or lent to it."""
    return unit.lent or current_flow() in (unit.owner, unit.borrower)


def holder_of(frame: FrameType) -> FrameType:
    """Return the frame of the block that a scope is opened for.

    That is the one with the ``with`` statement. If it belongs to a context manager or a fixture
    that is written as a generator, it is the block which that one is entered for.

    Args:
        frame: Of the caller of ``__enter__``.
    """
    while True:
        code = frame.f_code
        suspendable = code.co_flags & _SUSPENDABLE
        if not suspendable and code.co_name not in _OPENERS:
            return frame
        # Asked for only here: until then most callers are no object, which costs to make.
        caller = frame.f_back
        if caller is None or (suspendable and not (_hands_on(frame) or _hands_on(caller))):
            return frame
        frame = caller


def _hands_on(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__") or ""
    return name.partition(".")[0] in _HANDS_ON


def is_around(block: Block, frame: FrameType | None = None) -> bool:
    """Tell whether a block is around the code that runs now.

    It is not, if a suspended generator or coroutine holds it.

    Args:
        block: A boundary.
        frame: Of the code that runs now, if it is known: each step to it costs.
    """
    holder = block.holder
    if holder is None or holder is frame:
        return True
    if frame is None:
        frame = sys._getframe(1)  # noqa: SLF001 - there is no other way to ask
    while frame is not None:
        if frame is holder:
            return True
        frame = frame.f_back
    # A function that has returned still knows its caller; what is suspended has none.
    frame = holder
    while frame is not None:
        if frame.f_back is None and frame.f_code.co_flags & _SUSPENDABLE:
            return False
        frame = frame.f_back
    return True


def check_around(unit: UnitOfWork, frame: FrameType | None = None) -> None:
    """Refuse to join a scope that a suspended generator holds.

    Args:
        unit: The scope's.
        frame: Of the code that joins it, if it is known.

    Raises:
        OwnershipError: What is done now would be rolled back with the generator's work.
    """
    if unit.blocks and not is_around(unit.blocks[-1].boundary, frame):
        raise OwnershipError(
            "The open transaction() scope is held by a suspended generator, and is not around"
            " this block: when the generator ends early, this work would be rolled back with"
            " its own. Nothing was done. Let the generator return a list, or open the scope"
            " around the loop that reads it; for a streamed response use stream()."
        )
