"""What a statement does to its transaction, told from its first word."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

__all__ = [
    "CONTROL",
    "READ",
    "SAVEPOINT",
    "WRITE",
    "Kind",
    "classify_statement",
    "first_word",
    "goes_beyond_reading",
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
_SHOWING = frozenset({"SHOW", "DESCRIBE", "DESC", "PRAGMA", "TABLE"})
_LOCKING = re.compile(
    r"\bfor\s+(?:no\s+key\s+)?(?:update|share)\b|\bfor\s+key\s+share\b"
    r"|\block\s+in\s+share\s+mode\b|\binto\s+@|@\w+\s*:=",
    re.IGNORECASE,
)
# From the beginning of a name only, and without a way back: a long text is read once.
_CALL = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*+)\s*+\(")
# What stands before a bracket and is no function, and functions that do nothing but answer.
_WORDS = """
    all and any array as between by case cross distinct else except exists filter from full group
    having if in inner intersect interval is join lateral left like limit materialized natural not
    null offset on or order outer over partition recursive right row rows select set some then
    tuple union unnest using values when where window with within
    bigint bit boolean char character decimal double float int integer numeric real smallint text
    varchar varying binary varbinary blob clob
    abs acos age array_agg array_length ascii asin atan atan2 avg bit_and bit_length bit_or
    bool_and bool_or cardinality cast ceil ceiling char_length character_length chr coalesce
    collate concat concat_ws convert cos cot count cume_dist curdate current_date
    current_setting current_timestamp current_time curtime day dayofmonth dayofweek dayofyear
    degrees dense_rank exp extract field find_in_set first_value floor format from_unixtime
    glob greatest group_concat hex hour ifnull iif instr isnull julianday lag last_value lead
    least length ln localtime localtimestamp locate log log10 log2 lower lpad ltrim max md5 median
    microsecond mid min minute mod month now nth_value ntile nullif nvl octet_length overlay
    percent_rank percentile_cont percentile_disc pi position pow power printf quarter quote
    radians random rand rank repeat replace reverse round row_number row_to_json rpad rtrim second
    sha1 sha2 sign similarity sin soundex space split_part sqrt stddev strftime string_agg
    strpos substr substring sum tan to_tsquery total translate trim trunc truncate typeof
    unaccent unicode unix_timestamp unixepoch upper utc_timestamp uuid variance version week
    weekday width_bucket word_similarity year match against bm25 highlight snippet
    generate_series plainto_tsquery phraseto_tsquery websearch_to_tsquery setweight
"""
_PURE = frozenset(_WORDS.split())
_PURE_PREFIXES = (
    "json",
    "date",
    "time",
    "to_",
    "st_",
    "ts_",
    "regexp",
    "array_",
    "string_",
    "str_",
)
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


@lru_cache(1024)
def goes_beyond_reading(statement: str) -> bool:
    """Tell whether a statement that writes no row may leave something to its transaction.

    A lock, a setting, whatever a function has done: known to only read are tables, and the
    functions that everybody uses. In doubt it does, and then the transaction is not begun again.
    """
    word = first_word(statement)
    if classify_statement(statement) is not Kind.READ:
        return word != "EXPLAIN"
    if word in _SHOWING:
        return False
    text = _QUOTED.sub(" ", statement)
    if _LOCKING.search(text) is not None:
        return True
    names = {name.rpartition(".")[2].lower() for name in _CALL.findall(text)}
    return any(name not in _PURE and not name.startswith(_PURE_PREFIXES) for name in names)


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
