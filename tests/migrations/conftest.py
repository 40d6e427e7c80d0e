"""A project with a migrations folder, on the database of the test."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import DBKit, declarative_base
from tests.support.databases import Database

_NUMBERS = itertools.count(1)


@dataclass
class Project:
    """One application, and the folder of its revisions.

    Attributes:
        app: With a ``DBKit``.
        db: Its Flask-SQLAlchemy object; models are made by the test.
        path: The migrations folder.
    """

    app: Flask
    db: SQLAlchemy
    path: Path
    revisions: list[str] = field(default_factory=list)

    def run(self, *arguments: str, **options: Any) -> Result:
        """Run ``flask dbkit migrate ...``."""
        return self.app.test_cli_runner().invoke(args=["dbkit", "migrate", *arguments], **options)

    def ok(self, *arguments: str, **options: Any) -> str:
        """Run it, and be sure that it ends with 0."""
        result = self.run(*arguments, **options)
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
        return result.output

    def flask_db(self, *arguments: str) -> Result:
        """Run ``flask db ...``."""
        return self.app.test_cli_runner().invoke(args=["db", *arguments])

    def write(self, upgrade: str, downgrade: str = "pass", *, name: str = "") -> str:
        """Write a revision by hand, behind the last one, and return its id."""
        revision = name or f"{len(self.revisions) + 1:03}"
        before = self.revisions[-1] if self.revisions else None
        (self.path / "versions" / f"{revision}_by_hand.py").write_text(
            f'"""by hand"""\nimport sqlalchemy as sa\nfrom alembic import op\n'
            f"revision, down_revision = {revision!r}, {before!r}\n"
            f"branch_labels = depends_on = None\n"
            f"def upgrade():\n{textwrap.indent(textwrap.dedent(upgrade), '    ')}\n"
            f"def downgrade():\n{textwrap.indent(textwrap.dedent(downgrade), '    ')}\n"
        )
        self.revisions.append(revision)
        return revision

    def engine(self, key: str | None = None) -> sa.Engine:
        """Return the application's engine."""
        with self.app.app_context():
            engine: sa.Engine = self.db.engines[key]
            return engine

    def execute(self, *statements: str, key: str | None = None) -> None:
        """Send statements in one transaction."""
        with self.engine(key).begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self, query: str, key: str | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.engine(key).connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def tables(self, key: str | None = None) -> set[str]:
        """Return the names of the tables."""
        return set(sa.inspect(self.engine(key)).get_table_names())


MakeProject = Callable[..., Project]


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[MakeProject]:
    """Return a function that makes a project on a database URL."""
    made: list[Project] = []

    def make(url: str, *, base: Any = None, init: bool = True, **config: Any) -> Project:
        app = Flask(f"shop{next(_NUMBERS)}", instance_path=str(tmp_path / "instance"))
        path = tmp_path / "migrations"
        app.config.update(
            {"SQLALCHEMY_DATABASE_URI": url, "DBKIT_MIGRATIONS_DIR": path, "TESTING": True}
        )
        app.config.update(config)
        db = SQLAlchemy(model_class=base or declarative_base())
        DBKit(app, db=db)
        project = Project(app, db, path)
        made.append(project)
        if init:
            project.ok("init")
        return project

    yield make
    for project in made:
        with project.app.app_context():
            for engine in project.db.engines.values():
                engine.dispose()


@pytest.fixture
def project(make_project: MakeProject, database: Database) -> Project:
    """A project with an empty migrations folder, on the database of the test."""
    return make_project(database.url)
