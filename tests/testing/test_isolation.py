"""All that a test commits is undone, however it is committed."""

# mypy: disable-error-code="misc,name-defined"

from __future__ import annotations

import contextvars
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from flask_dbkit import (
    DBKit,
    Timestamps,
    declarative_base,
    get_or_create,
    job,
    on_commit,
    savepoint,
    session_scope,
    stream,
    transaction,
    upsert,
)
from flask_dbkit.testing import NeedsRealTransactions, isolated
from flask_dbkit.testing.leaks import LeftOpen
from tests.support.databases import Database

Base: Any = declarative_base()
db = SQLAlchemy(model_class=Base)


class Note(Timestamps, Base):
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    text: Mapped[str] = mapped_column(sa.String(20), unique=True)


class Audit(Base):
    __bind_key__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)


ran: list[str] = []


@pytest.fixture
def app(
    make_app: Callable[..., Flask],
    database: Database,
    make_database: Callable[[str], Database],
    request: pytest.FixtureRequest,
) -> Iterator[Flask]:
    """An application with two databases, one row in each, and views that write."""
    driver = getattr(request, "param", None)
    first, second = sa.make_url(database.url), sa.make_url(make_database(database.name).url)
    if driver == "psycopg2":
        first, second = (url.set(drivername="postgresql+psycopg2") for url in (first, second))
    app = make_app(SQLALCHEMY_DATABASE_URI=first, SQLALCHEMY_BINDS={"audit": second})
    dbkit = DBKit(db=db)
    dbkit.init_app(app)
    for name in ("notes", "more-notes"):
        dbkit.health.check(name)(lambda: ran.append(f"{count()} notes"))

    @app.post("/<text>")
    def write(text: str) -> dict[str, int]:
        with transaction():
            db.session.add(Note(text=text))
            on_commit(ran.append, text)
        return {"notes": count()}

    @app.post("/fail/<text>")
    def fail(text: str) -> str:
        with transaction():
            db.session.add(Note(text=text))
            db.session.flush()
            raise RuntimeError(text)

    @app.get("/stream")
    def streamed() -> Any:
        def notes() -> Iterator[str]:
            yield from db.session.scalars(select(Note.text).order_by(Note.id))

        return app.response_class(stream(notes()))

    @app.cli.command("write")
    def command() -> None:
        with transaction():
            db.session.add(Note(text="command"))

    ran.clear()
    with app.app_context():
        db.create_all()
        db.session.add(Note(text="before"))
        db.session.add(Audit(id=1))
        db.session.commit()
    yield app
    with app.app_context():
        assert db.session.scalars(select(Note.text)).all() == ["before"]
        assert db.session.scalars(select(Audit.id)).all() == [1]
        assert sa.inspect(db.engine).get_table_names() == ["note"]


def count() -> int:
    return db.session.scalar(select(func.count()).select_from(Note)) or 0


def two_requests(app: Flask) -> None:
    client = app.test_client()
    assert client.post("/one").json == {"notes": 2}
    assert client.post("/two").json == {"notes": 3}
    assert ran == ["one", "two"]


def rollback_in_a_view(app: Flask) -> None:
    client = app.test_client()
    client.post("/one")
    with pytest.raises(RuntimeError):
        client.post("/fail/two")
    assert client.post("/three").json == {"notes": 3}


def request_inside_a_context(app: Flask) -> None:
    with app.app_context():
        assert count() == 1
        app.test_client().post("/one")
        db.session.rollback()
        assert count() == 2
        db.session.add(Note(text="two"))
        db.session.commit()
        assert app.test_client().post("/three").json == {"notes": 4}


def scopes_and_savepoints(app: Flask) -> None:
    with session_scope(app) as session, transaction():
        session.add(Note(text="one"))
        with pytest.raises(IntegrityError), savepoint():
            session.add(Note(text="before"))
            session.flush()
        with savepoint():
            session.add(Note(text="two"))
        with transaction(savepoint=True):
            session.add(Note(text="three"))
        assert session.scalar(select(func.count()).select_from(Note)) == 4


