"""Fixtures for the tests of an application: ``pytest_plugins = ["flask_dbkit.pytest_plugin"]``."""

from __future__ import annotations

from .testing.plugin import (
    assert_queries,
    break_connection,
    captured_on_commit,
    dbkit_database_url,
    dbkit_isolation,
    dbkit_postgres,
    freeze_pool,
    pytest_addoption,
    pytest_configure,
)

__all__ = [
    "assert_queries",
    "break_connection",
    "captured_on_commit",
    "dbkit_database_url",
    "dbkit_isolation",
    "dbkit_postgres",
    "freeze_pool",
    "pytest_addoption",
    "pytest_configure",
]
