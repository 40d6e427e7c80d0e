"""A store for a place that somebody wrote down: a folder, or a URL that fsspec knows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from .exceptions import BackupError
from .manifest import Manifest, is_id, make_id
from .store import LocalStore, Reservation, Store, missing_file, no_such_backup

__all__ = ["RemoteStore", "store_at"]

_MAKING = ".partial-"


def store_at(place: str, *, relative_to: Path) -> Store:
    """Return the store at a place.

    Args:
        place: A path, or a URL such as ``s3://bucket/folder``.
        relative_to: The folder that a relative path is relative to.

    Raises:
        BackupError: It is a URL, and fsspec or the file system's package is not installed.

    .. versionadded:: 0.1
    """
    parts = urlsplit(place)
    if "://" not in place:
        return LocalStore(relative_to / Path(place).expanduser())
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)))
    try:
        fsspec: Any = import_module("fsspec")
    except ImportError:
        raise BackupError(
            f"Backups at {parts.scheme}:// need fsspec."
            " Run: pip install 'flask-sqlalchemy-dbkit[remote]'",
            code="remote.missing",
        ) from None
    try:
        file_system, path = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError) as error:
        # The text names the package to install, or says that nobody knows the protocol.
        raise BackupError(
            f"{parts.scheme}:// cannot be used for backups: {error}", code="remote.missing"
        ) from error
    return RemoteStore(file_system, path, location=_without_user(place))


def _without_user(place: str) -> str:
    parts = urlsplit(place)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


class RemoteStore(Store):
    """A folder on a file system of fsspec.

    Backups are made in a temporary folder of this machine and uploaded when they are complete,
    the manifest last: what was interrupted is never listed.

    Args:
        file_system: An ``fsspec.AbstractFileSystem``.
        path: The folder on it.
        location: How to call it in messages.

    .. versionadded:: 0.1

    References:
        https://filesystem-spec.readthedocs.io/en/latest/api.html
    """

    def __init__(self, file_system: Any, path: str, *, location: str) -> None:
        self._files, self._path, self._location = file_system, path.rstrip("/"), location

    @property
    def location(self) -> str:
        """Return the URL, without a password."""
        return self._location

    @contextmanager
    def reserve(self, bind: str) -> Iterator[Reservation]:
        """Yield an id and a temporary folder of this machine."""
        self._files.makedirs(self._path, exist_ok=True)
        backup_id, moment = self._take_id(bind)
        try:
            with tempfile.TemporaryDirectory(prefix="dbkit-backup-") as directory:
                yield Reservation(backup_id, moment, Path(directory))
        finally:
            self._remove(self._at(f"{_MAKING}{backup_id}"))

    def _take_id(self, bind: str) -> tuple[str, datetime]:
        number = 0
        while True:
            number += 1
            moment = datetime.now(UTC)
            backup_id = make_id(bind, moment, number)
            marker = self._at(f"{_MAKING}{backup_id}")
            if self._take(marker):
                if not self._files.exists(self._at(f"{backup_id}.json")):
                    return backup_id, moment
                self._remove(marker)

    def _take(self, marker: str) -> bool:
        """Make a marker, unless somebody else did."""
        if self._files.exists(marker):
            return False
        try:
            with self._files.open(marker, "xb") as file:
                file.write(b"")
        except FileExistsError:
            return False
        except (ValueError, NotImplementedError):
            # Not every file system has this mode; then two machines that back up the same bind
            # within the same second could still meet.
            self._files.pipe_file(marker, b"")
        return True

    def publish(self, data: Path, manifest: Manifest) -> None:
        """Upload a finished backup; its manifest comes last."""
        self._files.put_file(str(data), self._at(manifest.file))
        self.write_manifest(manifest)

    def ids(self) -> list[str]:
        """Return the ids of all manifests."""
        return [
            name.removesuffix(".json")
            for name in self._names()
            if name.endswith(".json") and is_id(name.removesuffix(".json"))
        ]

    def _names(self) -> list[str]:
        # What another machine has written a moment ago is not in fsspec's own list.
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self._path, detail=False)
        except FileNotFoundError:
            return []
        return [PurePosixPath(each).name for each in found]

    def read_manifest(self, backup_id: str) -> Manifest:
        """Return one manifest, checked."""
        if not is_id(backup_id):
            raise no_such_backup(backup_id, self.location)
        try:
            text = self._files.cat_file(self._at(f"{backup_id}.json"))
        except FileNotFoundError:
            raise no_such_backup(backup_id, self.location) from None
        return Manifest.from_json(bytes(text), backup_id=backup_id)

    def write_manifest(self, manifest: Manifest) -> None:
        """Upload one manifest."""
        self._files.pipe_file(self._at(f"{manifest.id}.json"), manifest.to_json())

    def fetch(self, manifest: Manifest, directory: Path) -> Path:
        """Download the data and return where they are."""
        path = directory / "data"
        try:
            self._files.get_file(self._at(PurePosixPath(manifest.file).name), str(path))
        except FileNotFoundError:
            raise missing_file(manifest, self.location) from None
        return path

    def delete(self, manifest: Manifest) -> None:
        """Remove the manifest, then the data."""
        self._remove(self._at(f"{manifest.id}.json"))
        self._remove(self._at(PurePosixPath(manifest.file).name))

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Yield a temporary folder of this machine."""
        with tempfile.TemporaryDirectory(prefix="dbkit-backup-") as directory:
            yield Path(directory)

    def clean(self) -> None:
        """Remove data without a manifest, and markers, that are older than a day.

        No lock tells whether another machine is still at work, so only their age does.
        """
        names = self._names()
        ids = {name.removesuffix(".json") for name in names if name.endswith(".json")}
        for name in names:
            backup_id = name.removeprefix(_MAKING).partition(".")[0]
            if is_id(backup_id) and backup_id not in ids and _is_older_than_a_day(backup_id):
                self._remove(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(path)


def _is_older_than_a_day(backup_id: str) -> bool:
    stamp = next(part for part in reversed(backup_id.split("-")) if part.endswith("Z"))
    made = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return (datetime.now(UTC) - made).total_seconds() > 86_400
