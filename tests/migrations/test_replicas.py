"""A replica given as a bind is no database of its own, and tables of others are left alone."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import mapped_column

from flask_dbkit import ConfigError, DBKit
from tests.migrations.conftest import MakeProject, Project
from tests.support.databases import Database

pytestmark = pytest.mark.backends("postgresql", "mariadb")


@pytest.fixture
def copy(database: Database) -> Iterator[str]:
    """The URL of a second database, which stands for a replica that can be written to."""
    url = sa.make_url(database.url)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    name = f"{url.database}_copy"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        force = " WITH (FORCE)" if database.name == "postgresql" else ""
        connection.exec_driver_sql(f"DROP DATABASE {name}{force}")
    engine.dispose()


def with_model(project: Project, *columns: str) -> None:
    """Map one table, with columns besides the key."""

    def fill(namespace: dict[str, Any]) -> None:
        namespace["__tablename__"] = "shelf"
        namespace["id"] = mapped_column(sa.Integer, primary_key=True)
        for column in columns:
            namespace[column] = mapped_column(sa.Integer)

    types.new_class("Shelf", (project.db.Model,), exec_body=fill)


def texts(project: Project) -> str:
    return "\n".join(path.read_text() for path in project.path.glob("versions/*.py"))


def test_a_replica_does_not_exist_for_migrations_and_backups(
    make_project: MakeProject, database: Database, copy: str
) -> None:
    """No revision mentions it, and nothing is created, dropped or backed up there."""
    project = make_project(
        database.url,
        SQLALCHEMY_BINDS={"replica": copy},
        DBKIT_REPLICAS={"default": ["replica"]},
        init=False,
    )
    with_model(project, "n")
    project.execute("CREATE TABLE shelf (id int PRIMARY KEY)", key="replica")
    project.execute("INSERT INTO shelf VALUES (1)", key="replica")
    project.ok("init")
    project.ok("new", "-m", "first")
    project.ok("lint")
    project.ok("upgrade")
    assert "replica" not in texts(project)
    assert project.ok("check") == "Models and databases agree.\n"
    assert "replica" not in project.ok("status")
    runner = project.app.test_cli_runner()
    made = runner.invoke(args=["dbkit", "backup", "create", "--all"])
    assert [line.split("-")[0] for line in made.stdout.split()] == ["default"]
    own = runner.invoke(args=["dbkit", "backup", "create", "--bind", "replica"])
    assert own.exit_code == 0
    with project.app.app_context():
        project.db.drop_all()
        project.db.create_all()
    assert project.rows("SELECT * FROM shelf", key="replica") == [(1,)]


def test_without_the_setting_a_table_of_another_bind_is_not_dropped(
    make_project: MakeProject, database: Database, copy: str
) -> None:
    """A bind without models looks as if everything in it were to go: 'new' says so instead."""
    project = make_project(database.url, SQLALCHEMY_BINDS={"replica": copy}, init=False)
    with_model(project, "n")
    project.execute("CREATE TABLE shelf (id int PRIMARY KEY)", key="replica")
    project.ok("init")
    told = project.ok("new", "-m", "first")
    assert "replica: The table shelf is there too" in told
    assert "DBKIT_REPLICAS" in told
    written = texts(project)
    assert written.count("drop_table") == 1  # downgrade of the default database
    project.ok("upgrade")
    assert project.ok("check") == "Models and databases agree.\n"
    path = next(project.path.glob("versions/*.py"))
    path.write_text(
        written.replace(
            "def upgrade_replica() -> None:",
            "def upgrade_replica() -> None:\n    op.drop_table('shelf')",
        )
    )
    linted = project.run("lint")
    assert linted.exit_code == 1
    assert "mapped by a model of the bind 'default'" in linted.output


def test_functions_for_what_became_a_replica_are_refused_and_taken_out(
    make_project: MakeProject, database: Database, copy: str, tmp_path: Path
) -> None:
    """The folder is as old as the time when the replica was a bind like others."""
    options = {"SQLALCHEMY_BINDS": {"replica": copy}}
    before = make_project(database.url, **options)
    with_model(before, "n")
    before.ok("new", "-m", "first")
    assert "def upgrade_replica" in texts(before)
    after = make_project(
        database.url, init=False, DBKIT_REPLICAS={"default": ["replica"]}, **options
    )
    with_model(after, "n")
    for arguments in (("upgrade",), ("new", "-m", "x")):
        refused = after.run(*arguments)
        assert refused.exit_code == 1
        assert "upgrade_replica() is for 'replica'" in refused.output
    after.ok("adopt", "--yes")
    assert "replica" not in texts(after)
    after.ok("upgrade")
    assert "shelf" in after.tables()


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize(
    ("replicas", "reason"),
    [
        ({"default": ["nope"]}, "nope"),
        ({"nope": ["replica"]}, "nope"),
        ({"default": ["default"]}, "its own replica"),
        ({"default": ["replica"], "other": ["replica"]}, "named twice"),
        ({"default": ["other"], "other": ["replica"]}, "has replicas itself"),
        ({"default": ["file"]}, "file"),
        ({"default": ["mariadb"]}, "same kind"),
        ({"default": "replica"}, "a list"),
        ("replica", "a dict"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_at_start_up(replicas: Any, reason: str) -> None:
    """With the reason; no database is asked."""
    app = Flask("refused")
    app.config.update(
        SQLALCHEMY_DATABASE_URI="postgresql+psycopg://h/a",
        SQLALCHEMY_BINDS={
            "replica": "postgresql+psycopg://h/b",
            "other": "postgresql+psycopg://h/c",
            "file": "sqlite:///x.db",
            "mariadb": "mysql+pymysql://h/d",
        },
        DBKIT_REPLICAS=replicas,
    )
    with pytest.raises(ConfigError, match=reason):
        DBKit(app, db=SQLAlchemy())


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_tables_of_others_are_left_alone(make_project: MakeProject, database: Database) -> None:
    """Litestream's always, and those of DBKIT_MIGRATE_IGNORE_TABLES; a model's never."""
    project = make_project(
        database.url, init=False, DBKIT_MIGRATE_IGNORE_TABLES=["geo_*", "other", "shelf"]
    )
    with_model(project, "n")
    others = ("_litestream_seq", "_litestream_lock", "geo_places", "other")
    project.execute(*(f"CREATE TABLE {name} (id int)" for name in others))
    project.ok("init")
    project.ok("new", "-m", "first")
    assert "create_table('shelf'" in texts(project)
    assert not any(f"'{name}'" in texts(project) for name in others)
    project.ok("upgrade")
    assert set(others) <= project.tables()
    assert project.ok("check") == "Models and databases agree.\n"
    assert "No changes" in project.ok("new", "-m", "second")
