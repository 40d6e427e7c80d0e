"""What may be repeated of a driver's message: its words, without values, SQL, hosts and paths.

Messages are kept by knowing them, not by looking for what to cut: a sentence is repeated if its
code is one of the tables here and the whole of it reads as the server or the driver writes it.
Everything else, the text of a ``RAISE`` or ``SIGNAL`` for example, may hold anything. Names of the
schema are no values. Each pattern is matched once, from the beginning, against a text that was
cut to a fixed length.

References:
    * https://www.postgresql.org/docs/current/errcodes-appendix.html
    * https://mariadb.com/kb/en/mariadb-error-codes/
    * https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

from ..databases import errors_of
from ..databases.errors import OWN_WORDS

__all__ = ["HIDDEN", "mask_literals", "words_of"]

HIDDEN = "…"
"""What stands in place of what is not repeated."""

_LONGEST = 2000
_N = r'"[^"\n]{1,200}"'
_Q = r"'[^'\n]{1,200}'"
_B = r"`[^`\n]{1,200}`"

# SQLSTATE, vendor code, or the name of SQLite's code -> sentences. What a group called "value"
# holds is left out.
_POSTGRESQL: dict[object, tuple[str, ...]] = {
    "23505": (
        rf"duplicate key value violates unique constraint {_N}",
        rf"could not create unique index {_N}",
    ),
    "23503": (
        (
            rf"(?:insert or update|update or delete) on table {_N} violates"
            rf"(?: RESTRICT setting of)? foreign key constraint {_N}(?: on table {_N})?"
        ),
    ),
    "23502": (
        rf"null value in column {_N}(?: of relation {_N})? violates not-null constraint",
        rf"column {_N} of relation {_N} contains null values",
    ),
    "23514": (
        rf"new row for relation {_N} violates check constraint {_N}",
        rf"check constraint {_N} of relation {_N} is violated by some row",
    ),
    "23P01": (rf"conflicting key value violates exclusion constraint {_N}",),
    "22001": (r"value too long for type [a-z ]{1,40}\(\d{1,10}\)",),
    "22003": (
        r"(?:integer|bigint|smallint) out of range|numeric field overflow",
        r'value "(?P<value>.*)" is out of range for type [a-z ]{1,40}',
    ),
    "22P02": (
        r'invalid input syntax for type [a-z ]{1,40}: "(?P<value>.*)"',
        r'invalid input value for enum [\w.]{1,130}: "(?P<value>.*)"',
    ),
    "22007": (r'invalid input syntax for type [a-z ]{1,40}: "(?P<value>.*)"',),
    "22008": (r'date/time field value out of range: "(?P<value>.*)"',),
    "22012": (r"division by zero",),
    "42P01": (rf"relation {_N} does not exist",),
    "42703": (rf"column (?:{_N}|[\w.]{{1,200}})(?: of relation {_N})? does not exist",),
    "3F000": (rf"schema {_N} does not exist",),
    "42P07": (rf"relation {_N} already exists",),
    "42701": (rf"column {_N} of relation {_N} already exists",),
    "42710": (rf"[a-z ]{{1,30}} {_N}(?: for relation {_N})? already exists",),
    "42501": (r"permission denied for [a-z ]{1,30} [\w.]{1,130}|must be owner of [\w. ]{1,130}",),
    "40001": (r"could not serialize access due to [a-z /]{1,80}",),
    "40P01": (r"deadlock detected",),
    "55P03": (
        rf"could not obtain lock on (?:row in )?relation {_N}",
        r"canceling statement due to lock timeout",
    ),
    "57014": (r"canceling statement due to (?:statement timeout|user request)",),
    "25006": (r"cannot execute [A-Z ]{1,60} in a read-only transaction",),
    "25P02": (r"current transaction is aborted, commands ignored until end of transaction block",),
    "25P03": (r"terminating connection due to idle-in-transaction timeout",),
    "57P01": (r"terminating connection due to administrator command",),
    "57P03": (r"the database system is [a-z ]{1,40}",),
    "53300": (r"sorry, too many clients already|remaining connection slots are reserved .{1,100}",),
}
_MYSQL: dict[object, tuple[str, ...]] = {
    1062: (r"Duplicate entry '(?P<value>.*)' for key '[^'\n]{1,200}'",),
    1451: (r"Cannot delete or update a parent row: a foreign key constraint fails .{1,800}",),
    1452: (r"Cannot add or update a child row: a foreign key constraint fails .{1,800}",),
    1048: (rf"Column {_Q} cannot be null",),
    1364: (rf"Field {_Q} doesn't have a default value",),
    1406: (rf"Data too long for column {_Q} at row \d{{1,10}}",),
    1264: (rf"Out of range value for column {_Q} at row \d{{1,10}}",),
    1366: (
        (
            rf"Incorrect [\w ]{{1,30}} value: '(?P<value>.*)' for column (?:{_B}\.{_B}\.{_B}|{_Q})"
            r" at row \d{1,10}"
        ),
    ),
    1292: (
        (
            rf"(?:Incorrect|Truncated incorrect) [\w ]{{1,30}} value: '(?P<value>.*)'"
            rf"(?: for column (?:{_B}\.{_B}\.{_B}|{_Q}) at row \d{{1,10}})?"
        ),
    ),
    4025: (rf"CONSTRAINT {_B} failed for {_B}\.{_B}",),
    3819: (rf"Check constraint {_Q} is violated\.?",),
    1213: (r"Deadlock found when trying to get lock; try restarting transaction",),
    1205: (r"Lock wait timeout exceeded; try restarting transaction",),
    1020: (rf"Record has changed since last read in table {_Q}",),
    1146: (rf"Table {_Q} doesn't exist",),
    1054: (rf"Unknown column {_Q} in {_Q}",),
    1050: (rf"Table {_Q} already exists",),
    1060: (rf"Duplicate column name {_Q}",),
    1061: (rf"Duplicate key name {_Q}",),
    1047: (r"WSREP has not yet prepared node for application use",),
    1290: (r"The M\w{4,6} server is running with the [-\w ]{1,40} option so it cannot .{1,80}",),
    1792: (r"Cannot execute statement in a READ ONLY transaction\.?",),
    1317: (r"Query execution was interrupted",),
    1969: (r"Query execution was interrupted \(max_statement_time exceeded\)",),
    3024: (r"Query execution was interrupted, maximum statement execution time exceeded",),
    2006: (r"MySQL server has gone away(?P<value>.*)",),
    2013: (r"Lost connection to MySQL server during query(?P<value>.*)",),
}
_SQLITE: dict[object, tuple[str, ...]] = {
    "SQLITE_CONSTRAINT_DATATYPE": (r"cannot store \w{1,20} value in \w{1,20} column .{1,300}",),
    "SQLITE_MISMATCH": (r"datatype mismatch",),
    "SQLITE_READONLY": (r"attempt to write a readonly database",),
    "SQLITE_CANTOPEN": (r"unable to open database file",),
    "SQLITE_FULL": (r"database or disk is full",),
    "SQLITE_INTERRUPT": (r"interrupted",),
    "SQLITE_CORRUPT": (r"database disk image is malformed",),
    "SQLITE_NOTADB": (r"file is not a database",),
    "SQLITE_TOOBIG": (r"string or blob too big",),
    "SQLITE_ERROR": (
        r"no such (?:table|column|index|view|savepoint): [\w.]{1,200}",
        r"(?:table|index|view) [\w.\"]{1,200} already exists",
        r"duplicate column name: \w{1,200}",
        r"table \w{1,200} has no column named \w{1,200}",
        r"table \w{1,200} has \d{1,6} columns but \d{1,6} values were supplied",
        r"cannot [a-z]{1,10}(?: a transaction within a transaction| - no transaction is active)",
        r"too many SQL variables",
    ),
}
# One of these begins the names of several codes.
_SQLITE_KINDS: dict[str, tuple[str, ...]] = {
    "SQLITE_CONSTRAINT_": (
        r"(?:UNIQUE|NOT NULL|CHECK) constraint failed: .{1,500}",
        r"FOREIGN KEY constraint failed",
    ),
    "SQLITE_BUSY": (r"database is locked",),
    "SQLITE_LOCKED": (r"database (?:table )?(?:schema )?is locked(?:: \w{1,200})?",),
    "SQLITE_READONLY": _SQLITE["SQLITE_READONLY"],
    "SQLITE_CANTOPEN": _SQLITE["SQLITE_CANTOPEN"],
    "SQLITE_IOERR": (r"disk I/O error",),
}
# What sqlite3 itself refuses.
_MODULE = (
    r"Cannot operate on a closed (?:database|cursor)\.",
    (
        r"Incorrect number of bindings supplied\. The current statement uses \d{1,6}, and there are"
        r" \d{1,6} supplied\."
    ),
    r"Error binding parameter [\w:']{1,100}: type '[\w.]{1,100}' is not supported",
    r"You can only execute one statement at a time\.",
)
# Why a server was not reached. A name or an address stands beside it, never in it.
_REASONS = (
    "Connection refused",
    "timeout expired",
    "timed out",
    "Name or service not known",
    "could not translate host name",
    "password authentication failed",
    "Access denied",
    "no pg_hba.conf entry",
    "too many clients already",
    "Too many connections",
    "Unknown database",
    "the database system is starting up",
    "the database system is shutting down",
    "server closed the connection unexpectedly",
    "Network is unreachable",
    "No route to host",
    "Connection reset by peer",
)


def words_of(error: BaseException) -> str | None:
    """Return what may be repeated of a driver's own error; ``None`` if nothing may."""
    codes = errors_of(error)
    if codes is None:
        return None
    own = error.__dict__.get(OWN_WORDS)
    if own is not None:
        return own if isinstance(own, str) else str(error)
    code = codes.name(error)
    said = _message(error)[:_LONGEST]
    for pattern in _sentences(code):
        found = _compiled(pattern).fullmatch(said)
        if found is not None:
            return _without_value(found)
    if code == "SQLITE_CONSTRAINT_TRIGGER" and sqlite3.sqlite_version_info < (3, 47):
        return said  # RAISE() took nothing but a literal then, which is part of the schema
    if codes.is_disconnect(error) or codes.meaning(error, None) == "unavailable":
        reason = next((each for each in _REASONS if each in said), None)
        return "the server was not reached" + (f": {reason}" if reason is not None else "")
    return None


