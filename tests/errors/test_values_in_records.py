"""Values of a database error reach no record, by whichever way a program logs it."""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import json
import logging
import sys
import threading
import traceback
import warnings
from collections import UserDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from tests.errors.faults import FAULTS, MAIL, SECRET, Site
from tests.support.databases import Database

NewSite = Callable[..., Site]
Say = Callable[[logging.Logger, BaseException], object]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "errors.md"

# Values in a row that failed, in a key, in the text of SQL, in what a type refused.
ERRORS = ("unique", "null", "bad_literal", "no_such_colour", "lone_surrogate", "typo", "away")

COVERED: dict[str, Say] = {}
NOT_COVERED: dict[str, Say] = {}


def way(into: dict[str, Say]) -> Callable[[Say], Say]:
    def register(say: Say) -> Say:
        into[say.__name__.replace("_", " ")] = say
        return say

    return register


@dataclass
class Outcome:
    error: BaseException


class Pair(NamedTuple):
    name: str
    error: BaseException


@way(COVERED)
def as_message_and_arguments(log: logging.Logger, error: BaseException) -> None:
    log.error(error)
    log.error("%s %r %s", error, error, [error.args])
    log.error("%(error)s", {"error": error})
    log.error(f"failed: {error} {error!r}")  # noqa: G004


@way(COVERED)
def in_containers(log: logging.Logger, error: BaseException) -> None:
    log.error("%s", [{"error": (error, {error})}])
    log.error("%s %s", Pair("x", error), UserDict(error=error))
    log.error("%s %s", Outcome(error), SimpleNamespace(error=error))


@way(COVERED)
def as_traceback(log: logging.Logger, error: BaseException) -> None:
    log.error("failed", exc_info=error)
    log.error("".join(traceback.format_exception(error)))
    log.error("%s", list(traceback.TracebackException.from_exception(error).format()))


@way(COVERED)
def by_extra(log: logging.Logger, error: BaseException) -> None:
    log.error("failed", extra={"error": error, "errors": [error], "by": {"name": error}})
    log.error("failed", extra={"facts": vars(error), "text": str(error), "args_": error.args})
    logging.LoggerAdapter(log, {"error": error}).error("failed")


@way(COVERED)
def by_the_parts_of_the_error(log: logging.Logger, error: BaseException) -> None:
    log.error("%s %s", getattr(error, "statement", ""), getattr(error, "params", ""))
    original = getattr(error, "orig", error)
    log.error("%s %r %s", original, original, original.args, exc_info=original)
    log.error("%s", vars(original), extra={"cause": error.__cause__, "facts": vars(original)})


@way(COVERED)
def as_cause_group_and_note(log: logging.Logger, error: BaseException) -> None:
    try:
        raise RuntimeError(f"not saved: {error}") from error
    except RuntimeError as wrapped:
        wrapped.add_note(f"it was {error!r}")
        log.exception("failed: %s", wrapped)
    try:
        try:
            raise error
        except Exception:
            raise KeyError("x")  # noqa: B904 - the context is what is tried
    except KeyError:
        log.exception("failed")
    group = BaseExceptionGroup("several", [ValueError("x"), BaseExceptionGroup("in", [error])])
    log.error("%s %r", group, group, exc_info=group, extra={"errors": group})


@way(COVERED)
def as_a_copy(log: logging.Logger, error: BaseException) -> None:
    log.error("%s %s", copy.copy(error), error.__reduce__())


@way(COVERED)
def by_others(log: logging.Logger, error: BaseException) -> None:
    """Warnings, executors, event loops and threads log what nobody took."""
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"not saved: {error}", stacklevel=1)
    finally:
        logging.captureWarnings(False)

    def fail(*_: object) -> None:
        raise error

    future: Future[None] = Future()
    future.add_done_callback(fail)
    future.set_result(None)

    async def forget() -> None:
        task = asyncio.get_running_loop().create_task(lose())
        await asyncio.sleep(0)
        del task
        gc.collect(0)  # a task nobody waits for says so when it is collected

    async def lose() -> None:
        raise error

    asyncio.run(forget())
    said, before = io.StringIO(), sys.stderr
    sys.stderr = said
    hook, threading.excepthook = threading.excepthook, threading.__excepthook__
    try:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    finally:
        sys.stderr, threading.excepthook = before, hook
    log.error(said.getvalue())


@way(COVERED)
def as_json(log: logging.Logger, error: BaseException) -> None:
    log.error(json.dumps({"error": error, "facts": vars(error)}, default=repr))


@way(NOT_COVERED)
def local_variables_of_frames(log: logging.Logger, error: BaseException) -> None:
    log.error(
        "%s",
        "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()),
    )


@way(NOT_COVERED)
def the_diagnostics_of_a_driver(log: logging.Logger, error: BaseException) -> None:
    original: Any = getattr(error, "orig", None)
    log.error("%s", original.diag.message_detail)


