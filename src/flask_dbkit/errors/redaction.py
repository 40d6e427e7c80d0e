"""Log records of database errors without values, SQL and hosts.

What a driver says about an error quotes the row that failed, the key that was there already, or
the host that could not be reached, and SQLAlchemy adds the statement and its parameters. All of
it stands in ``str(error)``, so in every message and every traceback that shows the error.

Errors of an application's engines are made harmless where they are raised (:mod:`.harmless`).
:class:`Redact` is the second line, for what never was SQLAlchemy's: a driver's error of a raw
connection, and texts that quote one. It is a filter for loggers and works on the record before
any handler sees it, so it holds for every handler and formatter there is: message, arguments,
exception and what was given by ``extra=`` are replaced by stand-ins that look the same and say
only what is safe. The program's own objects are never touched.

Each text is walked through a fixed number of times, whatever a stranger wrote into it: marks are
looked for as they are, and no pattern has a part without a bound.
"""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from ..databases import errors_of
from .harmless import chain_of, is_harmless, make_errors_harmless
from .problems import classify_error
from .quotations import redact_text
from .words import HIDDEN, words_of

__all__ = ["Redact", "install_redaction", "redact_exception", "redact_text"]

_TEXT = "_dbkit_text"
_SHORTEST = 8  # characters of a text worth looking for inside another
_DEEPEST = 5  # containers in containers that are looked into
_MOST = 1000  # values of a record that are looked at
_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def _never() -> bool:
    return False


def _of_nobody_else(_record: logging.LogRecord) -> bool:
    return False


class Redact(logging.Filter):
    """Takes values, SQL and hosts out of the records of one logger. Drops no record.

    Args:
        detailed: Whether SQL without literals, and lines of source, may be shown now.
        of_others: Whether a record is that of another application, which shares the logger.
    """

    def __init__(
        self,
        detailed: Callable[[], bool] = _never,
        of_others: Callable[[logging.LogRecord], bool] = _of_nobody_else,
    ) -> None:
        super().__init__()
        self._detailed, self._of_others = detailed, of_others

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace what a record carries of a database error."""
        if self._of_others(record):
            return True
        error = record.exc_info[1] if record.exc_info else None
        extra = {key: value for key, value in record.__dict__.items() if key not in _USUAL}
        carried = [error, *_exceptions_in([record.msg, record.args, extra])]
        involved = {
            id(each): each
            for one in carried
            if one is not None
            for each in chain_of(one)
            if _speaks(each)
        }
        cleaner = _Cleaner(_quotes(involved.values()), detailed=bool(involved) and self._detailed())
        if error is not None and any(_is_of_database(each) for each in chain_of(error)):
            stand_in = cleaner.exception(error)
            record.exc_info = (type(stand_in), stand_in, stand_in.__traceback__)
            # What most formatters take if it is there: without the lines of source, which may
            # hold SQL with its values.
            record.exc_text = _format(stand_in, lines=cleaner.detailed)
        elif record.exc_text:
            record.exc_text = cleaner.text(record.exc_text)
        record.msg = cleaner.value(record.msg)
        record.args = cleaner.value(record.args)
        record.__dict__.update(cleaner.value(extra))
        return True


def install_redaction(
    names: Iterable[str],
    engines: Iterable[Engine],
    *,
    detailed: Callable[[], bool] = _never,
    left_alone: Callable[[BaseException], bool] = lambda _error: False,
    of_others: Callable[[logging.LogRecord], bool] = _of_nobody_else,
) -> None:
    """Make the errors of some engines harmless, and filter some loggers and those below them.

    A filter holds for the records of its own logger only, not for those of its children, and
    modules make loggers when they are imported. So the filters are completed at each error of
    an engine, before the application can log it.

    Args:
        names: Of loggers. No other logger of the process is touched.
        engines: The application's.
        detailed: Whether SQL without literals, and lines of source, may be shown now.
        left_alone: Whether an error goes to an operator's terminal and nowhere else.
        of_others: Whether a record is that of another application, which shares a logger.
    """
    wanted = tuple(dict.fromkeys(names))
    make = functools.partial(Redact, detailed, of_others)
    _filter_loggers(wanted, make)
    for engine in engines:
        make_errors_harmless(engine, detailed, left_alone)
        event.listen(engine, "handle_error", lambda _: _filter_loggers(wanted, make))


def _filter_loggers(names: tuple[str, ...], make: Callable[[], Redact]) -> None:
    below = tuple(f"{name}." for name in names)
    existing = [name for name in list(logging.root.manager.loggerDict) if name.startswith(below)]
    for name in (*names, *existing):
        logger = logging.getLogger(name)
        if not any(isinstance(each, Redact) for each in logger.filters):
            logger.addFilter(make())


def redact_exception(error: BaseException) -> BaseException:
    """Return a stand-in for an exception, with stand-ins for the exceptions it came from.

    Each is an instance of a class of the same name, derived from the same class where that can
    be made, with the same traceback. Nothing else of the exception is in it.
    """
    return _Cleaner(_quotes(each for each in chain_of(error) if _speaks(each))).exception(error)


class _Cleaner:
    """Cleans the parts of one record.

    Args:
        quoted: What texts may quote of the errors in it, and what to put there.
        detailed: Whether SQL without literals may stay.
    """

    def __init__(self, quoted: dict[str, str], *, detailed: bool = False) -> None:
        self._quoted, self.detailed = quoted, detailed
        self._looked_at = 0

    def text(self, text: str) -> str:
        for found, safe in () if self.detailed else self._quoted.items():
            text = text.replace(found, safe)
        return text if self.detailed else redact_text(text)

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value without what must not be told; the same object if there is nothing."""
        self._looked_at += 1
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, BaseException):
            concerned = any(_is_of_database(each) for each in chain_of(value))
            text = str(value)
            return self.exception(value) if concerned or redact_text(text) != text else value
        if depth == _DEEPEST or self._looked_at > _MOST:
            return value
        if isinstance(value, dict):
            held = {key: self.value(each, depth + 1) for key, each in value.items()}
            return held if any(held[key] is not value[key] for key in held) else value
        if isinstance(value, (list, tuple, set, frozenset)):
            parts = [self.value(each, depth + 1) for each in value]
            same = all(new is old for new, old in zip(parts, value, strict=True))
            return value if same else _rebuilt(value, parts)
        return value

    def exception(self, error: BaseException) -> BaseException:
        """Return the stand-in of an exception."""
        chain = list(chain_of(error))
        hidden = _refused_values(chain)
        made: dict[int, BaseException] = {}
        for each in chain:
            self._make(each, made, hidden)
        for each in chain:
            stand_in = made[id(each)]
            if stand_in is each:
                continue
            stand_in.__traceback__ = each.__traceback__
            stand_in.__cause__ = made.get(id(each.__cause__))
            stand_in.__context__ = made.get(id(each.__context__))
            stand_in.__suppress_context__ = each.__suppress_context__
            for note in getattr(each, "__notes__", ()):
                stand_in.add_note(self.text(str(note)))
        return made[id(error)]

    def _make(
        self, error: BaseException, made: dict[int, BaseException], hidden: set[int]
    ) -> BaseException:
        if id(error) in made:
            return made[id(error)]
        if _TEXT in error.__dict__:  # it is one
            made[id(error)] = error
            return error
        kind: Any = type(error)
        if isinstance(error, BaseExceptionGroup):
            members = [self._make(each, made, hidden) for each in error.exceptions]
            stand_in = _instance(kind, self.text(error.message), members)
        else:
            stand_in = _bare(kind)
        if _speaks(error):
            shown = self.detailed and is_harmless(error)
            stand_in.__dict__[_TEXT] = str(error) if shown else _describe(error)
        else:
            stand_in.__dict__[_TEXT] = HIDDEN if id(error) in hidden else self.text(str(error))
        made[id(error)] = stand_in
        return stand_in


