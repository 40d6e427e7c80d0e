"""MySQL and MariaDB: which of the two it is, and how a plan is asked for within its time."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Dialect

__all__ = ["MARIADB", "explain", "is_mariadb"]

MARIADB = "mariadb"


def is_mariadb(dialect: Dialect) -> bool:
    """Tell whether the server is MariaDB, which is known since the first connection."""
    found: Any = getattr(dialect, "is_mariadb", False)
    return bool(found)


def explain(dialect: Dialect, deadline_ms: int) -> str:
    """Return what stands before a statement to ask for its plan.

    MySQL's time limit is a hint inside a SELECT, and its EXPLAIN takes none.

    References:
        https://mariadb.com/kb/en/set-statement/
    """
    if is_mariadb(dialect):
        return f"SET STATEMENT max_statement_time = {deadline_ms / 1000} FOR EXPLAIN"
    return "EXPLAIN"
