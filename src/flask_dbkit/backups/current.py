"""Backups of the current application's databases: what ``flask dbkit backup`` does, to be called.

Each function needs an application context. Where backups are kept, compressed, encrypted and
for how long is configured by the ``DBKIT_BACKUP_*`` settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from flask import current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import URL

from ..application import current_app_object, current_application
from ..databases import database_of, file_of
from ..engines.flask_sqlalchemy import current_engines, given_options
from ..engines.replicas import replica_names
from ..engines.settings import EngineSettings
from ..engines.urls import parse_database_url, without_secrets
from ..exceptions import closest
from ..health.registry import Check
from ..health.report import PASS, WARN, Result
from .creating import Packing, create, ignore_progress
from .database import Database, Progress, database_at, database_for
from .exceptions import BackupError
from .manifest import Manifest
from .pruning import Listed, list_all, prune
from .remote_stores import store_at
from .restoring import Restored, restore, restore_in_place
from .retention import is_ahead
from .settings import BackupSettings
from .store import Store
from .verifying import Verification
from .verifying import verify as verify_stored

__all__ = [
    "age_check",
    "bind_names",
    "create_backup",
    "list_backups",
    "primary_names",
    "prune_backups",
    "restore_backup",
    "restore_backup_in_place",
    "switch_lines",
    "verify_backup",
]

_DEFAULT = "default"
_AGE = "backup:age"
_AGE_TIMEOUT_S = 0.8  # a place far away that is slow is a warning, and delays no probe
_AGE_TTL_S = 60.0


def create_backup(
    bind: str | None = None,
    *,
    to: str | None = None,
    verify: bool = False,
    compact: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Manifest:
    """Back up one database of the current application while it goes on working.

    Args:
        bind: The bind key; ``None`` and ``"default"`` are the default database.
        to: A folder or URL to use instead of ``DBKIT_BACKUP_DIR``.
        verify: Restore the copy into a scratch database and compare, before returning.
        compact: On SQLite, leave out free pages.
        jobs: On PostgreSQL, how many tables to dump at once.
        progress: Called with the bytes that are done, and all of them or ``None``.

    Returns:
        The manifest; its ``id`` names the backup.

    Raises:
        BackupError: The backup could not be made, or ``verify`` found something; the code is
            ``backup.damaged`` then.

    .. code-block:: python

        manifest = create_backup(verify=True)
        manifest.id  # "default-20261125T194500Z"

    .. versionadded:: 0.1
    """
    store, database = _store(to), _database(bind)
    made = create(
        database,
        store,
        bind=bind or _DEFAULT,
        packing=_packing(),
        compact=compact,
        jobs=jobs,
        progress=progress or ignore_progress,
    )
    if not verify:
        return made
    result = verify_backup(made.id, at=to)
    if not result.ok:
        said = " ".join(finding.message for finding in result.findings)
        raise BackupError(f"{made.id} was made, but is not good: {said}", code="backup.damaged")
    return store.read_manifest(made.id)


def list_backups(*, at: str | None = None) -> list[Listed]:
    """Return all backups, of every bind, the oldest first.

    Args:
        at: A folder or URL to look at instead of ``DBKIT_BACKUP_DIR``.

    .. versionadded:: 0.1
    """
    return list_all(_store(at))


def verify_backup(
    backup_id: str, *, at: str | None = None, progress: Progress | None = None
) -> Verification:
    """Restore a backup into a scratch database, compare it, and throw the scratch away.

    Args:
        backup_id: Names the backup.
        at: A folder or URL to look at instead of ``DBKIT_BACKUP_DIR``.
        progress: Called with the bytes that are done, and all of them.

    Returns:
        What is wrong; ``.ok`` is true when nothing is.

    Raises:
        BackupError: There is no such backup, or no scratch database can be made.

    .. versionadded:: 0.1
    """
    store = _store(at)
    return verify_stored(
        store,
        backup_id,
        _scratch_place(store, backup_id),
        packing=_packing(),
        progress=progress or ignore_progress,
    )


def restore_backup(
    backup_id: str,
    *,
    into: str | URL | None = None,
    at: str | None = None,
    jobs: int = 1,
    owner: bool = True,
    progress: Progress | None = None,
) -> Restored:
    """Restore a backup into a new database. The live one is not touched.

    Args:
        backup_id: Names the backup.
        into: The URL of a database that is empty or does not exist yet. By default a new one
            is made beside the live one, named ``<name>-<id>``. A relative SQLite path is in the
            instance folder.
        at: A folder or URL to look at instead of ``DBKIT_BACKUP_DIR``.
        jobs: On PostgreSQL, with how many connections.
        owner: On PostgreSQL, whether to restore owners and privileges too.
        progress: Called with the bytes that are done, and all of them.

    Raises:
        BackupError: The backup is damaged, or the target is not empty.

    .. versionadded:: 0.1
    """
    store = _store(at)
    target = None if into is None else database_at(_located(into))
    try:
        return restore(
            store,
            backup_id,
            _own(store.read_manifest(backup_id).bind) if target is None else None,
            into=target,
            packing=_packing(),
            jobs=jobs,
            owner=owner,
            progress=progress or ignore_progress,
        )
    finally:
        if target is not None:
            target.engine.dispose()


def restore_backup_in_place(
    backup_id: str,
    *,
    force: bool = False,
    at: str | None = None,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda _text: None,
    progress: Progress | None = None,
) -> Restored:
    """Put a backup in the place of the live database, after a backup of what is there now.

    Args:
        backup_id: Names the backup.
        force: Go on although others are connected.
        at: A folder or URL to look at instead of ``DBKIT_BACKUP_DIR``.
        jobs: On PostgreSQL, with how many connections.
        tell: Called with a line about each thing that is done.
        progress: Called with the bytes that are done, and all of them.

    Raises:
        BackupError: The backup is damaged, or others are connected. Nothing was changed.

    .. versionadded:: 0.1
    """
    store = _store(at)
    bind = store.read_manifest(backup_id).bind
    database = _own(bind)
    if database is None:
        raise BackupError(
            f"The bind {bind!r} of this backup is not configured, so there is nothing to replace."
            " Name a database with --into URL.",
            code="target.missing",
        )
    return restore_in_place(
        store,
        backup_id,
        database,
        force=force,
        packing=_packing(),
        jobs=jobs,
        tell=tell,
        progress=progress or ignore_progress,
    )


def prune_backups(*, at: str | None = None, dry_run: bool = False) -> list[Manifest]:
    """Remove the backups that ``DBKIT_BACKUP_KEEP`` does not keep.

    The newest backup of a bind and its newest verified one always stay.

    Args:
        at: A folder or URL to look at instead of ``DBKIT_BACKUP_DIR``.
        dry_run: Remove nothing.

    Returns:
        What was removed, or would be; the oldest first.

    .. versionadded:: 0.1
    """
    return prune(_store(at), _settings().backup_keep, dry_run=dry_run)


def bind_names() -> list[str]:
    """Return the names of the current application's binds, the default one first."""
    return [key or _DEFAULT for key in current_engines(_db())]


