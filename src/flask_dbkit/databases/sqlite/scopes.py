"""SQLite: a scope's wishes are carried out by the control of its connection."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy.engine import Connection

from ..limits import Timeouts
from ..scopes import DatabaseScopes, Loss, raw_of
from .control import LOCK_TIMEOUT_OPTION, READ_ONLY_OPTION, control_of
from .errors import SQLiteErrors

__all__ = ["SQLiteScopes"]


class SQLiteScopes(DatabaseScopes):
    """SQLite through the transaction control of :mod:`flask_dbkit.databases.sqlite`."""

    can_turn_read_only = True
    errors_drop_savepoints = True
    keeps_options = True
    errors = SQLiteErrors()

    def is_idle(self, raw: Any) -> bool:
        """Tell whether the driver is sure that a rollback would do nothing."""
        return not raw.in_transaction

    def begin_options(
        self, *, read_only: bool, isolation: str | None, timeouts: Timeouts
    ) -> dict[str, Any]:
        """Return execution options for the connection, to be known before its BEGIN."""
        # Every SQLite transaction is serializable, whatever less is asked for.
        # https://www.sqlite.org/isolation.html
        options: dict[str, Any] = {}
        if read_only:
            options[READ_ONLY_OPTION] = True
        if timeouts.lock_s is not None:
            options[LOCK_TIMEOUT_OPTION] = timeouts.lock_s
        return options

    def limit(self, connection: Connection, timeouts: Timeouts) -> None:
        """Put timeouts in force until the end of the transaction, or until the next call."""
        control = control_of(connection)
        if control is not None:
            control.limit(lock_timeout_s=timeouts.lock_s, statement_timeout_s=timeouts.statement_s)

    def set_read_only(self, connection: Connection, read_only: bool) -> None:
        """Make the rest of the transaction read-only; or writable again."""
        control = control_of(connection)
        if control is not None:
            control.set_read_only(connection.connection, read_only=read_only)

    def loss(self, raw: Any, *, wrote: bool) -> Loss | None:
        """Ask the driver whether its transaction is still the one that was begun: ``None``."""
        # A reader may have stepped aside on the one connection of an in-memory database; work
        # that was written has to be there.
        if not wrote or raw.in_transaction:
            return None
        return Loss.GONE

    def ends_transaction(self, error: BaseException, connection: Connection) -> bool:
        """Tell whether the database has ended the whole transaction, savepoints included."""
        # On a full disk, an I/O error or no memory SQLite may roll back by itself.
        # https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction
        return (
            isinstance(error, sqlite3.Error)
            and control_of(connection) is not None
            and not connection.invalidated
            and not raw_of(connection).in_transaction
        )
