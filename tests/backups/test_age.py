"""The health check ``backup:age`` notices that the backups have stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flask_dbkit.backups import LocalStore
from flask_dbkit.backups.manifest import make_id
from flask_dbkit.backups.retention import superfluous
from flask_dbkit.health import AppHealth

from .conftest import Shop

pytestmark = pytest.mark.backends("sqlite-file")


def ask(shop: Shop) -> tuple[int, dict[str, Any]]:
    """Return the status of the answer, and what it says of the backups."""
    shop.app.extensions["dbkit"].part(AppHealth)._renew()
    answer = shop.app.test_client().get("/health/ready")
    checks = json.loads(answer.data)["checks"]
    return answer.status_code, (checks.get("backup:age") or [{}])[0]


def test_a_database_without_a_fresh_backup_is_a_warning(make_shop: Callable[..., Shop]) -> None:
    """First there is none, then a fresh one, then an old one; never a 503."""
    shop = make_shop(DBKIT_BACKUP_MAX_AGE_S=3600, DBKIT_HEALTH_DETAILS="always")
    shop.fill()
    status, found = ask(shop)
    assert (status, found["status"], found["code"]) == (200, "warn", "backup.missing")
    made = shop.create()
    status, found = ask(shop)
    assert (status, found["status"], found["code"]) == (200, "pass", None)
    assert 0 <= found["observedValue"] < 3600
    store = LocalStore(shop.folder)
    manifest = store.read_manifest(made)
    store.write_manifest(replace(manifest, created_at=manifest.created_at - timedelta(hours=2)))
    status, found = ask(shop)
    assert (status, found["status"], found["code"]) == (200, "warn", "backup.old")
    assert found["observedValue"] > 7000


def test_nobody_looks_unless_an_age_is_configured(make_shop: Callable[..., Shop]) -> None:
    """The check is off by default."""
    shop = make_shop(DBKIT_HEALTH_DETAILS="always")
    shop.fill()
    assert ask(shop) == (200, {})


def test_a_backup_from_the_future_counts_for_nothing(make_shop: Callable[..., Shop]) -> None:
    """Neither for the age, nor in a rule of retention: it is listed as what it is, and stays."""
    shop = make_shop(
        DBKIT_BACKUP_MAX_AGE_S=3600, DBKIT_HEALTH_DETAILS="always", DBKIT_BACKUP_KEEP={}
    )
    shop.fill()
    made = shop.create()
    store = LocalStore(shop.folder)
    manifest = store.read_manifest(made)
    later = datetime.now(UTC) + timedelta(days=400)
    ahead = replace(
        manifest,
        id=make_id("default", later),
        created_at=later,
        file=f"{make_id('default', later)}.gz",
    )
    shutil.copy(shop.data(made), shop.folder / ahead.file)
    store.write_manifest(ahead)
    status, check = ask(shop)
    assert (status, check["status"], check["code"]) == (200, "warn", "backup.ahead")
    assert "from the future" in shop.done("list")
    assert shop.listed()[ahead.id]["ahead"]
    assert superfluous([manifest, ahead], {"daily": 1}) == []
    assert "Nothing to remove" in shop.done("prune")
    assert set(shop.listed()) == {made, ahead.id}


def test_a_manifest_that_names_a_file_of_others_is_skipped(make_shop: Callable[..., Shop]) -> None:
    """By prune too, which goes on with the rest."""
    shop = make_shop(DBKIT_BACKUP_KEEP={"hourly": 0})
    shop.fill()
    made = [shop.create() for _ in range(3)]
    store = LocalStore(shop.folder)
    manifest = store.read_manifest(made[0])
    for file in ("..", "/etc/passwd", f"{made[1]}.gz"):
        store.write_manifest(replace(manifest, file=file))
        assert "damaged" in shop.done("list")
        assert made[1] in shop.done("prune", "--dry-run")
    assert made[1] in shop.done("prune")
    assert shop.data(made[2]).exists()
