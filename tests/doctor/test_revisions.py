"""Revisions and backups, as the doctor sees them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_dbkit import DBKit
from flask_dbkit.backups import create_backup, verify_backup
from flask_dbkit.backups import doctor as backups_doctor
from tests.doctor.shop import Defect, make_shop

REVISION = '''revision, down_revision = "{id}", "{after}"
branch_labels = depends_on = None


def upgrade():
    op.execute("SELECT 1")


def downgrade():
    """Nothing to be done."""


from alembic import op
'''


def found(app: Flask, dbkit: DBKit, **options: Any) -> dict[str, str]:
    """Return what is found of migrations and backups, by id; the message of the first."""
    with app.app_context():
        every = dbkit.doctor.run(tags=["migrations", "backups"], **options)
    return {each.id: f"{each.object}: {each.message}" for each in reversed(every)}


def test_revisions_are_compared_with_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs, what was not applied, several ends, no way back, and a newer database."""
    folder = tmp_path / "migrations"
    monkeypatch.chdir(tmp_path)
    call = {"# views": "def prepare():\n    db.create_all()"}
    app, dbkit = make_shop(tmp_path, Defect("", "", code=call), DBKIT_MIGRATIONS_DIR=str(folder))
    runner = app.test_cli_runner()
    for command in (["init"], ["new", "-m", "shop"], ["upgrade"]):
        done = runner.invoke(args=["dbkit", "migrate", *command])
        assert done.exit_code == 0, done.output
    assert found(app, dbkit).keys() == {"DK057"}
    with app.app_context():
        path = str(dbkit.db.engine.url.database)
    (first,) = folder.glob("versions/*.py")
    identity = first.stem.split("_")[1]
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP INDEX ix_book_title")
        raw.commit()
        assert "add_index default.book: Index ix_book_title" in found(app, dbkit)["DK050"]
        for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
            text = REVISION.format(id=name, after=identity)
            (folder / "versions" / f"{name}.py").write_text(text)
        static = found(app, dbkit, db=False)
        assert static.keys() == {"DK057", "DK052", "DK058"}
        assert "There are 2 heads: aaaaaaaaaaaa, bbbbbbbbbbbb" in static["DK052"]
        assert "downgrade() does nothing" in static["DK058"]
        lacking = found(app, dbkit)["DK051"]
        assert lacking.startswith("default: default lacks ")
        assert {"aaaaaaaaaaaa", "bbbbbbbbbbbb"} <= set(lacking.replace(",", "").split())
        raw.execute("UPDATE alembic_version SET version_num = 'newer'")
        raw.commit()
        assert found(app, dbkit)["DK053"] == "default: default is at newer"
        with app.app_context():
            dbkit.db.engine.dispose()


def test_a_database_that_env_py_leaves_out_is_found(tmp_path: Path) -> None:
    """It has models, and the env.py of Flask-Migrate is for one database."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "env.py").write_text("target_db = None\n")
    model = (
        'class Log(db.Model):\n    __bind_key__ = "log"\n'
        "    id: Mapped[int] = mapped_column(primary_key=True)"
    )
    app, dbkit = make_shop(
        tmp_path,
        Defect("", "", code={"# module": model}),
        DBKIT_MIGRATIONS_DIR=str(folder),
        SQLALCHEMY_BINDS={"log": f"sqlite:///{tmp_path}/log.db"},
    )
    assert found(app, dbkit, db=False)["DK054"] == "log: log has models and no revisions"
    assert "DK054" not in found(app, dbkit, db=False, bind="default")


def test_a_backup_has_to_be_fresh_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No backup is told of too, and is no warning unless one was promised."""
    app, dbkit = make_shop(tmp_path, DBKIT_BACKUP_DIR=str(tmp_path / "backups"))

    def told() -> str | None:
        return found(app, dbkit, deploy=True, db=False).get("DK091")

    assert told() == "default: There is no backup of default here"
    with app.app_context():
        dbkit.db.create_all()
        made = create_backup()
        assert told() == "default: No backup of default of late was ever verified"
        verify_backup(made.id)
        assert told() is None
        monkeypatch.setattr(backups_doctor, "_WEEK_S", -1)
        assert told() == "default: The last backup of default is 0 days old"
        dbkit.db.engine.dispose()
