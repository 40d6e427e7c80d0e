"""Tables of SQLite that refer to each other, dropped without an order that none can have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, MetaData, event

from ..databases import SQLITE, database_of

__all__ = ["drop_tables_in_any_order"]


def drop_tables_in_any_order(metadata: MetaData) -> None:
    """Let ``metadata.drop_all()`` drop tables that refer to each other, with rows in them.

    SQLite deletes the rows of a table first, and checks foreign keys at the end of that
    statement, unless it is told to wait for the COMMIT. It goes back to normal by itself then.

    References:
        https://www.sqlite.org/foreignkeys.html#fk_schemacommands
        https://www.sqlite.org/pragma.html#pragma_defer_foreign_keys
    """
    if not event.contains(metadata, "before_drop", _wait_for_commit):
        event.listen(metadata, "before_drop", _wait_for_commit)


def _wait_for_commit(target: MetaData, connection: Connection, **_: Any) -> None:
    if database_of(connection) is SQLITE:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
