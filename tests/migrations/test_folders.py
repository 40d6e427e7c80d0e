"""Folders of ours and folders of Flask-Migrate's, for one database and for several."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from flask_migrate import Migrate

from flask_dbkit import UTCDateTime, declarative_base
from flask_dbkit import application as state
from flask_dbkit.migrations import find_folder
from flask_dbkit.migrations.logs import undisturbed_logging
from tests.migrations.conftest import MakeProject, Project
from tests.support.databases import Database

# What Flask-Migrate's own env.py calls.
pytestmark = pytest.mark.filterwarnings("ignore:'get_engine' is deprecated")


def models(*, plain: bool = False) -> Any:
    """Return a base with a table ``book``; a plain one has no type of ours."""
    base = declarative_base()
    sa.Table(
        "book",
        base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("title", sa.String(50), nullable=False, server_default="none"),
        sa.Column("at", sa.DateTime() if plain else UTCDateTime()),
        sa.Column("pages", sa.Integer),
        sa.CheckConstraint("pages > 0", name="positive"),
    )
    return base


def add_log(project: Project, bind: str = "audit") -> None:
    """Declare a model on another bind."""
    project.db.metadatas[bind] = sa.MetaData(
        naming_convention=project.db.metadata.naming_convention, info={"bind_key": bind}
    )
    sa.Table("log", project.db.metadatas[bind], sa.Column("id", sa.Integer, primary_key=True))


def revision_files(project: Project) -> list[Path]:
    return sorted((project.path / "versions").glob("*.py"))


@pytest.mark.requires("several_connections")
def test_the_first_revision_makes_the_models_tables_and_nothing_is_left(
    make_project: MakeProject, database: Database
) -> None:
    """init, new, upgrade, check: types are imported, names are conventional, all agrees."""
    project = make_project(database.url, base=models())
    written = project.ok("new", "-m", "first")
    (path,) = revision_files(project)
    assert str(path) in written
    text = path.read_text()
    assert "import flask_dbkit.types\n" in text
    assert "op.f('ck_book_positive')" in text
    assert project.ok("upgrade").startswith("default: + ")
    assert project.ok("check") == "Models and databases agree.\n"
    assert project.ok("new", "-m", "second") == "No changes in schema detected.\n"
    assert project.ok("upgrade") == "default: nothing to do.\n"
    assert len(revision_files(project)) == 1
    project.ok("downgrade")
    assert project.tables() == {"alembic_version"}


@pytest.mark.requires("several_connections")
@pytest.mark.parametrize(
    ("change", "kind", "detail"),
    [
        ("CHECK", "remove_constraint", "ck_book_positive"),
        ("DEFAULT", "modify_default", "title"),
        ("COLUMN", "add_column", "at"),
    ],
)
def test_check_finds_what_differs(
    make_project: MakeProject, database: Database, change: str, kind: str, detail: str
) -> None:
    """Check constraints and server defaults too: Alembic by itself looks at neither."""
    project = make_project(database.url, base=models())
    project.ok("new", "-m", "first")
    project.ok("upgrade")
    book = project.db.metadata.tables["book"]
    if change == "CHECK":
        (check,) = [one for one in book.constraints if isinstance(one, sa.CheckConstraint)]
        book.constraints.remove(check)
    elif change == "DEFAULT":
        book.c.title.server_default = sa.DefaultClause("some")
    else:
        sa.Table("book", project.db.metadata, sa.Column("extra", sa.Integer), extend_existing=True)
        detail = "extra"
    result = project.run("check", "--json")
    assert result.exit_code == 1
    (found,) = json.loads(result.output)
    assert (found["bind"], found["kind"], found["table"]) == ("default", kind, "book")
    assert detail in found["detail"]
    assert project.run("check").exit_code == 1


def test_a_bind_that_is_added_later_is_migrated(
    make_project: MakeProject, database: Database, make_database: Any
) -> None:
    """It is compared, its revision is written beside the old ones, and its table is made."""
    project = make_project(database.url, base=models())
    project.ok("new", "-m", "first")
    project.ok("upgrade")
    project = make_project(
        database.url,
        base=models(),
        init=False,
        SQLALCHEMY_BINDS={"audit": make_database("sqlite-file").url},
    )
    add_log(project)
    assert project.run("check").exit_code == 1
    if database.name == "sqlite-memory":  # a new application has a new one
        project.ok("upgrade")
    project.ok("new", "-m", "audit")
    project.ok("upgrade")
    assert project.tables("audit") == {"alembic_version", "log"}
    assert project.tables() == {"alembic_version", "book"}
    project.ok("check")
    states = json.loads(project.ok("status", "--json", "--exit-code"))
    assert [(one["bind"], one["status"]) for one in states] == [
        ("default", "current"),
        ("audit", "current"),
    ]


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("multidb", [False, True])
def test_a_folder_of_flask_migrate_works_unchanged(
    make_project: MakeProject, database: Database, tmp_path: Path, multidb: bool
) -> None:
    """With its own env.py, whose transaction and logging are no hindrance."""
    binds = {"audit": f"sqlite:///{tmp_path / 'audit.db'}"} if multidb else {}
    project = make_project(
        database.url, base=models(plain=True), init=False, SQLALCHEMY_BINDS=binds
    )
    Migrate(project.app, project.db, directory=str(project.path))
    if multidb:
        add_log(project)
    with project.app.app_context(), undisturbed_logging():
        flask_migrate.init(multidb=multidb)
        flask_migrate.migrate(message="first")
    before = {path: path.read_bytes() for path in project.path.glob("*.*")}
    assert "pending" in project.ok("status")
    assert "default: + " in project.ok("upgrade")
    assert project.tables() == {"alembic_version", "book"}
    project.execute(
        "CREATE TABLE page (id INTEGER, book_id INTEGER REFERENCES book (id) ON DELETE CASCADE)",
        "INSERT INTO book (id, title) VALUES (1, 'a')",
        "INSERT INTO page VALUES (1, 1)",
    )
    (path,) = revision_files(project)
    (project.path / "versions" / "second.py").write_text(
        f"from alembic import op\nimport sqlalchemy as sa\nrevision, down_revision = 'second',"
        f" {path.name.partition('_')[0]!r}\n"
        + (
            "def upgrade(engine_name): globals()['upgrade_' + engine_name]()\n"
            "def upgrade_audit(): pass\n"
            "def upgrade_():\n"
            if multidb
            else "def upgrade():\n"
        )
        + "    with op.batch_alter_table('book') as batch:\n"
        "        batch.alter_column('title', type_=sa.String(80), existing_type=sa.String(50))\n"
        "downgrade = upgrade\n"
    )
    project.ok("upgrade")
    assert project.rows("SELECT count(*) FROM page") == [(1,)]
    if multidb:
        assert project.tables("audit") == {"alembic_version", "log"}
    assert before == {path: path.read_bytes() for path in project.path.glob("*.*")}


@pytest.mark.backends("sqlite-file")
def test_adopting_shows_the_difference_and_keeps_the_old_file(
    make_project: MakeProject, database: Database
) -> None:
    """Afterwards 'flask db' is as careful; a second time there is nothing to do."""
    project = make_project(database.url, base=models(), init=False)
    Migrate(project.app, project.db, directory=str(project.path))
    with project.app.app_context():
        flask_migrate.init()
    old = (project.path / "env.py").read_text()
    refused = project.run("adopt", input="n\n")
    assert refused.exit_code == 1
    assert "+run_env(context)" in refused.output
    assert (project.path / "env.py").read_text() == old
    assert "not in the new env.py" not in project.ok("adopt", "--yes")
    assert (project.path / "env.py.before-dbkit").read_text() == old
    assert "nothing to do" in project.ok("adopt", "--yes")
    assert not (project.path / "env.py.before-dbkit-2").exists()
    assert project.flask_db("migrate", "-m", "first").exit_code == 0
    assert project.flask_db("upgrade").exit_code == 0
    assert project.tables() == {"alembic_version", "book"}
    assert project.flask_db("check").exit_code == 0


@pytest.mark.backends("sqlite-file")
def test_a_folder_for_one_database_does_not_hide_another(
    make_project: MakeProject, database: Database, tmp_path: Path
) -> None:
    """Flask-Migrate says that nothing is to be done, and the table is missing."""
    project = make_project(database.url, base=models(plain=True), init=False)
    Migrate(project.app, project.db, directory=str(project.path))
    with project.app.app_context(), undisturbed_logging():
        flask_migrate.init()
        flask_migrate.migrate(message="first")
    project = make_project(
        database.url,
        base=models(),
        init=False,
        SQLALCHEMY_BINDS={"audit": f"sqlite:///{tmp_path / 'audit.db'}"},
    )
    add_log(project)
    project.ok("upgrade")
    result = project.run("check")
    assert result.exit_code == 1
    assert "audit: env.py is written for one database" in result.output
    project.ok("adopt", "--yes")
    project.ok("new", "-m", "audit")
    project.ok("upgrade")
    assert project.tables("audit") == {"alembic_version", "log"}


@pytest.mark.backends("sqlite-file")
def test_no_logger_is_silenced_by_an_upgrade_in_process(project: Project) -> None:
    """Neither through our function nor through Flask-Migrate's, with any env.py."""
    Migrate(project.app, project.db, directory=str(project.path))
    mine = logging.getLogger("myapp.orders")
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    project.write(
        "op.create_table('a', sa.Column('id', sa.Integer, primary_key=True))", "op.drop_table('a')"
    )
    with project.app.app_context():
        flask_migrate.upgrade()
    project.ok("downgrade")
    (project.path / "env.py").write_text(
        (Path(flask_migrate.__file__).parent / "templates/flask/env.py").read_text()
    )
    project.ok("upgrade")
    assert mine.disabled is False
    assert project.app.logger.disabled is False
    assert (root.level, list(root.handlers)) == before


