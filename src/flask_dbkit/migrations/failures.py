"""What a revision that failed has left behind, in words."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError

from ..databases import database_of
from ..databases.statements import first_word
from .binds import bind_title
from .connecting import MigratingConnection
from .exceptions import MigrationError
from .revisions import title_of
from .server import Limits

__all__ = ["explained", "locked_out"]

_DDL = frozenset({"ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE"})


def explained(
    error: Exception, session: MigratingConnection, step: Any, key: str | None
) -> Exception:
    """Say what a failed revision has left behind."""
    if step is None or session.is_external or isinstance(error, MigrationError):
        return error
    rolls_back = not database_of(session.connection).ddl_commits
    last = 0 if rolls_back else _last_commit(session.statements)
    if last == 0 and not isinstance(error, (DBAPIError, sqlite3.Error)):
        return error
    reason = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
    failed = (
        f"Revision {title_of(step.revision)} failed in the database {bind_title(key)!r}: {reason}."
    )
    if "already exists" in reason:
        failed += " If db.create_all() has made it, note so with 'flask dbkit migrate stamp'."
    if last == 0:
        return MigrationError(
            f"{failed} Nothing of it was applied. The revisions before it stay applied."
        )
    listed = "\n".join(f"  {' '.join(text.split())}" for text in session.statements[:last])
    return MigrationError(
        f"{failed}\nMariaDB and MySQL commit each of these statements by itself. This was applied"
        f" and stays:\n{listed}\nThe version table still names the revision before. Undo these"
        " statements by hand, or take them out of the revision, before you upgrade again. One"
        " statement per revision avoids this."
    )


def _last_commit(statements: list[str]) -> int:
    """Return how many statements are committed: all up to the last that commits by itself."""
    committing = (number for number, text in enumerate(statements, 1) if first_word(text) in _DDL)
    return max(committing, default=0)


def locked_out(step: Any, key: str | None, limits: Limits) -> MigrationError:
    """Say that a lock was never given."""
    revision = f"Revision {title_of(step.revision)}" if step is not None else "The upgrade"
    return MigrationError(
        f"{revision} got no lock in the database {bind_title(key)!r} within {limits.wait_s:g}"
        " seconds: another transaction uses the table, or writes. Nothing of it was applied. End"
        " that transaction, or wait longer with --wait."
    )
