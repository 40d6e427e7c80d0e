"""PostgreSQL, through psycopg 3 or psycopg2: what it is."""

from __future__ import annotations

from ..base import Database
from .engine import PostgreSQL
from .errors import PostgreSQLErrors
from .scopes import PostgreSQLScopes

__all__ = ["POSTGRESQL"]

POSTGRESQL = Database(
    "postgresql",
    names=("postgresql",),
    engine=PostgreSQL(),
    scopes=PostgreSQLScopes(),
    errors=PostgreSQLErrors(),
    is_known=True,
    # https://www.postgresql.org/docs/current/datatype-numeric.html#DATATYPE-NUMERIC-DECIMAL
    numbers_keep_scale=True,
    nulls_are_largest=True,
    indexes_place_nulls=True,
    row_values_use_index=True,
)
