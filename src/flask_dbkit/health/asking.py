"""What a server says of itself, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "first_row", "number_of"]


@dataclass(frozen=True)
class Answer:
    """What a server says of itself.

    Attributes:
        read_only: It takes no writes.
        is_primary: It follows no other server; ``None`` if it does not tell.
        lag_s: Seconds it is behind the one that it follows.
        failure: The code of what keeps it from serving.
        warning: The code of what somebody should look at.
    """

    read_only: bool = False
    is_primary: bool | None = None
    lag_s: float | None = None
    failure: str | None = None
    warning: str | None = None


def first_row(connection: Any, statement: str) -> tuple[Any, ...]:
    """Run a statement on a driver's connection and return its first row."""
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        return tuple(cursor.fetchone())
    finally:
        cursor.close()


def number_of(error: BaseException) -> object:
    """Return the vendor code of a driver's error, where it has one."""
    return error.args[0] if error.args else None
