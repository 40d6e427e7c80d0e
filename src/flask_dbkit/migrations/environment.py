"""What ``env.py`` does: every database of the application, one after the other.

``env.py`` is a few lines that call :func:`run_env`, so that whatever is improved here reaches
folders made long ago. One of Flask-Migrate's own works too with the commands of ``flask dbkit
migrate``: see :mod:`~flask_dbkit.migrations.foreign`.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Dialect, Engine
from sqlalchemy.exc import DBAPIError

from ..databases import database_of
from .binds import bind_title
from .connecting import MigratingConnection, is_lock_timeout, migrating_connection
from .current import application_context, find_folder
from .exceptions import MigrationError
from .failures import explained, locked_out
from .folder import Folder
from .locking import upgrade_lock
from .logs import configure_logging, undisturbed_logging
from .naming import for_revisions
from .on_sqlite import read_versions
from .options import context_options, writes_each_database
from .server import Limits
from .steps import Steps

__all__ = ["MIGRATOR", "Migrator", "run_env"]

MIGRATOR = "flask_dbkit.migrator"
"""Where Alembic's configuration keeps the :class:`Migrator` of a command of ours."""

NO_OPTIONS: Mapping[str, Any] = {}

Report = Callable[[str], None]


def run_env(context: Any, **options: Any) -> None:
    """Migrate, or compare, every database of the current application; for ``env.py``.

    .. code-block:: python

        from alembic import context
        from flask_dbkit.migrations import run_env

        run_env(context)

    Each database has its own version table, and each revision is a transaction of its own where
    the database has transactions for DDL. On SQLite foreign keys are off meanwhile, references
    are counted before and after, and a revision that loses any is rolled back. A connection in
    ``config.attributes["connection"]`` is used instead of those of the application. Logging that
    the application has set up is left alone. Outside an application context, as in tests that
    drive Alembic themselves, it is for the one application of this process.

    Args:
        context: ``alembic.context``.
        **options: For ``context.configure()``; they win over those given to ``Migrate(...)``.

    Raises:
        MigrationError: A revision failed where its beginning cannot be rolled back, would have
            lost rows, or another upgrade is running.

    References:
        https://alembic.sqlalchemy.org/en/latest/api/runtime.html

    .. versionadded:: 0.1
    """
    environment: EnvironmentContext = getattr(context, "_proxy", context)
    with application_context():
        _run(environment, options)


def _run(environment: EnvironmentContext, options: Mapping[str, Any]) -> None:
    migrator: Migrator | None = environment.config.attributes.get(MIGRATOR)
    if migrator is not None:
        migrator.run(options)
        return
    path = environment.config.get_main_option("script_location")
    with undisturbed_logging():
        configure_logging(environment.config.config_file_name)
        Migrator(environment, find_folder(path)).run(options)


