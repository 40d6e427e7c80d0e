"""MySQL and MariaDB: which of the two it is, and how a plan is asked for within its time."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Dialect

__all__ = ["MARIADB", "is_mariadb"]

MARIADB = "mariadb"


def is_mariadb(dialect: Dialect) -> bool:
    """Tell whether the server is MariaDB, which is known since the first connection."""
    found: Any = getattr(dialect, "is_mariadb", False)
    return bool(found)
