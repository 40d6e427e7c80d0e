"""The commands where something is unusual: no server, an error of the revision, a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask_migrate import Migrate

from flask_dbkit.migrations import MigrationLocked, examine, find_folder, upgrade
from flask_dbkit.migrations.locking import upgrade_lock
from tests.migrations.conftest import MakeProject, Project
from tests.support.databases import Database

TABLE = "op.create_table({!r}, sa.Column('id', sa.Integer, primary_key=True))"
APP = """
import logging
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_dbkit import Base, DBKit

db = SQLAlchemy(model_class=Base)
mine = logging.getLogger("myapp.orders")

class Book(Base):
    id = db.Column(db.Integer, primary_key=True)

def create_app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
    app.logger
    DBKit(app, db=db)
    Migrate(app, db)
    return app
"""


def test_in_a_shell_the_folder_is_found_and_alembic_says_what_it_does(tmp_path: Path) -> None:
    """Whoever has set up no logging sees Alembic's lines, and no logger is disabled by them."""
    (tmp_path / "app.py").write_text(APP)
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    flask = "import sys\nfrom flask.cli import main\n"
    for line in ("init", "new -m first"):
        flask += f"sys.argv[1:] = 'dbkit migrate {line}'.split()\n"
        flask += "try: main()\nexcept SystemExit as end: assert not end.code\n"
    run("-c", flask)
    code = (
        "import app, flask_migrate\n"
        "made = app.create_app()\n"
        "with made.app_context():\n"
        "    flask_migrate.upgrade()\n"
        "assert not made.logger.disabled and not app.mine.disabled\n"
        "made.logger.warning('still here')\n"
    )
    output = run("-c", code)
    assert "Running upgrade  -> " in output
    assert "still here" in output
    assert (tmp_path / "instance" / "shop.db").is_file()


def test_a_server_that_does_not_answer_is_told_in_one_paragraph(make_project: MakeProject) -> None:
    """Without a traceback and without the password; nothing is tried."""
    project = make_project("postgresql://shop:s3cret@127.0.0.1:1/shop")
    project.write(TABLE.format("a"))
    for arguments in (["upgrade"], ["downgrade"], ["new", "-m", "x"], ["status"], ["check"]):
        result = project.run(*arguments)
        assert result.exit_code == 1, arguments
        assert isinstance(result.exception, SystemExit)
        assert "s3cret" not in result.output
        assert "refused" in result.output
    (state,) = json.loads(project.run("status", "--json").output)
    assert state["status"] == "unreachable"


@pytest.mark.backends("sqlite-file", "postgresql")
def test_a_revision_may_raise_what_it_likes(project: Project) -> None:
    """It is rolled back, and the traceback is its author's to read."""
    project.write(TABLE.format("half") + "\nraise LookupError('no such shelf')")
    result = project.run("upgrade")
    assert result.exit_code == 1
    assert isinstance(result.exception, LookupError)
    assert "half" not in project.tables()


def test_the_sql_of_every_database_can_be_had_from_flask_db(
    make_project: MakeProject, tmp_path: Path
) -> None:
    """Flask-Migrate's ``--sql`` goes through the same environment."""
    binds = {"audit": f"sqlite:///{tmp_path / 'audit.db'}"}
    project = make_project(f"sqlite:///{tmp_path / 'a.db'}", SQLALCHEMY_BINDS=binds)
    Migrate(project.app, project.db, directory=str(project.path))
    (project.path / "versions" / "many.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\n"
        "revision, down_revision = 'many', None\n"
        "def upgrade(engine_name): globals()['upgrade_' + engine_name]()\n"
        "def downgrade(engine_name): pass\n"
        "def upgrade_(): op.create_table('book', sa.Column('id', sa.Integer))\n"
        "def upgrade_audit(): op.create_table('log', sa.Column('id', sa.Integer))\n"
    )
    output = project.flask_db("upgrade", "--sql").output
    default, _, audit = output.partition("-- Database: audit")
    assert "CREATE TABLE book" in default
    assert "CREATE TABLE log" in audit
    assert "CREATE TABLE log" not in default
    assert not (tmp_path / "a.db").exists()
    with project.app.app_context():
        assert upgrade(only={"audit"}) == {"audit": ["many"]}
        states = {state.bind: state.status for state in examine(find_folder())}
    assert states == {"default": "absent", "audit": "current"}


@pytest.mark.requires("several_connections")
def test_the_lock_is_given_back(project: Project) -> None:
    """After a failure too; while somebody holds it, the function says so after its patience."""
    project.write("raise LookupError")
    for _ in range(2):
        assert isinstance(project.run("upgrade").exception, LookupError)
    with project.engine().connect() as connection:
        with upgrade_lock(connection, name="default", wait_s=0):
            other = project.engine().connect()
            with pytest.raises(MigrationLocked) as caught:
                with upgrade_lock(other, name="default", wait_s=0.05):
                    pass
            other.close()
        with upgrade_lock(connection, name="default", wait_s=0):
            pass
    assert (caught.value.bind, caught.value.waited_s) == ("default", 0.05)


def test_what_the_application_renders_itself_is_left_to_it(
    make_project: MakeProject, tmp_path: Path
) -> None:
    """``Migrate(render_item=...)`` is asked first, and other options of it are passed on too."""
    project = make_project(f"sqlite:///{tmp_path / 'a.db'}")

    class Money(sa.types.TypeDecorator[int]):
        impl = sa.Integer
        cache_ok = True

    for name in ("price", "skipped"):
        sa.Table(name, project.db.metadata, sa.Column("amount", Money, primary_key=True))

    def render_item(kind: str, item: Any, context: Any) -> Any:
        return "sa.Integer()" if kind == "type" and isinstance(item, Money) else False

    def include_object(item: Any, name: str, *_: Any) -> bool:
        return name != "skipped"

    Migrate(
        project.app,
        project.db,
        directory=str(project.path),
        render_item=render_item,
        include_object=include_object,
        version_table="versions",
    )
    project.ok("new", "-m", "money")
    (path,) = (project.path / "versions").glob("*.py")
    assert "sa.Column('amount', sa.Integer(), nullable=False)" in path.read_text()
    assert "skipped" not in path.read_text()
    project.ok("upgrade")
    assert project.tables() == {"price", "versions"}
    assert "current" in project.ok("status", "--exit-code")
    project.ok("check")


@pytest.mark.backends("sqlite-file")
def test_a_virtual_table_survives_a_dry_run(project: Project, database: Database) -> None:
    """Its own tables are made with it in the copy of the schema."""
    project.execute("CREATE VIRTUAL TABLE words USING fts5(word)", "CREATE TABLE a (id INTEGER)")
    project.write("op.add_column('a', sa.Column('b', sa.Integer))")
    assert "ALTER TABLE a ADD COLUMN b INTEGER" in project.ok("upgrade", "--dry-run")
    project.ok("upgrade")