class Migrator:
    """One run of ``env.py``.

    Args:
        environment: Alembic's, entered by the command.
        folder: Whose databases are migrated.
        limits: How long to wait.
        report: Called with one line for each revision.
        only: Leave every other database alone.
    """

    def __init__(
        self,
        environment: EnvironmentContext,
        folder: Folder,
        *,
        limits: Limits | None = None,
        report: Report | None = None,
        only: frozenset[str | None] | None = None,
    ) -> None:
        self.environment = environment
        self.folder = folder
        # Its own methods: a ForeignEnvironment puts others in their place.
        self.plain_configure = environment.configure
        self.plain_run = environment.run_migrations
        self._limits = limits or Limits()
        self._report = report or (lambda line: None)
        self._only = only
        opts = environment.context_opts
        self._plain_fn: Callable[..., Any] = opts["fn"]
        self._authors = "revision_context" in opts or "template_args" in opts
        self._writes = not (self._authors or opts.get("dont_mutate") or opts.get("as_sql"))
        self.done: dict[str | None, list[str]] = {}
        """Per database that was looked at, the revisions applied to it."""

    def run(self, options: Mapping[str, Any]) -> None:
        """Migrate each database in turn."""
        given: Connection | None = self.environment.config.attributes.get("connection")
        if given is not None:
            self.run_on(None, given, options)
            return
        for key, engine in self._targets().items():
            if self.environment.is_offline_mode():
                self.run_offline(key, engine, options)
            else:
                self.run_on(key, engine, options)

    def is_wanted(self, key: str | None) -> bool:
        """Tell whether a database is to be migrated."""
        return self._only is None or key in self._only

    def is_given(self, connection: Connection) -> bool:
        """Tell whether a connection is the one that the command was given."""
        given: object = self.environment.config.attributes.get("connection")
        return connection is given

    def _targets(self) -> dict[str | None, Engine]:
        return {key: engine for key, engine in self.folder.engines.items() if self.is_wanted(key)}

    def run_on(
        self,
        key: str | None,
        target: Engine | Connection,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> None:
        """Migrate one database on a connection of ``target``."""
        with self.connected(key, target) as session:
            self.configure(key, session, options)
            self.apply(session, key, self.plain_run)

    def run_offline(
        self, key: str | None, engine: Engine, options: Mapping[str, Any] = NO_OPTIONS
    ) -> None:
        """Write the SQL for one database, without connecting to it."""
        out = self.environment.config.output_buffer or sys.stdout
        if len(self.folder.engines) > 1:
            out.write(f"-- Database: {bind_title(key)}\n\n")
        self.done.setdefault(key, [])
        options = context_options(self.folder, key, options)
        self._for_revisions(options, engine.dialect)
        self.plain_configure(
            dialect_name=engine.dialect.name,
            literal_binds=True,
            **self._complete(key, None, options),
        )
        with self.environment.begin_transaction():
            self.plain_run()

    @contextmanager
    def connected(
        self, key: str | None, target: Engine | Connection
    ) -> Iterator[MigratingConnection]:
        """Yield a connection that is prepared for the revisions of one database, and alone."""
        given = isinstance(target, Connection) and self.is_given(target)
        if not given and not database_of(target).is_embedded:
            target = self.folder.direct_engine(key) or target
        with migrating_connection(target, self._limits, writes=self._writes) as session:
            locked: Any = contextlib.nullcontext()
            if self._writes and not session.is_external and not self.is_given(session.connection):
                locked = upgrade_lock(
                    session.connection, name=bind_title(key), wait_s=self._limits.wait_s
                )
            with locked:
                self.done.setdefault(key, [])
                yield session

    def configure(
        self, key: str | None, session: MigratingConnection, given: Mapping[str, Any]
    ) -> None:
        """Configure Alembic's context for one database."""
        # Alembic believes that SQLite's does not; for others it knows best.
        rolls_back = True if database_of(session.connection).is_embedded else None
        options = context_options(
            self.folder, key, given, ddl_rolls_back=rolls_back, tell=self._report
        )
        self._for_revisions(options, session.connection.dialect)
        self.plain_configure(connection=session.connection, **self._complete(key, session, options))

    def _complete(
        self, key: str | None, session: MigratingConnection | None, options: dict[str, Any]
    ) -> dict[str, Any]:
        """Add what belongs to this run: how revisions are applied, and what becomes of new ones."""
        options["process_revision_directives"] = self._directives(
            key, options.get("process_revision_directives")
        )
        options["fn"] = Steps(
            key,
            self._plain_fn,
            authors=self._authors,
            session=session,
            applied=self.done.setdefault(key, []).append,
            report=self._report,
        )
        if not self._writes:
            options["dont_mutate"] = True
        return options

    def _for_revisions(self, options: dict[str, Any], dialect: Dialect) -> None:
        """Let revisions name constraints as they did in their time."""
        if not self._authors:
            options["target_metadata"] = for_revisions(
                options["target_metadata"], in_batches=database_of(dialect).rebuilds_tables
            )

    def _directives(self, key: str | None, plain: Any) -> Any:
        last = list(self._targets())[-1:] in ([key], [])

        def process(context: MigrationContext, revision: Any, directives: list[Any]) -> None:
            if plain is not None:
                plain(context, revision, directives)
            if not directives:
                return
            every = directives[0].upgrade_ops_list
            if key is not None and not writes_each_database(self.folder.path) and every[-1].ops:
                raise MigrationError(
                    f"The database {key!r} has changed too, but script.py.mako of this folder is"
                    " written for one database. Run 'flask dbkit migrate adopt'."
                )
            options: Any = self.environment.config.cmd_opts
            if (
                last
                and getattr(options, "autogenerate", False)
                and all(operations.is_empty() for operations in every)
            ):
                directives[:] = []
                self._report("No changes in schema detected.")

        return process

    def apply(self, session: MigratingConnection, key: str | None, run: Callable[[], None]) -> None:
        """Apply the revisions of one database; try again when somebody else held a lock."""
        steps: Steps = self.environment.context_opts["fn"]
        if self._writes and not session.is_external and not self._has_work(session, steps):
            return
        deadline, tries, before = time.monotonic() + self._limits.wait_s, 0, 0
        while True:
            try:
                run()
            except (DBAPIError, sqlite3.OperationalError) as error:
                if not self._may_retry(error, session):
                    raise explained(
                        error, session, steps.running, key, self.folder.metadata(key)
                    ) from error
                if steps.finished > before:
                    deadline, tries, before = (
                        time.monotonic() + self._limits.wait_s,
                        0,
                        steps.finished,
                    )
                if time.monotonic() > deadline:
                    raise locked_out(steps.running, key, self._limits) from error
                tries += 1
                if tries == 1:
                    self._report(f"{bind_title(key)}: waiting for a lock …")
                # Full jitter, so that two upgrades or a busy table do not meet again and again.
                time.sleep(random.uniform(0.05, min(1.0, 0.1 * 2**tries)))  # noqa: S311
            except Exception as error:
                better = explained(error, session, steps.running, key, self.folder.metadata(key))
                if better is error:
                    raise
                raise better from error
            else:
                return

    def _has_work(self, session: MigratingConnection, steps: Steps) -> bool:
        """Look whether there is anything to do, before SQLite's write lock is waited for."""
        context = self.environment.get_context()
        if context.purge or not database_of(context.dialect).has_one_writer:
            return True
        return steps.plan(read_versions(session.connection, context.version_table), context)

    def _may_retry(self, error: Exception, session: MigratingConnection) -> bool:
        lost = getattr(error, "connection_invalidated", False)
        if not self._writes or session.is_external or lost:
            return False
        database = database_of(session.connection)
        applied = session.permanent or (database.ddl_commits and session.statements)
        return not applied and is_lock_timeout(error, session.connection)