def plain_session(app: Flask) -> None:
    with app.app_context():
        for text_ in ("one", "before", "two"):
            db.session.add(Note(text=text_))
            try:
                db.session.commit()
            except IntegrityError:
                db.session.rollback()
        assert count() == 3
        nested = db.session.begin_nested()
        db.session.add(Note(text="undone"))
        db.session.flush()
        nested.rollback()
        db.session.commit()
        assert count() == 3


def engine_begin(app: Flask) -> None:
    with app.app_context():
        with db.engine.begin() as connection:
            connection.execute(sa.insert(Note).values(text="one"))
        with pytest.raises(RuntimeError), db.engine.begin() as connection:
            connection.execute(sa.insert(Note).values(text="two"))
            raise RuntimeError
        with Session(db.engine) as session:
            session.add(Note(text="three"))
            session.commit()
        assert count() == 3


def raw_connection(app: Flask) -> None:
    insert = (
        "INSERT INTO note (text, created_at, updated_at) VALUES ('{}', '2026-01-01', '2026-01-01')"
    )
    with app.app_context():
        raw = db.engine.raw_connection()
        with_cursor = raw.cursor()
        with_cursor.execute(insert.format("one"))
        raw.commit()
        with_cursor.execute(insert.format("two"))
        raw.rollback()
        with_cursor.execute("SELECT count(*) FROM note")
        assert with_cursor.fetchall()[0][0] == 2
        with_cursor.close()
        raw.close()
        with db.engine.connect() as connection:
            connection.connection.cursor().execute(insert.format("three"))
            connection.connection.commit()
        assert count() == 3


def several_binds(app: Flask) -> None:
    with app.app_context():
        with transaction(multi_bind="best_effort"):
            db.session.add_all([Note(text="one"), Audit(id=2)])
        with db.engines["audit"].begin() as connection:
            connection.execute(sa.insert(Audit).values(id=3))
        assert db.session.scalar(select(func.max(Audit.id))) == 3


def jobs_and_commands(app: Flask) -> None:
    @job
    def work() -> None:
        db.session.add(Note(text="job"))

    with app.app_context():
        work()
        assert count() == 2
    result = app.test_cli_runner().invoke(args=["write"])
    assert result.exit_code == 0, result.output
    with app.app_context():
        assert count() == 3


def one_row_per_key(app: Flask) -> None:
    with app.app_context(), transaction():
        assert get_or_create(Note, text="before")[1] is False
        assert get_or_create(Note, text="new")[1] is True
        upsert(Note, [{"text": "new"}, {"text": "newer"}], by="text")
    with app.app_context():
        assert count() == 3


def a_reader_beside_a_writer(app: Flask) -> None:
    with app.app_context(), db.engine.connect() as reader:
        assert reader.scalar(select(func.count()).select_from(Note)) == 1
        with db.engine.begin() as writer:
            assert reader.scalar(select(func.count()).select_from(Note)) == 1
            writer.execute(sa.insert(Note).values(text="one"))
        assert reader.scalar(select(func.count()).select_from(Note)) == 2
        reader.rollback()
        assert reader.scalar(select(func.count()).select_from(Note)) == 2
        with pytest.raises(sa.exc.DBAPIError):
            reader.execute(text("SELECT nonsense FROM nowhere"))
        reader.rollback()
        assert reader.scalar(select(func.count()).select_from(Note)) == 2


def writers_inside_each_other(app: Flask) -> None:
    with app.app_context(), db.engine.connect() as outer:
        outer.execute(sa.insert(Note).values(text="one"))
        with db.engine.begin() as inner:
            inner.execute(sa.insert(Note).values(text="two"))
        with pytest.raises(RuntimeError), db.engine.begin() as inner:
            inner.execute(sa.insert(Note).values(text="undone"))
            raise RuntimeError
        outer.execute(sa.insert(Note).values(text="three"))
        outer.commit()
        assert count() == 4


