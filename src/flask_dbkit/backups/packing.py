"""What happens to a copy on its way into the store and back: compression, a filter, a digest.

A filter is any command that reads its standard input and writes its standard output, for
example ``age -r age1…``. It comes after the compression, because what is encrypted does not
compress. The digest is that of the finished file, so that it can be checked without a key.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .exceptions import BackupError
from .manifest import Manifest

__all__ = ["COMPRESSIONS", "check_data", "pack", "sha256_of", "suffix_of", "unpack"]

COMPRESSIONS = ("gzip", "zstd", "none")
_SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "none": ""}
_CHUNK = 1 << 20
_GZIP_LEVEL = 3  # most of the gain for a third of the time of the default


def suffix_of(compression: str, command: Sequence[str]) -> str:
    """Return what is appended to the name of a file that went through this."""
    return _SUFFIXES[compression] + (".filtered" if command else "")


def pack(plain: Path, packed: Path, *, compression: str, command: Sequence[str] = ()) -> None:
    """Compress a file and send it through a filter.

    Args:
        plain: What to read.
        packed: What to write; the same file is taken as it is when there is nothing to do.
        compression: One of :data:`COMPRESSIONS`.
        command: The filter's program and arguments; empty for none.

    Raises:
        BackupError: The filter cannot be started, or it failed.
    """
    if compression == "none" and not command:
        plain.replace(packed)
        return
    with (
        packed.open("xb") as target,
        plain.open("rb") as source,
        _through(command, target) if command else _as_is(target) as sink,
        _compressor(compression, sink) as compressed,
    ):
        shutil.copyfileobj(source, compressed, _CHUNK)


def _nobody(_done: int) -> None:
    """Watch nothing."""


class _Watched(io.RawIOBase):
    """A file that tells how many bytes of it were read."""

    def __init__(self, file: Any, watch: Callable[[int], object]) -> None:
        self._file, self._watch, self._done = file, watch, 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what fits, and tell."""
        count: int = self._file.readinto(buffer)
        self._done += count
        self._watch(self._done)
        return count


def unpack(
    packed: Path,
    plain: Path,
    manifest: Manifest,
    *,
    command: Sequence[str] = (),
    watch: Callable[[int], object] = _nobody,
) -> None:
    """Undo :func:`pack`.

    Args:
        packed: The data file of a backup.
        plain: What to write.
        manifest: Tells what was done to the data.
        command: The reverse of the filter; empty for none.
        watch: Called with the bytes of ``packed`` that are read; not with a filter, which reads
            them itself.

    Raises:
        BackupError: There is no reverse command, it failed, or the data are damaged.
    """
    if manifest.filter is not None and not command:
        raise BackupError(
            f"The backup {manifest.id} went through {manifest.filter!r}. Set DBKIT_BACKUP_UNFILTER"
            " to the command that undoes it, for example 'age -d -i key.txt'.",
            code="filter.missing",
        )
    reverse = command if manifest.filter is not None else ()
    with (
        packed.open("rb") as source,
        plain.open("xb") as target,
        _out_of(reverse, source) if reverse else _Watched(source, watch) as content,
    ):
        try:
            with _decompressor(manifest.compression, content) as decompressed:
                shutil.copyfileobj(decompressed, target, _CHUNK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BackupError(
                f"The data of {manifest.id} cannot be decompressed: {error}. Either the file is"
                " damaged, or DBKIT_BACKUP_UNFILTER does not undo DBKIT_BACKUP_FILTER.",
                code="file.unreadable",
            ) from error


def check_data(path: Path, manifest: Manifest, *, watch: Callable[[int], object] = _nobody) -> None:
    """Compare a data file with its manifest.

    Args:
        path: The file.
        manifest: Of the backup.
        watch: Called with the bytes that are read.

    Raises:
        BackupError: It is another file than the one that was written. The code is ``file.size``
            or ``file.digest``.
    """
    size = path.stat().st_size
    if size != manifest.size_bytes:
        raise BackupError(
            f"The data of {manifest.id} have {size} bytes instead of {manifest.size_bytes}:"
            " the file was cut, or is another one. Use another backup.",
            code="file.size",
        )
    if sha256_of(path, watch=watch) != manifest.sha256:
        raise BackupError(
            f"The data of {manifest.id} are not what was written: their SHA-256 differs from the"
            " manifest's. Use another backup.",
            code="file.digest",
        )


def sha256_of(path: Path, *, watch: Callable[[int], object] = _nobody) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(_Watched(file, watch), "sha256").hexdigest()


@contextmanager
def _as_is(file: IO[bytes]) -> Iterator[IO[bytes]]:
    yield file


@contextmanager
def _compressor(compression: str, sink: IO[bytes]) -> Iterator[Any]:
    if compression == "gzip":
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, sink, mtime=0) as compressed:
            yield compressed
    elif compression == "zstd":
        with _zstd().open(sink, "wb") as compressed:
            yield compressed
    else:
        yield sink


@contextmanager
def _decompressor(compression: str, source: IO[bytes] | _Watched) -> Iterator[Any]:
    if compression == "gzip":
        with gzip.GzipFile(fileobj=source, mode="rb") as plain:
            yield plain
    elif compression == "zstd":
        module = _zstd()
        try:
            with module.open(source, "rb") as plain:
                yield plain
        except module.ZstdError as error:
            raise zlib.error(str(error)) from error
    else:
        yield source


def _zstd() -> Any:
    try:
        # https://docs.python.org/3.14/library/compression.zstd.html
        return importlib.import_module("compression.zstd")
    except ImportError:
        raise BackupError(
            "This Python has no Zstandard: it came with 3.14. Set DBKIT_BACKUP_COMPRESSION to"
            " 'gzip', or use a newer Python.",
            code="compression.missing",
        ) from None


@contextmanager
def _through(command: Sequence[str], target: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield what to write to, so that the command's output goes to ``target``.

    The output is written here and not by the command, which may overlook that a disk is full.
    """
    failures: list[OSError] = []

    def write(output: IO[bytes]) -> None:
        try:
            shutil.copyfileobj(output, target, _CHUNK)
        except OSError as error:
            failures.append(error)
            output.close()  # the command notices, and ends

    with _started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        writer = threading.Thread(target=write, args=(process.stdout,), daemon=True)
        writer.start()
        try:
            yield process.stdin
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended early: its exit code and its words tell why
        except BaseException:
            process.kill()
            raise
        finally:
            writer.join()
        if failures:
            raise failures[0]


@contextmanager
def _out_of(command: Sequence[str], source: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield what to read from: the command's output for ``source``."""
    with _started(command, stdin=source, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout


@contextmanager
def _started(
    command: Sequence[str], *, stdin: IO[bytes] | int, stdout: int
) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(  # noqa: S603 - the developer's own setting
                list(command), stdin=stdin, stdout=stdout, stderr=words
            )
        except OSError as error:
            raise BackupError(
                f"The filter {command[0]!r} cannot be started: {error.strerror}. Install it, or"
                " change DBKIT_BACKUP_FILTER and DBKIT_BACKUP_UNFILTER.",
                code="filter.failed",
            ) from error
        failed = True
        try:
            yield process
            failed = False
        finally:
            if failed:
                process.kill()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
            code = process.wait()
            words.seek(0)
            said = " ".join(words.read(2000).decode(errors="replace").split())
        if code != 0:
            raise BackupError(
                f"The filter {command[0]!r} failed with exit code {code}: {said or 'no message'}",
                code="filter.failed",
            )
