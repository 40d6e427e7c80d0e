"""What a transaction scope raises, and what is kept of an error while undoing it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..exceptions import DBKitError

__all__ = [
    "CommitOutcomeUnknown",
    "DurabilityError",
    "NoTransaction",
    "OnCommitError",
    "OptionMismatch",
    "OwnershipError",
    "PartialCommit",
    "ReadOnlyViolation",
    "Rollback",
    "TransactionError",
    "UnexpectedRollback",
    "note_failure",
    "unexpected",
]

logger = logging.getLogger("flask_dbkit.transactions")


class TransactionError(DBKitError):
    """A transaction scope could not keep its word.

    .. versionadded:: 0.1
    """


class NoTransaction(TransactionError):
    """The call needs an open scope, and there is none.

    .. versionadded:: 0.1
    """


class DurabilityError(TransactionError):
    """A ``durable=True`` scope was opened inside another scope.

    Its end would not be a COMMIT. Raised before any SQL; the outer scope can go on.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        super().__init__(
            "This scope is durable=True, but another scope is open, so that its end would not"
            " commit. Open it outermost, or leave durable out."
        )


class OwnershipError(TransactionError):
    """Somebody else ended the transaction of a scope, or had started one.

    .. versionadded:: 0.1
    """


class UnexpectedRollback(TransactionError):
    """The block ended normally, but an error inside it had undone its work.

    The first error is ``__cause__``.

    .. versionadded:: 0.1
    """


class OptionMismatch(TransactionError):
    """A scope asked for an option that differs from the one in force.

    Attributes:
        option: Its name.
        given: What was asked for.
        in_force: What the transaction has.

    .. versionadded:: 0.1
    """

    def __init__(
        self, option: str, given: object, in_force: object, message: str | None = None
    ) -> None:
        self.option, self.given, self.in_force = option, given, in_force
        super().__init__(
            message
            or f"This scope joins one with {option}={in_force!r}, but asks for {given!r}."
            " Set it on the outermost scope, or leave it out here."
        )


class ReadOnlyViolation(TransactionError):
    """A write was attempted in a read-only scope; nothing was sent to the database.

    .. versionadded:: 0.1
    """


class CommitOutcomeUnknown(TransactionError):
    """COMMIT was sent, and no answer says how it ended: the work is saved, or it is not.

    The connection was lost, or the answer is one of a server or a proxy that cannot know.

    Neither ``on_commit`` nor ``on_rollback`` hooks were run. The driver's error is
    ``__cause__``.

    .. versionadded:: 0.1
    """


class PartialCommit(TransactionError):
    """Of several databases, some committed before another one failed.

    Attributes:
        committed: Bind keys that committed, in order; ``None`` is the default database.
        failed: The bind key whose COMMIT failed; the error is ``__cause__``.
        unknown: No answer says how that COMMIT ended: what it was to save is saved, or it is not.

    .. versionadded:: 0.1
    """

    def __init__(
        self, committed: Sequence[str | None], failed: str | None, *, unknown: bool = False
    ) -> None:
        self.committed, self.failed, self.unknown = tuple(committed), failed, unknown
        done = ", ".join(repr(key or "default") for key in committed)
        what = (
            "gave no answer that says how its COMMIT ended: it is saved, or it is not. Look for it"
            " before doing it again. Every database after it was rolled back."
            if unknown
            else "failed and was rolled back, with every database after it."
        )
        super().__init__(f"The databases {done} committed, then {failed or 'default'!r} {what}")


class OnCommitError(TransactionError):
    """The data are committed; one or more ``on_commit`` hooks failed afterwards.

    Attributes:
        errors: What the hooks raised, in order.
        committed: Always true.

    .. versionadded:: 0.1
    """

    committed = True

    def __init__(self, errors: Sequence[Exception]) -> None:
        self.errors = tuple(errors)
        super().__init__(
            f"The transaction is committed. {len(errors)} of its on_commit hooks failed:"
            f" {'; '.join(repr(error) for error in errors)}"
        )


class Rollback(DBKitError):
    """Raise it in a scope to roll back to its boundary and go on after the block.

    A boundary is the outermost scope or the nearest savepoint; a joined scope lets it pass.

    .. versionadded:: 0.1
    """

    def __init__(self, *args: object) -> None:
        # Read only where nothing caught it.
        text = (
            "Rollback rolls back the scope it is raised in, and none was open here. Raise it"
            " inside 'with transaction():' or a function decorated with @transaction."
        )
        super().__init__(*args or (text,))


def unexpected(cause: BaseException | None, what: str) -> UnexpectedRollback:
    """Build the error for a block whose work a caught error had undone."""
    error = UnexpectedRollback(
        f"This {what} cannot be committed: an error inside it was caught, but it had undone the"
        f" work already. It was rolled back. Where an error may be caught, put 'with savepoint():'"
        f" around what can fail, and catch it outside of that. The error was: {cause!r}"
    )
    error.__cause__ = cause
    return error


def note_failure(error: BaseException | None, failed: BaseException) -> None:
    """Keep an error that happened while undoing: beside the first one, never in its place."""
    logger.warning("While rolling back: %r", failed)
    if error is not None:
        error.add_note(f"While rolling back, this happened too: {failed!r}")
