"""What a mistake is told: what was given, what is allowed, what is nearest, what to do."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup
from sqlalchemy import TypeDecorator

import flask_dbkit
from flask_dbkit import ConfigError, DBKit
from flask_dbkit.models import BaseMixin

_SETUP = """
import os, threading
from datetime import datetime
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column, relationship
from flask_dbkit import *
Base = declarative_base()
db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
class Author(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
class Book(Timestamps, Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100))
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship()
def bare(uri="sqlite://"):
    app = Flask("n", instance_path=os.getcwd())
    app.config["SQLALCHEMY_DATABASE_URI"] = uri
    return app
def make(**config):
    app = bare("sqlite:///x.db")
    app.config.update(config)
    dbkit.init_app(app)
    with app.app_context():
        db.create_all()
    return app
"""
_IN = "with make().app_context():\n"


@dataclass(frozen=True)
class Mistake:
    """A mistake, the words that have to be in what is said, and those that must not be."""

    name: str
    code: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...] = ()


MISTAKES = [
    Mistake(
        "unknown scheme",
        "dbkit.init_app(bare('postgrse://x/y'))",
        ("postgrse", "Did you mean 'postgresql'"),
    ),
    Mistake("no URL but a file", "dbkit.init_app(bare('app.db'))", ("sqlite:///app.db",)),
    Mistake(
        "no key to sign with",
        "L = Listing(Book, sort=SortAllowlist({'title': Book.title}, default='title'))\n"
        "with make().test_request_context('/'): L.paginate_keyset()",
        ("SECRET_KEY",),
    ),
    Mistake(
        "a scope without an application",
        "make()\nwith transaction(): db.session.add(Author(name='a'))",
        ("session_scope(app)", "app_context()"),
    ),
    Mistake(
        "a DBKit of its own beside a db",
        "app = bare()\n"
        "import flask_dbkit\nother = SQLAlchemy(model_class=flask_dbkit.Base)\n"
        "DBKit().init_app(app)",
        ("DBKit(db=db)",),
    ),
    Mistake("db by its place", "DBKit(bare(), db)", ("DBKit(app, db=db)",), ("positional",)),
    Mistake(
        "no primary key", "class X(Base):\n    name: Mapped[str]", ("X needs", "primary_key=True")
    ),
    Mistake(
        "a misspelt setting",
        "make(DBKIT_SQLITE_PRAGMA={'foreign_keys': 'OFF'})",
        ("Did you mean DBKIT_SQLITE_PRAGMAS",),
    ),
    Mistake(
        "a default that is not published",
        "SortAllowlist({'title': Book.title}, default='added')",
        ("added", "title"),
    ),
    Mistake(
        "a scope in a thread",
        "app = make()\ndef work():\n  with transaction(): pass\n"
        "t = threading.Thread(target=work); t.start(); t.join()",
        ("session_scope(app)",),
    ),
    Mistake(
        "a commit in a scope",
        _IN + "  with transaction():\n    db.session.add(Author(name='a')); db.session.commit()",
        ("leave the commit out",),
    ),
    Mistake(
        "a rollback in a scope",
        _IN + "  with transaction():\n"
        "    db.session.add(Author(name='a')); db.session.rollback()\n"
        "    db.session.add(Author(name='b'))",
        ("raise Rollback",),
    ),
    Mistake(
        "a with block to be retried", _IN + "  with transaction(retry=3): pass", ("run(fn, retry=",)
    ),
    Mistake(
        "no DBKit",
        "with Flask('n').app_context():\n  with transaction(): pass",
        ("dbkit.init_app(app)",),
    ),
    Mistake(
        "a naive datetime",
        _IN + "  wanted = select(Book).where(Book.created_at > datetime(2020, 1, 1))\n"
        "  db.session.scalars(wanted).all()",
        ("book.created_at", "aware"),
    ),
    Mistake(
        "a key that is not unique",
        _IN + "  upsert(Book, [{'title': 'a'}], by='title')",
        ("title", "unique"),
    ),
    Mistake(
        "a misspelt column of a row",
        _IN + "  upsert(Author, [{'nmae': 'a', 'name': 'b'}], by='name')",
        ("Did you mean 'name'",),
    ),
    Mistake(
        "a misspelt column of a lookup",
        _IN + "  get_or_create(Author, nmae='x')",
        ("Did you mean 'name'",),
    ),
    Mistake("an async function", "@transaction\nasync def f(): pass", ("async",)),
    Mistake("a generator", "@transaction\ndef f():\n  yield 1", ("generator",)),
    Mistake(
        "a word for a number",
        "make(DBKIT_MAX_PAGE_SIZE='many')",
        ("DBKIT_MAX_PAGE_SIZE", "'many'", "whole number"),
    ),
    Mistake("init_app twice", "dbkit.init_app(make())", ("once per application",)),
    Mistake(
        "a session without any application",
        "with session_scope() as s: pass",
        ("session_scope(app)",),
    ),
    Mistake(
        "a folder that is not there",
        "app = bare('sqlite:////nonexistent/dir/x.db'); dbkit.init_app(app)\n"
        "with app.app_context(): db.create_all()",
        ("/nonexistent/dir", "does not exist"),
    ),
    Mistake(
        "work before a function that may be retried",
        "@transaction(retry=3)\ndef f(): pass\n" + _IN + "  db.session.add(Author(name='q')); f()",
        ("uncommitted work", "inside the"),
    ),
    Mistake(
        "names of columns for columns",
        "SortAllowlist(['title'], default='title')",
        ("SortAllowlist({'title': Model.title}, …)", "['title']"),
    ),
    Mistake("text for columns", "FilterAllowlist('title')", ("FilterAllowlist({'title': ",)),
    Mistake("nothing for columns", "SortAllowlist(None, default='title')", ("SortAllowlist({",)),
    Mistake(
        "two columns of one name",
        "SortAllowlist([Book.id, Author.id], default='id')",
        ("two columns that are called 'id'",),
    ),
    Mistake(
        "a misspelt operator",
        "FilterAllowlist({'title': Filter(Book.title, ops='eq contians')})",
        ("'contians'", "Did you mean 'contains'"),
    ),
    Mistake(
        "a misspelt option of a scope",
        _IN + "  with transaction(readonly=True): pass",
        ("'readonly'", "Did you mean 'read_only'"),
    ),
    Mistake(
        "a misspelt word",
        _IN + "  with transaction(isolation='serialisable'): pass",
        ("'serialisable'", "Did you mean 'SERIALIZABLE'"),
    ),
    Mistake(
        "no key to upsert by",
        _IN + "  upsert(Author, [{'name': 'a'}])",
        ("needs by=", "Author has: ('id',), ('name',)"),
    ),
    Mistake(
        "a lookup that nothing keeps unique",
        _IN + "  get_or_create(Book, title='x')",
        ("title", "unique"),
    ),
    Mistake(
        "an error that was caught",
        _IN + "  with transaction():\n"
        "    db.session.add(Author(name='a')); db.session.flush()\n"
        "    try: db.session.add(Author(name='a')); db.session.flush()\n"
        "    except IntegrityError: pass",
        ("with savepoint():",),
    ),
    Mistake(
        "a job without an application",
        "@job\ndef f(): return 1\nf()",
        ("f() inside", "app_context()"),
        ("session_scope(app)",),
    ),
    Mistake("a rollback of nothing", _IN + "  raise Rollback", ("with transaction():",)),
    Mistake(
        "a keyword for run() that goes to the function",
        "def f(): pass\nrun(f, retyr=3)",
        ("Did you mean 'retry'",),
    ),
    Mistake(
        "a keyword for on_commit() that goes to the function",
        _IN + "  on_commit(print, robsut=True)",
        ("Did you mean 'robust'",),
    ),
    Mistake(
        "a row that is not there",
        "app = make()\n@app.get('/')\ndef i(): return str(db.session.get_one(Book, 5))\n"
        "print('status', app.test_client().get('/').status_code)",
        ("status 404",),
    ),
    Mistake("a list without an order", "Listing(Book)", ("needs sort=", "SortAllowlist({")),
    Mistake(
        "work before a scope",
        _IN + "  db.session.add(Author(name='q'))\n  with transaction(): pass",
        ("adopt=True",),
    ),
]


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], str]:
    """Return a function that runs code as a program of its own would, and returns what is said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr("flask_dbkit.application._applications", set())
    monkeypatch.setattr(DBKit, "_has_served", False)

    def run(code: str) -> str:
        module = types.ModuleType(f"mistake_{abs(hash(code))}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        heard = io.StringIO()
        handler = logging.StreamHandler(heard)
        monkeypatch.setattr(logging.getLogger("flask_dbkit"), "handlers", [handler])
        with (
            _threads_into(heard),
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(heard),
        ):
            warnings.simplefilter("always")
            try:
                exec(_SETUP + code, vars(module))
            except Exception as error:
                heard.write("".join(traceback.format_exception_only(error)))
                cause = error.__cause__
                heard.write(f"{cause}" if cause is not None else "")
        return heard.getvalue() + "\n".join(str(one.message) for one in warned)

    return run


@contextlib.contextmanager
def _threads_into(heard: io.StringIO) -> Iterator[None]:
    before = threading.excepthook
    threading.excepthook = lambda args: heard.write(f"{args.exc_value}")
    try:
        yield
    finally:
        threading.excepthook = before


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_told_what_to_do(said: Callable[[str], str], mistake: Mistake) -> None:
    """What was given, what is allowed, what is nearest, what to call instead."""
    text = said(mistake.code)
    assert [word for word in mistake.wanted if word not in text] == [], text
    assert [word for word in mistake.unwanted if word in text] == [], text


def test_an_unknown_command_is_found_in_the_groups_below() -> None:
    """``flask dbkit upgrade`` is one word short."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    DBKit(app)
    for given, meant in {
        "upgrade": "'flask dbkit migrate upgrade'",
        "create": "'flask dbkit backup create'",
        "restroe": "'flask dbkit backup restore'",
        "inof": "'flask dbkit info'",
    }.items():
        done: Any = app.test_cli_runner().invoke(args=["dbkit", given])
        assert done.exit_code == 2
        assert f"Did you mean {meant}?" in done.output
    assert "Did you mean" not in app.test_cli_runner().invoke(args=["dbkit", "zzzz"]).output
    assert "0.1.0" in app.test_cli_runner().invoke(args=["dbkit", "--version"]).output


@pytest.mark.parametrize("command", ["routes", "shell", "seed"])
def test_a_setting_that_cannot_be_used_ends_a_command_in_one_line(command: str) -> None:
    """Whoever deploys sees what to change, and not where it was noticed."""

    def create_app() -> Flask:
        app = Flask("shop")
        app.config["SQLALCHEMY_DATABASE_URI"] = "postgrse://x/y"
        app.cli.command("seed")(lambda: None)
        DBKit(app)
        return app

    done = CliRunner().invoke(FlaskGroup(create_app=create_app), [command])
    assert done.exit_code == 1
    assert done.output.startswith("Error: SQLALCHEMY_DATABASE_URI")
    assert done.output.count("\n") == 1
    with pytest.raises(ConfigError):  # in code it is what it was
        create_app()


def _public() -> dict[str, Any]:
    """Every public function and class, and the public methods of the classes, by name."""
    found: dict[str, Any] = {}
    for name in flask_dbkit.__all__:
        value = getattr(flask_dbkit, name)
        if value.__class__.__module__ == "blinker.base" or isinstance(value, dict):
            continue
        if not inspect.isclass(value):
            found[name] = value
        elif not issubclass(value, (BaseException, BaseMixin, TypeDecorator, *_COLUMNS)):
            if name not in _MADE_BY_US:  # nobody makes one
                found[name] = value
            for method, member in vars(value).items():
                if inspect.isfunction(member) and not method.startswith("_"):
                    found[f"{name}.{method}"] = member
    return found


_MADE_BY_US = ("Config", "PeerLoads", "QueryStats", "Repeat", "Statement", "TransactionInfo")
# What SQLAlchemy calls.
_COLUMNS = (flask_dbkit.Timestamps, flask_dbkit.UUIDPrimaryKey, flask_dbkit.Versioned)


def _by_name(value: Any) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(value).parameters.values()
    return [one for one in parameters if one.kind in kinds and one.name != "self"]


def _spelled_wrong(word: str) -> Iterator[str]:
    yield word[:-1]  # one letter dropped
    yield word[0] + word  # one doubled
    yield word[1] + word[0] + word[2:]  # two have changed places
    yield word.replace("_", "")  # an underscore lost


@pytest.mark.parametrize("name", _public())
def test_a_misspelt_keyword_is_answered_with_the_nearest(name: str) -> None:
    """Whatever is called, and whichever keyword it is."""
    value = _public()[name]
    named = [one.name for one in _by_name(value)]
    if name in ("run", "on_commit", "get_or_create"):
        return  # others belong to somebody else: to a function, or to the columns of a model
    for word in named:
        for wrong in {*_spelled_wrong(word)} - {*named, "", word}:
            with pytest.raises(TypeError) as caught:
                value(**{wrong: None})
            assert f"has no argument {wrong!r}" in str(caught.value)
            assert f"Did you mean {word!r}?" in str(caught.value) or len(word) < 3
    if named:
        with pytest.raises(TypeError, match="has no argument 'zzzzz'"):
            value(zzzzz=None)


@pytest.mark.parametrize("name", _public())
def test_a_missing_argument_is_named(name: str) -> None:
    """With the call as it has to be written."""
    value = _public()[name]
    required = [one for one in _by_name(value) if one.default is one.empty]
    for left_out in required:
        with pytest.raises(TypeError) as caught:
            value(**{one.name: None for one in required if one is not left_out})
        assert f" needs {left_out.name}" in str(caught.value)
