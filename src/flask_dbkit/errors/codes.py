"""The one table of what a database error can mean to a client."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROBLEMS", "ProblemCode"]


@dataclass(frozen=True)
class ProblemCode:
    """One row of the table of codes.

    Attributes:
        code: What programs look at.
        status: The HTTP status it has unless the application says otherwise.
        detail: The sentence a client reads unless the application says otherwise.
        meaning: What happened, for the reference.
        retryable: The same request may well succeed in a moment.
    """

    code: str
    status: int
    detail: str
    meaning: str
    retryable: bool = False


PROBLEMS: dict[str, ProblemCode] = {
    row.code: row
    for row in (
        ProblemCode(
            "conflict.unique",
            409,
            "A record with this value exists already.",
            "a primary key, a unique or an exclusion constraint",
        ),
        ProblemCode(
            "conflict.reference",
            409,
            "Something this record refers to does not exist.",
            "a foreign key without its parent",
        ),
        ProblemCode(
            "conflict.referenced",
            409,
            "The record is still referred to by others.",
            "a parent that others still refer to",
        ),
        ProblemCode(
            "conflict.stale",
            409,
            "The record was changed by somebody else meanwhile. Load it again.",
            "`StaleDataError`: an optimistic lock noticed another writer; 412 for a request"
            " with `If-Match`",
        ),
        ProblemCode(
            "invalid.null",
            409,
            "A required value is missing.",
            "a `NOT NULL` column without a value",
        ),
        ProblemCode(
            "invalid.check", 409, "A value is not one of those allowed.", "a check constraint"
        ),
        ProblemCode(
            "invalid.value",
            422,
            "A value is too long, out of range or not of the right form.",
            "a value the column, or its driver, cannot take",
        ),
        ProblemCode(
            "missing",
            404,
            "There is no such record.",
            "`NoResultFound`: `session.get_one()`, `one()` or `scalar_one()` found no row",
        ),
        ProblemCode(
            "unavailable",
            503,
            "The service cannot reach its data. Please try again in a moment.",
            "no connection, or one that was lost",
            retryable=True,
        ),
        ProblemCode(
            "unavailable.pool",
            503,
            "The service is very busy. Please try again in a moment.",
            "no connection of the pool became free in time",
            retryable=True,
        ),
        ProblemCode(
            "retry",
            503,
            "Another change was in the way. Please try again.",
            "a deadlock, a serialization failure, a lock that was not given in time",
            retryable=True,
        ),
        ProblemCode(
            "readonly",
            503,
            "Changes cannot be saved at the moment. Please try again later.",
            "a write to a database, a file or a transaction that is read-only",
        ),
        ProblemCode(
            "timeout", 504, "The answer took too long to find.", "a statement that ran out of time"
        ),
        ProblemCode(
            "internal",
            500,
            "Something went wrong on the side of the service.",
            "everything else: a missing table, a typo in SQL, a mistake in the use of a session",
        ),
    )
}
"""Every code there is, by itself, in the order of the reference page."""
