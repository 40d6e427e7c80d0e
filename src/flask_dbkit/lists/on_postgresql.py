"""Lists on PostgreSQL: its indexes, floats of 32 bits, and intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Double, Table, Text, cast, text, type_coerce
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.elements import ColumnElement

from .codecs import RAW, is_float, is_interval
from .database import (
    EQUAL,
    PREFIX,
    RANGE,
    SEARCHES,
    Facts,
    KeyForm,
    ListDatabase,
    LiveIndex,
    plainly,
)
from .statement.expressions import in_brackets, without_entity

__all__ = ["PostgreSQL"]

# https://github.com/postgres/postgres/blob/REL_15_STABLE/src/include/catalog/pg_type.dat
_KINDS = {700: Facts("real", name="real"), 1186: Facts("interval", name="interval")}
_UNORDERED = {
    114: "json",
    142: "xml",
    600: "point",
    601: "lseg",
    602: "path",
    603: "box",
    604: "polygon",
    628: "line",
    718: "circle",
}

_INDEXES = text(
    """
    SELECT c.relname AS name, a.amname AS method, i.indisvalid AND i.indisready AS usable,
           i.indpred IS NOT NULL AS partial, i.indexprs IS NOT NULL AS computed,
           k.n AS place, t.attname AS column, (i.indoption[k.n - 1] & 1) = 1 AS descending,
           (i.indoption[k.n - 1] & 2) = 2 AS nulls_first,
           i.indcollation[k.n - 1] <> t.attcollation AS collated,
           o.opcdefault AS default_class, o.opcname AS class_name,
           COALESCE(CASE l.collprovider
               WHEN 'd' THEN (SELECT datcollate FROM pg_database WHERE datname = current_database())
               ELSE l.collname END IN ('C', 'POSIX'), FALSE) AS by_code
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am a ON a.oid = c.relam
    CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) AS k(n)
    LEFT JOIN pg_attribute t ON t.attrelid = i.indrelid AND t.attnum = i.indkey[k.n - 1]
        AND t.attnum > 0
    JOIN pg_opclass o ON o.oid = i.indclass[k.n - 1]
    LEFT JOIN pg_collation l ON l.oid = i.indcollation[k.n - 1]
    WHERE i.indrelid = to_regclass(:table) AND NOT i.indisprimary
    ORDER BY c.relname, k.n
    """
)


class PostgreSQL(ListDatabase):
    """PostgreSQL, as lists see it."""

    asks_for_types = True
    refuses_nul = True
    finds_prefixes = True

    def forms(
        self, expression: ColumnElement[Any], facts: Facts, dialect: Dialect
    ) -> Sequence[KeyForm]:
        """Return how a key is read and compared exactly."""
        bare = in_brackets(without_entity(expression))
        if facts.kind == "real":
            # real and double precision compare exactly, in an index too; the text of a real
            # taken for a double does not.
            # https://www.postgresql.org/docs/current/btree.html#BTREE-BEHAVIOR
            read = type_coerce(cast(bare, Double()), RAW)
            return [KeyForm(read, type_coerce(bare, RAW), expression)]
        if facts.kind == "interval":
            # A year is compared as 360 days, and a driver makes 365 of it in Python. The text
            # has its parts, and becomes the same interval again.
            # https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-INTERVAL-INPUT
            read = type_coerce(cast(bare, Text()), RAW)
            return [KeyForm(read, type_coerce(bare, RAW), expression, sqltypes.Interval())]
        return [plainly(expression)]

    def facts_of(self, cursor: Any) -> list[Facts]:
        """Tell what each column of a result is, by the number of its type."""
        codes = [column[1] for column in cursor.description]
        return [
            Facts("unordered", name=_UNORDERED[code])
            if code in _UNORDERED
            else _KINDS.get(code, Facts())
            for code in codes
        ]

    def declared(self, expression: ColumnElement[Any], dialect: Dialect) -> Facts:
        """Tell what a column is by its declaration."""
        if is_interval(expression.type, dialect):
            return Facts("interval")
        return Facts("real") if is_float(expression.type, dialect) else Facts()

    def rows_of(self, connection: Connection, table: Table) -> int | None:
        """Return what was counted when the table was last analysed."""
        quoted = connection.dialect.identifier_preparer.format_table(table)
        rows = text("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(:table)")
        found = connection.scalar(rows, {"table": quoted})
        return None if found is None or found < 0 else int(found)

    def live_indexes(self, connection: Connection, table: Table) -> Iterator[LiveIndex]:
        """Yield the indexes of a table, with why the planner may not use one for an order.

        References:
            https://www.postgresql.org/docs/current/indexes-ordering.html
            https://www.postgresql.org/docs/current/catalog-pg-index.html
        """
        quote = connection.dialect.identifier_preparer
        given = {"table": quote.format_table(table)}
        found: dict[str, list[Any]] = {}
        for row in connection.execute(_INDEXES, given).all():
            found.setdefault(row.name, []).append(row)
        for name, rows in found.items():
            if rows[0].partial or any(row.column is None for row in rows):
                continue
            columns = tuple((row.column, row.descending) for row in rows)
            nulls = tuple("first" if row.nulls_first else "last" for row in rows)
            yield LiveIndex(name, columns, nulls, _unfit(rows), _finds(rows[0]))


def _unfit(rows: Sequence[Any]) -> str | None:
    first = rows[0]
    if first.method != "btree":
        return f"it is {first.method}, which has no order"
    if not first.usable:
        return "it is not valid: drop it, or REINDEX INDEX CONCURRENTLY"
    for row in rows:
        if row.collated:
            return f"{row.column} has another collation in it"
        if not row.default_class:
            return f"{row.column} is sorted by {row.class_name} in it"
    return None


def _finds(first: Any) -> frozenset[str]:
    """Return what the planner finds by the first column of an index.

    References:
        https://www.postgresql.org/docs/current/indexes-types.html
        https://www.postgresql.org/docs/current/indexes-opclass.html
    """
    if not first.usable:
        return frozenset()
    if first.method == "hash":
        return frozenset({EQUAL})
    if first.method != "btree":
        return frozenset(SEARCHES)  # by its operators, of which extensions add more
    if first.class_name.endswith("_pattern_ops"):
        return frozenset({EQUAL, PREFIX})
    if first.collated:
        return frozenset({PREFIX} if first.by_code else ())
    return frozenset({EQUAL, RANGE, PREFIX} if first.by_code else {EQUAL, RANGE})
