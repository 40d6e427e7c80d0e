"""Lists on SQLite: its indexes, and columns of virtual tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Column, Table, func, literal_column, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from .database import ListDatabase, LiveIndex

__all__ = ["SQLite"]


class SQLite(ListDatabase):
    """SQLite, as lists see it."""

    def range_of(self, type_: TypeEngine[Any]) -> tuple[int, int]:
        """Return what 64 bits hold: every integer column has as many.

        References:
            https://www.sqlite.org/datatype3.html#storage_classes_and_datatypes
        """
        return -(2**63), 2**63 - 1

    def refused(self, connection: Connection, columns: Sequence[Column[Any]]) -> dict[str, str]:
        """Tell which columns are hidden ones of virtual tables.

        To compare one may mean something else there: ``rank = ?`` sets the ranking function.

        References:
            https://www.sqlite.org/vtab.html#hidden_columns_in_virtual_tables
            https://www.sqlite.org/fts5.html#sorting_by_auxiliary_function_results
        """
        found: dict[str, str] = {}
        # Past every listener: it is no statement of the application's, and nobody counts it.
        cursor: Any = connection.connection.cursor()
        try:
            for table in {column.table for column in columns}:
                cursor.execute(
                    "SELECT name FROM pragma_table_xinfo(?, ?) WHERE hidden = 1",
                    (table.name, getattr(table, "schema", None) or "main"),
                )
                for name in {one for (one,) in cursor.fetchall()} & set(table.c.keys()):
                    found[f"{table.name}.{name}"] = (
                        f"{name} is a hidden column of the virtual table {table.name}: it can be"
                        " sorted by, and not compared. Use a function of it, for example"
                        " func.bm25(literal_column(...)) in place of rank."
                    )
        finally:
            cursor.close()
        return found

    def rows_of(self, connection: Connection, table: Table) -> int | None:
        """Return the highest row id: it is found at once, and nobody else keeps count."""
        with suppress(DBAPIError):  # WITHOUT ROWID
            return connection.scalar(select(func.max(literal_column("rowid"))).select_from(table))
        return None

    def live_indexes(self, connection: Connection, table: Table) -> Iterator[LiveIndex]:
        """Yield the indexes of a table, with their directions and collations.

        References:
            https://www.sqlite.org/pragma.html#pragma_index_xinfo
        """
        # The inspector tells neither directions nor collations.
        names = text("SELECT name FROM pragma_index_list(:table, :schema) WHERE NOT partial")
        parts = text(
            'SELECT name, "desc", coll FROM pragma_index_xinfo(:index, :schema) WHERE key'
            " ORDER BY seqno"
        )
        schema = table.schema or "main"
        for (name,) in connection.execute(names, {"table": table.name, "schema": schema}).all():
            rows = connection.execute(parts, {"index": name, "schema": schema}).all()
            if any(column is None for column, _, _ in rows):
                continue
            columns = tuple((column, bool(desc)) for column, desc, _ in rows)
            yield LiveIndex(name, columns, unfit=self._other_collation(connection, table, rows))

    def _other_collation(
        self, connection: Connection, table: Table, rows: Sequence[Any]
    ) -> str | None:
        created = connection.execute(
            text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name"),
            {"name": table.name},
        ).scalar()
        for column, _, collation in rows:
            # Nothing else tells the collation of a column.
            declared = _collation_of(created or "", column)
            if collation.upper() != declared:
                return f"{column} is sorted by {collation} in it, and by {declared} in the table"
        return None


def _collation_of(created: str, column: str) -> str:
    name = rf"""["'`\[]?\b{re.escape(column)}\b["'`\]]?"""
    found = re.search(rf"[(,]\s*{name}\s[^,]*?\bCOLLATE\s+[\"'`]?(\w+)", created, re.IGNORECASE)
    return found[1].upper() if found else "BINARY"
