"""Log records of database errors without values, SQL and hosts.

What a driver says about an error quotes the row that failed, the key that was there already, or
the host that could not be reached, and SQLAlchemy adds the statement and its parameters. All of
it stands in ``str(error)``, so in every message and every traceback that shows the error.

:class:`Redact` is a filter for loggers. It works on the record before any handler sees it, so it
holds for every handler and formatter there is: the arguments and the exception of a record are
replaced by stand-ins that look the same and say only what is safe. The application's own
exception objects are never touched.
"""

from __future__ import annotations

import functools
import logging
import re
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from ..databases import errors_of
from .problems import classify_error

__all__ = ["Redact", "install_redaction", "redact_exception", "redact_text"]

_HIDDEN = "…"
# How SQLAlchemy begins to quote another error: "(sqlite3.IntegrityError) …".
_CLASS = r"\(((?:sqlite3|psycopg2?|pymysql|MySQLdb|asyncpg|builtins)(?:\.\w+)*\.[A-Z]\w*)\) "
_LINE = r"(?:\n|\\n)"  # as it is, or in a repr()
_END = rf"(?={_LINE}\s*(?:\[SQL|\[param|\(Back|[A-Z]{{4,}}:)|\Z)"
_PATTERNS = (
    # All of what SQLAlchemy says: the driver's class and message, SQL, parameters, a link.
    (rf"{_CLASS}.*?(?:\(Background on this error at: [^)]*\)|\Z)", rf"(\1) {_HIDDEN}"),
    (rf"\[SQL: .*?(?={_LINE}\[parameters: |{_LINE}\(Background|\Z)", _HIDDEN),
    (rf"\[parameters: .*?(?={_LINE}|\Z)", _HIDDEN),
    (rf"{_LINE}(?:DETAIL|CONTEXT|HINT|QUERY|WHERE):  .*?{_END}", f" {_HIDDEN}"),
    (rf"{_LINE}LINE \d+: .*?{_END}", f" {_HIDDEN}"),
    (r"Original exception was: .*", f"Original exception was: {_HIDDEN}"),
    (r"Failing row contains \(.*\)", f"Failing row contains ({_HIDDEN})"),
    (r"Key \((.*?)\)=\(.*?\) (?=already|is |conflicts)", rf"Key (\1)=({_HIDDEN}) "),
    (r"Duplicate entry \\?'.*' for key", f"Duplicate entry {_HIDDEN} for key"),
    (r"(ncorrect [\w ]+ value): \\?'.*?'(?= for|\W*\Z)", rf"\1: {_HIDDEN}"),
    (r'(invalid (?:input |byte )[\w ]+ for [\w "]+): ".*?"', rf"\1: {_HIDDEN}"),
    (r'value ".*?" is out of range', f"value {_HIDDEN} is out of range"),
    (r'connection to server (?:at|on socket) ".*', "the server was not reached"),
    (r"Can't connect to MySQL server on .*", "the server was not reached"),
)
_MARKS = (
    rf"{_CLASS}|\[SQL: |\[parameters: |\(Background on this error |Original exception was: "
    rf"|{_LINE}(?:DETAIL|CONTEXT|HINT|QUERY|WHERE):  |{_LINE}LINE \d+: |Failing row contains \("
    r"|Key \(.*\)=\(|Duplicate entry |ncorrect [\w ]+ value: |invalid (?:input|byte) "
    r'|value ".*" is out of range|connection to server (?:at|on)|Can\'t connect to MySQL'
)
_TEXT = "_dbkit_text"
_SHORTEST = 8  # characters of a text worth looking for inside another
# What names the schema and holds no value, by the driver's code: a developer needs to read it.
_PLAIN: dict[object, str] = {
    "42P01": r'relation "[\w.]+" does not exist',
    "42703": r'column (?:"\w+"|[\w.]+)(?: of relation "\w+")? does not exist',
    1146: r"Table '[\w.]+' doesn't exist",
    1054: r"Unknown column '[\w.]+' in '[\w ]+'",
    "SQLITE_ERROR": r"no such (?:table|column): [\w.]+",
}


