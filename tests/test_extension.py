"""Every way to wire the extension, with the application's own choices always winning."""

from __future__ import annotations

import copy
import gc
import logging
import sqlite3
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, create_engine, insert, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from flask_dbkit import Base, ConfigError, DBKit, declarative_base
from flask_dbkit.application import Application, current_application, current_session
from flask_dbkit.engines.flask_sqlalchemy import engines_of

NewApp = Callable[..., Flask]


@pytest.fixture(autouse=True)
def no_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def new_app(tmp_path: Path) -> Iterator[NewApp]:
    """Return a function that makes an application; keyword arguments are configuration keys."""
    made: list[Flask] = []

    def make(name: str = "shop", **config: Any) -> Flask:
        app = Flask(name, instance_path=str(tmp_path / "instance"))
        app.config.update(config)
        made.append(app)
        return app

    yield make
    for app in made:
        db = app.extensions.get("sqlalchemy")
        if db is not None:
            for engine in engines_of(app, db).values():
                engine.dispose()


def file_url(tmp_path: Path, name: str = "app.db") -> str:
    return f"sqlite:///{tmp_path / name}"


def engine_of(app: Flask, key: str | None = None) -> Engine:
    return engines_of(app, app.extensions["sqlalchemy"])[key]


def pragma(engine: Engine, name: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()


# -- ways of wiring -----------------------------------------------------------------------


def test_an_application_alone_is_enough(new_app: NewApp) -> None:
    """``DBKit(app)`` makes the database object too, on ``Base``."""
    app = new_app(SQLALCHEMY_DATABASE_URI="sqlite://")
    dbkit = DBKit(app)
    assert app.extensions["sqlalchemy"] is dbkit.db
    assert dbkit.db.metadata is Base.metadata
    assert pragma(engine_of(app), "foreign_keys") == 1


def test_a_database_object_may_be_given(new_app: NewApp) -> None:
    """At once with the application, or in a factory later."""
    db = SQLAlchemy(model_class=declarative_base())
    first, second = (new_app(SQLALCHEMY_DATABASE_URI="sqlite://") for _ in range(2))
    assert DBKit(first, db=db).db is db
    dbkit = DBKit(db=db)
    assert dbkit.db is db
    dbkit.init_app(second)
    assert first.extensions["sqlalchemy"] is second.extensions["sqlalchemy"] is db


def test_the_state_is_kept_by_the_application(new_app: NewApp) -> None:
    """``app.extensions["dbkit"]`` holds it; the extension holds no application."""
    app = new_app(SQLALCHEMY_DATABASE_URI="sqlite://", DBKIT_TX_PER_REQUEST=True)
    dbkit = DBKit(app)
    state = app.extensions["dbkit"]
    assert isinstance(state, Application)
    assert state.db is dbkit.db
    assert state.config.tx_per_request is True
    with app.app_context():
        assert current_application() is state
        assert current_session() is dbkit.db.session()


def test_without_the_extension_its_functions_say_what_to_do(new_app: NewApp) -> None:
    """Also where there is no application at all."""
    with new_app().app_context(), pytest.raises(RuntimeError, match="has no DBKit"):
        current_application()
    with pytest.raises(RuntimeError):
        current_application()


def test_what_is_no_application_and_no_database_object_is_refused(new_app: NewApp) -> None:
    """``DBKit(db)`` is the mistake people make; it is told apart from the others."""
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: DBKit(SQLAlchemy()), r"Write DBKit\(db=db\)"),  # type: ignore[arg-type]
        (lambda: DBKit().init_app("shop"), "takes a Flask application, not 'shop'"),  # type: ignore[arg-type]
        (lambda: DBKit(db=new_app()), "takes a Flask-SQLAlchemy object, not <Flask 'shop'>"),  # type: ignore[arg-type]
    ]
    for attempt, message in refused:
        with pytest.raises(TypeError, match=message):
            attempt()