def ddl(app: Flask) -> None:
    with app.app_context():
        ddl_commits = db.engine.dialect.name in {"mysql", "mariadb"}
        create = "CREATE TABLE scratch (id INTEGER)"
        if ddl_commits:
            with pytest.raises(NeedsRealTransactions, match="transaction=True"):
                with db.engine.begin() as connection:
                    connection.execute(text(create))
            return
        with db.engine.begin() as connection:
            connection.execute(text(create))
            connection.execute(text("INSERT INTO scratch VALUES (1)"))
        assert "scratch" in sa.inspect(db.engine).get_table_names()


def other_threads_of_the_same_request(app: Flask) -> None:
    """An async view runs in a thread of its own, in the context of the one that waits for it."""
    client = app.test_client()
    client.post("/one")
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(client.post, "/two"))
    thread.start()
    thread.join()
    assert client.get("/stream").text == "beforeonetwo"


def health_checks_of_its_own(app: Flask) -> None:
    """They run in threads of the library, at the same time."""
    client = app.test_client()
    client.post("/one")
    client.get("/health/ready")
    assert ran == ["one", "2 notes", "2 notes"]


def many_rows_updated_at_once(app: Flask) -> None:
    """SQLAlchemy compares the number of rows that the driver tells."""
    with app.app_context():
        db.session.add_all(Note(text=str(number)) for number in range(3))
        db.session.commit()
        for note in db.session.scalars(select(Note)):
            note.text += "!"
        db.session.commit()
        assert count() == 4


def disposed_engines(app: Flask) -> None:
    with app.app_context():
        app.test_client().post("/one")
        db.engine.dispose()
        assert count() == 2


WAYS: list[Callable[[Flask], None]] = [
    many_rows_updated_at_once,
    health_checks_of_its_own,
    two_requests,
    rollback_in_a_view,
    request_inside_a_context,
    scopes_and_savepoints,
    plain_session,
    engine_begin,
    raw_connection,
    several_binds,
    jobs_and_commands,
    one_row_per_key,
    a_reader_beside_a_writer,
    writers_inside_each_other,
    ddl,
    other_threads_of_the_same_request,
    disposed_engines,
]


def _ways(app: Flask, database: Database) -> None:
    for way in WAYS:
        with isolated(app):
            way(app)
        with app.app_context():
            assert count() == 1, way.__name__
            assert db.session.scalars(select(Audit.id)).all() == [1], way.__name__
        ran.clear()


def test_every_way_to_commit_is_undone(app: Flask, database: Database) -> None:
    """By a request, a scope, a session, an engine, the driver, a job, a command, DDL."""
    _ways(app, database)


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("app", ["psycopg2"], indirect=True)
def test_every_way_to_commit_is_undone_with_psycopg2(app: Flask, database: Database) -> None:
    """The other driver of PostgreSQL has connections and cursors of another make."""
    _ways(app, database)


@pytest.mark.filterwarnings("ignore::flask_dbkit.testing.leaks.LeftOpen")
def test_what_one_transaction_cannot_play_is_refused_in_words(
    app: Flask, database: Database
) -> None:
    """Crossed writers, AUTOCOMMIT and threads; nothing is lost in silence."""
    words = pytest.raises(NeedsRealTransactions, match="transaction=True")
    insert = sa.insert(Note)
    with isolated(app), app.app_context():
        first, second = db.engine.connect(), db.engine.connect()
        first.execute(insert.values(text="one"))
        second.execute(insert.values(text="two"))
        with words:
            first.rollback()
        second.close()
        first.invalidate()
        first.close()
    with isolated(app), app.app_context():
        with words, db.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        with words:
            setattr(db.engine.raw_connection().dbapi_connection, "autocommit", True)
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with app.app_context():
                    count()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        (error,) = errors
        with words:
            raise error
        left = db.engine.connect()
    with app.app_context(), words:
        left.execute(select(1))
    left.close()