def primary_names() -> list[str]:
    """Return the names of the current application's binds that are no replicas of others."""
    replicas = replica_names(current_application().settings(EngineSettings).replicas)
    return [name for name in bind_names() if name not in replicas]


def switch_lines(restored: Restored) -> list[str]:
    """Return the lines of configuration that make the application use a restored database.

    They hold no password: put yours where ``***`` stands.
    """
    url = without_secrets(restored.url)
    if restored.manifest.bind == _DEFAULT:
        return [f'SQLALCHEMY_DATABASE_URI = "{url}"']
    return [f'SQLALCHEMY_BINDS["{restored.manifest.bind}"] = "{url}"']


def age_check(config: BackupSettings, instance_path: str, binds: Iterable[str]) -> Check:
    """Return the health check ``backup:age``: a warning when a bind has no fresh backup.

    Only manifests are read. It fails no group: an application without a backup still works.

    Args:
        config: The application's settings, with a ``backup_max_age_s``.
        instance_path: The folder a relative ``DBKIT_BACKUP_DIR`` is relative to.
        binds: The names of the binds that should have backups.
    """
    limit_s, names = config.backup_max_age_s, tuple(binds)
    assert limit_s is not None

    def look(_attempt: object) -> Mapping[str, Result]:
        store = store_at(config.backup_dir, relative_to=Path(instance_path))
        newest: dict[str, datetime] = {}
        ahead = 0
        for listed in list_all(store):  # the oldest first
            manifest = listed.manifest
            if manifest is None or manifest.bind not in names:
                continue
            if is_ahead(manifest):
                ahead += 1
            else:
                newest[manifest.bind] = manifest.created_at
        if ahead:
            return {_AGE: Result(WARN, "backup.ahead", ahead, "backups")}
        if set(newest) != set(names):
            return {_AGE: Result(WARN, "backup.missing")}
        now = datetime.now(UTC)
        age_s = round((now - min(newest.values(), default=now)).total_seconds())
        old = age_s > limit_s
        return {_AGE: Result(WARN if old else PASS, "backup.old" if old else None, age_s, "s")}

    return Check(_AGE, look, critical=frozenset(), timeout_s=_AGE_TIMEOUT_S, ttl_s=_AGE_TTL_S)


