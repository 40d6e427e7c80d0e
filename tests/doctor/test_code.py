"""What the look at code takes for a fault, and what not: nothing is run."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flask_dbkit.doctor.checks import Check
from flask_dbkit.doctor.findings import Found
from flask_dbkit.doctor.sources import Source, Sources
from flask_dbkit.engines.doctor.capacity import own_engine
from flask_dbkit.engines.doctor.configuration import password_in_code
from flask_dbkit.engines.doctor.statements import built_statements
from flask_dbkit.health.doctor import _asks_database
from flask_dbkit.lists.doctor import attributes_by_name, orders_of_text
from flask_dbkit.migrations.doctor import _is_script
from flask_dbkit.transactions.doctor import sessions_for_threads

MODELS = [SimpleNamespace(class_=type("Book", (), {}))]


def look(check: Check, text: str) -> list[Found]:
    source = Source(Path("shop.py"), "shop.py", text, ast.parse(text))
    given: Any = SimpleNamespace(sources=[source], mappers=MODELS)
    return list(check.examine(given))


BUILT = [
    'db.session.execute(text(f"SELECT * FROM book WHERE id = {number}"))',
    'db.session.execute(text("SELECT * FROM book WHERE id = %s" % number))',
    'db.session.execute(text("SELECT * FROM book WHERE id = {}".format(number)))',
    'db.session.execute(text("SELECT * FROM book WHERE id = " + number))',
    'connection.exec_driver_sql("DELETE FROM book WHERE " + condition)',
    'sql = "SELECT 1 FROM book"\nif deep:\n    sql += f" WHERE id = {number}"\nexecute(text(sql))',
    'for name in names():\n    cursor.execute(f"DROP TABLE {name}")',
    'query = f"SELECT * FROM {table}"\nother = query\nconnection.scalar(text(other))',
    'def find(name):\n    return select(Book).from_statement(text(f"SELECT * FROM book {name}"))',
]
CONSTANT = [
    'db.session.execute(text("SELECT * FROM book WHERE id = :id"), {"id": number})',
    'TABLE = "book"\ndb.session.execute(text(f"SELECT * FROM {TABLE}"))',
    'for name in ("book", "author"):\n    db.session.execute(text(f"DELETE FROM {name}"))',
    'execute(text(f"SELECT * FROM book LIMIT {int(limit)}"))',
    'marks = ", ".join(["?"] * len(ids))\ncursor.execute(f"SELECT 1 WHERE 1 IN ({marks})", ids)',
    'marks = ", ".join(f":p{n}" for n in range(9))\nexecute(text(f"SELECT 1 WHERE {marks}"))',
    'ORDER = {"up": "ASC", "down": "DESC"}\nexecute(text(f"SELECT 1 ORDER BY 1 {ORDER[way]}"))',
    'execute(text(f"SELECT * FROM {Book.__tablename__}"))',
    'execute(text(f"SELECT * FROM {preparer.quote(name)} WHERE id = 1"))',
    'execute(text("SELECT 1 " + ("WHERE true" if deep else "")))',
    'task.execute(f"Say hello to {name}")',
    'label.text(f"Hello {name}")',
    'execute(select(Book).where(Book.title == f"{a} {b}"))',
]


@pytest.mark.parametrize("text", BUILT)
def test_a_statement_put_together_from_texts_is_found(text: str) -> None:
    """Whatever puts it together, and when it goes through names of the function."""
    (found,) = look(built_statements, text)
    assert str(found.object).startswith("shop.py:")


@pytest.mark.parametrize("text", CONSTANT)
def test_a_statement_of_constants_is_none(text: str) -> None:
    """Nor one of numbers, of marks for values, or of quoted names; nor what is no SQL."""
    assert look(built_statements, text) == []


def test_a_value_of_the_request_makes_it_an_error() -> None:
    """Through names, and through the variables of a rule."""
    for value in ('request.args["q"]', 'request.form.get("q")', "request.get_json()['q']"):
        text = f'def f():\n    q = {value}\n    execute(text(f"SELECT 1 FROM book WHERE {{q}}"))'
        (found,) = look(built_statements, text)
        assert found.level == "error"
    (found,) = look(
        built_statements,
        '@app.get("/<q>")\ndef f(q):\n    execute(text("SELECT 1 FROM book WHERE " + q))',
    )
    assert found.level == "error"
    (found,) = look(built_statements, 'def f(q):\n    execute(text("SELECT 1 FROM book " + q))')
    assert found.level is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('getattr(Book, request.args.get("sort", "id"))', 1),
        ('name = request.args["sort"]\nselect(Book).order_by(getattr(Book, name).desc())', 1),
        ('@app.route("/<key>")\ndef f(key):\n    return getattr(Book, key)', 1),
        ("for key, value in request.form.items():\n    getattr(Book, key)", 1),
        ('getattr(Book, "title")', 0),
        ('getattr(book, request.args["sort"])', 0),
        ('name = request.args["sort"]\nif name in ALLOWED:\n    getattr(Book, name)', 0),
        ("def f(name):\n    return getattr(Book, name)", 0),
        ('getattr(Book, request.args["x"])  # dbkit: ignore DK101 for admins', 0),
    ],
)
def test_attributes_that_a_client_names(text: str, count: int) -> None:
    """Unless the name is compared with what is allowed."""
    assert len(look(attributes_by_name, text)) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('query.order_by(text(request.args["sort"]))', 1),
        ("def f(sort):\n    return query.order_by(text(sort))", 1),
        ('query.order_by(text(f"{sort} desc"))', 1),
        ('query.order_by(desc(request.args["sort"]))', 1),
        ('query.order_by(getattr(Book, request.args["sort"]))', 0),
        ('query.order_by(SORTS[request.args["sort"]].desc())', 0),
        ('key = SORTS.get(request.args.get("sort"), Book.id)\nquery.order_by(key)', 0),
        ('q = request.args["q"]\nquery.order_by((Book.title == q).desc())', 0),
        ('way = "asc" if request.args["up"] else "desc"\nquery.order_by(getattr(col, way)())', 0),
        ('q = request.args["q"]\nquery.order_by(Book.title.startswith(q).desc())', 0),
        ('query.order_by(request.args.get("sort"))', 1),
        ('query.order_by(text("title desc"))', 0),
        ("query.order_by(Book.title.desc())", 0),
        ('WAYS = {"t": "title"}\nquery.order_by(text(WAYS[sort]))', 0),
        ('if sort not in ("a", "b"):\n    abort(400)\nquery.order_by(text(sort))', 0),
    ],
)
def test_orders_of_text(text: str, count: int) -> None:
    """Unless they are constant, or compared with what is allowed."""
    assert len(look(orders_of_text, text)) == count


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ('URL = "postgresql://shop:Tr0ub4dor@db.example.org/shop"', None),
        ('environ.get("DATABASE_URL", "mysql+pymysql://root:hunter2@localhost/x")', "warning"),
        ('URL = "postgresql://user:password@localhost/shop"', "none"),
        ('URL = f"postgresql://shop:{password}@db/shop"', "none"),
        ('URL = "postgresql://shop@db/shop"', "none"),
        ('"""Such as postgresql://shop:Tr0ub4dor@db/shop."""', "none"),
        ('URL = "https://me:token123@example.org/"', "none"),
    ],
)
def test_passwords_in_the_code(text: str, level: str | None) -> None:
    """One for this machine is a warning; placeholders and prose are none."""
    found = look(password_in_code, text)
    assert [each.level for each in found] == ([] if level == "none" else [level])


