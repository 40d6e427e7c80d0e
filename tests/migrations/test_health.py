"""Health knows which revisions a database lacks."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.migrations.conftest import MakeProject, Project
from tests.support.databases import Database

DETAILS = {"DBKIT_HEALTH_DETAILS": "always", "DBKIT_HEALTH_TTL": 0, "DBKIT_HEALTH_TIMEOUT": 20}
TABLE = "op.create_table({!r}, sa.Column('id', sa.Integer, primary_key=True))"


def ask(project: Project, group: str) -> tuple[int, dict[str, Any]]:
    response = project.app.test_client().get(f"/health/{group}")
    body: dict[str, Any] = response.get_json()
    return response.status_code, body


def entry(body: dict[str, Any], name: str = "migrations:default") -> dict[str, Any]:
    (found,) = body["checks"][name]
    return dict(found)


@pytest.fixture
def project(make_project: MakeProject, database: Database) -> Project:
    project = make_project(database.url, **DETAILS)
    project.write(TABLE.format("a"))
    project.execute("CREATE TABLE other (id INTEGER)")
    return project


@pytest.mark.requires("several_connections")
def test_startup_waits_for_the_migrations(project: Project) -> None:
    """503 until they are applied; then it has passed, whatever file appears later."""
    status, body = ask(project, "startup")
    assert status == 503
    assert entry(body)["code"] == "migrations.pending"
    assert entry(body)["observedValue"] == 1
    assert ask(project, "ready")[0] == 200
    project.ok("upgrade")
    status, body = ask(project, "startup")
    assert (status, entry(body)["status"]) == (200, "pass")
    project.write(TABLE.format("b"))
    assert ask(project, "startup")[0] == 200
    status, body = ask(project, "ready")
    assert (status, body["status"], entry(body)["code"]) == (200, "pass", None)


@pytest.mark.requires("several_connections")
def test_readiness_warns_of_pending_and_unknown_revisions(project: Project) -> None:
    """The application may still do most of its work, so it keeps its traffic."""
    status, body = ask(project, "ready")
    assert (status, body["status"], entry(body)["code"]) == (200, "warn", "migrations.pending")
    project.ok("upgrade")
    project.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    status, body = ask(project, "ready")
    assert (status, body["status"], entry(body)["code"]) == (200, "warn", "migrations.unknown")
    status, body = ask(project, "startup")
    assert (status, entry(body)["code"]) == (503, "migrations.unknown")


@pytest.mark.backends("sqlite-file")
def test_an_application_without_a_folder_has_no_such_check(
    make_project: MakeProject, database: Database
) -> None:
    """Migrations are an offer."""
    project = make_project(database.url, init=False, **DETAILS)
    project.execute("CREATE TABLE other (id INTEGER)")
    status, body = ask(project, "startup")
    assert status == 200
    assert [name for name in body["checks"] if name.startswith("migrations")] == []


def test_nothing_of_alembic_is_imported_before_it_is_used_and_every_command_names_the_extra() -> (
    None
):
    """It costs an application that starts without it nothing; one sentence tells how to get it."""
    code = (
        "import sys, flask, flask_dbkit\n"
        "app = flask.Flask('a')\n"
        "app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite://'\n"
        "flask_dbkit.DBKit(app)\n"
        "app.test_client().get('/health/live')\n"
        "assert not {'alembic', 'flask_migrate', 'mako'} & set(sys.modules)\n"
        "sys.modules['alembic'] = None\n"
        "for command in (['init'], ['new', '-m', 'x'], ['upgrade'], ['downgrade'], ['status'],\n"
        "                ['check'], ['lint'], ['adopt'], ['stamp']):\n"
        "    done = app.test_cli_runner().invoke(args=['dbkit', 'migrate', *command])\n"
        "    assert done.exit_code == 1, (command, done.exception)\n"
        "    line = \"pip install 'flask-sqlalchemy-dbkit[migrate]'\"\n"
        "    assert line in done.output, (command, done.output)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
