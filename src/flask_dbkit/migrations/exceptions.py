"""What migrations raise."""

from __future__ import annotations

from collections.abc import Sequence

from ..exceptions import DBKitError

__all__ = ["MigrationError", "MigrationLocked", "RowsLost"]


class MigrationError(DBKitError, RuntimeError):
    """A migration that was refused, or that failed. The text says what to do.

    It is a ``RuntimeError`` because the commands of Flask-Migrate show those without a traceback.

    .. versionadded:: 0.1
    """


class MigrationLocked(MigrationError):
    """Another upgrade of the same database did not end in time. Nothing was changed.

    Attributes:
        bind: The database, ``default`` for the default one.
        waited_s: Seconds it was waited for.

    .. versionadded:: 0.1
    """

    def __init__(self, bind: str, waited_s: float) -> None:
        self.bind, self.waited_s = bind, waited_s
        super().__init__(
            f"Another upgrade of the database {bind!r} holds its lock, and did not end in"
            f" {waited_s:g} seconds. Nothing was changed. Wait for it to end, or wait longer with"
            " --wait."
        )


class RowsLost(MigrationError):
    """A revision would have lost rows that refer to others. It was rolled back.

    Attributes:
        revision: The revision.
        losses: One line of text per table.

    .. versionadded:: 0.1
    """

    def __init__(self, revision: str, losses: Sequence[str]) -> None:
        self.revision, self.losses = revision, list(losses)
        super().__init__(
            f"Revision {revision} was rolled back, because it would have lost data:"
            f" {'; '.join(losses)}. Where that is meant, let the revision"
            " DELETE or UPDATE these rows itself, of each table named here, children before their"
            " parents."
        )
