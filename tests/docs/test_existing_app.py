"""Each sentence for those who come from plain Flask-SQLAlchemy, and the tests that show it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import DBAPIError, IntegrityError

from flask_dbkit import DBKit, declarative_base, transaction
from tests.support.databases import Database
from tests.support.forks import fork, succeeded
from tests.support.sentences import (
    LEADS_ON,
    ROOT,
    Shown,
    gone,
    without_one_entry,
    without_sentence,
)

PAGE = ROOT / "docs" / "how-to" / "existing-app.md"
SNIPPET = "test_a_snippet_does_on_sqlite_what_its_page_says"
ADVICE = "It advises, and promises nothing."

SHOWN: Shown = {
    "Your application uses Flask-SQLAlchemy already.": LEADS_ON,
    "Make a `DBKit` beside": (SNIPPET, "test_a_database_object_may_be_given"),
    "That is all.": (SNIPPET,),
    "Models, queries, binds,": (
        SNIPPET,
        "test_flask_sqlalchemy_works_as_it_says",
        "test_options_are_taken_from_the_most_particular_place",
    ),
    "`dbkit.init_app(app)` calls": ("test_a_database_object_may_be_given",),
    "If your code calls it before": (
        "test_an_earlier_init_app_is_made_up_for_as_far_as_possible",
        "test_a_late_extension_keeps_what_is_in_memory",
    ),
    "A `RuntimeWarning` names": (
        "test_an_earlier_init_app_is_made_up_for_as_far_as_possible",
        "test_a_late_warning_names_connect_args_and_spares_what_was_given",
    ),
    # What changes
    "**On every database**: Connections get": (
        "test_the_defaults_are_in_force_on_a_file",
        "test_timeouts_are_set_on_every_session",
        "test_options_are_taken_from_the_most_particular_place",
        "test_the_applications_own_arguments_win",
    ),
    "**In requests**: Database errors": (
        "test_every_fault_is_answered_with_its_code",
        "test_handlers_for_the_exception_itself_come_first",
        "test_an_outage_is_a_503_at_once_and_is_over_when_it_is_over",
    ),
    "[The page on that](errors.md) tells how": (
        "test_without_answers_flask_does_what_it_does",
        "test_links_lead_to_pages_and_to_places_on_them",
    ),
    "Tests see the same answers": (
        "test_answers_are_the_same_in_tests_and_in_debug_mode",
        "test_a_mistake_of_the_code_is_raised_to_a_test_and_to_the_debugger",
    ),
    "Log records and traces": (
        "test_no_line_of_the_log_holds_values_sql_or_hosts",
        "test_a_formatter_of_its_own_sees_the_stand_in",
    ),
    "**On SQLite**: Foreign keys are checked": (
        "test_rows_without_their_parents_do_no_harm_until_they_are_changed",
    ),
    "See below for rows": LEADS_ON,
    "The file is switched to write-ahead logging": (
        "test_files_appear_beside_a_sqlite_file_and_may_be_deleted",
    ),
    "An empty file `app.db-dbkit-writers`": (
        "test_files_appear_beside_a_sqlite_file_and_may_be_deleted",
        "test_waiters_pass_in_the_order_they_came",
    ),
    "A transaction begins where SQLAlchemy says": (
        "test_two_reads_of_one_transaction_see_the_same",
        "test_rollback_undoes_ddl",
    ),
    "[Code that was right by luck]": ("test_an_update_computed_from_an_old_read_is_refused",),
    "**On PostgreSQL and MariaDB**: Sessions run in UTC": (
        "test_a_session_is_in_utc_and_says_whose_it_is",
        "test_a_session_is_strict_and_in_utc",
    ),
    "If you store local times": ("test_now_is_utc_in_a_column_without_a_time_zone",),
    "On MariaDB strict mode refuses": ("test_a_session_is_strict_and_in_utc",),
    # The driver
    "A URL that names no driver": (
        "test_a_url_is_completed_with_its_driver",
        "test_psycopg2_is_taken_when_psycopg_3_is_not_there",
    ),
    "To stay with the one you have": ("test_a_url_is_completed_with_its_driver",),
    "Where both are installed, a line": ("test_a_driver_that_was_chosen_among_several_is_told",),
    "The two differ: with psycopg 3": (
        "test_psycopg_3_compares_no_integer_with_a_text_and_psycopg2_does",
    ),
    # Rows without their parents
    "A database that was used without": (
        "test_rows_without_their_parents_do_no_harm_until_they_are_changed",
    ),
    "They do no harm until": ("test_rows_without_their_parents_do_no_harm_until_they_are_changed",),
    "This lists them:": (
        "test_rows_without_their_parents_do_no_harm_until_they_are_changed",
        SNIPPET,
    ),
    "Each result is a table": (
        "test_rows_without_their_parents_do_no_harm_until_they_are_changed",
    ),
    "To put the check off": ("test_rows_without_their_parents_do_no_harm_until_they_are_changed",),
    # Your tests
    "End the session before tables are dropped": (
        "test_unfinished_work_in_memory_names_what_ends_it",
    ),
    "A database in memory is one connection": (
        "test_an_inner_write_is_refused_while_the_outer_session_has_written",
        "test_the_defaults_are_in_force_on_a_file",
    ),
    # Your migrations
    "A folder made by `flask db init`": ("test_a_folder_of_flask_migrate_works_unchanged",),
    # Move models to Base
    "`Base` brings named constraints": (
        "test_every_constraint_gets_the_name_of_the_convention",
        "test_annotations_choose_the_column_types",
        "test_a_value_comes_back_equal_and_in_utc",
        "test_a_model_of_no_database_is_said_when_the_application_starts",
        "test_the_first_revision_makes_the_models_tables_and_nothing_is_left",
    ),
    "Take it for new applications.": ADVICE,
    "In an existing one it changes": (
        "test_a_move_to_base_renames_constraints_and_migrations_notice",
        "test_a_value_that_is_no_point_in_time_is_refused_by_column",
    ),
    "The rest of the library does not need it.": (
        SNIPPET,
        "test_a_folder_of_flask_migrate_works_unchanged",
    ),
    # Move to transaction scopes
    "`db.session.commit()` works as before": (
        "test_flask_sqlalchemy_works_as_it_says",
        "test_functions_are_moved_to_scopes_from_the_bottom_up",
    ),
    "A function that commits by itself": (
        "test_commit_inside_a_scope_is_refused_and_changes_nothing",
        "test_functions_are_moved_to_scopes_from_the_bottom_up",
    ),
    "So begin at the bottom": ADVICE,
    "Replace its `commit()`": ("test_functions_are_moved_to_scopes_from_the_bottom_up",),
    "Called alone, `correct_name()`": ("test_functions_are_moved_to_scopes_from_the_bottom_up",),
    "So `take_order()` can come next.": (SNIPPET,),
}

MakeApp = Callable[..., Flask]


def test_every_sentence_of_the_page_is_shown_by_a_test() -> None:
    """Whoever moves an application is told nothing that nobody has tried."""
    assert without_one_entry(PAGE, SHOWN) == []
    assert without_sentence(PAGE, SHOWN) == []
    assert gone(SHOWN) == set()


def _with(make_app: MakeApp, **config: Any) -> tuple[Flask, SQLAlchemy]:
    app, db = make_app(**config), SQLAlchemy()
    DBKit(db=db).init_app(app)
    return app, db


@pytest.mark.backends("sqlite-file")
def test_rows_without_their_parents_do_no_harm_until_they_are_changed(
    make_app: MakeApp, database: Database
) -> None:
    """They are read and listed; what touches the reference is refused, unless it is put off."""
    bare = sa.create_engine(database.url)
    with bare.begin() as connection:
        for line in (
            "CREATE TABLE shelf (id INTEGER PRIMARY KEY)",
            "CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT, shelf_id REFERENCES shelf)",
            "INSERT INTO book VALUES (7, 'lost', 99)",
        ):
            connection.exec_driver_sql(line)
    bare.dispose()
    wrong = sa.text("UPDATE book SET shelf_id = 98")
    app, db = _with(make_app)
    with app.app_context():
        assert db.session.scalar(sa.text("SELECT title FROM book")) == "lost"
        db.session.execute(sa.text("UPDATE book SET title = 'found'"))
        db.session.commit()
        listed = db.session.execute(sa.text("PRAGMA foreign_key_check")).all()
        assert [tuple(row) for row in listed] == [("book", 7, "shelf", 0)]
        with pytest.raises(IntegrityError, match="FOREIGN KEY"):
            db.session.execute(wrong)
        db.session.rollback()
    app, db = _with(make_app, DBKIT_SQLITE_PRAGMAS={"foreign_keys": "OFF"})
    with app.app_context():
        db.session.execute(wrong)
        db.session.commit()


@pytest.mark.backends("sqlite-file")
def test_files_appear_beside_a_sqlite_file_and_may_be_deleted(make_app: MakeApp) -> None:
    """Two while it is in use; the empty one stays, and is made again."""
    app, db = _with(make_app)
    path = Path(str(sa.make_url(app.config["SQLALCHEMY_DATABASE_URI"]).database))
    beside = {name: Path(f"{path}-{name}") for name in ("wal", "shm", "dbkit-writers")}

    def work() -> None:
        with app.app_context():
            db.session.execute(sa.text("CREATE TABLE IF NOT EXISTS t (id INTEGER)"))
            db.session.execute(sa.text("INSERT INTO t VALUES (1)"))
            db.session.commit()
            assert all(file.exists() for file in beside.values())
            assert beside["dbkit-writers"].stat().st_size == 0
            db.session.remove()
            db.engine.dispose()

    for _ in range(2):
        assert succeeded(fork(work))
        assert [name for name, file in beside.items() if file.exists()] == ["dbkit-writers"]
        beside["dbkit-writers"].unlink()


@pytest.mark.backends("postgresql", "mariadb")
def test_now_is_utc_in_a_column_without_a_time_zone(make_app: MakeApp) -> None:
    """Whatever zone the server is in."""
    app, db = _with(make_app)
    kind = "timestamp" if app.config["SQLALCHEMY_DATABASE_URI"].startswith("post") else "datetime"
    with app.app_context():
        db.session.execute(sa.text(f"CREATE TABLE visit (at {kind})"))
        db.session.execute(sa.text("INSERT INTO visit VALUES (now())"))
        stored = db.session.scalar(sa.text("SELECT at FROM visit"))
        db.session.rollback()
        db.session.execute(sa.text("DROP TABLE IF EXISTS visit"))
        db.session.commit()
    assert abs((stored.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.backends("postgresql")
def test_psycopg_3_compares_no_integer_with_a_text_and_psycopg2_does(database: Database) -> None:
    """The one sends a text as a text, the other writes a literal that takes any type."""
    bill = sa.table("bill", sa.column("id", sa.Integer))
    found = {}
    for driver in ("psycopg", "psycopg2"):
        engine = sa.create_engine(sa.make_url(database.url).set(drivername=f"postgresql+{driver}"))
        with engine.connect() as connection:
            connection.execute(sa.text("CREATE TEMPORARY TABLE bill AS SELECT 7 AS id"))
            try:
                found[driver] = connection.scalar(sa.select(bill.c.id).where(bill.c.id == "7"))
            except DBAPIError as error:
                found[driver] = str(error.orig).splitlines()[0]
        engine.dispose()
    assert found["psycopg2"] == 7
    assert found["psycopg"] == "operator does not exist: integer = character varying"


@pytest.mark.backends("postgresql", "mariadb")
def test_a_move_to_base_renames_constraints_and_migrations_notice(
    make_app: MakeApp, database: Database
) -> None:
    """The database has its own name for a constraint that was given none."""
    app, db = _with(make_app)
    base = declarative_base()
    for metadata in (db.metadata, base.metadata):
        sa.Table(
            "book",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("title", sa.String(20), unique=True),
        )
    with app.app_context():
        db.create_all()
        with db.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            found = [
                [change[0] for change in compare_metadata(context, metadata)]
                for metadata in (db.metadata, base.metadata)
            ]
        db.drop_all()
    assert found[0] == []
    assert "add_constraint" in found[1]


@pytest.mark.backends("sqlite-file")
def test_functions_are_moved_to_scopes_from_the_bottom_up(make_app: MakeApp) -> None:
    """One with a scope of its own works under a caller without, and with; not the other way."""
    app, db = _with(make_app)
    table = sa.table("t", sa.column("id"))

    def moved(number: int) -> None:
        with transaction():
            db.session.execute(table.insert().values(id=number))

    def waiting(number: int) -> None:
        db.session.execute(table.insert().values(id=number))
        db.session.commit()

    def stored() -> list[int]:
        found = list(db.session.scalars(sa.select(table.c.id).order_by(table.c.id)))
        db.session.rollback()
        return found

    with app.app_context():
        db.session.execute(sa.text("CREATE TABLE t (id INTEGER)"))
        db.session.commit()
        moved(1)
        waiting(2)
        db.session.rollback()
        assert stored() == [1, 2]
        with pytest.raises(LookupError), transaction():
            moved(3)
            raise LookupError
        with pytest.raises(Exception, match="commit"), transaction():
            waiting(4)
        assert stored() == [1, 2]
