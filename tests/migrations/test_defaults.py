"""Server defaults: what a database calls them is no difference, and a change is one."""

from __future__ import annotations

import re
import types
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from tests.migrations.conftest import MakeProject, Project
from tests.support.databases import Database

EVERYWHERE: list[tuple[Any, Any]] = [
    (sa.String(9), ""),
    (sa.String(9), "it's"),
    (sa.String(9), 'a "b" :c'),
    (sa.String(9), sa.text("'x'")),
    (sa.String(9), sa.func.lower("X")),
    (sa.Text, None),
    (sa.Integer, "0"),
    (sa.Integer, sa.text("0")),
    (sa.Integer, sa.text("1 + 1")),
    (sa.Integer, "-7"),
    (sa.BigInteger, "9007199254740993"),
    (sa.Float, "1.5"),
    (sa.Numeric(10, 2), "0"),
    (sa.Numeric(10, 2), sa.text("1.50")),
    (sa.Boolean, sa.true()),
    (sa.Boolean, sa.false()),
    (sa.Date, "2020-01-02"),
    (sa.DateTime, "2020-01-02 03:04:05"),
    (sa.DateTime, sa.func.now()),
    (sa.DateTime, sa.text("CURRENT_TIMESTAMP")),
    (sa.Time, "03:04:05"),
    (sa.SmallInteger, sa.text("7")),
    (sa.Integer, sa.literal(5)),
    (sa.String(9), "100%"),
    (sa.String(9), "x\ny"),
    (sa.String(9), "é東京🐘"),
    (sa.Float, sa.text("1e3")),
]
OWN: dict[str, list[tuple[Any, Any]]] = {
    "sqlite": [
        (sa.JSON, "{}"),
        (sa.Uuid, sa.text("(lower(hex(randomblob(16))))")),
        (sa.String(40), sa.text("(strftime('%Y-%m', 'now'))")),
        (sa.LargeBinary, sa.text("x'00ff'")),
        (sa.Date, sa.func.current_date()),
    ],
    "postgresql": [
        (sa.JSON, "{}"),
        (sa.JSON, '{"a": "it\'s"}'),
        (sa.ARRAY(sa.Integer), "{}"),
        (sa.Uuid, sa.text("gen_random_uuid()")),
        (sa.Interval, "1 day"),
        (sa.DateTime(timezone=True), sa.text("timezone('utc', now())")),
        (postgresql.JSONB, sa.text("'{}'::jsonb")),
        (postgresql.ARRAY(sa.Text), sa.text("ARRAY['a','b']")),
        (postgresql.ENUM("a", "b", name="mood"), "a"),
        (postgresql.INET, "127.0.0.1"),
        (sa.LargeBinary, sa.text("'\\x00'::bytea")),
        (sa.BigInteger, sa.text("(extract(epoch from now()))::bigint")),
        (sa.Text, sa.text("current_user")),
        (sa.Boolean, "t"),
    ],
    "mysql": [
        (sa.JSON, sa.text("'{}'")),
        (sa.JSON, sa.text("(json_object())")),
        (sa.DateTime, sa.text("CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP")),
        (sa.TIMESTAMP, None),
        (sa.Enum("a", "b"), "a"),
        (sa.String(40), sa.text("(uuid())")),
        (sa.Date, sa.text("(curdate())")),
        (mysql.BIT(1), sa.text("b'1'")),
        (mysql.DATETIME(fsp=6), sa.text("CURRENT_TIMESTAMP(6)")),
        (mysql.SET("a", "b"), "a"),
    ],
}
CHANGES: list[tuple[Any, Any, Any]] = [
    (sa.String(9), "a", "b"),
    (sa.String(9), "", None),
    (sa.Integer, None, "3"),
    (sa.Integer, "3", sa.text("4")),
    (sa.Boolean, sa.true(), sa.false()),
    (sa.DateTime, sa.func.now(), "2020-01-02 03:04:05"),
]


def mapped(project: Project, columns: list[tuple[Any, Any]]) -> None:
    def fill(namespace: dict[str, Any]) -> None:
        namespace["__tablename__"] = "shelf"
        namespace["id"] = sa.Column(sa.Integer, primary_key=True)
        for number, (kind, default) in enumerate(columns):
            nullable = default is None
            namespace[f"c{number}"] = sa.Column(kind, server_default=default, nullable=nullable)

    types.new_class("Shelf", (project.db.Model,), exec_body=fill)


def texts(project: Project) -> str:
    return "".join(path.read_text() for path in sorted(project.path.glob("versions/*.py")))


def test_a_default_agrees_with_the_database_after_an_upgrade(
    make_project: MakeProject, database: Database
) -> None:
    """Whatever its type and its spelling: 'check' and a second 'new' find nothing.

    Beside computed columns and identities too.
    """
    project = make_project(database.url)
    dialect = project.engine().dialect.name
    assert len(EVERYWHERE) >= 20
    mapped(project, [*EVERYWHERE, *OWN[dialect]])
    shelf = project.db.metadata.tables["shelf"]
    shelf.append_column(sa.Column("twice", sa.Integer, sa.Computed("c6 * 2", persisted=True)))
    if dialect == "postgresql":
        shelf.append_column(sa.Column("counted", sa.Integer, sa.Identity(start=5)))
    project.ok("new", "-m", "first")
    project.ok("upgrade", "--no-backup")
    assert project.ok("check") == "Models and databases agree.\n"
    assert "No changes" in project.ok("new", "-m", "second")


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_a_changed_default_is_found_and_told_in_sql(
    make_project: MakeProject, database: Database
) -> None:
    """Each of them, and no object's address."""
    before = make_project(database.url)
    mapped(before, [(kind, old) for kind, old, _ in CHANGES])
    before.ok("new", "-m", "first")
    before.ok("upgrade", "--no-backup")
    after = make_project(database.url, init=False)
    mapped(after, [(kind, new) for kind, _, new in CHANGES])
    checked = after.run("check").output
    found = set(re.findall(r"modify_default .*?(c\d)", checked))
    assert found == {f"c{number}" for number in range(len(CHANGES))}
    assert "0x" not in checked
    assert re.search(r"c1: ''.* -> none", checked), checked
    with before.app.app_context():
        for engine in before.db.engines.values():
            engine.dispose()


@pytest.mark.backends("sqlite-file")
def test_new_says_what_the_linter_finds_and_upgrade_what_to_do(
    make_project: MakeProject, database: Database
) -> None:
    """A NOT NULL column for a table with rows; what is advised leaves nothing to differ."""
    before = make_project(database.url)
    mapped(before, [])
    before.ok("new", "-m", "first")
    before.ok("upgrade", "--no-backup")
    before.execute("INSERT INTO shelf VALUES (1)")
    after = make_project(database.url, init=False)
    mapped(after, [(sa.Integer, sa.text("3"))])
    after.db.metadata.tables["shelf"].c.c0.server_default = None
    told = after.ok("new", "-m", "second")
    assert "DM102" in told
    assert "server_default, in the model too" in told
    failed = after.run("upgrade", "--no-backup")
    assert failed.exit_code == 1
    assert "Nothing of it was applied" in failed.output
    assert "server_default, in the model too" in failed.output
