"""A private PostgreSQL server for the tests: the one that applications get for theirs."""

from flask_dbkit.testing.on_postgresql.server import (
    PostgresError,
    PostgresServer,
    find_binaries,
    wheel_binaries,
)

__all__ = ["PostgresError", "PostgresServer", "find_binaries", "wheel_binaries"]