@pytest.mark.backends("sqlite-file")
def test_a_given_connection_is_the_only_one_used(project: Project, tmp_path: Path) -> None:
    """A test of migrations never touches the application's database."""
    project.write("op.create_table('a', sa.Column('id', sa.Integer, primary_key=True))")
    other = sa.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with project.app.app_context(), other.connect() as connection:
        config = find_folder().config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    assert set(sa.inspect(other).get_table_names()) == {"alembic_version", "a"}
    other.dispose()
    database = project.engine().url.database
    assert database is not None
    assert not Path(database).exists()


@pytest.mark.backends("sqlite-file")
def test_a_test_that_drives_alembic_needs_no_application_context(
    project: Project, tmp_path: Path
) -> None:
    """As pytest-alembic does: the one application of the process is meant."""
    state._applications.clear()
    state.remember(project.app)
    project.write("op.create_table('a', sa.Column('id', sa.Integer, primary_key=True))")
    other = sa.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    config = Config(project.path / "alembic.ini")
    config.set_main_option("script_location", str(project.path))
    with other.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    assert set(sa.inspect(other).get_table_names()) == {"alembic_version", "a"}
    other.dispose()


@pytest.mark.backends("sqlite-file")
def test_an_empty_revision_and_one_that_joins_heads(project: Project) -> None:
    """Written by hand, and after a merge of two branches."""
    project.ok("new", "-m", "data", "--empty")
    first = revision_files(project)[0].name.split("_")[1]
    for name in ("left", "right"):
        project.revisions[:] = [first]
        project.write("pass", name=name)
    refused = project.run("upgrade")
    assert refused.exit_code == 1
    assert "2 heads: left (by hand), right (by hand)" in refused.output
    assert "migrate new --merge" in refused.output
    assert project.tables() == set()
    project.ok("new", "--merge", "-m", "join")
    project.ok("upgrade")
    assert "one head only" in project.ok("new", "--merge", "-m", "join")


