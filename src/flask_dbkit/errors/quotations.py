"""Texts that quote a database error: what is cut out of them.

A text is all there is where somebody has formatted an error of a raw connection already. Each rule
looks for its mark with ``str.find`` and cuts up to where the quotation ends, or to the end of the
text. A mark whose end is not in the rest of the text ends the rule, so that a text is read once a
rule, whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .words import HIDDEN

__all__ = ["redact_text"]

Cut = tuple[int, int, str]
"""Where to cut, and what to put there."""

_UNREACHED = "the server was not reached"
# How SQLAlchemy begins to quote another error: "(sqlite3.IntegrityError) …".
_DRIVERS = ("sqlite3.", "psycopg", "pymysql.", "MySQLdb.", "asyncpg.", "builtins.")
_CLASS = re.compile(
    r"\((?:sqlite3|psycopg2?|pymysql|MySQLdb|asyncpg|builtins)"
    r"(?:\.\w{1,60}){0,4}\.[A-Z]\w{0,60}\) "
)
_NEXT = re.compile(
    r"(?:\n|\\n)[ \t]{0,8}(?:\[SQL|\[param|\(Back|[A-Z]{4,12}:)"  # as it is, or in a repr()
)
_SQL_END = re.compile(r"(?:\n|\\n)(?:\[parameters: |\(Background)")
_LINE = re.compile(r"\n|\\n")
_LINE_NUMBER = re.compile(r"LINE \d{1,9}: ")
_INCORRECT = re.compile(r"ncorrect [\w ]{1,40} value: \\?'")
_INVALID = re.compile(r'invalid (?:input |byte )[\w ]{1,60} for [\w "]{1,80}: "')
_KEY_END = re.compile(r"\) (?:already|is |conflicts)")


def redact_text(text: str) -> str:
    """Take values, SQL and hosts out of a text that quotes a database error."""
    for mark, rule in _RULES:
        if mark in text:
            text = _cut(text, mark, rule)
    return text


def _cut(text: str, mark: str, rule: Callable[[str, int], Cut | bool | None]) -> str:
    pieces: list[str] = []
    done, at = 0, text.find(mark)
    while at >= 0:
        found = rule(text, at)
        if found is None:  # and none of the later ones ends either
            break
        if isinstance(found, tuple):
            begin, end, new = found
            pieces += [text[done:begin], new]
            done = end
        at = text.find(mark, max(done, at + 1))
    return "".join([*pieces, text[done:]])


def _end(text: str, pattern: re.Pattern[str], begin: int) -> int:
    found = pattern.search(text, begin)
    return len(text) if found is None else found.start()


def _driver(text: str, at: int) -> Cut | bool:
    """All of what SQLAlchemy says: the driver's class and message, SQL, parameters, a link."""
    found = _CLASS.match(text, at - 1) if at else None
    if found is None:
        return False
    link = text.find("(Background on this error at: ", found.end())
    close = text.find(")", link) if link >= 0 else -1
    return found.end(), len(text) if close < 0 else close + 1, HIDDEN


def _sql(text: str, at: int) -> Cut:
    return at, _end(text, _SQL_END, at), HIDDEN


def _to_end_of_line(text: str, at: int) -> Cut:
    return at, _end(text, _LINE, at), HIDDEN


def _detail(text: str, at: int) -> Cut | bool:
    begin = _line_before(text, at)
    return False if begin is None else (begin, _end(text, _NEXT, at), f" {HIDDEN}")


def _source_line(text: str, at: int) -> Cut | bool:
    begin = _line_before(text, at)
    if begin is None or _LINE_NUMBER.match(text, at) is None:
        return False
    return begin, _end(text, _NEXT, at), f" {HIDDEN}"


def _line_before(text: str, at: int) -> int | None:
    """Return where the line break in front of a mark begins, as it is or as in a ``repr()``."""
    if text.startswith("\n", at - 1) and at:
        return at - 1
    return at - 2 if at > 1 and text.startswith("\\n", at - 2) else None


def _rest(kept: str, new: str = HIDDEN) -> Callable[[str, int], Cut]:
    return lambda text, at: (at, len(text), f"{kept}{new}")


def _row(text: str, at: int) -> Cut | None:
    end = text.rfind(")")
    begin = at + len("Failing row contains (")
    return None if end < begin else (begin, end, HIDDEN)


def _key(text: str, at: int) -> Cut | None:
    values = text.find(")=(", at)
    end = _KEY_END.search(text, values) if values >= 0 else None
    return None if end is None else (values + 3, end.start(), HIDDEN)


def _entry(text: str, at: int) -> Cut | None:
    end = text.rfind(" for key")
    begin = at + len("Duplicate entry ")
    return None if end < begin else (begin, end, HIDDEN)


def _incorrect(text: str, at: int) -> Cut | bool:
    found = _INCORRECT.match(text, at)
    if found is None:
        return False
    begin = text.index("'", found.end() - 2)
    end = text.rfind("' for", found.end())
    if end < 0:
        end = text.rfind("'", found.end()) if text.count("'", found.end()) else len(text)
    return begin, min(end + 1, len(text)), HIDDEN


def _invalid(text: str, at: int) -> Cut | bool:
    found = _INVALID.match(text, at)
    return False if found is None else (found.end() - 1, _end(text, _LINE, found.end()), HIDDEN)


def _range(text: str, at: int) -> Cut | None:
    end = text.find('" is out of range', at)
    return None if end < 0 else (at + len("value "), end + 1, HIDDEN)


_RULES: tuple[tuple[str, Callable[[str, int], Cut | bool | None]], ...] = (
    *((driver, _driver) for driver in _DRIVERS),
    ("[SQL: ", _sql),
    ("[parameters: ", _to_end_of_line),
    ("invalid ", _invalid),
    *((f"{word}:  ", _detail) for word in ("DETAIL", "CONTEXT", "HINT", "QUERY", "WHERE")),
    ("LINE ", _source_line),
    ("Original exception was: ", _rest("Original exception was: ")),
    ("Failing row contains (", _row),
    ("Key (", _key),
    ("Duplicate entry ", _entry),
    ("ncorrect ", _incorrect),
    ('value "', _range),
    ("connection to server at ", _rest("", _UNREACHED)),
    ("connection to server on socket ", _rest("", _UNREACHED)),
    ("Can't connect to MySQL server on ", _rest("", _UNREACHED)),
)
