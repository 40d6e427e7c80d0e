"""List what is in a store, and remove what no rule keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .exceptions import BackupError
from .manifest import Manifest
from .retention import is_ahead, superfluous
from .store import Store

__all__ = ["Listed", "list_all", "prune"]


@dataclass(frozen=True)
class Listed:
    """One backup in a store.

    Attributes:
        id: Names it.
        manifest: ``None`` when it cannot be trusted.
        problem: Why not.

    .. versionadded:: 0.1
    """

    id: str
    manifest: Manifest | None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        known = self.manifest.as_dict() if self.manifest is not None else {"id": self.id}
        verified = self.manifest is not None and self.manifest.verified
        ahead = self.manifest is not None and is_ahead(self.manifest)
        return {**known, "verified": verified, "ahead": ahead, "problem": self.problem}


def list_all(store: Store) -> list[Listed]:
    """Return every backup in a store, the oldest first. Only manifests are read.

    .. versionadded:: 0.1
    """
    listed = []
    for backup_id in store.ids():
        try:
            listed.append(Listed(backup_id, store.read_manifest(backup_id)))
        except BackupError as error:
            if error.code != "backup.unknown":  # it was pruned a moment ago
                listed.append(Listed(backup_id, None, str(error)))
    return sorted(listed, key=_order)


def prune(store: Store, keep: Mapping[str, int], *, dry_run: bool = False) -> list[Manifest]:
    """Remove the backups that no rule keeps.

    Looks only at backups whose manifest can be trusted: everything else in the folder, damaged
    backups included, stays where it is. Leftovers of commands that were killed are removed.

    Args:
        store: Where they are.
        keep: As :func:`~flask_dbkit.backups.retention.superfluous`.
        dry_run: Remove nothing.

    Returns:
        What was removed, or would be; the oldest first.

    .. versionadded:: 0.1
    """
    if not dry_run:
        store.clean()
    manifests = [each.manifest for each in list_all(store) if each.manifest is not None]
    found = superfluous(manifests, keep)
    if not dry_run:
        for manifest in found:
            store.delete(manifest)
    return found


def _order(listed: Listed) -> tuple[Any, ...]:
    # The id of a damaged one still has its time in it; sorting by text is as good as any order.
    if listed.manifest is None:
        return (1, listed.id)
    return (0, listed.manifest.created_at, len(listed.id), listed.id)