def test_real_transactions_leave_empty_tables(app: Flask, database: Database) -> None:
    """For threads, live servers and DDL: every table is emptied, in whatever order it may be."""
    with isolated(app, transaction=True), app.app_context():

        def work() -> None:
            with app.app_context(), transaction():
                db.session.add(Note(text="thread"))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert count() == 2
    with app.app_context():
        assert count() == 0
        assert db.session.scalar(select(func.count()).select_from(Audit)) == 0
        db.session.add_all([Note(text="before"), Audit(id=1)])
        db.session.commit()
    with app.app_context(), isolated(app, binds=["audit"]):
        db.session.add(Audit(id=2))
        db.session.commit()
        with pytest.raises(ValueError, match="'nowhere'.*It has: default, audit"):
            with isolated(app, binds=["nowhere"]):
                pass


def test_what_was_left_open_is_told_with_the_line_that_took_it(app: Flask) -> None:
    """A connection that nobody gave back, idle or in a transaction."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with isolated(app), app.app_context():
            idle, busy = db.engine.connect(), db.engine.connect()
            busy.execute(sa.insert(Note).values(text="one"))
    told = [str(each.message) for each in found if each.category is LeftOpen]
    assert ["open transaction" in line for line in told] == [False, True]
    assert all(f"taken at {__file__}:" in line for line in told)
    busy.close()
    idle.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with app.app_context(), isolated(app):
            assert count() == 1  # the session of a context that stays open is no leak


def test_a_scope_that_was_never_left_is_told_and_undone(app: Flask) -> None:
    """In a context that stays open, where nothing else tells it. The next test is not troubled."""
    scope = transaction()
    with app.app_context():
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            with isolated(app):
                scope.__enter__()
                db.session.add(Note(text="one"))
        (told,) = (str(each.message) for each in found if each.category is LeftOpen)
        assert "scope was entered and never left" in told
        with isolated(app), transaction():
            assert count() == 1


@pytest.mark.backends("postgresql")
def test_settings_of_a_transaction_end_with_it(app: Flask) -> None:
    """A tenant that one request has set is not there in the next one."""
    setting = text("SELECT current_setting('app.tenant', true)")
    with isolated(app), app.app_context():
        for end in (db.session.commit, db.session.rollback):
            db.session.execute(text("SET LOCAL app.tenant = 'a'"))
            db.session.execute(text("SELECT set_config('lock_timeout', '7s', true)"))
            assert db.session.scalar(setting) == "a"
            end()
            assert not db.session.scalar(setting)
            assert db.session.scalar(text("SHOW lock_timeout")) != "7s"
            db.session.rollback()


@pytest.mark.requires("several_connections")
def test_what_a_scope_and_an_open_session_have_is_not_carried_over(app: Flask) -> None:
    """The limits of a scope end with it, and a session that has begun before is no way out."""
    with app.app_context():
        count()  # begins on a connection that is not the test's
        with isolated(app):
            with transaction(lock_timeout=7):
                db.session.add(Note(text="one"))
            if db.engine.dialect.name == "mysql":
                waits = text("SELECT @@SESSION.innodb_lock_wait_timeout")
                assert db.session.scalar(waits) != 7
            db.session.rollback()
            db.session.add(Note(text="two"))
            db.session.commit()
            assert count() == 3
        assert count() == 1
        db.session.remove()


@pytest.mark.backends("sqlite-file", "mariadb")
def test_two_binds_of_one_database_share_the_test(
    make_app: Callable[..., Flask], database: Database
) -> None:
    """Otherwise the second would wait for the first, for ever."""
    base: Any = declarative_base()
    own = SQLAlchemy(model_class=base)

    class One(base):
        id: Mapped[int] = mapped_column(primary_key=True)

    app = make_app(SQLALCHEMY_BINDS={"same": database.url})
    DBKit(db=own).init_app(app)
    with app.app_context():
        own.create_all()
        with isolated(app):
            with own.engine.begin() as connection:
                connection.execute(sa.insert(One).values(id=1))
            with own.engines["same"].begin() as connection:
                connection.execute(sa.update(One).values(id=2))
            assert own.session.scalar(select(One.id)) == 2
        assert own.session.scalar(select(One.id)) is None
        own.session.remove()
