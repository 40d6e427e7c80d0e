"""Revisions on SQLite that lose no rows.

SQLite changes most of a table by copying it: a new table is filled, the old one dropped, the new
one renamed. With ``PRAGMA foreign_keys`` on, which every recipe recommends, ``DROP TABLE`` first
deletes the rows of the old table, and the children follow: ``ON DELETE CASCADE`` deletes them,
``SET NULL`` forgets whom they belonged to. No error is raised.

So foreign keys are off while revisions run, each in a transaction of its own that begins
IMMEDIATE. As nothing checks references then, they are counted and checked before and after.

References:
    * https://www.sqlite.org/lang_altertable.html#making_other_kinds_of_table_schema_changes
    * https://www.sqlite.org/foreignkeys.html#fk_schemacommands
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError

from ..databases.sqlite.control import control_of
from ..databases.sqlite.engine import BEGIN_OPTION

__all__ = [
    "References",
    "changed_tables",
    "describe_losses",
    "read_references",
    "read_versions",
    "table_names",
    "with_triggers",
    "without_foreign_keys",
]

# A word, a name in any of the quotes that SQLite takes, or a sign; comments are left out.
# https://www.sqlite.org/lang_keywords.html, https://www.sqlite.org/lang_comment.html
_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|(?P<token>[^\W\d][\w$]*|"(?:[^"]|"")*"|`(?:[^`]|``)*`"""
    r"""|\[[^\]]*(?:\]|\Z)|'(?:[^']|'')*'|\S)""",
    re.DOTALL,
)
# What a statement says before the name of a table whose rows it deletes or changes.
_CHANGES = (
    ("DELETE", "FROM"),
    ("UPDATE", "OR", None),
    ("UPDATE",),
    ("REPLACE", "INTO"),
    ("INSERT", "OR", "REPLACE", "INTO"),
)


@contextmanager
def without_foreign_keys(connection: Connection, *, writes: bool) -> Iterator[None]:
    """Let SQLite check no reference, and let each transaction be a true one.

    Args:
        connection: Idle: inside a transaction the pragma does nothing.
        writes: Whether transactions begin IMMEDIATE.
    """
    raw: Any = connection.connection.dbapi_connection
    before = raw.execute("PRAGMA foreign_keys").fetchone()[0]
    # https://www.sqlite.org/pragma.html#pragma_foreign_keys
    raw.execute("PRAGMA foreign_keys = OFF")
    controlled = control_of(connection) is not None
    statement = "BEGIN IMMEDIATE" if writes else "BEGIN"

    def begin(_: Connection) -> None:
        # Left alone the driver sends no BEGIN before DDL, and a failed revision stays half
        # applied. In autocommit mode there is nothing to begin.
        if raw.isolation_level is not None and not raw.in_transaction:
            raw.execute(statement)

    if controlled:
        connection.execution_options(**{BEGIN_OPTION: "immediate" if writes else "deferred"})
    else:
        event.listen(connection, "begin", begin)
    try:
        yield
    finally:
        if controlled:
            connection.execution_options(**{BEGIN_OPTION: None})
        else:
            event.remove(connection, "begin", begin)
        if not connection.closed and not connection.invalidated:
            if connection.in_transaction():
                connection.rollback()
            raw.execute(f"PRAGMA foreign_keys = {int(before)}")


@dataclass(frozen=True)
class References:
    """What refers to what at one moment.

    Attributes:
        rows: Per table with a foreign key: its rows (under ``""``), and per column of such a
            key the rows where it is not NULL.
        broken: Rows that refer to nothing, by table and parent.
    """

    rows: Mapping[str, Mapping[str, int]]
    broken: Mapping[tuple[str, str], int]


