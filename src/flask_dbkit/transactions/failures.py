"""The errors of a scope whose work is gone, and what is kept of those while undoing it."""

from __future__ import annotations

import logging

from .exceptions import UnexpectedRollback

__all__ = ["note_failure", "unexpected"]

logger = logging.getLogger("flask_dbkit.transactions")


def unexpected(cause: BaseException | None, what: str) -> UnexpectedRollback:
    """Build the error for a block whose work a caught error had undone."""
    error = UnexpectedRollback(
        f"This {what} cannot be committed: an error inside it was caught, but it had undone the"
        f" work already. Nothing was saved. The error was: {cause!r}"
    )
    error.__cause__ = cause
    return error


def note_failure(error: BaseException | None, failed: BaseException) -> None:
    """Keep an error that happened while undoing: beside the first one, never in its place."""
    logger.warning("While rolling back: %r", failed)
    if error is not None:
        error.add_note(f"While rolling back, this happened too: {failed!r}")
