"""PostgreSQL: a plan is asked for inside a savepoint, with a time limit that ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["guarded"]


@contextmanager
def guarded(cursor: Any, deadline_ms: int, *, in_transaction: bool) -> Iterator[None]:
    """Undo whatever happens inside, an error and the time limit included.

    Args:
        cursor: The driver's.
        deadline_ms: So long one statement inside may take.
        in_transaction: Whether there is a transaction, which has to live on.
    """
    begin, end = (
        ("SAVEPOINT dbkit_plan", "ROLLBACK TO SAVEPOINT dbkit_plan; RELEASE SAVEPOINT dbkit_plan")
        if in_transaction
        else ("BEGIN", "ROLLBACK")
    )
    # What SET LOCAL has set is undone with the savepoint.
    # https://www.postgresql.org/docs/current/sql-set.html
    cursor.execute(f"{begin}; SET LOCAL statement_timeout = {deadline_ms}")
    try:
        yield
    finally:
        cursor.execute(end)
