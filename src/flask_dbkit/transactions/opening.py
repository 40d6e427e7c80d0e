"""Which block an opened scope is: the outermost of a new tree, one that joins, a savepoint."""

from __future__ import annotations

import threading

from sqlalchemy.orm import Session

from ..databases.limits import NO_TIMEOUTS
from .checks import guard_orm_writes
from .connections import put_in_force
from .entering import begin_tree
from .exceptions import DurabilityError, OptionMismatch, OwnershipError
from .frames import Frame
from .options import PLAIN, ScopeOptions, Surroundings
from .session_guards import guard_sessions
from .tree import ScopeTree
from .work import marks_of, open_trees

__all__ = ["hook_target", "is_in_scope", "open_scope"]


def open_scope(
    session: Session, options: ScopeOptions, surroundings: Surroundings, *, attempt: int = 1
) -> Frame:
    """Open a block: outermost, joined or a savepoint, as the session's state has it.

    Sends nothing, unless a joined block narrows what is in force.

    Args:
        session: Any session. With the kit it is the current application context's.
        options: Checked options.
        surroundings: What is known about the application.
        attempt: Which run of a replayed function this is.

    Raises:
        OwnershipError: The session, or another one in this context, is in somebody's hands.
        OptionMismatch: The options do not fit what is in force.
        DurabilityError: The scope is durable and not outermost.
    """
    marks = marks_of(session)
    if not marks.guarded:
        guard_sessions(session)
        marks.guarded = True
    if marks.tree is not None:
        return _nest(marks.tree, options)
    outer = open_trees.get()
    if outer:
        _check_other_trees(outer, options, surroundings)
    return begin_tree(session, marks, options, surroundings, attempt=attempt, outer=outer)


def _nest(tree: ScopeTree, options: ScopeOptions) -> Frame:
    """Open a block inside the tree: join it, or open a savepoint."""
    if tree.owner != threading.get_ident():
        tree.check_owner()
    if options is PLAIN and tree.simple:
        frame = Frame(tree, options)
        tree.frames.append(frame)
        return frame
    if options.durable:
        raise DurabilityError
    tree.check()
    outer = tree.frames[-1]
    if not options.inherits:
        _check_nested(tree, options, outer)
    frame = Frame(tree, options)
    if frame.timeouts is not NO_TIMEOUTS:
        tree.begins_plainly = False
        tree.complicate()
    narrows = frame.refuses_writes and not outer.refuses_writes
    if narrows:
        guard_orm_writes(tree)
    if options.savepoint or (narrows and _by_savepoint(tree)):
        # What is pending belongs to the outer block, and so does an error in it.
        tree.session.flush()
        frame.hook_mark = tree.hook_mark()
        tree.complicate()
        frame.savepoint = Session.begin(tree.session, nested=True)
    tree.frames.append(frame)
    if frame.savepoint is None and (frame.timeouts is not outer.timeouts or narrows):
        for work in list(tree.works.values()):
            put_in_force(tree, frame, work.connection)
    return frame


def _by_savepoint(tree: ScopeTree) -> bool:
    """Tell whether a savepoint makes a block read-only, as far as databases are known yet."""
    databases = [work.database for work in tree.works.values()]
    return not databases or any(database.read_only_savepoint for database in databases)


def _check_nested(tree: ScopeTree, options: ScopeOptions, outer: Frame) -> None:
    if outer.refuses_writes and not options.read_only:
        raise OptionMismatch("read_only", False, True)
    if options is PLAIN:
        return
    if options.independent:
        raise OwnershipError(
            "independent=True needs a session of its own, and this one has a scope open. Push"
            " a new application context: with app.app_context(): ..."
        )
    in_force = tree.options
    for name, given, present in (
        ("isolation", options.isolation, in_force.isolation),
        ("begin", options.begin, tree.begin),
        ("multi_bind", options.multi_bind, in_force.multi_bind or "raise"),
    ):
        if given is not None and given != present:
            raise OptionMismatch(name, given, present)
    for name, seconds, most in (
        ("lock_timeout", options.timeouts.lock_s, outer.timeouts.lock_s),
        ("statement_timeout", options.timeouts.statement_s, outer.timeouts.statement_s),
    ):
        if seconds is not None and most is not None and seconds > most:
            raise OptionMismatch(name, seconds, most)


def _check_other_trees(
    trees: tuple[ScopeTree, ...], options: ScopeOptions, surroundings: Surroundings
) -> None:
    me = threading.get_ident()
    for tree in trees:
        if tree.surroundings.key != surroundings.key or tree.owner not in (me, None):
            continue
        if not tree.frames:
            continue  # over since; a context that was copied meanwhile still has it
        if not options.independent or surroundings.shared_memory:
            raise OwnershipError(
                "Another transaction() scope of this application is open around this one, on"
                " another session (a nested application context, or db.session.remove() inside"
                " the block). Open the scope in one place, or pass independent=True for a"
                " transaction of its own, which SQLite in memory cannot have."
            )
        if not options.read_only and any(
            work.connection.dialect.name == "sqlite" and not tree.options.read_only
            for work in tree.works.values()
        ):
            raise OwnershipError(
                "independent=True on SQLite: the scope around this one holds the one write lock,"
                " and would wait for this one to finish, for ever. Open this one before or after."
            )


def is_in_scope(session: Session) -> bool:
    """Tell whether a scope is open on a session, whoever opened it."""
    return marks_of(session).tree is not None


def hook_target(session: Session) -> ScopeTree | None:
    """Return the tree that hooks registered now belong to.

    Raises:
        OwnershipError: The tree belongs to another thread.
    """
    tree = marks_of(session).tree
    if tree is not None:
        tree.check_owner()
    return tree
