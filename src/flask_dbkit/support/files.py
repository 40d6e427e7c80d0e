"""Files in folders that another account may write to: made, opened and replaced without a link.

Whoever may write to a folder may put a link there, to a file that only we may touch. So a file is
opened as SQLite opens its own side files, without following a link; only what was just made here
gets another owner or mode; and a file is written as a new one that takes the old one's place,
link or not.

References:
    * https://man7.org/linux/man-pages/man2/open.2.html
    * https://www.sqlite.org/c3ref/c_open_autoproxy.html (``SQLITE_OPEN_NOFOLLOW``)
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO

__all__ = [
    "UnsafeFile",
    "copy_to_new_file",
    "open_own_file",
    "open_side_file",
    "read_file",
    "write_file",
    "write_new_file",
]

# Windows has neither, and no file there blocks whoever opens it.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_CLOSED_IN_CHILDREN = getattr(os, "O_CLOEXEC", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NEW = os.O_CREAT | os.O_EXCL | _NO_LINK | _CLOSED_IN_CHILDREN | _BINARY


class UnsafeFile(OSError):
    """In the place of a file of ours is something else: a link, a FIFO, a device, a folder."""

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        self.path, self.what = os.fspath(path), what
        super().__init__(f"{self.path} is {what}, and no file of ours. Remove it.")


def open_side_file(path: str | os.PathLike[str], like: os.stat_result) -> int:
    """Open a file beside another one for reading and writing; make it if it is not there.

    A new one gets mode and, from root, owner of the file it stands beside. One that is there
    keeps what it has.

    Args:
        path: Of the file.
        like: Of the file it stands beside.

    Returns:
        A descriptor.

    Raises:
        UnsafeFile: It is no regular file, or has another name elsewhere.
    """
    mode = like.st_mode & 0o777
    try:
        descriptor = os.open(path, os.O_RDWR | _NEW, mode)
    except FileExistsError:
        return open_own_file(path)
    _take_after(descriptor, like)
    return descriptor


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read a regular file. A FIFO in its place is no reason to wait.

    Raises:
        UnsafeFile: It is none.
    """
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | _CLOSED_IN_CHILDREN | _BINARY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnsafeFile(path, "no regular file")
        return file.read()


def write_file(path: Path, data: bytes, *, mode: int | None = None, lasting: bool = True) -> None:
    """Write a file as a whole: a new one takes the place of what is there.

    A link is replaced, and what it points to stays as it is.

    Args:
        path: Of the file.
        data: What it will hold.
        mode: What it gets; without it that of the file it replaces, or what a new one gets.
        lasting: Whether to wait until it is on the disk.

    Raises:
        UnsafeFile: A folder is in its place.
    """
    temporary = path.with_name(f".new-{os.urandom(8).hex()}")
    try:
        with _new_file(temporary, 0o666 if mode is None else mode) as file:
            file.write(data)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
            before = _mode_of(path) if mode is None else None
            if before is not None:
                os.fchmod(file.fileno(), before)
        temporary.replace(path)
    except IsADirectoryError as error:
        raise UnsafeFile(path, "a folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_new_file(path: Path, data: bytes) -> None:
    """Write a file where none is.

    Raises:
        FileExistsError: Something is there, be it a link that points nowhere.
    """
    with _new_file(path) as file:
        file.write(data)


def copy_to_new_file(source: Path, target: Path, *, like: os.stat_result | None = None) -> None:
    """Copy a file to where none is, and wait until it is on the disk.

    Args:
        source: What to read.
        target: What to make.
        like: Of a file whose mode and owner the new one gets, as far as we may.

    Raises:
        FileExistsError: Something is there.
    """
    with source.open("rb") as content, _new_file(target) as file:
        shutil.copyfileobj(content, file, 1 << 20)
        file.flush()
        if like is not None:
            _take_after(file.fileno(), like)
        os.fsync(file.fileno())


def _mode_of(path: Path) -> int | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_mode & 0o777 if stat.S_ISREG(status.st_mode) else None


def _new_file(path: Path, mode: int = 0o666) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | _NEW, mode), "wb")


def open_own_file(path: str | os.PathLike[str]) -> int:
    """Open a file that is there for reading and writing.

    Raises:
        UnsafeFile: It is no regular file, or has another name elsewhere.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | _NO_LINK | _NO_WAIT | _CLOSED_IN_CHILDREN)
    except OSError as error:
        if os.path.islink(path):  # noqa: PTH114 - it may be text
            raise UnsafeFile(path, "a link") from error
        if isinstance(error, IsADirectoryError):
            raise UnsafeFile(path, "a folder") from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnsafeFile(path, "no regular file")
    if status.st_nlink > 1:
        os.close(descriptor)
        raise UnsafeFile(path, "a file with another name elsewhere")
    return descriptor


def _take_after(descriptor: int, like: os.stat_result) -> None:
    """Give a file that was just made here mode and owner of another one."""
    with suppress(PermissionError):
        os.fchmod(descriptor, like.st_mode & 0o777)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        os.fchown(descriptor, like.st_uid, like.st_gid)