@pytest.mark.backends("sqlite-file")
def test_a_database_newer_than_the_code_is_left_alone(project: Project) -> None:
    """An older version that is deployed again says so, and changes nothing."""
    path = project.path / "versions" / "001_by_hand.py"
    project.write("op.create_table('a', sa.Column('id', sa.Integer, primary_key=True))")
    project.ok("upgrade")
    text = path.read_text()
    path.unlink()
    for name in ("upgrade", "downgrade"):
        result = project.run(name)
        assert result.exit_code == 1
        assert "at revision 001, which the folder" in result.output
        assert "newer than this code" in result.output
    (state,) = json.loads(project.ok("status", "--json"))
    assert state["status"] == "unknown"
    assert state["unknown"] == ["001"]
    assert project.run("status", "--exit-code").exit_code == 1
    path.write_text(text)
    assert project.ok("upgrade") == "default: nothing to do.\n"


@pytest.mark.backends("sqlite-file")
def test_looking_makes_no_file(project: Project) -> None:
    """Status and a dry run of an upgrade leave nothing behind."""
    project.write("op.create_table('a', sa.Column('id', sa.Integer, primary_key=True))")
    assert "absent" in project.ok("status")
    assert "CREATE TABLE a" in project.ok("upgrade", "--dry-run")
    database = project.engine().url.database
    assert database is not None
    assert list(Path(database).parent.glob("*.sqlite3*")) == []


