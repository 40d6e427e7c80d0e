"""The functions of ``flask_dbkit.backups``, and backups of binds that come and go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.pool import NullPool

from flask_dbkit import BackupError, DBKit
from flask_dbkit.backups import (
    LocalStore,
    Manifest,
    create_backup,
    database_at,
    database_for,
    list_backups,
    prune_backups,
    restore_backup,
    restore_backup_in_place,
    switch_lines,
    verify_backup,
)
from flask_dbkit.backups.database import Contents
from flask_dbkit.backups.manifest import _digest
from flask_dbkit.backups.on_sqlite.database import SQLiteFile

from .conftest import Shop

pytestmark = pytest.mark.backends("sqlite-file")


def refused(code: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    with pytest.raises(BackupError) as caught:
        function(*arguments, **options)
    assert caught.value.code == code
    return str(caught.value)


def test_functions_do_what_the_commands_do(shop: Shop) -> None:
    """With values instead of text."""
    with shop.app.app_context():
        seen: list[tuple[int, int | None]] = []
        manifest = create_backup(verify=True, progress=lambda *step: seen.append(step))
        assert manifest.verified
        assert seen[-1][0] == seen[-1][1]
        assert verify_backup(manifest.id).as_dict()["findings"] == ()
        (listed,) = list_backups()
        assert listed.manifest == LocalStore(shop.folder).read_manifest(manifest.id)
        restored = restore_backup(manifest.id)
        (line,) = switch_lines(restored)
        assert line == f'SQLALCHEMY_DATABASE_URI = "{restored.url}"'
        told: list[str] = []
        safety = restore_backup_in_place(manifest.id, tell=told.append).safety_id
        assert safety is not None
        assert [safety in line for line in told] == [True]
        assert prune_backups(dry_run=True) == []


def test_a_relative_path_is_in_the_instance_folder(shop: Shop) -> None:
    """As everywhere in Flask-SQLAlchemy, so the printed line means the same file."""
    with shop.app.app_context():
        restored = restore_backup(create_backup().id, into="sqlite:///again.db")
    path = Path(shop.app.instance_path, "again.db")
    assert path.exists()
    assert switch_lines(restored) == [f'SQLALCHEMY_DATABASE_URI = "sqlite:///{path}"']


def test_unknown_binds_and_ids_are_refused_with_what_there_is(shop: Shop) -> None:
    """And the nearest."""
    with shop.app.app_context():
        assert "Did you mean 'default'?" in refused("bind.unknown", create_backup, "defualt")
        refused("backup.unknown", verify_backup, "default-20200101T000000Z")
        refused("backup.unknown", restore_backup_in_place, "x")


def test_a_copy_that_turns_out_bad_is_an_error_of_create(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was found; the backup stays, not verified."""
    monkeypatch.setattr(SQLiteFile, "contents", lambda _self: Contents({"book": 2}))
    with shop.app.app_context():
        said = refused("backup.damaged", create_backup, verify=True)
        assert "book has 2 rows instead of 3" in said
        (listed,) = list_backups()
        assert listed.manifest is not None
        assert not listed.manifest.verified


def test_a_backup_of_a_bind_that_is_gone_can_be_restored_elsewhere(tmp_path: Path) -> None:
    """There is no place beside it any more."""

    def make(binds: dict[str, str]) -> Flask:
        app = Flask("shop", instance_path=str(tmp_path))
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
        app.config["SQLALCHEMY_BINDS"] = binds
        DBKit(app)
        return app

    engine = sa.create_engine(f"sqlite:///{tmp_path}/audit.db", poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id int)")
    with make({"audit": "sqlite:///audit.db"}).app_context():
        made = create_backup("audit").id
    with make({}).app_context():
        assert verify_backup(made).ok
        assert "--into" in refused("target.missing", restore_backup, made)
        assert "--into" in refused("target.missing", restore_backup_in_place, made)
        restored = restore_backup(made, into=f"sqlite:///{tmp_path}/found.db")
        assert (tmp_path / "found.db").exists()
        assert switch_lines(restored)[0].startswith('SQLALCHEMY_BINDS["audit"] = ')


def test_an_application_may_call_a_bind_default_itself(tmp_path: Path) -> None:
    """Then that one is meant."""
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_BINDS"] = {"default": "sqlite:///own.db"}
    DBKit(app)
    with sa.create_engine(f"sqlite:///{tmp_path}/own.db", poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE own (id int)")
    with app.app_context():
        assert dict(create_backup().tables) == {"own": 0}


def test_a_manifest_that_lacks_something_is_told(shop: Shop) -> None:
    """Also when its own digest fits."""
    made = shop.create()
    path = shop.folder / f"{made}.json"
    content = json.loads(path.read_text())
    del content["tables"], content["manifest_sha256"]
    path.write_text(json.dumps({**content, "manifest_sha256": _digest(content)}))
    with pytest.raises(BackupError, match="not complete") as caught:
        LocalStore(shop.folder).read_manifest(made)
    assert caught.value.code == "manifest.unreadable"
    content["format_version"] = 99
    path.write_text(json.dumps({**content, "manifest_sha256": _digest(content)}))
    with pytest.raises(BackupError, match="another version"):
        LocalStore(shop.folder).read_manifest(made)


def test_a_manifest_is_read_as_it_was_written(shop: Shop) -> None:
    """To the microsecond."""
    with shop.app.app_context():
        manifest = create_backup()
    assert Manifest.from_json(manifest.to_json(), backup_id=manifest.id) == manifest


@pytest.mark.parametrize("options", [{"jobs": 2}])
def test_options_of_other_databases_are_refused(shop: Shop, options: dict[str, Any]) -> None:
    """Instead of being ignored."""
    with shop.app.app_context():
        refused("option.unusable", create_backup, **options)


def test_other_databases_are_refused_with_those_there_are() -> None:
    """By name."""

    class Unknown:
        class dialect:  # noqa: N801
            name, driver = "oracle", "oracledb"

    said = refused("database.unsupported", database_for, Unknown)
    assert "oracle+oracledb" in said
    assert "MariaDB" in said


def test_a_url_without_a_database_is_refused() -> None:
    """A whole server is not backed up."""
    live = database_at("mysql+pymysql://root@127.0.0.1:1/")
    refused("database.missing", live.check, compact=False, jobs=1)


def test_memory_can_be_compacted(make_shop: Callable[..., Shop], tmp_path: Path) -> None:
    """In the copy, since ``VACUUM INTO`` is for files."""
    shop = make_shop(SQLALCHEMY_DATABASE_URI="sqlite://")
    shop.fill()
    made = shop.create("--compact", "--verify")
    shop.done("restore", made, "--into", f"sqlite:///{tmp_path}/m.db")
    assert shop.rows(f"sqlite:///{tmp_path}/m.db") == shop.rows()
