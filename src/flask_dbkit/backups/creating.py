"""Make one backup: a copy, its manifest, and both in the store or neither."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from .database import Database, Progress
from .manifest import Manifest
from .packing import pack, sha256_of, suffix_of
from .store import Store, explaining_os_errors

__all__ = ["Packing", "create"]

logger = logging.getLogger("flask_dbkit.backup")


@dataclass(frozen=True)
class Packing:
    """What happens to a copy on its way into the store and back.

    Attributes:
        compression: ``gzip``, ``zstd`` or ``none``.
        command: The filter, as program and arguments; empty for none.
        reverse: The command that undoes it.

    .. versionadded:: 0.1
    """

    compression: str = "gzip"
    command: Sequence[str] = ()
    reverse: Sequence[str] = ()


def ignore_progress(done: int, total: int | None) -> None:
    """Show nothing."""


def create(
    database: Database,
    store: Store,
    *,
    bind: str = "default",
    packing: Packing | None = None,
    compact: bool = False,
    jobs: int = 1,
    progress: Progress = ignore_progress,
) -> Manifest:
    """Back up one database.

    The copy is the database as it is at one moment after the call; writers go on. It is in the
    store completely, or not at all. On a server it opens one read-only transaction of its own
    besides the dump program's.

    Args:
        database: What to copy, from :func:`~flask_dbkit.backups.database_for`.
        store: Where to keep it.
        bind: The name in the id and the manifest.
        packing: Compression and filter; gzip and none by default.
        compact: On SQLite, leave out free pages; takes longer and shows no progress.
        jobs: On PostgreSQL, how many tables to dump at once.
        progress: Called with the bytes that are done, and all of them if that is known.

    Returns:
        The manifest, as it was written.

    Raises:
        BackupError: It could not be made; nothing is in the store then.

    .. versionadded:: 0.1
    """
    packing = packing or Packing()
    database.check(compact=compact, jobs=jobs)
    started = time.monotonic()
    with explaining_os_errors(store.location), store.reserve(bind) as place:
        dumped = database.dump(place.directory, compact=compact, jobs=jobs, progress=progress)
        compression = "none" if dumped.compressed else packing.compression
        suffix = dumped.suffix + suffix_of(compression, packing.command)
        data = place.directory / f"{place.id}{suffix}"
        pack(dumped.path, data, compression=compression, command=packing.command)
        dumped.path.unlink(missing_ok=True)
        data.chmod(0o600)
        manifest = Manifest(
            id=place.id,
            bind=bind,
            dialect=database.dialect,
            database=database.name,
            created_at=place.created_at,
            duration_s=round(time.monotonic() - started, 3),
            file=data.name,
            size_bytes=data.stat().st_size,
            sha256=sha256_of(data),
            format=dumped.format,
            compression=compression,
            filter=os.path.basename(packing.command[0]) if packing.command else None,  # noqa: PTH119
            tool=dumped.tool,
            server_version=dumped.server_version,
            library_version=version("flask-sqlalchemy-dbkit"),
            revision=dumped.contents.revision,
            tables=dumped.contents.tables,
            views=dumped.contents.views,
            row_counts="exact" if dumped.contents.exact else "estimated",
            details=dumped.contents.details,
        )
        store.publish(data, manifest)
    logger.info("Backup %s of %s: %d bytes", manifest.id, bind, manifest.size_bytes)
    return manifest