def _message(error: BaseException) -> str:
    """Return a driver's message alone: PyMySQL has it beside a number, libpq lines below it."""
    diagnostics: Any = getattr(error, "diag", None)
    primary = getattr(diagnostics, "message_primary", None)
    if primary:
        return str(primary)
    args = error.args
    return str(args[1] if len(args) > 1 and isinstance(args[0], int) else str(error)).strip()


def _sentences(code: str | int | None) -> tuple[str, ...]:
    for table in (_POSTGRESQL, _MYSQL, _SQLITE):
        if code in table:
            return table[code]
    if code is None:
        return _MODULE
    kinds = [said for kind, said in _SQLITE_KINDS.items() if str(code).startswith(kind)]
    return kinds[0] if kinds else ()


# Compiled when they are needed: an application that starts has no errors yet.
@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL if "(?P<value>" in pattern else 0)


def _without_value(found: re.Match[str]) -> str:
    if found.groupdict().get("value") is None:
        return found[0]
    begin, end = found.span("value")
    return f"{found.string[:begin]}{HIDDEN if end > begin else ''}{found.string[end:]}"


def mask_literals(sql: str) -> str:
    """Take the literals out of SQL: a value may have been written into it.

    Numbers and everything in single quotes, dollar quotes included. What is in double quotes or
    backticks is a name. Linear: the text is walked through once.
    """
    return "".join(_masked(sql))


_START = re.compile(r"'|\"|`|\$[A-Za-z_]{0,60}\$|(?<![\w$.:@?])\d[\w.]{0,60}")


def _masked(sql: str) -> Iterator[str]:
    at = 0
    while (found := _START.search(sql, at)) is not None:
        yield sql[at : found.start()]
        mark = found[0]
        if mark[0].isdigit():
            yield HIDDEN
            at = found.end()
            continue
        end = sql.find(mark, found.end())
        # Whether a backslash escapes the quote behind it depends on settings of the server.
        unclear = end < 0 or (mark == "'" and sql[end - 1] == "\\")
        closed = len(sql) if unclear else end + len(mark)
        # A quote that is doubled ends one literal and begins the next: both are masked.
        yield sql[found.start() : closed] if mark in '"`' else f"'{HIDDEN}'"
        at = closed
    yield sql[at:]
