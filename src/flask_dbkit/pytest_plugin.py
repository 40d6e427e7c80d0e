"""Fixtures for the tests of an application: ``pytest_plugins = ["flask_dbkit.pytest_plugin"]``."""

from __future__ import annotations

from .testing.plugin import (
    assert_queries,
    break_connection,
    captured_on_commit,
    dbkit_database_url,
    dbkit_isolation,
    dbkit_postgres,
    dbkit_schema,
    freeze_pool,
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_configure_node,
    pytest_unconfigure,
)

__all__ = [
    "assert_queries",
    "break_connection",
    "captured_on_commit",
    "dbkit_database_url",
    "dbkit_isolation",
    "dbkit_postgres",
    "dbkit_schema",
    "freeze_pool",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_unconfigure",
]
