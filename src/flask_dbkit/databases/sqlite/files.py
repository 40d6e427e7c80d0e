"""Which files the pooled connections of an engine have open.

A connection keeps the file it opened, also when another one has taken its place or it was
deleted: everything goes on working, and what is written is lost. Only a comparison of the file
at the path with the file that was opened tells.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Engine

__all__ = ["FileIdentity", "forget_closed", "hand_over_files", "note_file", "open_files"]

FileIdentity = tuple[int, int]
"""Device and inode."""

_INFO_KEY = "flask_dbkit.sqlite.file"


class _OpenFile:
    """Lives in the ``info`` of a connection, until that is closed or gone."""

    __slots__ = ("__weakref__", "identity")

    def __init__(self, identity: FileIdentity) -> None:
        self.identity = identity


_open: WeakKeyDictionary[Engine, WeakSet[_OpenFile]] = WeakKeyDictionary()


def note_file(engine: Engine, path: str | None, info: dict[Any, Any]) -> None:
    """Remember which file, if any, a new connection of ``engine`` has opened."""
    if path is None:
        return
    with contextlib.suppress(OSError):  # gone again: the next connection will say so
        status = Path(path).stat()
        info[_INFO_KEY] = token = _OpenFile((status.st_dev, status.st_ino))
        _open.setdefault(engine, WeakSet()).add(token)


def forget_closed(engine: Engine) -> None:
    """Forget a file when its connection is closed: the place in the pool keeps its ``info``.

    A connection that is detached has an ``info`` of its own from then on.
    """

    @event.listens_for(engine, "close")
    @event.listens_for(engine, "detach")
    def forget(_dbapi_connection: Any, record: Any) -> None:
        record.info.pop(_INFO_KEY, None)


def open_files(engine: Engine) -> set[FileIdentity]:
    """Return the files that connections of this engine's pool have open."""
    return {token.identity for token in list(_open.get(engine, ()))}


def hand_over_files() -> set[FileIdentity]:
    """Forget all connections in a forked child, where they are the parent's; return their files."""
    files = {token.identity for tokens in list(_open.values()) for token in list(tokens)}
    _open.clear()
    return files
