"""What a scope asks of a database: how to begin, limits, the driver's state.

What an error of a driver means is known by :mod:`flask_dbkit.databases.errors`.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from .errors import ErrorCodes
from .limits import Timeouts

__all__ = [
    "INTERNAL",
    "READ_ONLY_KEY",
    "RESTORE_KEY",
    "DatabaseScopes",
    "Effects",
    "Loss",
    "raw_of",
]

INTERNAL = {"dbkit_internal": True}
"""Execution options of the statements a scope sends itself, which its guards let pass."""

READ_ONLY_KEY = "flask_dbkit.read_only"
"""Where a pooled connection notes that a scope began its transaction as a read-only one."""

RESTORE_KEY = "flask_dbkit.restore"
"""Where a pooled connection keeps what was in force on it before scopes set something else."""


class Loss(Enum):
    """What the driver knows to have happened to the transaction of a connection."""

    GONE = "gone"
    FAILED = "failed"


class Effects(NamedTuple):
    """What a statement does to the transaction it is sent in.

    Attributes:
        commits: It commits everything before it, by itself.
        opens: The database must have a transaction open once it was sent.
    """

    commits: bool
    opens: bool


class DatabaseScopes:
    """The plain answers, for databases we know nothing of.

    Attributes:
        two_phase: Whether a prepared transaction can span several databases.
        can_turn_read_only: Whether the database can refuse writes from some point on.
        read_only_savepoint: Whether a savepoint can be made read-only.
        commits_implicitly: Whether some statements commit everything before them, and others
            leave no transaction open.
        takes_options_later: Whether a transaction that has begun can still be made read-only, and
            be given limits, until its end.
        errors_drop_savepoints: Whether an error that ends the transaction leaves none behind
            that could still be rolled back to.
        keeps_options: Whether it can refuse writes, and limit how long a statement runs or
            waits. A scope that asks for either is refused elsewhere.
        errors: What the errors of its drivers mean.
    """

    two_phase = False
    can_turn_read_only = False
    read_only_savepoint = False
    commits_implicitly = False
    errors_drop_savepoints = False
    takes_options_later = False
    keeps_options = False
    errors = ErrorCodes()

    def install(self, engine: Engine) -> None:
        """Attach to one engine what it takes to put back what scopes set."""

    def is_idle(self, raw: Any) -> bool:
        """Tell whether the driver is sure that a rollback would do nothing."""
        return False

    def effects(self, statement: str) -> Effects:
        """Tell what a statement that is no SELECT does, if :attr:`commits_implicitly`."""
        raise NotImplementedError

    def has_opened(self, raw: Any, cursor: Any) -> bool:
        """Tell, after a statement that writes rows, whether the transaction is open now."""
        return True

    def may_commit_inside(self, statement: str) -> bool:
        """Tell whether a statement runs code of the database's that may commit and go on."""
        return False

    def begin_options(
        self, *, read_only: bool, isolation: str | None, timeouts: Timeouts
    ) -> dict[str, Any]:
        """Return execution options for the connection, to be known before its BEGIN."""
        return {} if isolation is None else {"isolation_level": isolation}

    def begun(self, connection: Connection, *, read_only: bool) -> None:
        """Complete the beginning, once the transaction is open and before anything is sent."""

    def limit(self, connection: Connection, timeouts: Timeouts) -> None:
        """Put timeouts in force until the end of the transaction, or until the next call."""

    def set_read_only(self, connection: Connection, read_only: bool) -> None:
        """Make the rest of the transaction, or of the savepoint, read-only; or writable again."""

    def loss(self, raw: Any, *, wrote: bool) -> Loss | None:
        """Ask the driver whether its transaction is still the one that was begun: ``None``."""
        return None

    def ends_transaction(self, error: BaseException, connection: Connection) -> bool:
        """Tell whether the database has ended the whole transaction, savepoints included."""
        return self.errors.code(error) in self.errors.fatal

    def has_turned_read_only(self, connection: Connection, error: BaseException) -> bool:
        """Tell whether a statement was refused because the server takes no writes any more.

        False where this process asked for it: a scope, its own transaction, the URL.
        """
        return False

    def restore(self, dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        """Put back, as a connection returns to the pool, what scopes have set on it."""


def raw_of(connection: Connection) -> Any:
    """Return the driver's connection."""
    return connection.connection.dbapi_connection
