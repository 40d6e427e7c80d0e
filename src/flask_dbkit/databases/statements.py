"""What a statement does to its transaction, told from its first word."""

from __future__ import annotations

import re
from enum import Enum

__all__ = [
    "CONTROL",
    "READ",
    "SAVEPOINT",
    "WRITE",
    "Kind",
    "classify_statement",
    "first_word",
    "unquoted",
    "written_columns",
    "written_table",
]


class Kind(Enum):
    """What a statement does to its transaction."""

    READ = "read"
    WRITE = "write"
    SAVEPOINT = "savepoint"
    CONTROL = "control"
    NEUTRAL = "neutral"


# For the code that every statement comes through: before Python 3.12 it takes 50 ns to look a
# member up in its class.
READ, WRITE, SAVEPOINT, CONTROL = Kind.READ, Kind.WRITE, Kind.SAVEPOINT, Kind.CONTROL

# The first word behind white space, semicolons, comments and opening brackets. Each branch
# begins with another character, so that a long indentation is looked at once.
# MySQL and MariaDB run what is inside /*! and /*M!, and take # for a comment too.
_BEFORE = r"(?:[\s;(]|(?:--|#)[^\n]*(?:\n|$)|/\*M?!\d*|/\*(?!M?!).*?\*/)*"
_FIRST_WORD = re.compile(_BEFORE + r"([A-Za-z]+)", re.DOTALL)
_NO_WORD = re.compile(_BEFORE, re.DOTALL)
# SQLite's pragmas that change the file, or that end with the transaction they were set in.
# https://www.sqlite.org/pragma.html
_WRITING_PRAGMA = re.compile(
    r"pragma\s+(?:\w+\s*\.\s*)?"
    r"(?:(?:user_version|application_id|schema_version|defer_foreign_keys)\s*[=(]"
    r"|incremental_vacuum\b|optimize\b)",
    re.IGNORECASE,
)
_WRITING_WORD = re.compile(r"\b(?:insert|update|delete|replace|merge)\b", re.IGNORECASE)
_PREPARED = re.compile(r"prepare\s+transaction\b", re.IGNORECASE)
# What may hold a semicolon that ends no statement: text, names, bodies of functions, comments.
_QUOTED = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*(?!M?!).*?\*/""",
    re.DOTALL,
)
_BODIES = frozenset({"CREATE", "ALTER", "DO"})
# A name in any of the quotes there are, or a bare one; the first may be that of a schema.
_PART = r"""(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\]]+\]|\w+)"""
_NAME = rf"(?:{_PART}\s*\.\s*)?({_PART})"
_WRITTEN_TABLE = (
    r"(?i)(?:INSERT(?:\s+OR\s+\w+|\s+IGNORE)?\s+INTO|REPLACE\s+INTO|UPDATE|DELETE\s+FROM)\s+"
    + _NAME
)
_WRITTEN_COLUMN = rf"(?i)(?:\bSET|,)\s*{_NAME}\s*="
_KINDS = {
    **dict.fromkeys(("SELECT", "VALUES", "TABLE", "SHOW", "DESCRIBE", "DESC"), Kind.READ),
    **dict.fromkeys(("SAVEPOINT", "RELEASE", "ROLLBACK"), Kind.SAVEPOINT),
    **dict.fromkeys(("BEGIN", "COMMIT", "END", "START", "ABORT", "XA"), Kind.CONTROL),
    **dict.fromkeys(("EXPLAIN", "ATTACH", "DETACH", "SET", "USE"), Kind.NEUTRAL),
}
_KEPT = 1024  # statements; longer ones than this many characters are not kept
_LONGEST = 4096
_known: dict[str, Kind] = {}


def classify_statement(statement: str) -> Kind:
    """Return the kind of a statement. In doubt it writes, which is always safe.

    ``EXPLAIN ANALYZE`` of a write and functions that write pass for reading: only the
    database knows.
    """
    kind = _known.get(statement)
    if kind is None:
        kind = _look(statement)
        if len(statement) <= _LONGEST:
            if len(_known) >= _KEPT:
                _known.clear()
            _known[statement] = kind
    return kind


def first_word(statement: str) -> str:
    """Return the first word behind comments, in capitals; empty when there is none."""
    match = _FIRST_WORD.match(statement)
    return match[1].upper() if match is not None else ""


def written_table(statement: str) -> str | None:
    """Return the table that an INSERT, UPDATE or DELETE names, without its schema."""
    match = _FIRST_WORD.match(statement)
    found = re.match(_WRITTEN_TABLE, statement[match.start(1) :]) if match is not None else None
    return unquoted(found[1]) if found is not None else None


def written_columns(statement: str) -> frozenset[str]:
    """Return the columns that an UPDATE sets, as far as a look at its text can tell."""
    found = re.findall(_WRITTEN_COLUMN, statement.partition(" WHERE ")[0])
    return frozenset(map(unquoted, found))


def unquoted(name: str) -> str:
    """Return a name without the quotes that stand around it in SQL."""
    quote = name[:1]
    if quote == "[":
        return name[1:-1]
    return name[1:-1].replace(quote * 2, quote) if quote in ('"', "`") else name


def _look(statement: str) -> Kind:
    kind = _look_at_first(statement)
    if ";" in statement and kind in (Kind.READ, Kind.WRITE, Kind.NEUTRAL):
        # PostgreSQL's drivers send several statements at once, if there are no parameters.
        if first_word(statement) in _BODIES:
            return kind
        pieces = _QUOTED.sub(" ", statement).split(";")[1:]
        others = {_look_at_first(piece) for piece in pieces}
        for worse in (Kind.CONTROL, Kind.SAVEPOINT, Kind.WRITE):
            if worse in others:
                return worse
    return kind


def _look_at_first(statement: str) -> Kind:
    match = _FIRST_WORD.match(statement)
    if match is None:
        return Kind.NEUTRAL if _NO_WORD.fullmatch(statement) else Kind.WRITE
    word = match[1].upper()
    if word == "WITH":
        return Kind.WRITE if _WRITING_WORD.search(statement) else Kind.READ
    if word == "PRAGMA":
        if _WRITING_PRAGMA.match(statement, match.start(1)):
            return Kind.WRITE
        return Kind.NEUTRAL if "=" in statement else Kind.READ
    if word == "PREPARE" and _PREPARED.match(statement, match.start(1)):
        return Kind.CONTROL
    return _KINDS.get(word, Kind.WRITE)