def test_a_second_init_app_is_refused(new_app: NewApp) -> None:
    """Listeners would be there twice."""
    app = new_app(SQLALCHEMY_DATABASE_URI="sqlite://")
    dbkit = DBKit(app)
    for again in (lambda: dbkit.init_app(app), lambda: DBKit(app, db=dbkit.db)):
        with pytest.raises(RuntimeError, match="'shop' has a DBKit already"):
            again()


def test_another_database_object_than_the_registered_one_is_refused(new_app: NewApp) -> None:
    """Whose sessions would it be?"""
    app = new_app(SQLALCHEMY_DATABASE_URI="sqlite://")
    SQLAlchemy(app)
    with pytest.raises(RuntimeError, match="another SQLAlchemy object"):
        DBKit(app, db=SQLAlchemy())
    assert "dbkit" not in app.extensions


def test_one_extension_serves_several_applications(new_app: NewApp, tmp_path: Path) -> None:
    """Each has its own configuration and engines."""
    dbkit = DBKit(db=SQLAlchemy())
    one = new_app("one", SQLALCHEMY_DATABASE_URI=file_url(tmp_path, "one.db"))
    two = new_app(
        "two",
        SQLALCHEMY_DATABASE_URI=file_url(tmp_path, "two.db"),
        DBKIT_SQLITE_BUSY_TIMEOUT_MS=77,
    )
    dbkit.init_app(one)
    dbkit.init_app(two)
    assert pragma(engine_of(one), "busy_timeout") == 5000
    assert pragma(engine_of(two), "busy_timeout") == 77
    assert repr(dbkit) == "<DBKit, 2 applications>"


def test_the_extension_keeps_no_application_alive() -> None:
    """An application made in a test is gone after it."""
    dbkit = DBKit(db=SQLAlchemy())
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    dbkit.init_app(app)
    engine_of(app).dispose()
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None
    assert repr(dbkit) == "<DBKit, 0 applications>"


def test_the_database_of_an_extension_without_one_is_the_current_applications(
    new_app: NewApp,
) -> None:
    """Inside a context that of the application; outside, the one they share, or an error."""
    dbkit = DBKit()
    with pytest.raises(RuntimeError, match="has no database yet"):
        _ = dbkit.db
    one, two = new_app("one"), new_app("two")
    for app in (one, two):
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    dbkit.init_app(one)
    shared = dbkit.db
    assert one.extensions["sqlalchemy"] is shared
    dbkit.init_app(two)
    assert two.extensions["sqlalchemy"] is shared is dbkit.db
    three = new_app("three", SQLALCHEMY_DATABASE_URI="sqlite://")
    own = SQLAlchemy(three)
    with pytest.warns(RuntimeWarning):
        dbkit.init_app(three)
    with three.app_context():
        assert dbkit.db is own
    with one.app_context():
        assert dbkit.db is shared
    with pytest.raises(RuntimeError, match="different databases"):
        _ = dbkit.db
    with new_app("none").app_context(), pytest.raises(RuntimeError, match="different databases"):
        _ = dbkit.db


# -- nothing is global --------------------------------------------------------------------


def test_engines_of_other_code_stay_as_they_are(new_app: NewApp, tmp_path: Path) -> None:
    """Two binds get the pragmas on every connection; a third engine gets nothing."""
    foreign = create_engine(file_url(tmp_path, "foreign.db"))
    app = new_app(
        SQLALCHEMY_DATABASE_URI=file_url(tmp_path),
        SQLALCHEMY_BINDS={"other": {"url": file_url(tmp_path, "other.db")}},
    )
    DBKit(app)
    later = create_engine(file_url(tmp_path, "later.db"))
    for key in (None, "other"):
        engine = engine_of(app, key)
        connections = [engine.connect() for _ in range(3)]
        for connection in connections:
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            connection.close()
    for engine in (foreign, later):
        assert pragma(engine, "foreign_keys") == 0
        assert pragma(engine, "journal_mode") == "delete"
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            assert not raw.in_transaction
        assert not {"do_begin", "do_execute"} & vars(engine.dialect).keys()
        engine.dispose()