def test_engines_and_threads() -> None:
    """One that keeps no connection is for once; a thread may be given keys."""
    assert len(look(own_engine, "engine = create_engine(url, pool_size=5)")) == 1
    assert look(own_engine, "engine = sa.create_engine(url, poolclass=pool.NullPool)") == []
    assert len(look(sessions_for_threads, "pool.submit(work, db.session)")) == 1
    assert len(look(sessions_for_threads, "Thread(target=f, kwargs={'s': db.session()})")) == 1
    assert look(sessions_for_threads, "Thread(target=work, args=(book.id,)).start()") == []


def test_a_script_may_make_tables() -> None:
    """A command, and what runs below ``if __name__``."""
    text = (
        "@app.cli.command()\ndef make():\n    db.create_all()\n"
        "if __name__ == '__main__':\n    db.create_all()\n"
        "def create_app():\n    db.create_all()\n"
    )
    source = Source(Path("shop.py"), "shop.py", text, ast.parse(text))
    made = [_is_script(source, node, around) for node, around in source.calls][1:]
    assert made == [True, True, False]


def test_a_view_that_asks_a_database_is_known_by_its_source() -> None:
    """Without calling it; what has no source is not judged."""
    assert _asks_database(lambda: db.session.execute("SELECT 1"))  # type: ignore[name-defined] # noqa: F821
    assert not _asks_database(print)
    assert not _asks_database(None)


def test_the_files_of_a_package_are_those_that_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tests, no revisions, no virtual environment, nothing that cannot be parsed."""
    package = tmp_path / "shopfiles"
    for name in ("__init__.py", "views.py", "tests/test_views.py", "sub/deep.py", "broken.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("x = 1\n")
    (package / "broken.py").write_text("x = (\n")
    for name in ("migrations/env.py", "migrations/versions/1.py", "venv/pyvenv.cfg", "venv/a.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("x = 1\n")
    (tmp_path / "config.py").write_text("KEY = 1\n")
    (tmp_path / "test_shop.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    __import__("shopfiles.views")
    found = [source.shown for source in Sources("shopfiles", package)]
    assert found == [
        "shopfiles/__init__.py",
        "shopfiles/sub/deep.py",
        "shopfiles/views.py",
        "config.py",
    ]
    assert list(Sources("nobody", tmp_path)) == []
