"""No text of a stranger makes the library take more than linear time."""

from __future__ import annotations

import importlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import flask_dbkit
from flask_dbkit.databases.mysql.errors import MySQLErrors
from flask_dbkit.databases.statements import classify_statement, written_columns, written_table
from flask_dbkit.errors.quotations import _RULES, redact_text
from flask_dbkit.errors.redaction import Redact
from flask_dbkit.errors.words import mask_literals, words_of

SOURCE = Path(flask_dbkit.__file__).parent

# What patterns that go back and forth choke on: beginnings without an end, ends without a
# beginning, and characters that several parts of a pattern could take.
UNITS = (
    "a", " ", "\n", "'", '"', "(", ")", "`", "a b c d e", "a.", "1", "1.", "%", "-", "_",
    "Key (", "Key (a)=(", ")=(", "Key (a)=(b) is ", "Duplicate entry '", "' for key '",
    'value "', '" is out of range', "[SQL: ", "[SQL: \n[parameters: ", "\nDETAIL:  ",
    "\\nDETAIL:  ", "LINE 1: ", "\nLINE 1: ", "Failing row contains (", "ncorrect ",
    "ncorrect a value: '", "' for", "invalid input a for b: \"", "invalid ", "(sqlite3.A) ",
    "(sqlite3.", "(psycopg.a.A", ".A", "(Background on this error at: ", "psycopg",
    "pymysql.", "MySQLdb.", "builtins.", "asyncpg.",
    "connection to server at ", "Original exception was: ", "connection to server on socket ",
    "Can't connect to MySQL server on ", "CONTEXT:  ", "HINT:  ", "QUERY:  ", "WHERE:  ",
    "[parameters: ", "DETAIL:  \n \n", "/*", "--", "--\n",
    "$a$", "$a", "E'\\'", "INSERT INTO ", "insert ", "WITH a AS (", ", ", "SELECT ", "CONSTRAINT `",
    "(`a`, ", "FOREIGN KEY (", "for column `a`.", "[", "]", "<", ":", "@@", "\t", "AND ", "é",
)  # fmt: skip
LONGEST = 8_000


def seconds(function: Callable[[str], object], unit: str, size: int, *, times: int = 2) -> float:
    text, best = (unit * (size // len(unit) + 1))[:size], float("inf")
    for _ in range(times):
        begun = time.thread_time()
        function(text)
        best = min(best, time.thread_time() - begun)
        if best > 0.1:
            break
    return best


def superlinear(function: Callable[[str], object], unit: str) -> str | None:
    """Double the length until the time can be measured; four times the text then tells.

    In linear time it takes four times as long, in quadratic time sixteen times.
    """
    if (
        seconds(function, unit, 1000, times=1) < 0.001
        and seconds(function, unit, LONGEST, times=1) < 0.0005
    ):
        return None  # too little to matter, and this is most of them
    size = 500
    while (short := seconds(function, unit, size, times=1)) < 0.0005:
        size *= 2
        if size > LONGEST:
            return None
    for times in (1, 2, 2):  # a busy machine is no finding
        long = seconds(function, unit, 4 * size, times=times)
        if long < 9 * short:
            return None
        short = seconds(function, unit, size)
    return f"{4 * size} characters of {unit!r} take {long:.3f} s, {size} took {short:.4f} s"


def logged(text: str) -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "nothing for %s", (text,), None)
    record.exc_text = text
    record.error = [text]
    assert Redact().filter(record)


def pymysql_error(text: str) -> None:
    import pymysql.err

    for code in (1062, 1366, 1452, 4025):
        error = pymysql.err.IntegrityError(code, text)
        words_of(error)
        MySQLErrors().place(error)


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "a log record": logged,
    "a text that quotes an error": redact_text,
    "literals of SQL": mask_literals,
    "a driver's message": pymysql_error,
    # Kept by text, so a text that was seen before costs nothing: each is made new.
    "the kind of a statement": lambda text: classify_statement(f"{text}{time.perf_counter_ns()}"),
    "the table of a statement": written_table,
    "the columns of a statement": written_columns,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_time_grows_with_the_length_of_a_text(name: str) -> None:
    """As a ratio, for every unit that a stranger might repeat."""
    found = [superlinear(FUNCTIONS[name], unit) for unit in UNITS]
    assert not [each for each in found if each], found


# What reads the developer's own files, revisions and commands, and no words of a driver.
OWN_FILES = {"migrations", "backups", "cli", "doctor", "starting"}


def patterns() -> Iterator[tuple[str, Callable[[str], object], Iterable[str]]]:
    """Yield each way in which a pattern of the package is used, and what to try it with."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        module = ".".join(("flask_dbkit", *path.relative_to(SOURCE).with_suffix("").parts))
        names = set(re.findall(r"^(_?[A-Z_]+) = re\.compile\(", text, re.MULTILINE))
        for name in sorted(names):
            pattern = getattr(importlib.import_module(module), name)
            for method in sorted(set(re.findall(rf"\b{name}\.(\w+)\(", text))):
                place = f"{path.relative_to(SOURCE)}: {name}.{method}"
                own = path.relative_to(SOURCE).parts[0] in OWN_FILES
                units = [unit for unit in UNITS if not own or len(unit) <= 4]
                yield place, use_of(pattern, method), units


def use_of(pattern: re.Pattern[Any], method: str) -> Callable[[str], object]:
    """Match a text, search in it, replace in it, as the package does."""
    use = partial(pattern.sub, pattern.pattern[:0]) if method == "sub" else getattr(pattern, method)
    binary = isinstance(pattern.pattern, bytes)

    def call(text: str) -> None:
        result = use(text.encode() if binary else text)
        if method == "finditer":
            list(result)

    return call


def test_no_pattern_of_the_package_is_superlinear() -> None:
    """As it is used: matched, searched for, or replaced. Also those for the developer's files."""
    found, count = [], 0
    for place, use, units in patterns():
        count += 1
        found += [(place, slow) for unit in units if (slow := superlinear(use, unit))]
    assert not found, found
    assert count > 40


def test_every_rule_for_quotations_is_tried() -> None:
    """A new rule needs its mark among the hostile texts."""
    missing = [
        mark
        for mark, _ in _RULES
        if not any(mark.strip() in unit or unit in mark for unit in UNITS)
    ]
    assert not missing, missing
