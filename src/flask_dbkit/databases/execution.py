"""The one place of an engine that every statement passes, and those who watch it there.

Each statement is classified once, whoever watches. To take part, write a :class:`Watcher` and
give it to :func:`watch`:

.. code-block:: python

    class Timer(Watcher):
        order = Order.STATISTICS
        timed = True

        def after(self, execution):
            note(execution.kind, execution.duration_s)

        def failed(self, execution, error):
            note(execution.kind, execution.duration_s)


    watch(engine, Timer())

What happens to one statement, with watchers in the order of :class:`Order`:

1. ``before(execution)`` of each, first to last. One that raises refuses the statement: nothing
   is sent, and those that were asked before it get ``failed``. One that returns ``True`` has
   dealt with the statement itself: those behind it are asked nothing, and nothing is sent.
2. The driver's ``execute`` or ``executemany``.
3. ``after(execution)`` of each, last to first; or ``failed(execution, error)``, last to first,
   with the driver's own error. It is raised when all of them were told.

One object, the :class:`Execution`, goes through all of them: a watcher that needs to remember
something between its ``before`` and its ``after`` gives it to ``execution.keep(self, …)``. What
a watcher does not override costs nothing.

Limits, each on purpose:

* What SQLAlchemy makes of an error (its own exception, a lost connection) is known to its
  ``handle_error`` event only, which costs nothing until there is an error.
* Sent past SQLAlchemy's connection, on the driver's own cursor, a statement is not seen here.
  Nor is one that a ``do_execute`` listener of the application's sends itself.
* COMMIT and ROLLBACK are methods of the driver's connection, no statements.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from time import perf_counter
from typing import Any

from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.engine.default import DefaultDialect

from .statements import Kind, classify_statement

__all__ = ["PEER_BATCH", "Execution", "Order", "Watcher", "watch"]

PEER_BATCH = "dbkit_peer_batch"
"""Execution option of a statement that loads an attribute for several objects at once."""

_WATCHERS = "_dbkit_watchers"
"""Attribute of a dialect object whose statements are watched."""


class Order(IntEnum):
    """Who is asked first.

    * ``SCOPE``: what a scope refuses is no statement for anybody else, is not counted, and must
      not make SQLite take its write lock. It may also have to send something first (a savepoint,
      a flush), and that is a statement of its own, with a time of its own.
    * ``STATISTICS``: what a statement costs its caller is the waiting for SQLite's lock too, so
      the clock runs before the control.
    * ``DEADLINE``: for the same reason; but what stops a statement is not charged to it.
    * ``CONTROL``: nothing may come between the database's own preparation (SQLite: taking the
      write lock, or the one connection of a database in memory) and the statement.
    """

    SCOPE = 10
    STATISTICS = 20
    DEADLINE = 30
    CONTROL = 40


class Execution:
    """One execution of a statement on a cursor.

    Attributes:
        connection: SQLAlchemy's connection; its ``connection`` is the pooled one.
        cursor: The driver's.
        statement: The text as it is sent. A watcher may put another text in its place.
        parameters: As the driver gets them; for :attr:`many`, a list of them.
        context: SQLAlchemy's execution context, with ``compiled`` and ``execution_options``.
        many: It is an ``executemany``.
        kind: What the statement does to its transaction.
        started: When the first watcher that is :attr:`Watcher.timed` was asked, by
            :func:`time.perf_counter`.
        ended: When the driver had answered, on the same clock.
    """

    __slots__ = (
        "_kept",
        "connection",
        "context",
        "cursor",
        "ended",
        "kind",
        "many",
        "parameters",
        "started",
        "statement",
    )

    started: float
    ended: float

    def __init__(  # noqa: PLR0917 - made for each statement, where keywords cost
        self,
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        many: bool,
        kind: Kind,
    ) -> None:
        self.connection = connection
        self.cursor = cursor
        self.statement = statement
        self.parameters = parameters
        self.context = context
        self.many = many
        self.kind = kind
        self._kept: dict[object, Any] | None = None

    @property
    def duration_s(self) -> float:
        """Seconds until the driver had answered, if any watcher is timed."""
        return self.ended - self.started

    def keep(self, watcher: Watcher, value: Any) -> None:
        """Keep something of a watcher's until its ``after`` or ``failed``."""
        if self._kept is None:
            self._kept = {}
        self._kept[watcher] = value

    def kept(self, watcher: Watcher) -> Any:
        """Return what a watcher has kept, or ``None``."""
        return self._kept.get(watcher) if self._kept is not None else None


