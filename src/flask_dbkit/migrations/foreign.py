"""An ``env.py`` of somebody else, such as Flask-Migrate's, with our care around it.

Alembic's context is told to ask here before it connects, and before it runs revisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine

from .connecting import MigratingConnection
from .environment import MIGRATOR, Migrator

__all__ = ["ForeignEnvironment"]


class ForeignEnvironment:
    """Stands between Alembic's context and an ``env.py`` that knows nothing of us.

    An ``env.py`` of ours finds the :class:`Migrator` in Alembic's configuration, and asks it.

    Args:
        migrator: Does the work.
    """

    def __init__(self, migrator: Migrator) -> None:
        self._migrator = migrator
        self._environment: Any = migrator.environment
        self._stack = ExitStack()
        self._session: MigratingConnection | None = None
        self._bind: str | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let Alembic's context ask here, whatever ``env.py`` tells it."""
        environment = self._environment
        environment.config.attributes[MIGRATOR] = self._migrator
        environment.configure = self._configure
        environment.run_migrations = self._run_migrations
        try:
            yield
        finally:
            self._done_with_connection()
            del environment.configure, environment.run_migrations
            del environment.config.attributes[MIGRATOR]

    def _configure(self, connection: Connection | None = None, **options: Any) -> None:
        self._done_with_connection()
        if connection is None:
            self._migrator.plain_configure(**options)
            return
        key = self._key_of(connection)
        target: Engine | Connection = connection
        if connection.in_transaction() and not self._migrator.is_given(connection):
            # Its transaction has sent nothing yet, and foreign keys cannot be switched off in
            # one: leave it alone, and take a connection that is idle.
            target = connection.engine
        session = self._stack.enter_context(self._migrator.connected(key, target))
        self._session, self._bind = session, key
        self._migrator.configure(key, session, options)

    def _run_migrations(self, **arguments: Any) -> None:
        session = self._session
        if session is None:
            self._migrator.plain_run(**arguments)
            return
        # env.py is about to close its connection: be done with it before.
        try:
            if self._migrator.is_wanted(self._bind):
                self._migrator.apply(
                    session, self._bind, lambda: self._migrator.plain_run(**arguments)
                )
        finally:
            self._done_with_connection()

    def _done_with_connection(self) -> None:
        self._session = None
        self._stack.close()

    def _key_of(self, connection: Connection) -> str | None:
        engines = self._migrator.folder.engines
        return next((key for key, engine in engines.items() if engine is connection.engine), None)
