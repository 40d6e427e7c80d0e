"""The revisions of one run: which function of a file is called, and what is looked at around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from alembic.runtime.migration import MigrationContext, RevisionStep

from ..databases import database_of
from .binds import bind_title, suffix_of
from .connecting import MigratingConnection
from .exceptions import RowsLost
from .on_sqlite import describe_losses, read_references, with_triggers
from .rebuilding import keeping_definitions
from .revisions import Direction, concerns, function_for, title_of

__all__ = ["Steps"]


class Steps:
    """Stands in for the function that tells Alembic which revisions to apply.

    It asks that function once, and goes on where it stopped when a revision is tried again.

    Args:
        key: The bind key.
        plain: The function of the command.
        authors: Whether models are compared, and nothing is applied.
        session: The connection in use, if there is one.
        applied: Told the revision that was applied.
        report: Told the same in words.
    """

    def __init__(
        self,
        key: str | None,
        plain: Callable[..., Any],
        *,
        authors: bool,
        session: MigratingConnection | None,
        applied: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        self._key, self._plain, self._authors = key, plain, authors
        self._session, self._applied, self._report = session, applied, report
        self._suffix = suffix_of(key)
        self._plan: list[Any] | None = None
        self.finished = 0
        self.running: Any = None

    def plan(self, heads: Any, context: MigrationContext) -> bool:
        """Ask, unless it was asked already, and tell whether there is anything to do."""
        if self._plan is None:
            if self._authors:
                heads = self._virtual_heads(heads, context)
            self._plan = list(self._plain(heads, context) or ())
        return bool(self._plan)

    def __call__(self, heads: Any, context: MigrationContext) -> Iterator[Any]:
        """Yield what Alembic has to run, each revision with our care around it."""
        self.plan(heads, context)
        assert self._plan is not None
        for step in self._plan[self.finished :]:
            if isinstance(step, RevisionStep):
                yield from self._guarded(step, context)
            else:
                yield step
            self.finished += 1

    def _virtual_heads(self, heads: Any, context: MigrationContext) -> Any:
        """Count a database as up to date when what it lacks has nothing to do with it.

        A database that was added later has seen no revision at all.
        """
        script = context.script
        assert script is not None
        current = tuple(heads) if isinstance(heads, (tuple, list, set)) else heads
        missing = script.iterate_revisions("heads", current or "base")
        if any(concerns(revision, self._suffix) for revision in missing):
            return heads
        return tuple(script.get_heads())

    def _guarded(self, step: RevisionStep, context: MigrationContext) -> Iterator[RevisionStep]:
        self.running = step
        direction: Direction = "upgrade" if step.is_upgrade else "downgrade"
        function = function_for(step.revision.module, direction, self._suffix)

        def migrate(**_: Any) -> None:
            self._call(function, step, context)

        migrate.__name__ = direction  # Alembic logs it
        step.migration_fn = migrate
        started = time.monotonic()
        yield step
        seconds = time.monotonic() - started
        self._applied(step.revision.revision)
        sign = "+" if step.is_upgrade else "-"
        note = f"{seconds:.2f} s" if function is not None else "nothing to do here"
        self._report(f"{bind_title(self._key)}: {sign} {title_of(step.revision)}, {note}")
        self.running = None

    def _call(
        self, function: Callable[[], object] | None, step: RevisionStep, context: MigrationContext
    ) -> None:
        session = self._session
        if session is not None:
            session.start()
        if function is None:
            return
        if context.as_sql or session is None or not database_of(context.dialect).rebuilds_tables:
            function()
            return
        assert context.connection is not None
        before = read_references(context.connection)
        with keeping_definitions(title_of(step.revision)):
            function()
        after = read_references(context.connection, also=before.rows)
        statements = with_triggers(context.connection, session.statements)
        losses = describe_losses(before, after, statements)
        if losses:
            raise RowsLost(str(step.revision.revision), losses)