class Redact(logging.Filter):
    """Takes values, SQL and hosts out of the records of one logger. Drops no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace what a record carries of a database error."""
        error = record.exc_info[1] if record.exc_info else None
        carried = [error, record.msg, *_values(record.args)]
        found = [each for each in carried if isinstance(each, BaseException)]
        involved = {id(each): each for one in found for each in _chain(one) if _speaks(each)}
        quoted = _quotes(involved.values())
        if error is not None and any(_is_of_database(each) for each in _chain(error)):
            stand_in = redact_exception(error)
            record.exc_info = (type(stand_in), stand_in, stand_in.__traceback__)
            # What most formatters take if it is there: without the lines of source, which may
            # hold SQL with its values.
            record.exc_text = _format(stand_in)
        elif record.exc_text:
            record.exc_text = _clean(record.exc_text, quoted)
        record.msg = _redacted(record.msg, quoted)
        if isinstance(record.args, tuple):
            record.args = tuple(_redacted(value, quoted) for value in record.args)
        elif isinstance(record.args, dict):
            record.args = {key: _redacted(value, quoted) for key, value in record.args.items()}
        return True


def install_redaction(names: Iterable[str], engines: Iterable[Engine]) -> None:
    """Filter some loggers, and every logger below them.

    A filter holds for the records of its own logger only, not for those of its children, and
    modules make loggers when they are imported. So the filters are completed at each error of
    an engine, before the application can log it.

    Args:
        names: Of loggers. No other logger of the process is touched.
        engines: The application's.
    """
    wanted = tuple(dict.fromkeys(names))
    _filter_loggers(wanted)
    for engine in engines:
        event.listen(engine, "handle_error", lambda _: _filter_loggers(wanted))


def _filter_loggers(names: tuple[str, ...]) -> None:
    below = tuple(f"{name}." for name in names)
    existing = [name for name in list(logging.root.manager.loggerDict) if name.startswith(below)]
    for name in (*names, *existing):
        logger = logging.getLogger(name)
        if not any(isinstance(each, Redact) for each in logger.filters):
            logger.addFilter(Redact())


def redact_text(text: str) -> str:
    """Take values, SQL and hosts out of a text that quotes a database error."""
    for pattern, new in _replacements():
        text = pattern.sub(new, text)
    return text


# Compiled when they are needed: an application that starts has no errors yet.
@functools.cache
def _replacements() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.DOTALL), new) for pattern, new in _PATTERNS)


def _is_marked(text: str) -> bool:
    """Tell whether a text seems to quote a database error."""
    return re.search(_MARKS, text) is not None


def redact_exception(error: BaseException) -> BaseException:
    """Return a stand-in for an exception, with stand-ins for the exceptions it came from.

    Each is an instance of a class of the same name, derived from the same class where that can
    be made, with the same traceback. Nothing else of the exception is in it.
    """
    chain = list(_chain(error))
    quoted = _quotes(each for each in chain if _speaks(each))
    hidden = _refused_values(chain)
    made = {id(each): _stand_in(each, quoted, hidden=id(each) in hidden) for each in chain}
    for each in chain:
        stand_in = made[id(each)]
        if stand_in is each:
            continue
        stand_in.__traceback__ = each.__traceback__
        stand_in.__cause__ = made[id(each.__cause__)] if each.__cause__ is not None else None
        stand_in.__context__ = made[id(each.__context__)] if each.__context__ is not None else None
        stand_in.__suppress_context__ = each.__suppress_context__
        for note in getattr(each, "__notes__", ()):
            stand_in.add_note(_clean(str(note), quoted))
    return made[id(error)]


def _refused_values(chain: Iterable[BaseException]) -> set[int]:
    """Return the ids of what a type raised about a value, and of what that came from."""
    refusals = [each.orig for each in chain if isinstance(each, StatementError)]
    return {
        id(each)
        for refusal in refusals
        if refusal is not None and errors_of(refusal) is None
        for each in _chain(refusal)
    }


