"""What ``classify()`` tells of an exception, anywhere."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Session

from flask_dbkit import (
    CommitOutcomeUnknown,
    ConflictProblem,
    DBKit,
    DBKitError,
    DBProblem,
    InternalProblem,
    InvalidProblem,
    MissingProblem,
    OnCommitError,
    OwnershipError,
    PartialCommit,
    ReadonlyProblem,
    ReadOnlyViolation,
    RetryProblem,
    TimeoutProblem,
    TransactionError,
    UnavailableProblem,
    UnexpectedRollback,
    classify,
    declarative_base,
    on_commit,
    transaction,
)
from flask_dbkit.databases import database_of, errors_of
from flask_dbkit.databases.statements import written_columns, written_table
from flask_dbkit.errors.codes import PROBLEMS
from flask_dbkit.errors.problems import classify_error
from tests.errors.faults import FAULTS, MAIL, SECRET, Site

NewSite = Callable[..., Site]
KINDS = {
    "conflict": ConflictProblem,
    "invalid": InvalidProblem,
    "missing": MissingProblem,
    "unavailable": UnavailableProblem,
    "retry": RetryProblem,
    "readonly": ReadonlyProblem,
    "timeout": TimeoutProblem,
    "internal": InternalProblem,
}


def error_of(site: Site, name: str) -> BaseException:
    with site.app.app_context():
        with pytest.raises(Exception) as caught:
            FAULTS[name].provoke(site)
        site.db.session.remove()
    return caught.value


# -- what a problem is ---------------------------------------------------------------------


@pytest.mark.parametrize("code", list(PROBLEMS))
def test_every_code_has_a_kind_with_a_class_of_its_own(code: str) -> None:
    """``@app.errorhandler(ConflictProblem)`` is written for a kind."""
    problem = KINDS[code.partition(".")[0]](code)
    assert (problem.code, problem.kind) == (code, code.partition(".")[0])
    assert (problem.status, problem.detail) == (PROBLEMS[code].status, str(problem))
    assert isinstance(problem, DBProblem)
    assert isinstance(problem, DBKitError)


def test_what_nobody_told_is_none() -> None:
    """A handler asks for ``problem.constraint`` without asking whether there is one."""
    problem = DBProblem("internal")
    assert (problem.constraint, problem.table, problem.sqlstate) == (None, None, None)
    assert (problem.columns, problem.fields) == ((), ())
    assert repr(problem) == "<DBProblem internal, 500>"


def test_a_code_that_is_none_is_refused() -> None:
    """With those there are."""
    with pytest.raises(ValueError, match="conflict.unique, conflict.reference"):
        DBProblem("conflict.uniq")


def test_the_statuses_are_those_of_the_contract() -> None:
    """Programs are written for them."""
    assert {code: row.status for code, row in PROBLEMS.items()} == {
        "conflict.unique": 409,
        "conflict.reference": 409,
        "conflict.referenced": 409,
        "conflict.stale": 409,
        "invalid.null": 409,
        "invalid.check": 409,
        "invalid.value": 422,
        "missing": 404,
        "unavailable": 503,
        "unavailable.pool": 503,
        "retry": 503,
        "readonly": 503,
        "timeout": 504,
        "internal": 500,
    }


# -- anywhere ------------------------------------------------------------------------------


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_an_error_can_be_classified_in_a_job(new_site: NewSite) -> None:
    """In an application context, in none, and in another thread, with one result."""
    site = new_site()
    error = error_of(site, "unique")
    results: list[DBProblem | None] = []
    with site.app.app_context():
        results.append(classify(error))
    results.append(classify(error))
    thread = threading.Thread(target=lambda: results.append(classify(error)))
    thread.start()
    thread.join()
    for problem in results:
        assert isinstance(problem, ConflictProblem)
        assert problem.__cause__ is error
        assert (problem.constraint, problem.table) == ("uq_account_email", "account")
        assert (problem.columns, problem.fields) == (("email",), ("mail",))
        assert not problem.retryable
        assert MAIL not in f"{problem!r} {problem} {vars(problem)}"


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_the_driver_alone_never_names_another_table(new_site: NewSite) -> None:
    """Without its statement MariaDB's PRIMARY could be the key of any of them."""
    site = new_site()
    error = error_of(site, "primary_key")
    assert isinstance(error, sa.exc.DBAPIError)
    assert error.orig is not None
    with site.app.app_context():
        whole, alone = classify(error), classify(error.orig)
    assert whole is not None
    assert (whole.constraint, whole.table) == ("pk_account", "account")
    assert alone is not None
    assert alone.code == "conflict.unique"
    assert alone.table in (None, "account")


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_an_error_of_an_engine_without_a_kit_is_classified(engine: sa.Engine) -> None:
    """The codes come from the driver; names too, as far as it tells them."""
    table = sa.Table(
        "plain",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(20), nullable=False),
    )
    table.create(engine)
    with Session(engine) as session:
        with pytest.raises(sa.exc.IntegrityError) as caught:
            session.execute(sa.insert(table).values(id=1, name=None))
    problem = classify_error(caught.value)
    assert isinstance(problem, InvalidProblem)
    assert (problem.code, problem.columns) == ("invalid.null", ("name",))
    raw = classify_error(caught.value.orig)  # type: ignore[arg-type]
    assert raw is not None
    assert raw.code == "invalid.null"
    assert len(problem.statement_hash or "") == 12


