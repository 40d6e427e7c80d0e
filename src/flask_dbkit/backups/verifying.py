"""Whether a backup can be restored: by restoring it, into a database that is thrown away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .creating import Packing, ignore_progress
from .database import Contents, Database, Progress
from .exceptions import BackupError
from .manifest import Manifest
from .packing import check_data, unpack
from .store import Store, explaining_os_errors

__all__ = ["Finding", "Verification", "unpacked", "verify"]

_MANY_ROWS = 100  # an estimate says little about a small table


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a backup.

    Attributes:
        code: For example ``file.digest`` or ``rows.differ``.
        message: One sentence.

    .. versionadded:: 0.1
    """

    code: str
    message: str


@dataclass(frozen=True)
class Verification:
    """The result of restoring a backup into a scratch database.

    Attributes:
        id: Of the backup.
        findings: What is wrong; empty when nothing is.
        duration_s: Seconds it took.

    .. versionadded:: 0.1
    """

    id: str
    findings: tuple[Finding, ...]
    duration_s: float

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"ok": self.ok, **asdict(self)}


def verify(
    store: Store,
    backup_id: str,
    database: Database,
    *,
    packing: Packing | None = None,
    progress: Progress = ignore_progress,
) -> Verification:
    """Restore a backup into a scratch database, compare, and throw the scratch away.

    Compared are the digest and the size of the file, the tables, their rows, what they keep of
    their past, the views, the revision, and on SQLite the results of ``integrity_check`` and
    ``foreign_key_check``. When nothing is wrong, the manifest is written anew with the time.

    Args:
        store: Where the backup is.
        backup_id: Names it.
        database: Where to make the scratch database: on the same server. Its data are neither
            read nor written.
        packing: The reverse of the filter, if the backup went through one.
        progress: As in :func:`unpacked`.

    Raises:
        BackupError: There is no backup of this name, or no scratch database can be made. What
            is wrong with the backup itself is in the result.

    .. versionadded:: 0.1
    """
    started = time.monotonic()
    findings: list[Finding] = []
    try:
        manifest = store.read_manifest(backup_id)
        with unpacked(store, manifest, packing, progress) as plain:
            findings += _compare(manifest, _restored(database, plain, manifest))
    except BackupError as error:
        if not error.code.startswith(("manifest.", "file.", "restore.")):
            raise
        findings.append(Finding(error.code, str(error)))
    else:
        if not findings:
            store.read_manifest(backup_id)  # it may have been pruned meanwhile
            store.write_manifest(manifest.verified_now())
    return Verification(backup_id, tuple(findings), round(time.monotonic() - started, 3))


@contextmanager
def unpacked(
    store: Store,
    manifest: Manifest,
    packing: Packing | None,
    progress: Progress = ignore_progress,
) -> Iterator[Path]:
    """Yield the plain copy of a backup, after its file was compared with the manifest.

    Args:
        store: Where the backup is.
        manifest: Of the backup.
        packing: The reverse of the filter, if the backup went through one.
        progress: Told the bytes of its file three times over: read to be compared, read to be
            unpacked, and done with, when the caller is.
    """
    size = manifest.size_bytes
    with explaining_os_errors(store.location), store.workspace() as directory:
        data = store.fetch(manifest, directory)
        check_data(data, manifest, watch=lambda done: progress(done, 3 * size))
        plain = directory / "plain"
        unpack(
            data,
            plain,
            manifest,
            command=(packing or Packing()).reverse,
            watch=lambda done: progress(size + done, 3 * size),
        )
        progress(2 * size, 3 * size)
        yield plain
        progress(3 * size, 3 * size)


def _restored(database: Database, plain: Path, manifest: Manifest) -> Contents:
    """Load a copy into a scratch database and return what is in it."""
    with tempfile.TemporaryDirectory(dir=plain.parent) as directory:
        try:
            target = database.scratch(Path(directory))
        except BackupError as error:
            raise BackupError(
                f"No scratch database can be made to verify {manifest.id}. {error} Where the"
                " application's account may make none, name another server in"
                " DBKIT_BACKUP_SCRATCH_URL.",
                code="scratch.refused",
            ) from error
        try:
            target.load(plain, manifest, owner=False)
            return target.contents()
        except BackupError as error:
            if error.code not in ("tool.failed", "database.damaged"):
                raise
            raise BackupError(
                f"{manifest.id} cannot be restored: {error}", code="restore.failed"
            ) from error
        finally:
            target.drop()


def _compare(manifest: Manifest, restored: Contents) -> Iterator[Finding]:
    for problem in restored.problems:
        yield Finding("integrity", f"The restored database is damaged: {problem}")
    expected, found = set(manifest.tables), set(restored.tables)
    if expected != found:
        missing, extra = sorted(expected - found), sorted(found - expected)
        parts = [f"without {', '.join(missing)}"] if missing else []
        parts += [f"with {', '.join(extra)} besides"] if extra else []
        yield Finding("tables.differ", f"The restored database is {' and '.join(parts)}.")
    for table in sorted(expected & found):
        before, after = manifest.tables[table], restored.tables[table]
        if _differ(before, after, exact=manifest.row_counts == "exact"):
            yield Finding(
                "rows.differ", f"{table} has {after} rows instead of {before} when restored."
            )
    yield from _compare_versions(manifest, restored)
    for sentence in manifest.details.get("left_out", ()):
        yield Finding("incomplete", f"This backup lacks part of the data: {sentence}")
    if set(manifest.views) != set(restored.views):
        yield Finding(
            "views.differ",
            f"The restored database has the views {', '.join(restored.views) or '(none)'} instead"
            f" of {', '.join(manifest.views) or '(none)'}.",
        )
    if manifest.revision != restored.revision:
        yield Finding(
            "revision.differs",
            f"The restored database is at revision {restored.revision} instead of"
            f" {manifest.revision}.",
        )
    before = manifest.details.get("foreign_key_violations")
    after = restored.details.get("foreign_key_violations")
    if before != after:
        yield Finding(
            "foreign_keys",
            f"{after} rows of the restored database point nowhere, and {before} did before.",
        )


def _compare_versions(manifest: Manifest, restored: Contents) -> Iterator[Finding]:
    """Compare what tables keep of their own past, which only grows while a backup is made."""
    found = restored.details.get("versions", {})
    for table, before in manifest.details.get("versions", {}).items():
        after = found.get(table, 0)
        if after < before:
            yield Finding(
                "history.differs",
                f"{table} has {after} rows with its past instead of {before} when restored.",
            )


def _differ(before: int | None, after: int | None, *, exact: bool) -> bool:
    if before is None or after is None:
        return before is not after
    if exact:
        return before != after
    # Rows come and go while an estimate is made; a table that lost most of them is another thing.
    return before >= _MANY_ROWS and after < before / 2