def _stand_in(error: BaseException, quoted: dict[str, str], *, hidden: bool) -> BaseException:
    if _TEXT in error.__dict__:
        return error  # it is one
    kind: Any = type(error)
    try:
        derived = _derived(kind, kind)
        made: BaseException = derived.__new__(derived)
    except TypeError:  # cannot be derived from, or not be made without arguments
        derived = _derived(kind, Exception)
        made = derived()
    said = _HIDDEN if hidden else _clean(str(error), quoted)
    made.__dict__[_TEXT] = _describe(error) if _speaks(error) else said
    return made


@functools.lru_cache(maxsize=128)
def _derived(kind: Any, base: Any) -> Any:
    def text(error: Any) -> str:
        return str(error.__dict__[_TEXT])

    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__str__": text,
        "__repr__": lambda error: f"{kind.__name__}({text(error)!r})",
    }
    return type(kind.__name__, (base,), names)


def _speaks(error: BaseException) -> bool:
    """Tell whether an exception's own text is a driver's or SQLAlchemy's."""
    if _TEXT in error.__dict__:
        return False  # a stand-in already
    return isinstance(error, StatementError) or errors_of(error) is not None


def _is_of_database(error: BaseException) -> bool:
    return isinstance(error, SQLAlchemyError) or _speaks(error)


def _describe(error: BaseException) -> str:
    """Say what is known of a database error: codes, and names of the schema."""
    problem = classify_error(error)
    driver = error.orig if isinstance(error, StatementError) else error
    lead = ""
    if driver is not None and isinstance(error, DBAPIError):
        lead = f"({type(driver).__module__}.{type(driver).__qualname__}) "
    if problem is None or driver is None:
        return f"{lead}{_HIDDEN}"
    facts = {
        "code": problem.vendor_code,
        "constraint": problem.constraint,
        "table": problem.table,
        "columns": ", ".join(problem.columns) or None,
        "statement": problem.statement_hash,
    }
    told = "".join(f", {name} {value}" for name, value in facts.items() if value is not None)
    plain = _PLAIN.get(problem.vendor_code)
    said = re.search(plain, str(driver)) if plain is not None else None
    return f"{lead}{problem.code}{told}" + (f": {said[0]}" if said is not None else "")


def _quotes(errors: Iterable[BaseException]) -> dict[str, str]:
    """Return what others may have quoted of some database errors, and what to put there."""
    found: dict[str, str] = {}
    for error in errors:
        safe = _describe(error)
        originals = [error, error.orig if isinstance(error, StatementError) else None]
        for each in originals:
            if each is not None:
                found[repr(each)] = f"{type(each).__name__}({safe!r})"
                found[str(each)] = safe
    # The longest first: the driver's text stands in SQLAlchemy's.
    ordered = sorted(found, key=len, reverse=True)
    return {text: found[text] for text in ordered if len(text) >= _SHORTEST}


def _clean(text: str, quoted: dict[str, str]) -> str:
    for found, safe in quoted.items():
        text = text.replace(found, safe)
    return redact_text(text) if _is_marked(text) else text


def _values(args: Any) -> Iterator[object]:
    yield from args.values() if isinstance(args, dict) else args or ()


def _redacted(value: Any, quoted: dict[str, str]) -> Any:
    if isinstance(value, BaseException):
        return redact_exception(value) if quoted or _is_marked(str(value)) else value
    return _clean(value, quoted) if isinstance(value, str) else value


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]
            if isinstance(each, StatementError):
                waiting.append(each.orig)


def _format(error: BaseException) -> str:
    """Format a traceback as usual, but for the lines of source."""
    formatted = traceback.TracebackException.from_exception(error, lookup_lines=False)
    waiting: list[traceback.TracebackException | None] = [formatted]
    while waiting:
        each = waiting.pop()
        if each is not None:
            each.stack = traceback.StackSummary.from_list(
                [
                    traceback.FrameSummary(
                        frame.filename, frame.lineno, frame.name, lookup_line=False, line=""
                    )
                    for frame in each.stack
                ]
            )
            waiting += [each.__cause__, each.__context__]
    return "".join(formatted.format()).rstrip("\n")
