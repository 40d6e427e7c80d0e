"""Revisions of the past do what they did in their time, however they are written."""

from __future__ import annotations

import types
from typing import Any

import pytest
import sqlalchemy as sa
from flask_migrate import Migrate
from sqlalchemy.orm import DeclarativeBase

from flask_dbkit.migrations.on_sqlite import changed_tables
from flask_dbkit.migrations.revisions import function_for
from tests.migrations.conftest import MakeProject, Project
from tests.support.databases import Database

CALLABLES = {
    "decorated": "@swallow\ndef {name}(): {body}",
    "decorated_twice": "@swallow\n@swallow\ndef {name}(): {body}",
    "partial": "def _{name}(n): {body}\n{name} = functools.partial(_{name}, 1)",
    "defaulted": "def {name}(n=1): {body}",
    "keyword_only": "def {name}(*, n=1): {body}",
    "keywords": "def {name}(**n): {body}",
    "object": "class _{name}:\n    def __call__(self): {body}\n{name} = _{name}()",
    "lambda_": "{name} = lambda: {body}",
}
HEAD = """
import functools
from alembic import op
branch_labels = depends_on = None
def swallow(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper
"""


@pytest.mark.backends("sqlite-file")
def test_whatever_alembic_can_call_is_called(project: Project) -> None:
    """Only a parameter that has to be given means that a file is for several databases."""
    Migrate(project.app, project.db, directory=str(project.path))
    before = None
    for number, (form, text) in enumerate(CALLABLES.items()):
        up = text.format(name="upgrade", body=f"op.execute('CREATE TABLE {form} (i INTEGER)')")
        down = text.format(name="downgrade", body=f"op.execute('DROP TABLE {form}')")
        (project.path / "versions" / f"{number}_{form}.py").write_text(
            f"revision, down_revision = {str(number)!r}, {before!r}\n{HEAD}\n{up}\n{down}\n"
        )
        before = str(number)
    project.ok("upgrade")
    assert set(CALLABLES) <= project.tables()
    project.ok("downgrade", "base")
    assert not set(CALLABLES) & project.tables()
    assert project.flask_db("upgrade").exit_code == 0
    assert set(CALLABLES) <= project.tables()
    findings = project.run("lint").output
    assert "DM002" not in findings
    assert "DM008" not in findings


def test_a_decorator_that_takes_everything_leaves_it_to_the_file() -> None:
    """A file with functions for each database gets the name through the decorator."""
    module = types.ModuleType("revision")
    called: list[object] = []
    module.upgrade = lambda *names: called.append(names)  # type: ignore[attr-defined]
    module.upgrade_audit = lambda: None  # type: ignore[attr-defined]
    function = function_for(module, "upgrade", "audit")
    assert function is not None
    function()
    assert called == [("audit",)]


UNNAMED = """
op.create_table("parent", sa.Column("id", sa.Integer, primary_key=True))
op.create_table("first", sa.Column("yes", sa.Boolean(create_constraint=True)))
op.create_table(
    "kinds",
    sa.Column("kind", sa.Enum("a", "b", native_enum=False, create_constraint=True), index=True),
    sa.Column("yes", sa.Boolean(create_constraint=True)),
)
op.create_table(
    "child",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer),
    sa.Column("yes", sa.Boolean(create_constraint=True)),
    sa.Column("kind", sa.Enum("a", "b", native_enum=False, create_constraint=True)),
    sa.Column("parent_id", sa.Integer, sa.ForeignKey("parent.id")),
    sa.CheckConstraint("n > 0"),
    sa.UniqueConstraint("n"),
)
"""
UNNAMED_LATER = """
op.add_column("child", sa.Column("m", sa.Integer, sa.CheckConstraint("m > 0")))
op.create_check_constraint(None, "child", "n < 100")
op.create_unique_constraint(None, "child", ["n", "parent_id"])
op.create_foreign_key(None, "child", "parent", ["n"], ["id"])
"""


CONVENTIONS: dict[str, Any] = {
    "ours": None,
    "by class, without indexes": {
        sa.CheckConstraint: "ck_%(table_name)s_%(constraint_name)s",
        sa.UniqueConstraint: "uq_%(table_name)s_%(column_0_name)s",
        sa.ForeignKeyConstraint: "fk_%(table_name)s_%(column_0_name)s",
    },
}


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_a_constraint_without_a_name_stays_without_one(
    make_project: MakeProject, database: Database, conventions: str
) -> None:
    """A convention that the models got later names nothing in revisions of before."""
    given = CONVENTIONS[conventions]
    base = given and type("Base", (DeclarativeBase,), {"metadata": sa.MetaData(None, None, given)})
    project = make_project(database.url, base=base)
    Migrate(project.app, project.db, directory=str(project.path))
    server = project.engine().dialect.name != "sqlite"
    names = ("child", "kinds", "first", "parent")
    project.write(UNNAMED, "; ".join(f"op.drop_table({name!r})" for name in names))
    project.write(UNNAMED_LATER if server else "pass")
    project.ok("upgrade", "--no-backup")
    inspector = sa.inspect(project.engine())
    found = [
        str(each["name"])
        for table in ("first", "kinds", "child")
        for each in (
            *inspector.get_check_constraints(table),
            *inspector.get_unique_constraints(table),
            *inspector.get_foreign_keys(table),
        )
        if each["name"] is not None
    ]
    # What a server calls them: child_n_check, child_ibfk_1, n, CONSTRAINT_1.
    assert [name for name in found if name.startswith(("ck_", "uq_", "fk_"))] == []
    assert inspector.get_indexes("kinds")[0]["name"] == "ix_kinds_kind"
    assert len(inspector.get_check_constraints("child")) >= (4 if server else 3)
    project.ok("downgrade", "base", "--no-backup")
    assert project.flask_db("upgrade").exit_code == 0


@pytest.mark.backends("sqlite-file")
def test_a_batch_still_names_what_it_adds(project: Project) -> None:
    """There a constraint needs a name, and the convention gives it one."""
    project.write("op.create_table('child', sa.Column('yes', sa.Boolean))")
    project.write(
        "with op.batch_alter_table('child') as b: b.create_unique_constraint(None, ['yes'])"
    )
    project.ok("upgrade", "--no-backup")
    names = {each["name"] for each in sa.inspect(project.engine()).get_unique_constraints("child")}
    assert "uq_child_yes" in names


SPELLINGS = [
    "DELETE FROM child",
    'delete\n-- all of them\n from /* the */ main . "child"',
    "WITH old AS (SELECT 1) DELETE FROM [child] WHERE id > 0",
    "UPDATE OR REPLACE `child` SET parent_id = NULL",
    "REPLACE INTO 'child' VALUES (1, 1)",
    "INSERT OR REPLACE INTO child VALUES (1, 1)",
    "/* a comment that does not end */ DELETE FROM child/* ; DELETE FROM other",
]


def test_a_statement_that_names_a_table_is_understood_in_any_spelling() -> None:
    """Comments and texts name nothing."""
    for text in SPELLINGS:
        assert set(changed_tables(text)) == {"child"}, text
    for text in (
        "SELECT 'DELETE FROM child'",
        "-- DELETE FROM child",
        "INSERT INTO child VALUES (1)",
    ):
        assert list(changed_tables(text)) == [], text
    assert list(changed_tables('DELETE FROM "größe ""x"" y"')) == ['größe "x" y']
    assert list(changed_tables("UPDATE 東京$2 SET a = 1")) == ["東京$2"]
