"""What ``env.py`` does: every database of the application, one after the other.

``env.py`` is a few lines that call :func:`run_env`, so that whatever is improved here reaches
folders made long ago. A folder with an ``env.py`` of Flask-Migrate's own works too with the
commands of ``flask dbkit migrate``: Alembic's context is told to ask here before it connects and
before it runs revisions.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from ..exceptions import MigrationError
from .binds import bind_title, suffix_of
from .connecting import Limits, Session, is_lock_timeout, migration_session
from .failures import explained, locked_out
from .folder import Folder, application_context, find_folder
from .locking import upgrade_lock
from .logs import configure_logging, undisturbed_logging
from .on_sqlite import read_versions
from .rendering import rendering
from .steps import Steps

__all__ = ["MIGRATOR", "Migrator", "run_env"]

MIGRATOR = "flask_dbkit.migrator"
"""Where Alembic's configuration keeps the :class:`Migrator` of a command of ours."""

_CHECKS = "alembic.ext.checkconstraint_byname"

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
        self._environment = environment
        self._folder = folder
        self._limits = limits or Limits()
        self._report = report or (lambda line: None)
        self._only = only
        opts = environment.context_opts
        self._plain_fn: Callable[..., Any] = opts["fn"]
        self._authors = "revision_context" in opts or "template_args" in opts
        self._writes = not (self._authors or opts.get("dont_mutate") or opts.get("as_sql"))
        self._plain_configure = environment.configure
        self._plain_run = environment.run_migrations
        self._session: Session | None = None
        self._bind: str | None = None
        self._stack = ExitStack()
        self.done: dict[str | None, list[str]] = {}
        """Per database that was looked at, the revisions applied to it."""

    # -- an env.py of ours ----------------------------------------------------------------

    def run(self, options: Mapping[str, Any]) -> None:
        """Migrate each database in turn."""
        given: Connection | None = self._environment.config.attributes.get("connection")
        if given is not None:
            self.run_on(None, given, options)
            return
        for key, engine in self._targets().items():
            if self._environment.is_offline_mode():
                self.run_offline(key, engine, options)
            else:
                self.run_on(key, engine, options)

    def _targets(self) -> dict[str | None, Engine]:
        return {
            key: engine
            for key, engine in self._folder.engines.items()
            if self._only is None or key in self._only
        }

    def run_on(
        self,
        key: str | None,
        target: Engine | Connection,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> None:
        """Migrate one database on a connection of ``target``."""
        with self._connected(key, target) as session:
            self._plain_configure(
                connection=session.connection, **self._complete(key, dict(options))
            )
            self._apply(self._plain_run)

    def run_offline(
        self, key: str | None, engine: Engine, options: Mapping[str, Any] = NO_OPTIONS
    ) -> None:
        """Write the SQL for one database, without connecting to it."""
        out = self._environment.config.output_buffer or sys.stdout
        if len(self._folder.engines) > 1:
            out.write(f"-- Database: {bind_title(key)}\n\n")
        self._bind = key
        self.done.setdefault(key, [])
        self._plain_configure(
            dialect_name=engine.dialect.name,
            literal_binds=True,
            **self._complete(key, dict(options)),
        )
        with self._environment.begin_transaction():
            self._plain_run()

    # -- an env.py of somebody else -------------------------------------------------------

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let Alembic's context ask here, whatever ``env.py`` tells it."""
        environment: Any = self._environment
        environment.config.attributes[MIGRATOR] = self
        environment.configure = self._configure
        environment.run_migrations = self._run_migrations
        try:
            yield
        finally:
            self._stack.close()
            del environment.configure, environment.run_migrations
            del environment.config.attributes[MIGRATOR]

    def _configure(self, connection: Connection | None = None, **options: Any) -> None:
        self._stack.close()
        if connection is None:
            self._plain_configure(**options)
            return
        key = self._key_of(connection)
        target: Engine | Connection = connection
        if connection.in_transaction() and not self._is_given(connection):
            # Its transaction has sent nothing yet, and foreign keys cannot be switched off in
            # one: leave it alone, and take a connection that is idle.
            target = connection.engine
        session = self._stack.enter_context(self._connected(key, target))
        self._plain_configure(connection=session.connection, **self._complete(key, options))

    def _run_migrations(self, **arguments: Any) -> None:
        if self._session is None:
            self._plain_run(**arguments)
            return
        # env.py is about to close its connection: be done with it before.
        with self._stack:
            if self._only is None or self._bind in self._only:
                self._apply(lambda: self._plain_run(**arguments))

    def _key_of(self, connection: Connection) -> str | None:
        engines = self._folder.engines
        return next((key for key, engine in engines.items() if engine is connection.engine), None)

    def _is_given(self, connection: Connection) -> bool:
        given: object = self._environment.config.attributes.get("connection")
        return connection is given

    # -- both -----------------------------------------------------------------------------

    @contextmanager
    def _connected(self, key: str | None, target: Engine | Connection) -> Iterator[Session]:
        given = isinstance(target, Connection) and self._is_given(target)
        if not given and target.dialect.name != "sqlite":
            target = self._folder.direct_engine(key) or target
        with migration_session(target, self._limits, writes=self._writes) as session:
            locked: Any = contextlib.nullcontext()
            if self._writes and not session.is_external and not self._is_given(session.connection):
                locked = upgrade_lock(
                    session.connection, name=bind_title(key), wait_s=self._limits.wait_s
                )
            with locked:
                self._session, self._bind = session, key
                self.done.setdefault(key, [])
                try:
                    yield session
                finally:
                    self._session = None

    def _complete(self, key: str | None, given: dict[str, Any]) -> dict[str, Any]:
        """Return the options of ``context.configure()`` for one database."""
        suffix = suffix_of(key)
        options: dict[str, Any] = {
            "compare_server_default": True,
            "target_metadata": self._folder.metadata(key),
            "transaction_per_migration": True,
            **self._folder.options,
            **given,
        }
        if find_spec(_CHECKS) is not None:
            options.setdefault("autogenerate_plugins", ["alembic.autogenerate.*", _CHECKS])
        if self._folder_writes_each_database:
            options["upgrade_token"] = f"{suffix}_upgrades"
            options["downgrade_token"] = f"{suffix}_downgrades"
        if self._session is not None and self._session.connection.dialect.name == "sqlite":
            options["transactional_ddl"] = True
        options["transaction_per_migration"] = True
        options["render_item"] = rendering(options.get("render_item"))
        options["process_revision_directives"] = self._directives(
            key, options.get("process_revision_directives")
        )
        options["fn"] = Steps(
            key,
            self._plain_fn,
            authors=self._authors,
            session=lambda: self._session,
            applied=self.done.setdefault(key, []).append,
            report=self._report,
        )
        if not self._writes:
            options["dont_mutate"] = True
        return options

    @property
    def _folder_writes_each_database(self) -> bool:
        return "_upgrades" in self._template

    @property
    def _template(self) -> str:
        path = Path(self._environment.script.dir) / "script.py.mako"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def _directives(self, key: str | None, plain: Any) -> Any:
        last = list(self._targets())[-1:] in ([key], [])

        def process(context: MigrationContext, revision: Any, directives: list[Any]) -> None:
            if plain is not None:
                plain(context, revision, directives)
            if not directives:
                return
            every = directives[0].upgrade_ops_list
            if key is not None and not self._folder_writes_each_database and every[-1].ops:
                raise MigrationError(
                    f"The database {key!r} has changed too, but script.py.mako of this folder is"
                    " written for one database. Run 'flask dbkit migrate adopt'."
                )
            options: Any = self._environment.config.cmd_opts
            if (
                last
                and getattr(options, "autogenerate", False)
                and all(operations.is_empty() for operations in every)
            ):
                directives[:] = []
                self._report("No changes in schema detected.")

        return process

    def _apply(self, run: Callable[[], None]) -> None:
        """Apply the revisions of one database; try again when somebody else held a lock."""
        session, key = self._session, self._bind
        assert session is not None
        steps: Steps = self._environment.context_opts["fn"]
        if self._writes and not session.is_external and not self._has_work(session, steps):
            return
        deadline, tries, before = time.monotonic() + self._limits.wait_s, 0, 0
        while True:
            try:
                run()
            except (DBAPIError, sqlite3.OperationalError) as error:
                if not self._may_retry(error, session):
                    raise explained(error, session, steps.running, key) from error
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
                better = explained(error, session, steps.running, key)
                if better is error:
                    raise
                raise better from error
            else:
                return

    def _has_work(self, session: Session, steps: Steps) -> bool:
        """Look whether there is anything to do, before SQLite's write lock is waited for."""
        context = self._environment.get_context()
        if context.purge or context.dialect.name != "sqlite":
            return True
        return steps.plan(read_versions(session.connection, context.version_table), context)

    def _may_retry(self, error: Exception, session: Session) -> bool:
        lost = getattr(error, "connection_invalidated", False)
        if not self._writes or session.is_external or lost:
            return False
        applied = session.connection.dialect.name in ("mysql", "mariadb") and session.statements
        return not applied and is_lock_timeout(error, session.connection)
