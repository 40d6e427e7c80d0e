"""Names and files of the databases that revisions are for."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Engine

from ..databases import file_of

__all__ = ["bind_title", "sqlite_file", "suffix_of"]


def bind_title(bind_key: str | None) -> str:
    """Return the name of a database in messages."""
    return "default" if bind_key is None else bind_key


def suffix_of(bind_key: str | None) -> str:
    """Return what ``upgrade_`` of a revision file ends with for one database.

    That of the default database is empty, as in Flask-Migrate's template for several databases.
    """
    return "" if bind_key is None else re.sub(r"\W", "_", bind_key)


def sqlite_file(engine: Engine) -> Path | None:
    """Return the file of a SQLite engine; ``None`` for memory and for servers."""
    path = file_of(engine.url)
    return Path(path) if path is not None else None
