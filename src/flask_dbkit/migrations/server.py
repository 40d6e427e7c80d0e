"""What a server offers for revisions: a lock that a session holds, and limits of waiting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

__all__ = ["Limits", "NamedLock", "Server", "Waiting"]


@dataclass(frozen=True)
class Limits:
    """How long a migration may wait, and work. Seconds.

    Attributes:
        wait_s: For another upgrade to end; and, over all tries, for the locks of one revision.
        lock_timeout_s: One statement for a row that somebody else changes.
        queue_s: One statement for a whole table, which makes readers wait behind it. MariaDB
            and MySQL count whole seconds: there it is 0 for half of ``wait_s``, then 1.
        statement_timeout_s: One statement in all; ``None`` is no limit, whatever the
            application has set for its requests.
    """

    wait_s: float = 30.0
    lock_timeout_s: float = 5.0
    queue_s: float = 0.2
    statement_timeout_s: float | None = None


class NamedLock(NamedTuple):
    """Two statements, each of which returns true: one takes the lock at once, or not at all."""

    take: str
    give: str


@dataclass(frozen=True)
class Waiting:
    """A statement that needs a whole table, and what is known about the wait for it.

    Attributes:
        statement: What is about to be sent.
        waited_s: Since the upgrade began.
        has_applied: Whether something before it cannot be rolled back any more.
    """

    statement: str
    waited_s: float
    has_applied: bool


class Server(ABC):
    """One kind of server."""

    @abstractmethod
    def lock(self, database: str | None) -> NamedLock:
        """Return the lock of one database of the server."""

    @abstractmethod
    def lift_timeouts(self, connection: Connection, statement_timeout_s: float) -> list[str]:
        """Return statements that take the limits of requests off a session; 0 is no limit."""

    @abstractmethod
    def wait_for_locks(self, seconds: float) -> str:
        """Return the statement that sets how long later ones wait for a lock."""

    def invalid_indexes(self) -> str | None:
        """Return the query for indexes that were left half built; ``None`` if there are none."""
        return None

    @abstractmethod
    def seconds_for_table(self, waiting: Waiting, limits: Limits) -> float:
        """Return how long a statement waits for a whole table."""
