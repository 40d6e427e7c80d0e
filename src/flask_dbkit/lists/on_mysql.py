"""Lists on MySQL and MariaDB: their indexes, word lists, floats, and how they sort long text."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Table, func, literal_column, text, type_coerce
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from ..databases import MYSQL
from .codecs import RAW, implementation, is_float
from .converters import declared_range
from .database import EQUAL, RANGE, Facts, KeyForm, ListDatabase, LiveIndex, plainly
from .statement.expressions import in_brackets, without_entity

__all__ = ["MySQL"]

# With LIMIT, a sort looks at the first max_sort_length bytes of a text; a comparison looks at all
# of it. A character has up to four bytes, and some collations make more of it: hence the reserve
# that a piece leaves.
# https://mariadb.com/docs/server/server-management/variables-and-modes/server-system-variables#max_sort_length
_SORTED_BYTES, _WIDTH = 1024, 4
# Of a longer text these characters are sorted and compared, and the tie-breaker decides.
_MOST = 1000

# https://mariadb.com/docs/server/reference/clientserver-protocol/4-server-response-packets/result-set-packets#field-types
_FLOAT, _TEXTS, _BLOBS, _JSON = 4, {15, 253, 254}, {249, 250, 251, 252}, 245
_WORD_FLAGS = 256 | 2048  # ENUM, SET
_BINARY = 63


class MySQL(ListDatabase):
    """MySQL and MariaDB, as lists see them."""

    reads_guards_in_ties = True
    asks_for_types = True
    sorts_starts_of_texts = True

    def forms(
        self, expression: ColumnElement[Any], facts: Facts, dialect: Dialect
    ) -> Sequence[KeyForm]:
        """Return how a key is read, compared and sorted exactly."""
        bare = in_brackets(without_entity(expression))
        if facts.kind == "words":
            # Sorted by position, so compared by position: as text, rows are lost.
            # https://mariadb.com/docs/server/reference/data-types/string-data-types/enum
            # An ENUM beside a number is its position, and an index serves the comparison. A SET
            # is no number before something is added.
            compared = bare if facts.name == "ENUM" else _plus(bare, "0")
            return [KeyForm(_plus(bare, "0"), type_coerce(compared, RAW), expression)]
        if facts.kind == "real":
            # The driver is sent six digits of a FLOAT. The sum with a double has all of them,
            # and unlike CAST(… AS DOUBLE) it is known to every version.
            return [KeyForm(_plus(bare, "0e0"), type_coerce(bare, RAW), expression)]
        if facts.kind in ("text", "binary"):
            width = 1 if facts.kind == "binary" else _WIDTH
            most = (facts.sorted_bytes or _SORTED_BYTES) // width
            if facts.characters is None or facts.characters > most:
                return _pieces(bare, facts.characters, most)
        return [plainly(expression)]

    def range_of(self, type_: TypeEngine[Any]) -> tuple[int, int]:
        """Return what an integer column holds, small ones and those without a sign too.

        References:
            https://mariadb.com/docs/server/reference/data-types/numeric-data-types/numeric-data-type-overview
        """
        found: Any = type_
        for variant in MYSQL.names:
            found = getattr(type_, "_variant_mapping", {}).get(variant, found)
        low, high = declared_range(found)
        for name, bits in (("TINYINT", 8), ("MEDIUMINT", 24)):
            if _is_mysqls(found, name):
                low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        return (0, high * 2 + 1) if getattr(found, "unsigned", False) else (low, high)

    def sorted_bytes(self, connection: Connection) -> int | None:
        """Return how many bytes of a text a sort looks at."""
        # Past every listener: it is no statement of the application's, and nobody counts it.
        cursor: Any = connection.connection.cursor()
        try:
            cursor.execute("SELECT @@max_sort_length")
            return int(cursor.fetchone()[0])
        finally:
            cursor.close()

    def facts_of(self, cursor: Any) -> list[Facts]:
        """Tell what each column of a result is, by the number and flags of its type."""
        # Only PyMySQL's own result has the flags and the character set.
        fields = getattr(getattr(cursor, "_result", None), "fields", None)
        if fields is None:
            return [_fact(column[1], column[3], 0, None) for column in cursor.description]
        return [_fact(one.type_code, one.length, one.flags, one.charsetnr) for one in fields]

    def declared(self, expression: ColumnElement[Any], dialect: Dialect) -> Facts:
        """Tell what a column is by its declaration."""
        found = implementation(expression.type, dialect)
        words = next((name for name in ("ENUM", "SET") if _is_mysqls(found, name)), None)
        if words is not None:
            return Facts("words", name=words)
        if is_float(expression.type, dialect):
            return Facts("real")
        if isinstance(found, (sqltypes.LargeBinary, sqltypes.VARBINARY, sqltypes.BINARY)):
            return Facts("binary", getattr(found, "length", None))
        if isinstance(found, sqltypes.Uuid) or not isinstance(found, sqltypes.String):
            return Facts()
        return Facts("text", found.length)

    def rows_of(self, connection: Connection, table: Table) -> int | None:
        """Return what the catalog believes."""
        rows = text(
            "SELECT table_rows FROM information_schema.tables"
            " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table"
        )
        found = connection.scalar(rows, {"schema": table.schema, "table": table.name})
        return None if found is None else int(found)

    def live_indexes(self, connection: Connection, table: Table) -> Iterator[LiveIndex]:
        """Yield the indexes of a table, with their directions and whether they are used.

        References:
            https://mariadb.com/docs/server/ha-and-performance/optimization-and-tuning/optimization-and-indexes/ignored-indexes
        """
        # The inspector tells neither. What the catalog is called differs between the two.
        columns = connection.execute(
            text(
                "SELECT LOWER(column_name) FROM information_schema.columns WHERE table_schema ="
                " 'information_schema' AND table_name IN ('statistics', 'STATISTICS')"
            )
        ).scalars()
        named = {
            "ignored": "ignored = 'YES'",
            "is_visible": "is_visible = 'NO'",
        }
        known = set(columns)
        unused = next((sql for name, sql in named.items() if name in known), "FALSE")
        statement = text(
            f"SELECT index_name, column_name, collation, sub_part, index_type, {unused}"  # noqa: S608 - our own words
            " FROM information_schema.statistics"
            " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table"
            " ORDER BY index_name, seq_in_index"
        )
        found: dict[str, list[Any]] = {}
        given = {"schema": table.schema, "table": table.name}
        for name, *rest in connection.execute(statement, given).all():
            found.setdefault(name, []).append(rest)
        for name, rows in found.items():
            if name == "PRIMARY" or any(column is None for column, *_ in rows):
                continue
            parts = tuple((column, order == "D") for column, order, *_ in rows)
            yield LiveIndex(name, parts, (), _unfit(rows), _finds(rows[0]))


def _unfit(rows: Sequence[Any]) -> str | None:
    for column, _, prefix, method, unused in rows:
        if method not in ("BTREE", "RTREE"):
            return f"it is {method}, which has no order"
        if unused:
            return "it is ignored"
        if prefix is not None:
            return f"it has the first {prefix} characters of {column} only"
    return None


def _finds(first: Sequence[Any]) -> frozenset[str]:
    # The beginning of a text is enough to find rows, and a filter tells case in a prefix, which
    # no index does there.
    _, _, _, method, unused = first
    if unused or method not in ("BTREE", "HASH"):
        return frozenset()
    return frozenset({EQUAL} if method == "HASH" else {EQUAL, RANGE})


def _fact(code: int, length: int | None, flags: int, charset: int | None) -> Facts:
    if flags & _WORD_FLAGS:
        return Facts("words", name="ENUM" if flags & 256 else "SET")
    if code == _FLOAT:
        return Facts("real", name="float")
    if code == _JSON:
        return Facts("unordered", name="json")
    if code in _TEXTS | _BLOBS:
        if charset == _BINARY:
            return Facts("binary", length)
        return Facts("text", None if length is None else length // 4)
    return Facts()


def _pieces(bare: ColumnElement[Any], characters: int | None, most: int) -> list[KeyForm]:
    """Cut a long text into pieces that are sorted whole, each a key of its own."""
    size = max(most - most // 5, 1)
    count = -(-min(characters or _MOST, _MOST) // size)
    pieces = [func.substr(bare, 1 + place * size, size) for place in range(count)]
    return [KeyForm(raw, raw, piece) for piece in pieces for raw in (type_coerce(piece, RAW),)]


def _plus(expression: ColumnElement[Any], zero: str) -> ColumnElement[Any]:
    number = type_coerce(expression, sqltypes.Float())
    return type_coerce(number.op("+")(literal_column(zero)), RAW)


def _is_mysqls(found: object, name: str) -> bool:
    # Whoever made such a type has imported its module; for all others that would be in vain.
    module = sys.modules.get("sqlalchemy.dialects.mysql")
    return module is not None and isinstance(found, getattr(module, name))
