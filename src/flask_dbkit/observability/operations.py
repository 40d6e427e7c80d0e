"""What a statement does, in the few words that a metric or a trace can be told apart by.

Words of the language and names of tables, never a value: there are only so many of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy.sql import visitors

from ..databases.execution import Execution
from ..databases.statements import READ, WRITE, first_word

__all__ = ["Operation", "operation_of"]

_WORDS = frozenset(
    {
        *("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "SAVEPOINT", "RELEASE"),
        *("ROLLBACK", "BEGIN", "COMMIT", "CREATE", "ALTER", "DROP", "SET", "PRAGMA", "SHOW"),
        *("EXPLAIN", "CALL", "TRUNCATE", "VACUUM", "ANALYZE", "LOCK", "COPY"),
    }
)
_MOST = 1024
_LONGEST_SUMMARY = 200


class Operation(NamedTuple):
    """What a statement does.

    Attributes:
        name: Its first word, ``OTHER`` for a rare one.
        table: The one table it is about, if it is one; known of statements of SQLAlchemy only.
        summary: The word, and the tables.
    """

    name: str
    table: str | None
    summary: str


_known: dict[str, Operation] = {}


def operation_of(execution: Execution) -> Operation:
    """Return what a statement does."""
    found = _known.get(execution.statement)
    if found is None:
        found = _look(execution)
        if len(_known) >= _MOST:
            _known.clear()
        _known[execution.statement] = found
    return found


def _look(execution: Execution) -> Operation:
    word = first_word(execution.statement)
    if word == "WITH":
        word = "SELECT" if execution.kind is READ else "OTHER"
    name = word if word in _WORDS else "OTHER"
    tables = _tables(execution) if execution.kind in (READ, WRITE) else []
    # Cut between names, so that none of them is half a name.
    summary = name
    for table in tables:
        if len(summary) + len(table) < _LONGEST_SUMMARY:
            summary += f" {table}"
    return Operation(name, tables[0] if len(tables) == 1 else None, summary)


def _tables(execution: Execution) -> list[str]:
    compiled = getattr(execution.context, "compiled", None)
    statement: Any = getattr(compiled, "statement", None)
    if statement is None:
        return []  # a text: which of its words are tables only the database knows
    found: dict[str, None] = {}
    written: Any = getattr(statement, "table", None)
    if written is not None and getattr(written, "name", None) is not None:
        return [str(written.name)]
    for element in visitors.iterate(statement):
        if element.__visit_name__ == "table":
            found[str(getattr(element, "name", ""))] = None
    return [name for name in found if name]
