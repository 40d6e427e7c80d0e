"""SQLite, through Python's ``sqlite3``: what it is."""

from __future__ import annotations

from ..base import Database
from .engine import SQLite
from .errors import SQLiteErrors
from .scopes import SQLiteScopes

__all__ = ["SQLITE"]

SQLITE = Database(
    "sqlite",
    names=("sqlite",),
    engine=SQLite(),
    scopes=SQLiteScopes(),
    errors=SQLiteErrors(),
    is_known=True,
    drops_time_zones=True,
    is_embedded=True,
    rebuilds_tables=True,
    has_one_writer=True,
    row_values_use_index=True,
    row_values_use_first_column=True,
    rowid_is_key=True,
)
