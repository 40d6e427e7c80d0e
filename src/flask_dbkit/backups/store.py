"""Where backups are kept: a folder, or any file system that fsspec knows.

A backup is there when its manifest is there, and the manifest is written last. What is being
made lies in a hidden folder whose lock file its maker holds; the kernel drops that lock when the
maker dies, and the next command tidies up.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from ..support.files import UnsafeFile, open_own_file, read_file, write_file
from .exceptions import BackupError
from .manifest import Manifest, is_id, make_id

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: leftovers are told by their age alone
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "LocalStore",
    "Reservation",
    "Store",
    "explaining_os_errors",
    "missing_file",
    "no_such_backup",
    "sync",
]

_MAKING, _WORKING, _NEW = ".partial-", ".scratch-", ".new-"
_LOCK = "lock"
_HAS_LOCKS = fcntl is not None
_OLD_S = 3600.0  # what nobody holds a lock on, and was not touched for so long, is left over


@dataclass(frozen=True)
class Reservation:
    """An id that nobody else gets, and a private folder to make the backup in."""

    id: str
    created_at: datetime
    directory: Path


class Store(ABC):
    """A place for backups.

    .. versionadded:: 0.1
    """

    @property
    @abstractmethod
    def location(self) -> str:
        """Where it is, for people; never with a password."""

    @abstractmethod
    def reserve(self, bind: str) -> AbstractContextManager[Reservation]:
        """Return a context manager that yields a :class:`Reservation`."""

    @abstractmethod
    def publish(self, data: Path, manifest: Manifest) -> None:
        """Move a finished data file in, then its manifest."""

    @abstractmethod
    def ids(self) -> list[str]:
        """Return the ids of all backups, in no order."""

    @abstractmethod
    def read_manifest(self, backup_id: str) -> Manifest:
        """Return one manifest.

        Raises:
            BackupError: There is no such backup, or its manifest cannot be trusted.
        """

    @abstractmethod
    def write_manifest(self, manifest: Manifest) -> None:
        """Replace one manifest."""

    @abstractmethod
    def fetch(self, manifest: Manifest, directory: Path) -> Path:
        """Return a local path of the data file; what is remote is copied to ``directory``.

        Raises:
            BackupError: The file is not there; the code is ``file.missing``.
        """

    @abstractmethod
    def delete(self, manifest: Manifest) -> None:
        """Remove one backup: first its manifest, then its data."""

    @abstractmethod
    def workspace(self) -> AbstractContextManager[Path]:
        """Return a context manager that yields an empty private folder with room for a copy."""

    @abstractmethod
    def clean(self) -> None:
        """Remove what commands that died have left behind."""


def no_such_backup(backup_id: str, location: str) -> BackupError:
    """Build the error for an id that names nothing."""
    return BackupError(
        f"There is no backup {backup_id!r} in {location}. 'flask dbkit backup list' shows them.",
        code="backup.unknown",
    )


def missing_file(manifest: Manifest, location: str) -> BackupError:
    """Build the error for a backup whose data are gone."""
    return BackupError(
        f"The data of {manifest.id} are gone: {location} has no file {manifest.file}.",
        code="file.missing",
    )


class LocalStore(Store):
    """A folder. It is made at the first backup, readable by its owner alone.

    Args:
        directory: Absolute.

    .. versionadded:: 0.1
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        return f"LocalStore({str(self.directory)!r})"

    @property
    def location(self) -> str:
        """Return the folder, or the URL without a password."""
        return str(self.directory)

    @contextmanager
    def reserve(self, bind: str) -> Iterator[Reservation]:
        """Yield an id and a private folder, and tidy up."""
        self._make()
        self.clean()
        with _Folder(self.directory) as folder:
            backup_id, moment = self._take_id(folder, bind)
            yield Reservation(backup_id, moment, folder.path)

    def _take_id(self, folder: _Folder, bind: str) -> tuple[str, datetime]:
        number = 0
        while True:
            number += 1
            moment = datetime.now(UTC)
            backup_id = make_id(bind, moment, number)
            # A folder that is not empty is never replaced: two of us never get one id.
            if folder.rename_to(self.directory / f"{_MAKING}{backup_id}"):
                if not self._manifest_path(backup_id).exists():
                    return backup_id, moment
                folder.rename_to(self.directory / _fresh(_WORKING))

    def publish(self, data: Path, manifest: Manifest) -> None:
        """Move a finished backup in; its manifest comes last."""
        sync(data)
        data.replace(self.directory / manifest.file)
        sync(self.directory)
        self.write_manifest(manifest)

    def ids(self) -> list[str]:
        """Return the ids of all manifests."""
        if not self.directory.is_dir():
            return []
        names = [path.name.removesuffix(".json") for path in self.directory.glob("*.json")]
        return [name for name in names if is_id(name)]

    def read_manifest(self, backup_id: str) -> Manifest:
        """Return one manifest, checked."""
        if not is_id(backup_id):
            raise no_such_backup(backup_id, self.location)
        try:
            text = read_file(self._manifest_path(backup_id))
        except FileNotFoundError:
            raise no_such_backup(backup_id, self.location) from None
        except UnsafeFile as error:
            raise BackupError(str(error), code="manifest.unreadable") from error
        return Manifest.from_json(text, backup_id=backup_id)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace one manifest, completely or not at all."""
        write_file(self._manifest_path(manifest.id), manifest.to_json(), mode=0o600)
        sync(self.directory)

    def fetch(self, manifest: Manifest, directory: Path) -> Path:
        """Return where the data are."""
        # A manifest names a file beside it, and nothing else on this machine.
        path = self.directory / Path(manifest.file).name
        if not path.is_file():
            raise missing_file(manifest, self.location)
        return path

    def delete(self, manifest: Manifest) -> None:
        """Remove the manifest, then the data."""
        # The folder tells who comes after a crash that the data have no manifest any more.
        with _Folder(self.directory) as folder:
            folder.rename_to(self.directory / f"{_MAKING}{manifest.id}")
            self._manifest_path(manifest.id).unlink(missing_ok=True)
            (self.directory / Path(manifest.file).name).unlink(missing_ok=True)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Yield a private folder with room for a copy."""
        self._make()
        self.clean()
        with _Folder(self.directory) as folder:
            folder.rename_to(self.directory / _fresh(_WORKING))
            yield folder.path

    def clean(self) -> None:
        """Remove what nobody holds the lock of."""
        if not self.directory.is_dir():
            return
        for path in self.directory.iterdir():
            if path.name.startswith((_MAKING, _WORKING)) and _is_left_over(path):
                backup_id = path.name.removeprefix(_MAKING)
                if is_id(backup_id) and not self._manifest_path(backup_id).exists():
                    for half in self.directory.glob(f"{backup_id}.*"):
                        half.unlink(missing_ok=True)
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith(_NEW) and _is_old(path):
                shutil.rmtree(path, ignore_errors=True)
                if path.is_file():
                    path.unlink(missing_ok=True)

    def _manifest_path(self, backup_id: str) -> Path:
        return self.directory / f"{backup_id}.json"

    def _make(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BackupError(
                f"The folder for backups, {self.directory}, cannot be made: {error.strerror}."
                " Make it, or name another one in DBKIT_BACKUP_DIR.",
                code="store.unusable",
            ) from error


class _Folder:
    """A private folder with a lock that ends with this process, removed at the end."""

    def __init__(self, parent: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
        # The lock is there before the folder gets a name that others look at.
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _HAS_LOCKS:
            assert fcntl is not None
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def rename_to(self, path: Path) -> bool:
        """Take another name, unless somebody has it."""
        try:
            self.path.rename(path)
        except OSError:
            if path.exists():
                return False
            raise
        self.path = path
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _fresh(prefix: str) -> str:
    return prefix + os.urandom(6).hex()


def _is_left_over(path: Path) -> bool:
    if not _HAS_LOCKS:  # pragma: no cover
        return _is_old(path)
    try:
        descriptor = open_own_file(path / _LOCK)
    except OSError:
        return _is_old(path)  # its maker is removing it
    try:
        assert fcntl is not None
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_old(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _OLD_S
    return False


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explaining_os_errors(location: str) -> Iterator[None]:
    """Turn a full disk, and whatever else the system refuses, into one paragraph."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BackupError(
                f"There is no room left for the backup in {location}: {error.strerror}. Make room,"
                " for example with 'flask dbkit backup prune', or name another place in"
                " DBKIT_BACKUP_DIR. Nothing half done was left behind.",
                code="disk.full",
            ) from error
        raise BackupError(
            f"The system refused while a backup was worked on in {location}: {error}.",
            code="store.failed",
        ) from error