def test_flask_sqlalchemy_works_as_it_says(new_app: NewApp, tmp_path: Path) -> None:
    """Models, binds, relative paths in the instance folder, shell context, ``create_all``."""
    db = SQLAlchemy(model_class=declarative_base())
    app = new_app(
        SQLALCHEMY_DATABASE_URI="sqlite:///shop.db",
        SQLALCHEMY_BINDS={"stock": "sqlite:///stock.db"},
    )
    DBKit(app, db=db)
    book = db.Table("book", db.Column("id", db.Integer, primary_key=True))
    shelf = db.Table("shelf", db.Column("id", db.Integer, primary_key=True), bind_key="stock")
    with app.app_context():
        db.create_all()
        db.session.execute(insert(book).values(id=1))
        db.session.execute(insert(shelf).values(id=2))
        db.session.commit()
        assert db.session.execute(db.select(book.c.id)).scalars().all() == [1]
    instance = tmp_path / "instance"
    assert (instance / "shop.db").is_file()
    assert (instance / "stock.db").is_file()
    with app.app_context():
        assert app.make_shell_context()["db"] is db


def test_initialising_opens_nothing(new_app: NewApp, tmp_path: Path) -> None:
    """No connection, no file: only the instance folder is there afterwards."""
    DBKit(new_app(SQLALCHEMY_DATABASE_URI="sqlite:///shop.db"))
    assert [each.name for each in tmp_path.iterdir()] == ["instance"]
    assert list((tmp_path / "instance").iterdir()) == []
    DBKit(new_app("far", SQLALCHEMY_DATABASE_URI="postgresql://u:p@192.0.2.1:1/none"))


# -- the database URL ---------------------------------------------------------------------


@pytest.mark.parametrize("way", ["uri", "bind", "option", "constructor"])
def test_a_url_given_in_any_way_is_used(new_app: NewApp, tmp_path: Path, way: str) -> None:
    """All that Flask-SQLAlchemy knows, and the environment has no say then."""
    url, constructor = file_url(tmp_path, "given.db"), {}
    app = new_app()
    if way == "uri":
        app.config["SQLALCHEMY_DATABASE_URI"] = url
    elif way == "bind":
        app.config["SQLALCHEMY_BINDS"] = {None: {"url": url}}
    elif way == "option":
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"url": url}
    else:
        constructor = {"url": url}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", "sqlite:///environment.db")
        DBKit(app, db=SQLAlchemy(engine_options=constructor))
    assert str(engine_of(app).url) == url
    assert pragma(engine_of(app), "foreign_keys") == 1