def test_what_is_no_database_error_is_none() -> None:
    """And a problem stays the problem it is."""
    for error in (ValueError("x"), OverflowError(), KeyError("x"), OSError(), DBKitError()):
        assert classify(error) is None
    problem = DBProblem("retry")
    assert classify(problem) is problem


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_the_one_child_of_a_parent_is_found_on_every_database(
    database: Any, make_app: Callable[..., Flask]
) -> None:
    """One line of words serves all of them, though SQLite names nothing."""
    app = make_app()
    db = SQLAlchemy(model_class=declarative_base())
    DBKit(app, db=db)

    class Author(db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)

    class Book(db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)
        author_id = db.Column(db.ForeignKey("author.id"))

    with app.app_context():
        db.create_all()
        db.session.add(Author(id=1))
        db.session.flush()
        db.session.add(Book(id=1, author_id=1))
        db.session.commit()
        for statement in (sa.delete(Author), sa.update(Author).values(id=2)):
            with pytest.raises(sa.exc.IntegrityError) as caught:
                db.session.execute(statement)
            problem = classify(caught.value)
            assert problem is not None
            assert problem.code == "conflict.referenced"
            assert (problem.constraint, problem.table) == ("fk_book_author_id_author", "book")
            assert problem.fields == ()
            db.session.rollback()
        db.session.remove()


@pytest.mark.backends("sqlite-file")
def test_models_of_the_plain_base_of_flask_sqlalchemy_are_known(
    database: Any, make_app: Callable[..., Flask]
) -> None:
    """An application that was there before need not change its models."""
    app = make_app()
    db = SQLAlchemy()
    DBKit(app, db=db)

    class Item(db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)
        label = db.Column("name", db.String(20), unique=True)

    with app.app_context():
        db.create_all()
        db.session.add_all([Item(label="a"), Item(label="a")])
        with pytest.raises(sa.exc.IntegrityError) as caught:
            db.session.commit()
        problem = classify(caught.value)
        db.session.remove()
    assert problem is not None
    assert (problem.table, problem.columns, problem.fields) == ("item", ("name",), ("label",))
    assert problem.constraint is None


# -- errors of scopes ----------------------------------------------------------------------


def unique_error() -> sa.exc.IntegrityError:
    error = sqlite3.IntegrityError("UNIQUE constraint failed: account.email")
    error.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT_UNIQUE
    error.sqlite_errorname = "SQLITE_CONSTRAINT_UNIQUE"
    return sa.exc.IntegrityError("INSERT INTO account VALUES (?)", {}, error)


def busy_error() -> sa.exc.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
    error.sqlite_errorname = "SQLITE_BUSY_SNAPSHOT"
    return sa.exc.OperationalError("UPDATE account", {}, error)


def caused(error: TransactionError, cause: BaseException) -> TransactionError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        # Swallowed in the code: what it was about is perhaps not what the client asked for.
        (caused(UnexpectedRollback("…"), unique_error()), "internal"),
        (caused(TransactionError("…"), unique_error()), "internal"),
        # What goes away by itself does so for who comes again.
        (caused(UnexpectedRollback("…"), busy_error()), "retry"),
        (caused(UnexpectedRollback("…"), ReadOnlyViolation("…")), None),
        (caused(UnexpectedRollback("…"), ValueError("…")), None),
        (UnexpectedRollback("…"), None),
        (ReadOnlyViolation("…"), None),
        (OwnershipError("…"), None),
        # Some of it is saved.
        (caused(PartialCommit([None], "b"), unique_error()), "internal"),
        (OnCommitError([ValueError("…")]), None),
        (OnCommitError([ValueError("…"), unique_error()]), "internal"),
    ],
)
def test_an_error_of_a_scope_is_what_is_true_of_it(
    error: TransactionError, code: str | None
) -> None:
    """Mistakes in code are left to Flask, unless a database error stands behind them."""
    problem = classify(error)
    assert (problem.code if problem is not None else None) == code
    assert problem is None or problem.__cause__ is error


def test_a_lost_answer_to_a_commit_says_so() -> None:
    """Who comes again must look first, and a retrying client must not be told to go on."""
    lost = psycopg.OperationalError("server closed the connection unexpectedly")
    cause = sa.exc.OperationalError("COMMIT", {}, lost, connection_invalidated=True)
    problem = classify(caused(CommitOutcomeUnknown("…"), cause))
    assert isinstance(problem, UnavailableProblem)
    assert (problem.status, problem.retryable) == (503, False)
    assert "is saved, or it is not" in problem.detail


