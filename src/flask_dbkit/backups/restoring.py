"""Bring a backup back: into a new database, or in the place of the live one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.engine import URL

from .creating import Packing, create, ignore_progress
from .database import Database, Progress
from .exceptions import BackupError
from .manifest import Manifest
from .store import Store
from .verifying import unpacked

__all__ = ["Restored", "restore", "restore_in_place"]

logger = logging.getLogger("flask_dbkit.backup")


@dataclass(frozen=True)
class Restored:
    """A backup that was brought back.

    Attributes:
        manifest: Of the backup.
        url: Of the database it is in now, password included.
        safety_id: The id of the backup of what was there before, after a restore in place.
        set_aside: Where a damaged SQLite file was copied to, because no backup of it could be
            made.

    .. versionadded:: 0.1
    """

    manifest: Manifest
    url: URL
    safety_id: str | None = None
    set_aside: str | None = None


def restore(
    store: Store,
    backup_id: str,
    database: Database | None,
    *,
    into: Database | None = None,
    packing: Packing | None = None,
    jobs: int = 1,
    owner: bool = True,
    progress: Progress = ignore_progress,
) -> Restored:
    """Restore a backup into a new database. The live one is not touched.

    Args:
        store: Where the backup is.
        backup_id: Names it.
        database: The live database; the new one is made beside it as ``<name>-<id>``. May be
            ``None`` with ``into``.
        into: The database to restore into instead: one that is empty, or does not exist yet.
        packing: The reverse of the filter, if the backup went through one.
        jobs: On PostgreSQL, with how many connections.
        owner: On PostgreSQL, whether to restore owners and privileges too.
        progress: Called with the bytes that are done, and all of them.

    Raises:
        BackupError: The backup is damaged, of another kind of database, or the target is not
            empty. What was made for the restore is removed again.

    .. versionadded:: 0.1
    """
    manifest = store.read_manifest(backup_id)
    _check_kind(manifest, into or database)
    with unpacked(store, manifest, packing, progress) as plain:
        if into is not None:
            target = into.as_target()
        else:
            assert database is not None
            target = database.beside(backup_id)
        try:
            target.load(plain, manifest, jobs=jobs, owner=owner)
        except BaseException as error:
            # Another process may have made a target of the same name: that is not ours.
            if getattr(error, "code", "") != "target.not_empty":
                target.discard()
            raise
    logger.info("Backup %s restored", backup_id)
    return Restored(manifest, target.url)


def restore_in_place(
    store: Store,
    backup_id: str,
    database: Database,
    *,
    force: bool = False,
    packing: Packing | None = None,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda _text: None,
    progress: Progress = ignore_progress,
) -> Restored:
    """Put a backup in the place of the live database, after a backup of what is there now.

    A SQLite file gets the content in one transaction of its own, so that processes that have it
    open stay connected to the right file. On PostgreSQL a new database takes the name of the
    live one; on MariaDB the tables change places in one statement. A process that dies on the
    way leaves the database as it was, or as it is restored.

    Args:
        store: Where the backup is; the safety backup goes there too.
        backup_id: Names it.
        database: The live database.
        force: Go on although others are connected; servers end their sessions.
        packing: As in :func:`restore`, and for the safety backup.
        jobs: As in :func:`restore`.
        tell: Called with a line about each thing that is done.
        progress: As in :func:`restore`.

    Raises:
        BackupError: The backup is damaged or of another kind of database, or others are
            connected (``database.busy``). Nothing was changed.

    .. versionadded:: 0.1
    """
    manifest = store.read_manifest(backup_id)
    _check_kind(manifest, database)
    with unpacked(store, manifest, packing, progress) as plain:
        others = [] if force else database.other_connections()
        if others:
            raise BackupError(
                f"Others are connected to {database.name}: {', '.join(others)}. Stop the"
                " application first, or add --force.",
                code="database.busy",
            )
        safety = _Safety(store, manifest.bind, packing, tell)
        try:
            database.replace(plain, manifest, force=force, jobs=jobs, save=safety.save)
        except BackupError as error:
            # What is damaged cannot be backed up; it can be kept as it is.
            kept = database.set_aside() if error.code == "database.damaged" else None
            if kept is None:
                raise
            safety.aside = str(kept)
            tell(f"What is there now is damaged. It was copied to {kept}.")
            database.replace(plain, manifest, force=force, jobs=jobs)
    logger.info("Backup %s restored in place", backup_id)
    return Restored(manifest, database.engine.url, safety.id, safety.aside)


class _Safety:
    """Backs up what is about to be replaced."""

    def __init__(
        self,
        store: Store,
        bind: str,
        packing: Packing | None,
        tell: Callable[[str], None],
    ) -> None:
        self._store, self._bind, self._packing, self._tell = store, bind, packing, tell
        self.id: str | None = None
        self.aside: str | None = None

    def save(self, database: Database) -> None:
        """Make the backup."""
        made = create(database, self._store, bind=self._bind, packing=self._packing)
        self.id = made.id
        missing = made.details.get("left_out")
        if missing:
            raise BackupError(
                f"A backup of what is there now would lack part of the data: {' '.join(missing)}",
                code="database.incomplete",
            )
        self._tell(f"What is there now was saved as {made.id}.")


def _check_kind(manifest: Manifest, database: Database | None) -> None:
    if database is None:
        raise BackupError(
            f"The bind {manifest.bind!r} of this backup is not configured, so there is no place"
            " beside it. Name a database with --into URL.",
            code="target.missing",
        )
    if database.dialect != manifest.dialect:
        raise BackupError(
            f"{manifest.id} is a backup of {manifest.dialect}, and cannot be restored into"
            f" {database.dialect}.",
            code="target.unsuitable",
        )