def test_otherwise_the_environment_names_it(
    new_app: NewApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``DATABASE_URL``, also beside binds; the configuration shows what is used."""
    monkeypatch.setenv("DATABASE_URL", file_url(tmp_path, "environment.db"))
    app = new_app(SQLALCHEMY_BINDS={"other": "sqlite:///other.db"})
    DBKit(app)
    assert engine_of(app).url.database == str(tmp_path / "environment.db")
    assert set(engines_of(app, app.extensions["sqlalchemy"])) == {None, "other"}
    assert app.config["SQLALCHEMY_DATABASE_URI"] == file_url(tmp_path, "environment.db")


def test_a_bad_url_of_the_environment_is_named(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place to put it right is the environment."""
    monkeypatch.setenv("DATABASE_URL", "postgrs://u:secret@h/d")
    with pytest.raises(ConfigError, match="DATABASE_URL") as caught:
        DBKit(new_app())
    assert "secret" not in str(caught.value)


def test_without_any_url_a_development_file_is_used(
    new_app: NewApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Named after the application, in the instance folder, and told in the log."""
    app = new_app()
    with caplog.at_level(logging.INFO, "flask_dbkit"):
        DBKit(app)
    expected = tmp_path / "instance" / "shop.db"
    assert engine_of(app).url.database == str(expected)
    (record,) = [each for each in caplog.records if each.levelname == "INFO"]
    assert record.levelname == "INFO"
    assert str(expected) in record.getMessage()
    assert app.config["SQLALCHEMY_DATABASE_URI"] == "sqlite:///shop.db"


def test_with_binds_there_is_no_development_file(new_app: NewApp) -> None:
    """An application may have binds only."""
    app = new_app(SQLALCHEMY_BINDS={"other": "sqlite://"})
    DBKit(app)
    assert set(engines_of(app, app.extensions["sqlalchemy"])) == {"other"}


def test_in_production_a_missing_url_is_an_error(new_app: NewApp, tmp_path: Path) -> None:
    """``DBKIT_REQUIRE_DATABASE_URL`` keeps a deployment from starting on an empty file."""
    app = new_app(DBKIT_REQUIRE_DATABASE_URL=True)
    with pytest.raises(ConfigError, match="DBKIT_REQUIRE_DATABASE_URL forbids"):
        DBKit(app)
    assert app.extensions == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"SQLALCHEMY_DATABASE_URI": "nonsense"}, "SQLALCHEMY_DATABASE_URI"),
        ({"SQLALCHEMY_DATABASE_URI": ""}, "SQLALCHEMY_DATABASE_URI"),
        ({"SQLALCHEMY_ENGINE_OPTIONS": {"url": "x"}}, "SQLALCHEMY_ENGINE_OPTIONS"),
        ({"SQLALCHEMY_BINDS": {"stock": "x"}}, "SQLALCHEMY_BINDS['stock']"),
        ({"SQLALCHEMY_BINDS": {"stock": {"echo": True}}}, "SQLALCHEMY_BINDS['stock'] has no"),
    ],
)
def test_a_bad_url_names_the_key_and_leaves_nothing_behind(
    new_app: NewApp, tmp_path: Path, config: dict[str, Any], place: str
) -> None:
    """One paragraph; no file, no folder, nothing registered."""
    app = new_app(**config)
    with pytest.raises(ConfigError) as caught:
        DBKit(app)
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)
    assert app.extensions == {}
    assert list(tmp_path.iterdir()) == []


def test_an_instance_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """A file is in its place, or the user may not write there."""
    (tmp_path / "file").write_text("")
    app = Flask("shop", instance_path=str(tmp_path / "file" / "instance"))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
    with pytest.raises(ConfigError) as caught:
        DBKit(app)
    assert "The instance folder" in str(caught.value)
    assert "Make the folder writable" in str(caught.value)
    assert app.extensions == {}
    assert app.config["SQLALCHEMY_DATABASE_URI"] == "sqlite:///shop.db"
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    DBKit(app)
    engine_of(app).dispose()


def test_an_engine_option_that_sqlalchemy_refuses_leaves_nothing_behind(new_app: NewApp) -> None:
    """Its own error passes; the application can be put right and tried again."""
    app = new_app(
        SQLALCHEMY_DATABASE_URI="sqlite:///shop.db",
        SQLALCHEMY_ENGINE_OPTIONS={"pool_sise": 3},
    )
    with pytest.raises(TypeError, match="pool_sise"):
        DBKit(app)
    assert app.extensions == {}
    assert app.config["SQLALCHEMY_ENGINE_OPTIONS"] == {"pool_sise": 3}
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 3}
    DBKit(app)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SQLALCHEMY_BINDS", ["sqlite://:s3cret@/a.db"]),
        ("SQLALCHEMY_BINDS", "sqlite://:s3cret@/a.db"),
        ("SQLALCHEMY_BINDS", ""),
        ("SQLALCHEMY_ENGINE_OPTIONS", ["s3cret"]),
        ("SQLALCHEMY_ENGINE_OPTIONS", 0),
    ],
)
def test_a_key_that_wants_a_dict_says_so(new_app: NewApp, key: str, value: object) -> None:
    """Flask-SQLAlchemy's own answer would be an ``AttributeError`` about ``items``."""
    app = new_app(SQLALCHEMY_DATABASE_URI="sqlite:///shop.db", **{key: value})
    with pytest.raises(
        ConfigError, match=f"{key} is of type {type(value).__name__}. Use a dict"
    ) as e:
        DBKit(app)
    assert e.value.key == key
    assert "s3cret" not in str(e.value)
    assert app.extensions == {}


def test_connect_args_that_are_no_dict_are_refused(new_app: NewApp) -> None:
    """Wherever they stand."""
    options = {"connect_args": ["timeout", 3]}
    for config, db in (
        ({"SQLALCHEMY_ENGINE_OPTIONS": options}, None),
        ({"SQLALCHEMY_BINDS": {"other": {"url": "sqlite:///o.db", **options}}}, None),
        ({}, SQLAlchemy(engine_options=options)),
    ):
        app = new_app(SQLALCHEMY_DATABASE_URI="sqlite:///shop.db", **config)
        with pytest.raises(ConfigError, match="connect_args is of type list. Use a dict such as"):
            DBKit(app, db=db)
        assert app.extensions == {}


# -- the application's own options --------------------------------------------------------


def test_the_configuration_stays_as_it_was_written(new_app: NewApp, tmp_path: Path) -> None:
    """What is handed to Flask-SQLAlchemy is put back; dicts are not changed."""
    written = {
        "SQLALCHEMY_DATABASE_URI": file_url(tmp_path),
        "SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"timeout": 3}},
        "SQLALCHEMY_BINDS": {
            "a": file_url(tmp_path, "a.db"),
            "b": {"url": "sqlite://", "echo": False},
        },
    }
    app = new_app(**copy.deepcopy(written))
    options = {"pool_recycle": 60}
    DBKit(app, db=SQLAlchemy(engine_options=options))
    assert {key: app.config[key] for key in written} == written
    assert options == {"pool_recycle": 60}


def test_options_are_taken_from_the_most_particular_place(new_app: NewApp, tmp_path: Path) -> None:
    """The bind's own or the configuration's, then the constructor's, then ours."""
    app = new_app(
        SQLALCHEMY_DATABASE_URI=file_url(tmp_path),
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 3},
        SQLALCHEMY_BINDS={
            "bare": file_url(tmp_path, "bare.db"),
            "own": {"url": file_url(tmp_path, "own.db"), "pool_size": 4},
        },
    )
    DBKit(app, db=SQLAlchemy(engine_options={"pool_size": 2, "max_overflow": 1}))
    pools = {key: engine_of(app, key).pool for key in (None, "bare", "own")}
    for key, size in {None: 3, "bare": 2, "own": 4}.items():
        pool = pools[key]
        assert isinstance(pool, QueuePool)
        assert (pool.size(), pool._max_overflow, pool.timeout()) == (size, 1, 10)


def test_connect_args_are_merged_key_by_key(new_app: NewApp) -> None:
    """The application's ``application_name`` does not cost it our timeouts."""
    app = new_app(
        SQLALCHEMY_DATABASE_URI="postgresql://h/d",
        SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"application_name": "mine"}},
    )
    db = SQLAlchemy(engine_options={"connect_args": {"keepalives_idle": 7}})
    seen: dict[str, Any] = {}
    plain = SQLAlchemy._make_engine

    class Spy(SQLAlchemy):
        def _make_engine(self, bind_key: str | None, options: dict[str, Any], app: Flask) -> Engine:
            seen.update(options)
            return plain(self, bind_key, options, app)

    db.__class__ = Spy
    DBKit(app, db=db)
    arguments = seen["connect_args"]
    assert arguments["application_name"] == "mine"
    assert arguments["keepalives_idle"] == 7
    assert arguments["connect_timeout"] == 5


