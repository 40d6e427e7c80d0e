"""Log records without values, whoever formats them."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, Self

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit.errors.redaction import Redact, redact_exception, redact_text
from tests.errors.faults import FAULTS, MAIL, SECRET, Site

NewSite = Callable[..., Site]


class Lines(logging.Handler):
    """Keeps what a formatter makes of each record."""

    def __init__(self, formatter: logging.Formatter | None = None) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def text(self) -> str:
        return "\n".join(self.lines)


class Structured(logging.Formatter):
    """Formats the exception itself, as formatters for JSON do, and never looks at exc_text."""

    def format(self, record: logging.LogRecord) -> str:
        parts: dict[str, Any] = {"message": record.getMessage()}
        if record.exc_info:
            parts["error"] = "".join(traceback.format_exception(*record.exc_info))
            parts["type"] = type(record.exc_info[1]).__name__
        return json.dumps(parts)


@pytest.fixture
def watched() -> Iterator[Callable[..., Lines]]:
    """Return a function that puts a handler on a logger."""
    added: list[tuple[logging.Logger, Lines]] = []

    def watch(name: str, formatter: logging.Formatter | None = None) -> Lines:
        lines, logger = Lines(formatter), logging.getLogger(name)
        logger.addHandler(lines)
        added.append((logger, lines))
        return lines

    yield watch
    for logger, lines in added:
        logger.removeHandler(lines)


def provoke(site: Site, name: str) -> BaseException:
    with site.app.app_context():
        try:
            FAULTS[name].provoke(site)
        except Exception as error:
            return error
        finally:
            site.db.session.remove()
    raise AssertionError("nothing happened")


ON_DISK = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
SQLITE = pytest.mark.backends("sqlite-file")


@pytest.mark.backends("postgresql")
def test_the_failing_row_is_in_no_record(new_site: NewSite, watched: Callable[..., Lines]) -> None:
    """PostgreSQL quotes all of it, the secret in another column included."""
    site = new_site()
    lines = [watched("dbkit_faults"), watched("dbkit_faults", Structured())]
    error = provoke(site, "null")
    assert SECRET in str(error.orig.diag.message_detail)  # type: ignore[attr-defined] # it was there
    site.app.logger.error("Not saved: %s", error, exc_info=error)
    for each in lines:
        assert SECRET not in each.text()
        assert "invalid.null, code 23502, table account, columns email" in each.text()


@ON_DISK
def test_a_formatter_of_its_own_sees_the_stand_in(
    new_site: NewSite, watched: Callable[..., Lines]
) -> None:
    """Same class name, same frames, same chain."""
    site = new_site()
    lines = watched("dbkit_faults", Structured())
    error = provoke(site, "unique")
    try:
        raise RuntimeError(f"Not saved: {error}") from error
    except RuntimeError as wrapped:
        wrapped.add_note(f"It was {error.orig}")  # type: ignore[attr-defined]
        site.app.logger.exception("Failed")
    (line,) = lines.lines
    assert MAIL not in line
    seen = json.loads(line)
    assert seen["type"] == "RuntimeError"
    assert "in _add" in seen["error"]
    assert "The above exception was the direct cause" in seen["error"]
    assert "sqlalchemy.exc.IntegrityError: (" in seen["error"]
    assert "Not saved: (" in seen["error"]
    assert "It was conflict.unique" in seen["error"] or "It was (" in seen["error"]


@ON_DISK
def test_the_exception_itself_is_not_touched(new_site: NewSite) -> None:
    """A handler, a debugger or an error tracker may need it."""
    site = new_site()
    error = provoke(site, "unique")
    before = (str(error), repr(error), error.args, error.__cause__, error.__traceback__)
    stand_in = redact_exception(error)
    assert isinstance(stand_in, sa.exc.IntegrityError)
    assert type(stand_in).__name__ == "IntegrityError"
    assert (str(error), repr(error), error.args, error.__cause__, error.__traceback__) == before
    assert str(redact_exception(stand_in)) == str(stand_in)


@SQLITE
def test_parameters_of_every_shape_are_cleaned(
    new_site: NewSite, watched: Callable[..., Lines]
) -> None:
    """By position, by name, as the message itself, and from a logger of a module."""
    site = new_site()
    lines = watched("dbkit_faults")
    module = logging.getLogger("dbkit_faults.models")
    error = provoke(site, "missing_table")
    module.error("%(what)s: %(error)r", {"what": "wrong", "error": error})
    module.error(error)
    module.error("%s and %d", error, 7)
    text = lines.text()
    assert SECRET not in text
    assert "SELECT" not in text
    assert text.count("no such table: nowhere") == 3
    assert "and 7" in text


@SQLITE
def test_other_records_are_left_alone(new_site: NewSite, watched: Callable[..., Lines]) -> None:
    """A filter that changes what has nothing to do with it is worse than none."""
    new_site()
    lines = watched("dbkit_faults")
    logger = logging.getLogger("dbkit_faults")
    logger.error("DETAIL: the order (%s) was sent, LINE 3: as usual", 7)
    try:
        raise ValueError("of no database")
    except ValueError:
        logger.exception("Failed")
    assert lines.lines[0] == "DETAIL: the order (7) was sent, LINE 3: as usual"
    assert "raise ValueError" in lines.lines[1]
    assert lines.lines[1].endswith("ValueError: of no database")


@SQLITE
def test_loggers_of_others_have_no_filter(new_site: NewSite) -> None:
    """Nothing is global: only the application, SQLAlchemy and the library."""
    others = [logging.getLogger(name) for name in ("dbkit_fault", "werkzeug", "other.dbkit_faults")]
    provoke(new_site(), "unique")
    assert not any(isinstance(f, Redact) for logger in others for f in logger.filters)
    assert not any(isinstance(f, Redact) for f in logging.getLogger().filters)
    for name in ("dbkit_faults", "dbkit_faults.views", "sqlalchemy", "flask_dbkit.errors"):
        filters = logging.getLogger(name).filters
        assert len([f for f in filters if isinstance(f, Redact)]) == 1, name


@SQLITE
def test_an_application_of_the_same_name_without_the_library_keeps_its_log(
    new_site: NewSite, watched: Callable[..., Lines]
) -> None:
    """Loggers are shared by name; whose record it is tells the current application."""
    site = new_site()
    provoke(site, "unique")  # every filter is there now
    lines = watched("dbkit_faults")
    bare, other = Flask(site.app.name), Flask("other")
    db = SQLAlchemy()
    bare.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db.init_app(bare)

    @bare.route("/")
    def view() -> str:
        db.session.execute(sa.text("SELECT :mail FROM nowhere"), {"mail": MAIL})
        return ""

    assert bare.test_client().get("/").status_code == 500
    assert "[SQL: SELECT ? FROM nowhere]" in lines.text()
    assert MAIL in lines.text()
    assert "db.session.execute(" in lines.text()  # the lines of source
    lines.lines.clear()
    quoted = f"DETAIL:  Key (email)=({MAIL}) already exists."
    # What is this application's own stays redacted: in its context, in none, and in that of an
    # application which has other loggers.
    for context in (site.app.app_context(), nullcontext(), other.app_context()):
        with context:
            site.app.logger.error("Not saved.\n%s", quoted)
    assert len(lines.lines) == 3
    assert MAIL not in lines.text()
    with bare.app_context():
        bare.logger.error("Not saved.\n%s", quoted)
        site.app.logger.error("Not saved: %s", provoke(site, "unique"))
        for engine in db.engines.values():
            engine.dispose()
    assert quoted in lines.lines[-2]
    assert MAIL not in lines.lines[-1]


@SQLITE
def test_a_logger_made_after_the_start_is_found(new_site: NewSite) -> None:
    """Modules are imported late; the first error completes the filters."""
    site = new_site()
    late = logging.getLogger("dbkit_faults.imported_late")
    assert late.filters == []
    provoke(site, "unique")
    assert [type(each) for each in late.filters] == [Redact]


@SQLITE
def test_an_application_can_see_everything(
    new_site: NewSite, watched: Callable[..., Lines]
) -> None:
    """On a developer's machine, by one setting; our own line stays as it is."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("dbkit_faults"):
            logging.getLogger(name).filters.clear()
    site = new_site(DBKIT_ERROR_REDACT_LOGS=False)
    lines, ours = watched("dbkit_faults"), watched("flask_dbkit.errors")
    error = provoke(site, "unique")
    assert MAIL in str(error)  # parameters are not hidden either
    site.app.logger.error("Not saved: %s", error)
    assert MAIL in lines.text()
    site.app.test_client().get("/typo")
    assert "code=internal" in ours.text()
    assert SECRET not in ours.text()


