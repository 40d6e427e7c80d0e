"""One block of a scope tree, and what ``current_transaction()`` tells about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm import SessionTransaction

from ..databases.limits import NO_TIMEOUTS, Timeouts
from .hooks import NO_HOOKS
from .options import ScopeOptions

if TYPE_CHECKING:
    from .tree import ScopeTree

__all__ = ["Frame", "TransactionInfo"]


class TransactionInfo:
    """What ``current_transaction()`` tells about one block.

    .. versionadded:: 0.1
    """

    # Always a Frame: two objects that knew each other would be left to the garbage collector,
    # and with them all that the transaction had to do with.
    __slots__ = ()

    def __repr__(self) -> str:
        return f"<TransactionInfo {self.id}, depth {self.depth}, attempt {self.attempt}>"

    @property
    def id(self) -> int:
        """A number that no other transaction of this process has."""
        return _frame(self).tree.id

    @property
    def depth(self) -> int:
        """1 for the outermost block, one more for each block inside it."""
        return _frame(self).index + 1

    @property
    def attempt(self) -> int:
        """1 for the first run of a replayed function, then 2, 3, …."""
        return _frame(self).tree.attempt

    @property
    def read_only(self) -> bool:
        """Whether writes are refused here."""
        return _frame(self).refuses_writes

    @property
    def isolation(self) -> str | None:
        """The level asked for, ``None`` when none was."""
        return _frame(self).tree.options.isolation

    @property
    def rollback_only(self) -> bool:
        """Whether the end of the enclosing boundary will be a rollback."""
        boundary = _frame(self).boundary
        return boundary.silent or boundary.cause is not None

    def set_rollback_only(self) -> None:
        """Make the enclosing boundary end with a silent rollback."""
        _frame(self).boundary.silent = True


def _frame(info: TransactionInfo) -> Frame:
    assert isinstance(info, Frame)
    return info


class Frame(TransactionInfo):
    """One block of a tree.

    Attributes:
        tree: The tree.
        index: 0 for the outermost block.
        options: What the block asks for.
        savepoint: Its own, if it opened one.
        refuses_writes: It is read-only, or a block around it is.
        timeouts: In force in it.
        cause: The first error that undid work of this boundary.
        silent: The boundary is to be rolled back without an error.
        hook_mark: How many hooks there were before a savepoint.
        same_scope: The block that the same scope object has open around this one.
        inside: The application's own savepoint that the block was opened in.
    """

    __slots__ = (
        "cause",
        "hook_mark",
        "index",
        "inside",
        "options",
        "refuses_writes",
        "same_scope",
        "savepoint",
        "silent",
        "timeouts",
        "tree",
    )

    cause: BaseException | None
    inside: SessionTransaction | None
    same_scope: Frame | None
    savepoint: SessionTransaction | None

    def __init__(self, tree: ScopeTree, options: ScopeOptions) -> None:
        frames = tree.frames
        self.tree = tree
        self.options = options
        self.index = len(frames)
        self.refuses_writes = options.read_only
        self.timeouts = options.timeouts
        self.silent = False
        self.hook_mark = NO_HOOKS
        self.cause = self.inside = self.same_scope = self.savepoint = None
        if frames and not tree.simple:
            self._take_over(frames[-1])

    def _take_over(self, outer: Frame) -> None:
        """Take over what is in force in the block around it."""
        self.refuses_writes = self.options.read_only or outer.refuses_writes
        self.timeouts = _narrow(outer.timeouts, self.options)
        nested = self.tree.session.get_nested_transaction()
        if nested is not None and self.tree.is_own(nested):
            self.inside = nested

    def blame(self, error: BaseException) -> None:
        """Remember the first error that undid work of this boundary."""
        self.tree.complicate()
        if self.cause is None:
            self.cause = error

    @property
    def is_boundary(self) -> bool:
        """Whether work can be undone to the beginning of this block."""
        return self.index == 0 or self.savepoint is not None

    @property
    def boundary(self) -> Frame:
        """The frame that work of this one is undone to."""
        if self.index == 0 or self.savepoint is not None:
            return self
        frames = self.tree.frames
        if not frames:
            return self  # all of them are over
        index = min(self.index, len(frames) - 1)
        while index and frames[index].savepoint is None:
            index -= 1
        return frames[index]


def _narrow(outer: Timeouts, options: ScopeOptions) -> Timeouts:
    given = options.timeouts
    if given is NO_TIMEOUTS:
        return outer
    return Timeouts(
        outer.lock_s if given.lock_s is None else given.lock_s,
        outer.statement_s if given.statement_s is None else given.statement_s,
    )