def read_references(connection: Connection, also: Iterable[str] = ()) -> References:
    """Count every row with a foreign key, and those whose parent is missing.

    Args:
        connection: On SQLite.
        also: Tables to count that may have lost their foreign key.
    """
    wanted = set(also)
    rows: dict[str, Mapping[str, int]] = {}
    for table in table_names(connection):
        if table.startswith(("sqlite_", "_alembic_tmp_")):
            continue
        keys = connection.exec_driver_sql(f"PRAGMA foreign_key_list({_quote(table)})").fetchall()
        columns = list(dict.fromkeys(str(key[3]) for key in keys))
        if columns or table in wanted:
            counted = ", ".join(["count(*)", *(f"count({_quote(name)})" for name in columns)])
            # Every name is quoted.
            row = connection.exec_driver_sql(f"SELECT {counted} FROM {_quote(table)}").one()  # noqa: S608
            rows[table] = dict(zip(["", *columns], map(int, row), strict=True))
    return References(rows, _broken(connection, rows))


def _broken(connection: Connection, tables: Iterable[str]) -> Mapping[tuple[str, str], int]:
    broken: Counter[tuple[str, str]] = Counter()
    for table in tables:
        try:
            found = connection.exec_driver_sql(f"PRAGMA foreign_key_check({_quote(table)})")
            broken.update((table, str(row[2])) for row in found)
        except DBAPIError as error:
            # "foreign key mismatch": what the key refers to is not unique.
            broken[table, str(error.orig)] += 1
    return broken


def describe_losses(before: References, after: References, statements: Iterable[str]) -> list[str]:
    """Say what was lost without anybody having asked for it.

    Args:
        before: Read before the revision.
        after: Read after it. A table that is not there any more was dropped, and is no loss.
        statements: What the revision sent: rows it deletes or changes by name are none either.

    Returns:
        One line per table.
    """
    meant = {name.lower() for text in statements for name in changed_tables(text)}
    losses = []
    for table, counts in before.rows.items():
        left = after.rows.get(table)
        if left is None or table.lower() in meant:
            continue
        if left[""] < counts[""]:
            losses.append(f"{counts[''] - left['']} of {counts['']} rows of {table}")
        losses += [
            f"{counts[column] - left[column]} values of {table}.{column}"
            for column in counts
            if column and column in left and left[column] < counts[column]
        ]
    for (table, parent), number in after.broken.items():
        more = number - before.broken.get((table, parent), 0)
        if more > 0:
            losses.append(f"{more} rows of {table} refer to rows of {parent} that are gone")
    return losses


def changed_tables(sql: str) -> Iterator[str]:
    """Yield the names of the tables whose rows a statement deletes or changes by name."""
    tokens = [match["token"] for match in _TOKEN.finditer(sql) if match["token"] is not None]
    for start in range(len(tokens)):
        for words in _CHANGES:
            after = start + len(words)
            if _says(tokens[start:after], words) and after < len(tokens):
                if tokens[after + 1 : after + 2] == ["."] and after + 2 < len(tokens):
                    after += 2  # the name of the database comes first
                yield _unquoted(tokens[after])
                break


def _says(tokens: list[str], words: tuple[str | None, ...]) -> bool:
    return len(tokens) == len(words) and all(
        word is None or token.upper() == word for token, word in zip(tokens, words, strict=True)
    )


def _unquoted(token: str) -> str:
    first, last = token[:1], token[-1:]
    if (first, last) == ("[", "]"):
        return token[1:-1]
    if first == last and first in "\"`'" and len(token) > 1:
        return token[1:-1].replace(first * 2, first)
    return token


def with_triggers(connection: Connection, statements: Iterable[str]) -> list[str]:
    """Add what triggers do for a statement: they may delete where it names a view or a parent."""
    found = connection.exec_driver_sql(
        "SELECT tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
    ).fetchall()
    every, seen = list(statements), set[str]()
    for text in every:  # grows meanwhile: a trigger may set off another one
        names = {name.lower() for name in changed_tables(text)}
        for table, sql in found:
            if str(table).lower() in names and sql not in seen:
                seen.add(sql)
                every.append(sql)
    return every


def read_versions(connection: Connection, table: str) -> tuple[str, ...]:
    """Read the version table without a transaction, which would wait for the write lock."""
    raw: Any = connection.connection.dbapi_connection
    found = raw.execute("SELECT name FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    if not found:
        return ()
    return tuple(row[0] for row in raw.execute(f"SELECT version_num FROM {_quote(table)}"))  # noqa: S608


def table_names(connection: Connection) -> list[str]:
    """Return the name of every table."""
    found = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
    return [str(row[0]) for row in found]


def _quote(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
