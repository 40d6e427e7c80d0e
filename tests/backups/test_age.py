"""The health check ``backup:age`` notices that the backups have stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flask_dbkit.backups import LocalStore
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
