"""The health check that compares each database with the revisions of the code."""

from __future__ import annotations

from functools import partial

from ..errors.missing import MissingAdvice
from ..feature import Feature, Setup
from ..health.checks import AppHealth
from .advice import command_for
from .health import CodeRevisions, migration_check
from .settings import MigrationSettings

__all__ = ["MIGRATIONS"]


def _install(setup: Setup) -> None:
    health = setup.application.part(AppHealth)
    setup.application.part(MissingAdvice).command = partial(command_for, setup.app)
    revisions = CodeRevisions(setup.app.app_context)
    for bind in setup.binds:
        health.ask_after(f"db:{bind.name}", partial(migration_check, bind, revisions))


MIGRATIONS = Feature(
    "migrations",
    settings=MigrationSettings,
    commands={"migrate": "flask_dbkit.migrations.commands"},
    install=_install,
    doctor=("flask_dbkit.migrations.doctor",),
)