@SQLITE
def test_engine_options_of_the_application_win(new_site: NewSite) -> None:
    """``hide_parameters`` is a default like the others."""
    site = new_site(SQLALCHEMY_ENGINE_OPTIONS={"hide_parameters": False})
    with site.app.app_context():
        assert not site.db.engine.hide_parameters
        assert site.db.engines["tiny"].hide_parameters


def test_exceptions_that_cannot_be_derived_from_are_replaced() -> None:
    """Some classes need arguments, some forbid it."""

    class Needy(Exception):
        def __new__(cls, needed: str) -> Self:
            return super().__new__(cls)

    class Final(Exception):
        def __init_subclass__(cls) -> None:
            raise TypeError("final")

    for error in (
        Needy("x"),
        Final("y"),
        SyntaxError("z"),
        UnicodeDecodeError("a", b"", 0, 1, "b"),
    ):
        stand_in = redact_exception(error)
        assert type(stand_in).__qualname__ == type(error).__qualname__
        assert str(stand_in) == str(error)
        assert "".join(traceback.format_exception(stand_in))


def test_a_chain_that_bites_its_tail_is_followed_once() -> None:
    """Python allows it, by hand."""
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    stand_in = redact_exception(first)
    assert stand_in.__context__ is not None
    assert stand_in.__context__.__context__ is stand_in


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (
            'null value in column "a"\nDETAIL:  Failing row contains (1, s3cr3t).',
            'null value in column "a" …',
        ),
        (
            "(sqlite3.IntegrityError) x\n[SQL: INSERT]\n(Background on this error at: u) here",
            "(sqlite3.IntegrityError) … here",
        ),
        ("Duplicate entry 's3cr3t' for key 'uq_a'", "Duplicate entry … for key 'uq_a'"),
        (
            "Incorrect integer value: 's3cr3t' for column `d`.`a`.`b` at row 1",
            "Incorrect integer value: … for column `d`.`a`.`b` at row 1",
        ),
        (
            'invalid input syntax for type integer: "s3cr3t"\nLINE 1: INSERT s3cr3t\n        ^',
            "invalid input syntax for type integer: … …",
        ),
        (
            'value "99999" is out of range for type integer',
            "value … is out of range for type integer",
        ),
        (
            'connection to server at "10.0.0.1", port 5432 failed: Connection refused',
            "the server was not reached",
        ),
        (
            "(2003, \"Can't connect to MySQL server on 'db.internal' ([Errno 111])\")",
            '(2003, "the server was not reached',
        ),
        ("rolled back. Original exception was: s3cr3t", "rolled back. Original exception was: …"),
        ("[SQL: SELECT 's3cr3t']\n[parameters: {'a': 's3cr3t'}]\n", "…\n…\n"),
        ("Key (email)=(s3cr3t) already exists.", "Key (email)=(…) already exists."),
    ],
)
def test_a_text_that_quotes_an_error_is_cut(text: str, clean: str) -> None:
    """Where there is no exception to look at, only its words."""
    assert redact_text(text) == clean


@SQLITE
def test_a_text_that_was_formatted_before_is_cut(new_site: NewSite) -> None:
    """By a handler in front of the logger, or a record that came from another process."""
    new_site()
    record = logging.LogRecord("dbkit_faults", logging.ERROR, "", 0, "Failed", None, None)
    record.exc_text = "IntegrityError: x\nDETAIL:  Key (a)=(s3cr3t) already exists."
    assert Redact().filter(record)
    assert record.exc_text == "IntegrityError: x …"
    assert sys.exc_info() == (None, None, None)