@pytest.mark.requires("several_connections")
def test_a_dry_run_prints_the_sql_and_changes_nothing(
    make_project: MakeProject, database: Database
) -> None:
    """Rebuilt tables included, which on SQLite no offline mode can write."""
    project = make_project(database.url, base=models())
    project.ok("new", "-m", "first")
    project.ok("upgrade")
    project.revisions.append(revision_files(project)[0].name.split("_")[1])
    project.write(
        "with op.batch_alter_table('book') as batch:\n"
        "    batch.alter_column('title', type_=sa.String(80), existing_type=sa.String(50))"
    )
    before = project.rows("SELECT version_num FROM alembic_version")
    sql = project.ok("upgrade", "--dry-run")
    assert "Database default" in sql
    assert "VARCHAR(80)" in sql
    assert "UPDATE alembic_version" in sql
    assert project.rows("SELECT version_num FROM alembic_version") == before
    assert "pending" in project.ok("status")


def test_without_a_folder_every_command_says_how_to_make_one(
    make_project: MakeProject, tmp_path: Path
) -> None:
    """One sentence, exit code 1."""
    project = make_project(f"sqlite:///{tmp_path / 'a.db'}", init=False)
    for each in (["upgrade"], ["status"], ["check"], ["adopt", "--yes"], ["new", "-m", "x"]):
        result = project.run(*each)
        assert result.exit_code == 1, each
        assert "flask dbkit migrate init" in result.output
    assert project.run("new").exit_code == 2
    assert project.run("upgrade", "--wait", "soon").exit_code == 2


def test_a_folder_is_made_once(make_project: MakeProject, tmp_path: Path) -> None:
    """Nothing that is there already is overwritten."""
    project = make_project(f"sqlite:///{tmp_path / 'a.db'}")
    (project.path / "README").write_text("mine")
    assert "is there already" in project.ok("init")
    assert (project.path / "README").read_text() == "mine"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    refused = project.run("init", "-d", str(tmp_path / "full"))
    assert refused.exit_code == 1
    assert "no migrations folder" in refused.output


