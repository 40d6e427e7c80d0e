"""The deploy script of the atlas: back up, upgrade, compare, ask."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from atlas.extensions import db
from atlas.loader import bring_up_to_date

from tests.examples.small_world import MakeAtlas
from tests.support.databases import Database

ATLAS = Path(__file__).parents[2] / "examples" / "atlas"


def deploy(folder: Path, database: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return subprocess.run(
        [folder / "deploy.sh"],
        env={
            **inherited,
            "DATABASE_URL": f"sqlite:///{database}",
            "FLASK": f"{sys.executable} -m flask",
            "FLASK_SECRET_KEY": "3f0c2a9d5b7e4c1f8a6d",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_deployment_backs_up_and_loses_nothing(tmp_path: Path) -> None:
    """From the database of a version without migrations, which create_all() had made."""
    folder, database = tmp_path / "atlas", tmp_path / "atlas.db"
    ignored = shutil.ignore_patterns("instance", "__pycache__", "tests")
    shutil.copytree(ATLAS, folder, ignore=ignored)
    with contextlib.closing(sqlite3.connect(database)) as raw:
        engine = sa.create_engine("sqlite://", creator=lambda: raw)
        db.metadatas[None].create_all(engine)
        raw.execute("INSERT INTO continent VALUES ('EU', 'Europe')")
        raw.commit()
    done = deploy(folder, database)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "default: backed up as default-" in done.stdout
    assert "default: + 4928d80ecfcc" in done.stdout
    assert "Models and databases agree." in done.stdout
    assert "checks, no finding." in done.stdout
    with contextlib.closing(sqlite3.connect(database)) as raw:
        assert raw.execute("SELECT * FROM continent").fetchall() == [("EU", "Europe")]
        raw.execute("UPDATE alembic_version SET version_num = 'newer'")
        raw.commit()
    refused = deploy(folder, database)
    assert refused.returncode == 1
    assert "newer than this code" in refused.stderr
    assert "Models and databases agree." not in refused.stdout


def test_the_revisions_make_what_the_models_say(make_atlas: MakeAtlas, database: Database) -> None:
    """On every database, and a second time they do nothing."""
    app = make_atlas()
    with app.app_context():
        bring_up_to_date()
        bring_up_to_date()
        assert set(sa.inspect(db.engine).get_table_names()) == {
            "alembic_version",
            *db.metadatas[None].tables,
        }
    result = app.test_cli_runner().invoke(args=["dbkit", "migrate", "check"])
    assert result.exit_code == 0, result.output
    lint = app.test_cli_runner().invoke(args=["dbkit", "migrate", "lint"])
    assert lint.exit_code == 0, lint.output
