"""Write files into a folder: all of them, or none; over nothing, and through no link."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ..support.files import write_new_file
from .exceptions import StartError

__all__ = ["write_all"]


def write_all(folder: Path, files: Mapping[PurePosixPath, str]) -> None:
    """Write files, and make the folders they are in.

    Args:
        folder: Where they go; made if it is not there.
        files: Texts, by their places in it.

    Raises:
        StartError: One of them is there, or cannot be written. Nothing was changed.
    """
    _refuse_what_is_there(folder, files)
    made: list[Path] = []
    try:
        for place, text in files.items():
            path = folder / place
            _make_folder(path.parent, made)
            write_new_file(path, text.encode())
            made.append(path)
    except OSError as error:
        _remove(made)
        raise StartError(f"{error.filename or folder}: {error.strerror or error}.") from error


def _refuse_what_is_there(folder: Path, files: Mapping[PurePosixPath, str]) -> None:
    there = [str(place) for place in files if os.path.lexists(folder / place)]
    if there:
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        raise StartError(
            f"{folder} has {', '.join(there[:3])}{more} already. Nothing was written: name a"
            " folder that is not there, or an empty one."
        )
    for inside in sorted({parent for place in files for parent in place.parents}):
        path = folder / inside
        if inside.parts and os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            raise StartError(f"{path} is no folder. Nothing was written.")


def _make_folder(folder: Path, made: list[Path]) -> None:
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir()
        made.append(each)


def _remove(made: list[Path]) -> None:
    for path in reversed(made):
        with suppress(OSError):  # the reason for it is told already
            path.rmdir() if path.is_dir() else path.unlink()