@pytest.mark.backends("postgresql")
def test_a_commit_that_is_killed_is_unavailable(new_site: NewSite) -> None:
    """From the server's own end of a connection to the answer of the client."""
    site = new_site()

    @site.app.post("/killed-at-commit")
    def view() -> str:
        with transaction():
            number = site.db.session.scalar(sa.text("SELECT pg_backend_pid()"))
            site.db.session.add(site.models.account(id=50, mail="new@example.org"))
            site.db.session.flush()
            with site.db.engine.connect() as other:
                other.execute(sa.text(f"SELECT pg_terminate_backend({number}, 5000)"))
        return "saved"

    answer = site.app.test_client().post("/killed-at-commit")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
    assert "Retry-After" in answer.headers


@pytest.mark.backends("sqlite-file")
def test_a_failing_hook_after_the_commit_is_no_database_error(new_site: NewSite) -> None:
    """The data are saved: Flask's 500, or the application's handler."""
    site = new_site()

    @site.app.post("/hook")
    def view() -> str:
        with transaction():
            on_commit(int, "no number")
        return "saved"

    answer = site.app.test_client().post("/hook")
    assert (answer.status_code, answer.mimetype) == (500, "text/html")


# -- drivers -------------------------------------------------------------------------------


@pytest.mark.backends("sqlite-file")
def test_a_value_the_driver_cannot_send_is_a_data_error(new_site: NewSite) -> None:
    """It was a bare ``OverflowError``, which could have come from anywhere."""
    site = new_site()
    error = error_of(site, "too_large")
    assert isinstance(error, sa.exc.DataError)
    assert isinstance(error.orig, OverflowError)
    assert SECRET not in str(error)


@pytest.mark.backends("sqlite-file")
def test_a_value_error_of_a_listener_stays_what_it_is(new_site: NewSite) -> None:
    """Only what comes from below is a driver's."""
    site = new_site()
    with site.app.app_context():

        @sa.event.listens_for(site.db.engine, "before_cursor_execute")
        def refuse(*_: object) -> None:
            raise ValueError("of the application")

        with pytest.raises(ValueError, match="of the application"):
            site.db.session.execute(sa.text("SELECT 1"))
        site.db.session.remove()


class Diagnostics:
    """What the server of another language says; the drivers have no way to make one."""

    constraint_name, table_name, column_name, message_detail = "fk", "note", None, None

    def __init__(self, message_primary: str) -> None:
        self.message_primary = message_primary


class ForeignKeyViolation(Exception):
    sqlstate = "23503"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.diag = Diagnostics(message)


@pytest.mark.parametrize(
    ("message", "statement", "code"),
    [
        ("Einfügen in Tabelle »note« verletzt »fk«", None, "conflict.reference"),
        ("Löschen in »account« verletzt »fk« von »note«", None, "conflict.referenced"),
        ("mise à jour sur « note », « fk »", "UPDATE note", "conflict.reference"),
        ("?", "DELETE FROM account", "conflict.referenced"),
        ("?", "INSERT INTO note", "conflict.reference"),
        ("?", None, "conflict.reference"),
    ],
)
def test_the_side_of_a_foreign_key_is_told_in_every_language(
    message: str, statement: str | None, code: str
) -> None:
    """The server's sentence about a parent names one table more."""
    error = ForeignKeyViolation(message)
    faults = errors_of(error)
    assert faults is not None
    assert faults.meaning(error, statement) == code


class Vendor(Exception):
    """As a driver we do not know raises it."""


def test_a_driver_we_do_not_know_is_internal_or_lost() -> None:
    """SQLAlchemy's own flag is all there is."""
    error = Vendor("ORA-00001")
    assert errors_of(error) is None
    plain = database_of("oracle").errors
    assert (plain.code(error), plain.codes(error), plain.name(error)) == (None, frozenset(), None)
    assert not plain.is_disconnect(error)
    assert plain.meaning(error, None) is None
    assert plain.sqlstate(error) is None
    assert plain.place(error).columns == ()
    problem = classify(sa.exc.IntegrityError("INSERT", {}, error))
    assert problem is not None
    assert problem.code == "internal"
    lost = classify(sa.exc.DBAPIError("SELECT", {}, error, connection_invalidated=True))
    assert lost is not None
    assert lost.code == "unavailable"


@pytest.mark.parametrize(
    ("statement", "table", "columns"),
    [
        ("INSERT INTO note (id) VALUES (1)", "note", set()),
        ('INSERT OR REPLACE INTO "note" VALUES (1)', "note", set()),
        ("-- why\n/* so */ UPDATE main.note SET a = 1, `b`=2 WHERE c = 3", "note", {"a", "b"}),
        ("DELETE FROM `db`.`note` WHERE id = 1", "note", set()),
        ("REPLACE INTO note VALUES (1)", "note", set()),
        ("SELECT * FROM note", None, set()),
        ("", None, set()),
    ],
)
def test_the_table_that_a_statement_writes_is_read_from_it(
    statement: str, table: str | None, columns: set[str]
) -> None:
    """MariaDB and SQLite do not always say."""
    assert written_table(statement) == table
    if statement.startswith("--"):
        assert written_columns(statement) == columns
