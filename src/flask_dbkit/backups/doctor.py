"""DK091 and DK092: whether there is a backup, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ..doctor.checks import check
from ..doctor.examination import Examination
from ..doctor.findings import Found
from .database import database_for
from .exceptions import BackupError
from .manifest import Manifest
from .pruning import list_all
from .remote_stores import store_at
from .settings import BackupSettings

__all__: list[str] = []

_WEEK_S = 7 * 86_400
_DAY_S = 86_400


def _kept(given: Examination) -> Iterator[tuple[str, list[Manifest]]]:
    """Yield the name and the backups of each database that lasts, the oldest first."""
    settings = given.settings(BackupSettings)
    store = store_at(settings.backup_dir, relative_to=Path(given.app.instance_path))
    manifests = [one.manifest for one in list_all(store) if one.manifest is not None]
    for bind in given.binds:
        if not bind.in_memory and bind.database.is_known and bind.replica_of is None:
            yield bind.name, [one for one in manifests if one.bind == bind.name]


@check(
    "DK091",
    "No verified backup of late",
    tags=("backups", "operations"),
    cause="A backup that was never restored is a hope; one that is old loses all that came after"
    " it.",
    fix="flask dbkit backup create --all --verify, each night; set DBKIT_BACKUP_MAX_AGE_S, and the"
    " health check watches it.",
    deploy=True,
)
def old_backup(given: Examination) -> Iterator[Found]:
    """Read the manifests in the store."""
    limit_s = given.settings(BackupSettings).backup_max_age_s
    now = datetime.now(UTC)
    for name, kept in _kept(given):
        if not kept:
            # Whoever backs up by other means has none here.
            level = "info" if limit_s is None else None
            yield Found(f"There is no backup of {name} here", object=name, level=level)
            continue
        fresh = [
            one for one in kept if (now - one.created_at).total_seconds() <= (limit_s or _WEEK_S)
        ]
        if not fresh:
            days = (now - kept[-1].created_at).total_seconds() / _DAY_S
            yield Found(f"The last backup of {name} is {days:.0f} days old", object=name)
        elif not any(one.verified for one in fresh):
            yield Found(f"No backup of {name} of late was ever verified", object=name)


@check(
    "DK092",
    "Programs that cannot back up this server",
    tags=("backups", "operations"),
    cause="The program that dumps is missing, or older than the server and refuses: there will be"
    " no backup on the day it is needed.",
    fix="Install the client programs of the server's version, or newer ones.",
    link="https://www.postgresql.org/docs/current/app-pgdump.html",
    database=True,
    deploy=True,
)
def missing_programs(given: Examination) -> Iterator[Found]:
    """Ask each server and the program for their versions."""
    for bind in given.servers:
        if bind.replica_of is not None:
            continue
        with given.connect(bind):
            pass
        database = database_for(bind.engine, bind.options.get("connect_args"))
        try:
            database.check(compact=False, jobs=1)
        except BackupError as error:
            yield Found(f"{bind.name}: {error}", object=bind.name)
