"""Rebuilding a table that others refer to loses none of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from flask_migrate import Migrate

from flask_dbkit import RowsLost
from flask_dbkit.migrations import find_folder, upgrade
from tests.migrations.conftest import MakeProject, Project
from tests.support.databases import Database

ACTIONS = ("CASCADE", "SET NULL", "NO ACTION")
REBUILD = """
with op.batch_alter_table("team") as batch:
    batch.alter_column("name", existing_type=sa.String(50), type_=sa.String(80), nullable=False)
"""
COUNT = "SELECT count(*), count(team_id) FROM "


def name_of(action: str) -> str:
    return f"by_{action.lower().replace(' ', '_')}"


def tables_of(action: str) -> list[str]:
    name = name_of(action)
    return [
        (
            f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, team_id INTEGER,"
            f" FOREIGN KEY (team_id) REFERENCES team (id) ON DELETE {action})"
        ),
        f"INSERT INTO {name} VALUES (1, 1), (2, 1), (3, 2)",
    ]


def fill(project: Project, actions: Sequence[str] = ACTIONS) -> None:
    """Make two teams, and for each action a table with three members."""
    project.execute(
        "CREATE TABLE team (id INTEGER PRIMARY KEY, name VARCHAR(50))",
        "INSERT INTO team VALUES (1, 'red'), (2, 'blue')",
        *[statement for action in actions for statement in tables_of(action)],
    )


def children(project: Project) -> list[Any]:
    names = [name_of(action) for action in ACTIONS]
    return [project.rows(COUNT + name) for name in names]


def foreign_keys(project: Project) -> int:
    return int(project.rows("PRAGMA foreign_keys")[0][0])


def test_a_rebuilt_parent_keeps_the_rows_of_its_children(project: Project) -> None:
    """With foreign keys on, CASCADE would delete them and SET NULL would forget their parent."""
    fill(project)
    project.write(REBUILD)
    project.ok("upgrade")
    assert children(project) == [[(3, 3)]] * 3
    columns = sa.inspect(project.engine()).get_columns("team")
    assert not next(column for column in columns if column["name"] == "name")["nullable"]


@pytest.mark.backends("sqlite-file", "sqlite-memory")
def test_foreign_keys_are_on_again_after_an_upgrade(project: Project) -> None:
    """On every connection the application gets, and references hold."""
    fill(project)
    project.write(REBUILD)
    project.ok("upgrade")
    assert foreign_keys(project) == 1
    assert project.rows("PRAGMA foreign_key_check") == []


@pytest.mark.backends("sqlite-file", "sqlite-memory")
def test_flask_db_is_as_careful(project: Project) -> None:
    """The ordinary commands of Flask-Migrate go through the same environment."""
    Migrate(project.app, project.db, directory=str(project.path))
    fill(project)
    project.write(REBUILD)
    result = project.flask_db("upgrade")
    assert result.exit_code == 0, result.output
    assert children(project) == [[(3, 3)]] * 3
    assert foreign_keys(project) == 1


@pytest.mark.backends("sqlite-file", "sqlite-memory")
@pytest.mark.parametrize(
    ("upgrade", "loss"),
    [
        (
            "op.execute('DELETE FROM team WHERE id = 1')",
            "2 rows of by_cascade refer to rows of team",
        ),
        ("op.drop_table('team')", "3 rows of by_cascade refer to rows of team that are gone"),
        (
            (
                "op.execute('CREATE TABLE t AS SELECT * FROM by_cascade WHERE id < 3')\n"
                "op.drop_table('by_cascade')\nop.rename_table('t', 'by_cascade')"
            ),
            "1 of 3 rows of by_cascade",
        ),
    ],
)
def test_a_revision_that_loses_rows_is_rolled_back(
    project: Project, upgrade: str, loss: str
) -> None:
    """Rows that refer to nothing, or are gone, though nobody asked for it: nothing is changed."""
    fill(project)
    project.write(upgrade)
    result = project.run("upgrade")
    assert result.exit_code == 1
    assert loss in result.output
    assert "Traceback" not in result.output
    assert children(project) == [[(3, 3)]] * 3
    assert project.rows("SELECT count(*) FROM team") == [(2,)]
    assert project.ok("status").splitlines()[1].split()[:3] == ["default", "pending", "-"]


@pytest.mark.backends("sqlite-file")
def test_rows_that_a_revision_deletes_by_name_may_go(project: Project) -> None:
    """A data migration says what it deletes; children first, for nothing cascades."""
    fill(project)
    names = [name_of(action) for action in ACTIONS]
    deletes = [f"op.execute('DELETE FROM {name} WHERE team_id = 1')" for name in names]
    project.write("\n".join([*deletes, "op.execute('DELETE FROM team WHERE id = 1')"]))
    project.ok("upgrade")
    assert children(project) == [[(1, 1)]] * 3


@pytest.mark.backends("sqlite-file")
def test_references_that_were_broken_before_hinder_nobody(project: Project) -> None:
    """A database from before foreign keys were on can be migrated; it gets no worse."""
    fill(project)
    with project.engine().connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("INSERT INTO by_cascade VALUES (9, 99)")
        raw.commit()
        raw.execute("PRAGMA foreign_keys = ON")
    project.write(REBUILD)
    project.ok("upgrade")
    assert children(project)[0] == [(4, 4)]


@pytest.mark.backends("sqlite-file")
def test_a_given_connection_inside_a_transaction_loses_nothing_either(
    project: Project,
) -> None:
    """Foreign keys cannot be switched off there: the revision is refused instead."""
    fill(project, ("CASCADE", "SET NULL"))
    project.write(REBUILD)
    with project.app.app_context():
        config = find_folder().config()
        with project.engine().connect() as connection:
            connection.begin()
            config.attributes["connection"] = connection
            with pytest.raises(RowsLost) as caught:
                command.upgrade(config, "head")
            connection.rollback()
    assert "3 of 3 rows of by_cascade" in str(caught.value)
    assert "3 values of by_set_null.team_id" in str(caught.value)
    assert [project.rows(COUNT + name) for name in ("by_cascade", "by_set_null")] == [[(3, 3)]] * 2


@pytest.mark.requires("transactional_ddl")
def test_a_revision_that_fails_leaves_no_trace(project: Project) -> None:
    """The first operation is undone with the second, the revisions before it stay."""
    project.write("op.create_table('kept', sa.Column('id', sa.Integer, primary_key=True))")
    project.write(
        "op.create_table('half', sa.Column('id', sa.Integer, primary_key=True))\n"
        "op.execute('INSERT INTO nowhere VALUES (1)')"
    )
    result = project.run("upgrade")
    assert result.exit_code == 1
    assert "Revision 002 (by hand) failed in the database 'default'" in result.output
    assert "nowhere" in result.output
    assert "Nothing of it was applied" in result.output
    assert project.tables() >= {"kept"}
    assert "half" not in project.tables()
    assert project.rows("SELECT version_num FROM alembic_version") == [("001",)]


@pytest.mark.backends("mariadb")
def test_what_a_failed_revision_has_applied_is_listed(project: Project) -> None:
    """MariaDB commits each DDL statement: the message says which are there, and what to do."""
    project.write(
        "op.create_table('half', sa.Column('id', sa.Integer, primary_key=True))\n"
        "op.execute('INSERT INTO half VALUES (1)')\n"
        "op.create_table('other', sa.Column('id', sa.Integer, primary_key=True))\n"
        "op.execute('INSERT INTO nowhere VALUES (1)')"
    )
    result = project.run("upgrade")
    assert result.exit_code == 1
    stays = result.output.partition("This was applied and stays:")[2]
    assert "CREATE TABLE half" in stays
    assert "INSERT INTO half" in stays
    assert "CREATE TABLE other" in stays
    assert "nowhere" not in stays
    assert project.tables() >= {"half", "other"}
    assert project.rows("SELECT version_num FROM alembic_version") == []


@pytest.mark.backends("sqlite-memory")
def test_a_database_in_memory_can_be_made_by_migrations(
    make_project: MakeProject, database: Database
) -> None:
    """Tests of an application make their tables so, in the process that uses them."""
    project = make_project(database.url)
    project.write("op.create_table('book', sa.Column('id', sa.Integer, primary_key=True))")
    with project.app.app_context():
        assert upgrade() == {"default": ["001"]}
        project.db.session.execute(sa.text("INSERT INTO book VALUES (1)"))
        project.db.session.commit()
    assert project.rows("SELECT id FROM book") == [(1,)]
