"""The health check that tells when the last backup is too old."""

from __future__ import annotations

from ..engines.replicas import replica_names
from ..engines.settings import EngineSettings
from ..feature import Feature, Setup
from ..health.checks import AppHealth
from .settings import BackupSettings

__all__ = ["BACKUPS"]


def _install(setup: Setup) -> None:
    settings = setup.settings(BackupSettings)
    if settings.backup_max_age_s is None:
        return
    from .current import age_check  # noqa: PLC0415 - only if used

    replicas = replica_names(setup.settings(EngineSettings).replicas)
    lasting = [
        bind.name for bind in setup.binds if not bind.in_memory and bind.name not in replicas
    ]
    check = age_check(settings, setup.app.instance_path, lasting)
    setup.application.part(AppHealth).add(check)


BACKUPS = Feature(
    "backups",
    settings=BackupSettings,
    commands={"backup": "flask_dbkit.backups.commands"},
    install=_install,
    doctor=("flask_dbkit.backups.doctor",),
)