@pytest.mark.parametrize(
    "options",
    [
        {"poolclass": NullPool},
        {"creator": lambda: sqlite3.connect(":memory:", check_same_thread=False)},
        {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}},
        {"connect_args": None},
    ],
    ids=["poolclass", "creator", "static", "none"],
)
def test_pools_and_creators_of_the_application_work(
    new_app: NewApp, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Whatever it chose is used, and its connections are prepared."""
    if options == {"connect_args": None}:
        options = {}
    app = new_app(
        SQLALCHEMY_DATABASE_URI=file_url(tmp_path), SQLALCHEMY_ENGINE_OPTIONS=dict(options)
    )
    DBKit(app)
    engine = engine_of(app)
    assert pragma(engine, "foreign_keys") == 1
    if "poolclass" in options:
        assert isinstance(engine.pool, options["poolclass"])


def test_the_drivers_timeout_in_the_url_wins(new_app: NewApp, tmp_path: Path) -> None:
    """The query of a URL is a place for options too."""
    app = new_app(SQLALCHEMY_DATABASE_URI=file_url(tmp_path) + "?timeout=2")
    DBKit(app)
    assert pragma(engine_of(app), "busy_timeout") == 2000


# -- db.init_app() came first -------------------------------------------------------------


def test_an_earlier_init_app_is_made_up_for_as_far_as_possible(
    new_app: NewApp, tmp_path: Path
) -> None:
    """One warning names what was missed; pragmas hold, also where a connection was pooled."""
    app = new_app(SQLALCHEMY_DATABASE_URI=file_url(tmp_path))
    db = SQLAlchemy(app)
    assert pragma(engine_of(app), "foreign_keys") == 0  # is in the pool now
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        DBKit(app, db=db)
    (warning,) = caught
    assert warning.category is RuntimeWarning
    for missed in ("URL rules", "pool_size", "max_overflow", "pool_timeout"):
        assert missed in str(warning.message)
    assert pragma(engine_of(app), "foreign_keys") == 1
    with app.app_context():
        db.session.execute(text("CREATE TABLE t (id INTEGER)"))
        with db.session.begin_nested():
            db.session.execute(text("INSERT INTO t VALUES (1)"))
        db.session.rollback()
        assert db.session.execute(text("SELECT count(*) FROM sqlite_master")).scalar() == 0


def test_a_late_warning_names_connect_args_and_spares_what_was_given(new_app: NewApp) -> None:
    """Per option: what the application set itself was not missed."""
    app = new_app(
        SQLALCHEMY_DATABASE_URI="postgresql+psycopg://h/d",
        SQLALCHEMY_ENGINE_OPTIONS={
            "pool_pre_ping": False,
            "connect_args": {"connect_timeout": 1},
        },
    )
    SQLAlchemy(app)
    with pytest.warns(RuntimeWarning) as caught:
        DBKit(app)
    message = str(caught[0].message)
    assert "connect_args['application_name']" in message
    assert "connect_args['connect_timeout']" not in message
    assert "pool_pre_ping" not in message
    assert "pool_recycle" in message


def test_a_late_extension_keeps_what_is_in_memory(new_app: NewApp) -> None:
    """The one connection is the database: it is prepared, not dropped."""
    app = new_app(SQLALCHEMY_DATABASE_URI="sqlite://")
    db = SQLAlchemy(app)
    with app.app_context():
        db.session.execute(text("CREATE TABLE t (id INTEGER)"))
        db.session.execute(text("INSERT INTO t VALUES (1)"))
        db.session.commit()
    with pytest.warns(RuntimeWarning):
        DBKit(app)
    with app.app_context():
        assert db.session.execute(text("SELECT count(*) FROM t")).scalar() == 1
        assert db.session.execute(text("PRAGMA foreign_keys")).scalar() == 1
        with app.app_context():
            db.session.execute(text("SELECT 1"))


def test_a_late_extension_follows_the_engines_not_the_configuration(new_app: NewApp) -> None:
    """Keys that were changed in between do not matter any more."""
    app = new_app(SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_BINDS={"other": "sqlite://"})
    SQLAlchemy(app)
    app.config["SQLALCHEMY_BINDS"] = {}
    with pytest.warns(RuntimeWarning):
        DBKit(app)
    assert pragma(engine_of(app, "other"), "foreign_keys") == 1


def test_an_application_can_be_given_another_database_object(
    new_app: NewApp, tmp_path: Path
) -> None:
    """Flask-SQLAlchemy allows it; its own tests reflect tables that way."""
    app = new_app(SQLALCHEMY_DATABASE_URI=file_url(tmp_path))
    first = DBKit(app).db
    with app.app_context():
        first.session.execute(text("CREATE TABLE t (id INTEGER)"))
        first.session.commit()
        first.engine.dispose()
    del app.extensions["sqlalchemy"]
    # Not on the Base that all tests of this process share: there may be tables on it.
    second = DBKit(app, db=SQLAlchemy(model_class=declarative_base())).db
    with app.app_context():
        second.reflect()
    assert list(second.metadata.tables) == ["t"]
    app.add_url_rule("/", view_func=lambda: str(second.session.execute(text("SELECT x"))))
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal")
    assert app.test_client().get("/health/live").status_code == 200


# -- requests -----------------------------------------------------------------------------


@pytest.mark.parametrize("by_method", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_requests_that_announce_writes_begin_with_the_lock(
    new_app: NewApp, tmp_path: Path, by_method: bool, method: str
) -> None:
    """Only with ``DBKIT_SQLITE_BEGIN_BY_METHOD``, and only for the methods that write."""
    app = new_app(
        SQLALCHEMY_DATABASE_URI=file_url(tmp_path), DBKIT_SQLITE_BEGIN_BY_METHOD=by_method
    )
    db = DBKit(app).db
    with app.app_context():
        db.session.execute(text("CREATE TABLE t (id INTEGER)"))
        db.session.commit()
    outsider = sqlite3.connect(tmp_path / "app.db", isolation_level=None, timeout=0)

    @app.route("/", methods=[method])
    def view() -> str:
        db.session.execute(text("SELECT * FROM t")).all()
        outsider.execute("INSERT INTO t VALUES (1)")
        return "written"

    locked = by_method and method not in ("GET", "HEAD")
    # The error of the outsider is answered as one of the application's own would be.
    assert app.test_client().open("/", method=method).status_code == (503 if locked else 200)
    outsider.close()


def test_nested_contexts_in_memory_do_not_destroy_each_other(new_app: NewApp) -> None:
    """A request inside a test's own context used to lose the test's rows without a word."""
    app = new_app(SQLALCHEMY_DATABASE_URI="sqlite://")
    db = DBKit(app).db

    @app.get("/")
    def view() -> str:
        return str(db.session.execute(text("SELECT count(*) FROM t")).scalar())

    @app.post("/")
    def write() -> str:
        db.session.execute(text("INSERT INTO t VALUES (2)"))
        db.session.commit()
        return "written"

    app.testing = True
    with app.app_context():
        db.session.execute(text("CREATE TABLE t (id INTEGER)"))
        db.session.commit()
        db.session.execute(text("INSERT INTO t VALUES (1)"))
        with app.app_context():
            db.session.execute(text("SELECT 1"))
        with app.app_context(), pytest.raises(OperationalError, match="one connection"):
            db.session.execute(text("INSERT INTO t VALUES (3)"))
        db.session.commit()
        assert db.session.execute(text("SELECT count(*) FROM t")).scalar() == 1
    client = app.test_client()
    assert client.post("/").text == "written"
    assert client.get("/").text == "2"


def test_importing_the_library_imports_no_command_and_nothing_for_lists() -> None:
    """They come when they are asked for, by their public names or as modules."""
    code = (
        "import sys, flask_dbkit\n"
        "late = ['backups.current', 'engines.commands', 'lists.planner', 'pagination']\n"
        "assert not [name for name in late if f'flask_dbkit.{name}' in sys.modules]\n"
        "assert set(flask_dbkit.__all__) <= set(dir(flask_dbkit))\n"
        "assert flask_dbkit.sorting.SortAllowlist is flask_dbkit.SortAllowlist\n"
        "for name in flask_dbkit.__all__: getattr(flask_dbkit, name)\n"
        "from flask_dbkit import *\n"
        "try: flask_dbkit.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "module 'flask_dbkit' has no attribute 'nothing'\n"