class Watcher:
    """Somebody who looks at each statement of an engine. Override what you need.

    Attributes:
        order: When it is asked.
        timed: It reads :attr:`Execution.duration_s`.
    """

    order: Order
    timed = False

    def before(self, execution: Execution) -> bool | None:
        """Look at a statement that is about to be sent.

        Returns:
            ``True`` if nothing is to be sent, because this watcher has dealt with it.
        """

    def after(self, execution: Execution) -> None:
        """Look at a statement that the driver has answered."""

    def failed(self, execution: Execution, error: BaseException) -> None:
        """Look at a statement that has failed, or that a watcher behind this one refused."""


Before = Callable[[Execution], "bool | None"]
After = Callable[[Execution], None]
Failed = Callable[[Execution, BaseException], None]


class _Watchers:
    """The watchers of one engine, as lists of what they do."""

    def __init__(self) -> None:
        self.all: tuple[Watcher, ...] = ()
        self.before: tuple[Before, ...] = ()
        self.after: tuple[After, ...] = ()
        self._told: tuple[tuple[int, After], ...] = ()
        self._failed: tuple[tuple[int, Failed], ...] = ()

    def add(self, watcher: Watcher) -> None:
        """Put a watcher where its order says, behind those of the same order."""
        self.all = tuple(sorted([*self.all, watcher], key=lambda each: each.order))
        before: list[Before] = []
        after: list[tuple[int, After]] = []
        failed: list[tuple[int, Failed]] = []
        for each in self.all:
            if each.timed and _start_clock not in before:
                before.append(_start_clock)
            # A method that is not overridden is not called. Who does nothing beforehand has
            # been passed when those in front of it were.
            if type(each).before is not Watcher.before:
                before.append(each.before)
            if type(each).after is not Watcher.after:
                after.append((len(before), each.after))
            if type(each).failed is not Watcher.failed:
                failed.append((len(before), each.failed))
        self._told, self._failed = tuple(reversed(after)), tuple(reversed(failed))
        self.after = tuple(each for _, each in self._told)
        # Last: a statement that is under way in another thread sees the old list or the new.
        self.before = tuple(before)

    def finish(self, execution: Execution, passed: int) -> None:
        """Tell those in front of a watcher that has dealt with the statement itself."""
        execution.ended = perf_counter()
        for needed, after in self._told:
            if needed <= passed:
                after(execution)

    def fail(self, execution: Execution, error: BaseException, passed: int) -> None:
        """Tell of an error those that the statement has passed, the last one first."""
        execution.ended = perf_counter()
        for needed, failed in self._failed:
            if needed <= passed:
                failed(execution, error)


def _start_clock(execution: Execution) -> None:
    execution.started = perf_counter()


def watch(engine: Engine, watcher: Watcher) -> None:
    """Let a watcher see every statement of one engine from now on.

    Args:
        engine: Only it is touched: the methods of its own dialect object that send statements.
            SQLAlchemy's events of that name do not tell the end of a statement; those that do
            make SQLAlchemy prepare every other kind for every statement: a tenth of a small
            transaction.
        watcher: Gets every statement, in the order it names.
    """
    dialect = engine.dialect
    watchers: _Watchers | None = dialect.__dict__.get(_WATCHERS)
    if watchers is None:
        watchers = _Watchers()
        setattr(dialect, _WATCHERS, watchers)
        _wrap(dialect, watchers)
    watchers.add(watcher)


def _wrap(dialect: Dialect, watchers: _Watchers) -> None:
    plain_execute, plain_many, plain_bare = (
        dialect.do_execute,
        dialect.do_executemany,
        dialect.do_execute_no_params,
    )
    # Most dialects do nothing here but to call the cursor, and so can we.
    simple = type(dialect).do_execute is DefaultDialect.do_execute
    setattr(dialect, "do_execute", _sending(watchers, None if simple else plain_execute, False))
    setattr(dialect, "do_executemany", _sending(watchers, plain_many, True))
    bare = _sending(
        watchers, lambda cursor, sql, _, context: plain_bare(cursor, sql, context), False
    )

    def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> None:
        bare(cursor, statement, (), context)

    setattr(dialect, "do_execute_no_params", do_execute_no_params)


def _sending(
    watchers: _Watchers, plain: Callable[..., object] | None, many: bool
) -> Callable[[Any, str, Any, Any], None]:
    """Return a method that sends a statement, and lets the watchers see it."""

    def send(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        kind = classify_statement(statement)
        execution = Execution(
            context.root_connection, cursor, statement, parameters, context, many, kind
        )
        passed = 0
        try:
            for before in watchers.before:
                if before(execution):
                    watchers.finish(execution, passed)
                    return
                passed += 1
            if plain is None:
                cursor.execute(execution.statement, execution.parameters)
            else:
                plain(cursor, execution.statement, execution.parameters, context)
        except BaseException as error:
            watchers.fail(execution, error, passed)
            raise
        # Here, and by nobody's method: it costs less than to ask whether anybody is timed.
        execution.ended = perf_counter()
        for after in watchers.after:
            after(execution)

    return send