def _bare(kind: Any) -> BaseException:
    try:
        derived = _derived(kind, kind)
        made: BaseException = derived.__new__(derived)
    except TypeError:  # cannot be derived from, or not be made without arguments
        made = _derived(kind, Exception)()
    return made


def _instance(kind: Any, message: str, members: list[BaseException]) -> BaseException:
    try:
        derived = _derived(kind, kind)
        made: BaseException = derived.__new__(derived, message, members)
    except TypeError:
        made = _derived(kind, BaseExceptionGroup)(message, members)
    return made


def _rebuilt(value: Any, parts: list[Any]) -> Any:
    kind = type(value)
    if hasattr(kind, "_make"):  # a named tuple
        return kind._make(parts)
    return (
        tuple(parts)
        if isinstance(value, tuple)
        else parts
        if isinstance(value, list)
        else frozenset(parts)
    )


def _exceptions_in(value: Any, depth: int = 0) -> Iterator[BaseException]:
    if isinstance(value, BaseException):
        yield value
    elif depth < _DEEPEST + 1 and isinstance(value, (dict, list, tuple, set, frozenset)):
        held = value.values() if isinstance(value, dict) else value
        for _, each in zip(range(_MOST), held, strict=False):
            yield from _exceptions_in(each, depth + 1)


def _refused_values(chain: Iterable[BaseException]) -> set[int]:
    """Return the ids of what a type raised about a value, and of what that came from."""
    refusals = [each.orig for each in chain if isinstance(each, StatementError)]
    return {
        id(each)
        for refusal in refusals
        if refusal is not None and errors_of(refusal) is None and not is_harmless(refusal)
        for each in chain_of(refusal)
    }


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
    """Say what is known of a database error: codes, names of the schema, and safe words."""
    problem = classify_error(error)
    driver = error.orig if isinstance(error, StatementError) else error
    lead = ""
    if driver is not None and isinstance(error, StatementError):
        lead = f"({type(driver).__module__}.{type(driver).__qualname__}) "
    if problem is None or driver is None:
        return f"{lead}{HIDDEN}"
    if not isinstance(error, DBAPIError) and errors_of(driver) is None:
        return f"{lead}{driver if is_harmless(driver) else HIDDEN}"
    facts = {
        "code": problem.vendor_code,
        "constraint": problem.constraint,
        "table": problem.table,
        "columns": ", ".join(problem.columns) or None,
        "statement": problem.statement_hash,
    }
    told = "".join(f", {name} {value}" for name, value in facts.items() if value is not None)
    words = words_of(driver)
    return f"{lead}{problem.code}{told}" + (f": {words}" if words is not None else "")


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


def _format(error: BaseException, *, lines: bool) -> str:
    """Format a traceback as usual, with the lines of source or without."""
    formatted = traceback.TracebackException.from_exception(error, lookup_lines=lines)
    waiting: list[traceback.TracebackException | None] = [] if lines else [formatted]
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
            waiting += [each.__cause__, each.__context__, *(each.exceptions or ())]
    return "".join(formatted.format()).rstrip("\n")
