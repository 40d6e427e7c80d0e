"""The checks of an application, its endpoints, and draining."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from flask_sqlalchemy import SQLAlchemy

from ..databases.lost import expect_no_writes
from ..databases.sqlite.settings import SQLiteSettings
from ..engines.replicas import replica_names
from ..engines.settings import EngineSettings
from ..feature import Feature, Setup
from .checks import AppHealth
from .current import Health
from .databases import bind_checks, check_bind_names
from .draining import drain_on_sigterm
from .probes_first import answer_probes_first
from .settings import HealthSettings
from .views import register_health

__all__ = ["HEALTH"]


def _check(settings: HealthSettings, bind_keys: Iterable[str | None]) -> None:
    check_bind_names(settings, bind_keys)


def _install(setup: Setup) -> None:
    app, settings = setup.app, setup.settings(HealthSettings)
    published: Health = setup.published["health"]
    health = AppHealth(settings, published.registry, app.app_context)
    setup.application.add(health)
    replicas = replica_names(setup.settings(EngineSettings).replicas)
    for bind in setup.binds:
        is_replica = bind.name in replicas
        if not settings.health_binds.get(bind.name, {}).get("writable", not is_replica):
            expect_no_writes(bind.engine)
        for check in bind_checks(
            bind.key,
            bind.engine,
            settings,
            bind.options,
            app_name=app.name,
            has_models=partial(_has_models, setup.db, bind.key),
            background=lambda: health.background,
            is_replica=is_replica,
            writer_gate=setup.settings(SQLiteSettings).sqlite_writer_gate,
        ):
            health.add(check)
    register_health(app, settings.health_prefix, settings.health_aliases.items())
    answer_probes_first(app, health, settings.health_details)
    if settings.health_drain_on_sigterm:
        drain_on_sigterm(health)


def _has_models(db: SQLAlchemy, key: str | None) -> bool:
    return key in db.metadatas and bool(db.metadatas[key].tables)


HEALTH = Feature(
    "health",
    settings=HealthSettings,
    commands={"health": "flask_dbkit.health.commands"},
    check=_check,
    install=_install,
    doctor=("flask_dbkit.health.doctor",),
)