@way(NOT_COVERED)
def errors_of_a_raw_connection_in_a_logger_without_the_filter(
    log: logging.Logger, error: BaseException
) -> None:
    """``error`` is the driver's own here."""
    log.error("%s", error)


@contextmanager
def everything(name: str) -> Iterator[list[str]]:
    """Collect all that any formatter could write of each record, the attributes included."""
    seen: list[str] = []

    class Dump(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            if record.exc_info and record.exc_info[1] is not None:
                seen.append("".join(traceback.format_exception(record.exc_info[1])))
            for value in record.__dict__.values():
                seen.extend([str(value), repr(value), json.dumps(value, default=repr)])

    handler, root, here = Dump(), logging.getLogger(), logging.getLogger(name)
    root.addHandler(handler)
    here.propagate = True
    try:
        yield seen
    finally:
        root.removeHandler(handler)


def raised(site: Site, name: str) -> BaseException:
    with site.app.app_context():
        try:
            FAULTS[name].provoke(site)
        except Exception as error:
            return error
        finally:
            site.db.session.remove()
    raise AssertionError("nothing happened")


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_no_way_of_logging_an_error_tells_a_value(database: Database, new_site: NewSite) -> None:
    """By the application's loggers and by any other, made before the error or after it.

    A streamed body is one more way, and has a test of its own among the answers.
    """
    leaks, count = [], 0
    drivers = ["psycopg", "psycopg2"] if database.name == "postgresql" else [None]
    for number, driver in enumerate(drivers):
        site = new_site(driver, create=number == 0)
        for name in (each for each in ERRORS if each in site.faults()):
            if name == "away" and site.family == "sqlite":
                continue  # outside requests the file is named to whoever starts the program
            error = raised(site, name)
            for told, say in COVERED.items():
                for logger in ("dbkit_faults.jobs", "somebody.else"):
                    if told == "by others" and logger == "somebody.else":
                        continue  # the loggers are theirs
                    with everything(logger) as seen:
                        say(logging.getLogger(logger), error)
                    text = "\n".join(seen)
                    count += len(seen)
                    if SECRET in text or MAIL in text or "no-such-host" in text:
                        leaks.append((driver, name, told, logger))
    assert not leaks, leaks
    assert count > 500


@pytest.mark.backends("postgresql")
def test_what_is_not_covered_is_what_the_page_names(new_site: NewSite) -> None:
    """Each of these tells the value today, and each is in the documentation, in these words."""
    site = new_site()
    error = raised(site, "null")
    with site.app.app_context(), pytest.raises(Exception) as raw:
        connection = site.db.engine.raw_connection()
        try:
            connection.cursor().execute(f"INSERT INTO note VALUES (9, '{SECRET}')")
        finally:
            connection.close()
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for told, say in NOT_COVERED.items():
        with everything("somebody.else") as seen:
            say(logging.getLogger("somebody.else"), raw.value if "raw" in told else error)
        assert SECRET in "\n".join(seen), told
        assert told in page, told


@pytest.mark.backends("postgresql")
def test_the_filter_cleans_errors_of_a_raw_connection(new_site: NewSite) -> None:
    """They never were SQLAlchemy's: the loggers of the application clean them where they are."""
    site = new_site()
    with site.app.app_context(), pytest.raises(Exception) as raw:
        connection = site.db.engine.raw_connection()
        try:
            connection.cursor().execute(f"INSERT INTO note VALUES (9, '{SECRET}')")
        finally:
            connection.close()
    assert SECRET in str(raw.value)
    for told in ("as message and arguments", "by extra", "as cause group and note"):
        with everything("dbkit_faults") as seen:
            COVERED[told](logging.getLogger("dbkit_faults"), raw.value)
        text = "\n".join(seen)
        if told == "by extra":  # what a program takes out of it by itself is its own
            text = text.replace(repr(raw.value.args), "").replace(str(raw.value.args), "")
        assert SECRET not in text, told


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_programs_find_in_an_error_what_they_look_for(
    database: Database, new_site: NewSite
) -> None:
    """The words of a broken constraint, classes, codes, and the statement without literals."""
    site = new_site()
    error = raised(site, "unique")
    assert isinstance(error, sa.exc.IntegrityError)
    words = {
        "sqlite-file": "UNIQUE constraint failed: account.email",
        "postgresql": 'duplicate key value violates unique constraint "uq_account_email"',
        "mariadb": "Duplicate entry '…' for key 'uq_account_email'",
    }[database.name]
    assert words in str(error)
    assert words in str(error.orig)
    assert "[SQL" not in str(error)
    assert error.statement is not None
    assert error.statement.startswith("INSERT INTO account")
    assert error.params is None
    typo = raised(site, "missing_table")
    assert isinstance(typo, sa.exc.DBAPIError)
    assert "nowhere" in str(typo)
    assert typo.statement == "SELECT * FROM nowhere WHERE a = '…'"


def test_every_fault_is_known() -> None:
    """A name that no fault has would test nothing."""
    assert set(ERRORS) <= set(FAULTS)