def test_revisions_of_flask_alembic_move_into_a_folder_of_ours(
    make_project: MakeProject, tmp_path: Path
) -> None:
    """It keeps them without an env.py; its version table is Alembic's, and stays."""
    project = make_project(f"sqlite:///{tmp_path / 'a.db'}")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "a1_first.py").write_text(
        "revision = 'a1'\ndown_revision = None\n\ndef upgrade():\n    pass\n"
    )
    with closing(sqlite3.connect(tmp_path / "a.db")) as raw, raw:
        raw.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        raw.execute("INSERT INTO alembic_version VALUES ('a1')")
    for word in ("adopt", "upgrade", "status"):
        refused = project.run(word, "-d", str(bare))
        assert refused.exit_code == 1
        assert "as Flask-Alembic keeps them" in refused.output
    aside = bare.rename(tmp_path / "aside")
    project.ok("init", "-d", str(bare))
    (aside / "a1_first.py").rename(bare / "versions" / "a1_first.py")
    assert project.run("status", "-d", str(bare)).exit_code == 0


@pytest.mark.backends("sqlite-file")
def test_a_stamp_notes_what_create_all_has_made(
    make_project: MakeProject, database: Database
) -> None:
    """The tables are there already; from here on they are migrated."""
    project = make_project(database.url, base=models())
    project.ok("new", "-m", "first")
    with project.app.app_context():
        project.db.create_all()
    refused = project.run("upgrade")
    assert refused.exit_code == 1
    assert "flask dbkit migrate stamp" in refused.output
    project.ok("stamp")
    assert project.ok("upgrade") == "default: nothing to do.\n"
    project.ok("check")


@pytest.mark.backends("sqlite-file")
def test_several_databases_that_fall_behind_are_named_before_a_revision_is_written(
    make_project: MakeProject, database: Database
) -> None:
    """Models can only be compared with a database that is up to date."""
    project = make_project(database.url, base=models())
    project.ok("new", "-m", "first")
    result = project.run("new", "-m", "second")
    assert result.exit_code == 1
    assert "Run 'flask dbkit migrate upgrade' first" in result.output
    assert len(revision_files(project)) == 1


@pytest.mark.backends("sqlite-file")
def test_adopting_keeps_what_the_old_file_leaves_out(
    make_project: MakeProject, database: Database
) -> None:
    """An include_object goes on being asked, with all that it needs; what is left out is named."""
    project = make_project(database.url, base=models(), init=False)
    Migrate(project.app, project.db, directory=str(project.path))
    with project.app.app_context():
        flask_migrate.init()
    env = project.path / "env.py"
    rule = (
        "import re\nFOREIGN = re.compile('geo_')\n\n\n"
        "def ours(item, name, type_, reflected, compare_to):\n"
        "    return FOREIGN.match(name or '') is None\n\n\n"
        "def say_what_is_new(context, revision, directives):\n    pass\n\n\n"
        "def run_migrations_offline():"
    )
    old = env.read_text().replace("def run_migrations_offline():", rule)
    options = "context.configure(include_object=ours, compare_type=False, "
    env.write_text(old.replace("context.configure(", options))
    project.execute("CREATE TABLE geo_place (id INTEGER)")
    told = project.ok("adopt", "--yes")
    assert "Your include_object is kept" in told
    assert "not in the new env.py: say_what_is_new(), compare_type=. Give" in told
    assert "run_env(context, include_object=ours)" in env.read_text()
    project.ok("new", "-m", "first")
    project.ok("upgrade", "--no-backup")
    assert project.ok("check") == "Models and databases agree.\n"
    assert "geo_place" in project.tables()


@pytest.mark.backends("sqlite-file")
def test_a_revision_that_is_not_there_is_told_before_anything_is_done(project: Project) -> None:
    """No backup is made for it."""
    project.write("op.execute('CREATE TABLE shelf (id INTEGER)')")
    project.ok("upgrade")
    project.write("pass")
    result = project.run("upgrade", "deadbeef")
    assert result.exit_code == 1
    assert "no revision 'deadbeef'" in result.output
    assert "migrate status" in result.output
    assert "backed up" not in result.output
    project.ok("upgrade", "+1")
