"""What is known of one backup: its id, and the manifest beside its data file.

An id is ``<bind>-<UTC time>``, for example ``default-20261125T194500Z``; a second backup of the
same bind within one second gets ``-2`` at the end. The manifest is JSON. It carries the digest
of the data file, and one of itself, so that an edit of either shows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from .exceptions import BackupError

__all__ = ["Manifest", "is_id", "make_id"]

FORMAT_VERSION = 1
_DIGEST = "manifest_sha256"
_ID = re.compile(r"(?P<bind>[\w.%~-]+)-(?P<time>\d{8}T\d{6}Z)(?:-(?P<number>[1-9]\d*))?", re.ASCII)


def make_id(bind: str, moment: datetime, number: int = 1) -> str:
    """Build the id of a backup.

    Args:
        bind: The name of the bind. Characters that no file name should have are percent-encoded.
        moment: When it was started, aware.
        number: Counts the backups of one bind within one second, from 1.
    """
    stamp = moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{quote(bind, safe='')}-{stamp}" + (f"-{number}" if number > 1 else "")


def is_id(text: str) -> bool:
    """Tell whether a text has the form of an id, and so is safe as the name of a file."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True)
class Manifest:
    """What is known of one backup.

    Attributes:
        id: Names the data file and the manifest.
        bind: The bind key, ``default`` for the default database.
        dialect: ``sqlite``, ``postgresql`` or ``mysql`` (MariaDB too).
        database: The name of the database, or of its file; never its host or a password.
        created_at: When the backup was started, aware, UTC. The copy holds everything that was
            committed before.
        duration_s: Seconds it took, without a verification.
        file: The name of the data file.
        size_bytes: Of the data file.
        sha256: Of the data file, in hexadecimal.
        format: ``sqlite`` (a database file), ``custom`` or ``directory`` (archives of
            ``pg_dump``), ``sql`` (a script).
        compression: ``gzip``, ``zstd`` or ``none``; what the format itself compresses is
            ``none``.
        filter: The program of ``DBKIT_BACKUP_FILTER`` the data went through, or ``None``.
        tool: What made the copy, with its version.
        server_version: Of the database server, or of the SQLite library.
        library_version: Of Flask-DBKit.
        revision: What the table ``alembic_version`` holds; several are joined by a comma, and
            ``None`` is no such table.
        tables: Rows by table. ``None`` for a table that could not be counted.
        views: The names of the views.
        row_counts: ``exact``, or ``estimated`` where the database gives no more.
        details: Facts of one kind of database, for example the journal mode of SQLite.
        verified_at: When the backup was last restored into a scratch database and found equal.

    .. versionadded:: 0.1
    """

    id: str
    bind: str
    dialect: str
    database: str
    created_at: datetime
    duration_s: float
    file: str
    size_bytes: int
    sha256: str
    format: str
    compression: str
    filter: str | None
    tool: str
    server_version: str
    library_version: str
    revision: str | None
    tables: Mapping[str, int | None]
    views: tuple[str, ...]
    row_counts: str
    details: Mapping[str, Any] = field(default_factory=dict)
    verified_at: datetime | None = None

    @property
    def verified(self) -> bool:
        """Whether the backup was ever verified."""
        return self.verified_at is not None

    def verified_now(self) -> Manifest:
        """Return a manifest that says the backup was verified at this moment."""
        return replace(self, verified_at=datetime.now(UTC))

    def as_dict(self) -> dict[str, Any]:
        """Return the manifest as plain values for JSON."""
        plain = asdict(self)
        plain["created_at"] = _text(self.created_at)
        plain["verified_at"] = None if self.verified_at is None else _text(self.verified_at)
        plain["views"] = list(self.views)
        return plain

    def to_json(self) -> bytes:
        """Write the manifest, with a digest of everything in it."""
        content = {"format_version": FORMAT_VERSION, **self.as_dict()}
        content[_DIGEST] = _digest(content)
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes, *, backup_id: str) -> Manifest:
        """Read a manifest and check that it is as it was written.

        Args:
            text: The content of the file.
            backup_id: The id the file is named after.

        Raises:
            BackupError: It is no manifest, it was edited, or it belongs to another backup. The
                code is ``manifest.unreadable`` or ``manifest.edited``.
        """
        content = _parse(text, backup_id)
        given = content.pop(_DIGEST, None)
        if given != _digest(content):
            raise BackupError(
                f"The manifest of {backup_id} was changed after it was written: its own digest"
                " does not fit. Do not trust this backup; use another one.",
                code="manifest.edited",
            )
        if content.pop("format_version", None) != FORMAT_VERSION:
            raise BackupError(
                f"The manifest of {backup_id} was written by another version of Flask-DBKit"
                f" ({content.get('library_version')}). Restore it with that version.",
                code="manifest.unreadable",
            )
        if content.get("id") != backup_id:
            raise BackupError(
                f"The manifest of {backup_id} is that of {content.get('id')}, under another name.",
                code="manifest.edited",
            )
        file = content.get("file")
        if not (isinstance(file, str) and _is_file_of(backup_id, file)):
            raise BackupError(
                f"The manifest of {backup_id} names {file!r} as its data, which is no file of this"
                " backup. Use another one.",
                code="manifest.unreadable",
            )
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in content.items() if name in known}
        try:
            values["views"] = tuple(values["views"])
            values["created_at"] = datetime.fromisoformat(values["created_at"])
            if values["verified_at"] is not None:
                values["verified_at"] = datetime.fromisoformat(values["verified_at"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise BackupError(
                f"The manifest of {backup_id} is not complete: {error!r}. Use another backup.",
                code="manifest.unreadable",
            ) from error


def _is_file_of(backup_id: str, file: str) -> bool:
    """Tell whether a name is that of a file beside the manifest, and of the same backup."""
    return file.startswith(f"{backup_id}.") and file.isprintable() and not set(file) & set("/\\:")


def _parse(text: bytes, backup_id: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise BackupError(
            f"The manifest of {backup_id} cannot be read: it is no JSON. Use another backup.",
            code="manifest.unreadable",
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
