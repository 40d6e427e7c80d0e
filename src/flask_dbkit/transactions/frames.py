"""One block of a scope tree, and what ``current_transaction()`` tells about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm import SessionTransaction

from .options import ScopeOptions, Timeouts

if TYPE_CHECKING:
    from .tree import ScopeTree

__all__ = ["Frame", "TransactionInfo"]


class TransactionInfo:
    """What ``current_transaction()`` tells about one block.

    .. versionadded:: 0.1
    """

    __slots__ = ("_frame", "depth")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self.depth = frame.index + 1

    def __repr__(self) -> str:
        return f"<TransactionInfo {self.id}, depth {self.depth}, attempt {self.attempt}>"

    @property
    def id(self) -> int:
        """A number that no other transaction of this process has."""
        return self._frame.tree.id

    @property
    def attempt(self) -> int:
        """1 for the first run of a replayed function, then 2, 3, …."""
        return self._frame.tree.attempt

    @property
    def read_only(self) -> bool:
        """Whether writes are refused here."""
        return self._frame.read_only

    @property
    def isolation(self) -> str | None:
        """The level asked for, ``None`` when none was."""
        return self._frame.tree.options.isolation

    @property
    def rollback_only(self) -> bool:
        """Whether the end of the enclosing boundary will be a rollback."""
        boundary = self._frame.boundary
        return boundary.silent or boundary.cause is not None

    def set_rollback_only(self) -> None:
        """Make the enclosing boundary end with a silent rollback."""
        self._frame.boundary.silent = True


class Frame:
    """One block of a tree."""

    __slots__ = (
        "cause",
        "hook_mark",
        "index",
        "info",
        "inside",
        "options",
        "read_only",
        "savepoint",
        "silent",
        "timeouts",
        "tree",
    )

    def __init__(self, tree: ScopeTree, options: ScopeOptions) -> None:
        self.tree = tree
        self.index = len(tree.frames)
        self.options = options
        self.savepoint: SessionTransaction | None = None
        outer = tree.frames[-1] if tree.frames else None
        self.read_only: bool = options.read_only or (outer is not None and outer.read_only)
        self.timeouts: Timeouts = (
            options.timeouts if outer is None else _narrow(outer.timeouts, options)
        )
        self.cause: BaseException | None = None
        self.silent = False
        self.hook_mark = tree.hooks.mark()
        nested = tree.session.get_nested_transaction()
        self.inside = nested if nested is not None and tree.is_own(nested) else None
        self.info = TransactionInfo(self)

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
    return Timeouts(
        outer.lock_s if given.lock_s is None else given.lock_s,
        outer.statement_s if given.statement_s is None else given.statement_s,
    )