def _located(into: str | URL) -> URL:
    """Put a relative SQLite path where Flask-SQLAlchemy looks for it: in the instance folder."""
    url = parse_database_url(into, key="--into")
    path = file_of(url)
    if path is None or str(url.database).startswith("file:"):
        return url
    return url.set(database=str(Path(current_app.instance_path, path)))


def _settings() -> BackupSettings:
    return current_application().settings(BackupSettings)


def _db() -> SQLAlchemy:
    return current_application().db


def _store(place: str | None) -> Store:
    folder = Path(current_app.instance_path)
    return store_at(place or _settings().backup_dir, relative_to=folder)


def _packing() -> Packing:
    config = _settings()
    return Packing(
        config.backup_compression, config.backup_filter or (), config.backup_unfilter or ()
    )


def _database(bind: str | None) -> Database:
    name = bind or _DEFAULT
    database = _own(name)
    if database is None:
        names = bind_names()
        nearest = closest(name, names)
        hint = f" Did you mean {nearest!r}?" if nearest is not None else ""
        raise BackupError(
            f"There is no bind {name!r}.{hint} Use one of: {', '.join(names)}.",
            code="bind.unknown",
        )
    return database


def _own(name: str) -> Database | None:
    """Return a database of the current application by the name of its bind."""
    engines = current_engines(_db())
    # An application may have called a bind "default" itself; then that one is meant.
    key = name if name in engines else None
    if key not in engines or (key is None and name != _DEFAULT):
        return None
    app = current_app_object()
    arguments = given_options(app, _db()).get(key, {}).get("connect_args")
    return database_for(engines[key], arguments)


def _scratch_place(store: Store, backup_id: str) -> Database:
    """Return the database beside which a scratch database is made to verify a backup."""
    url = _settings().backup_scratch_url
    try:
        manifest = store.read_manifest(backup_id)
    except BackupError as error:
        if error.code == "backup.unknown":
            raise
        return database_at("sqlite://")  # nothing of it will be restored
    if database_of(manifest.dialect).is_embedded:
        return database_at("sqlite://")  # its scratch is a file beside the backups
    if url is not None:
        return database_at(url)
    own = _own(manifest.bind)
    if own is None:
        raise BackupError(
            f"The bind {manifest.bind!r} of this backup is not configured. Name a server to verify"
            " it on in DBKIT_BACKUP_SCRATCH_URL.",
            code="target.missing",
        )
    return own
