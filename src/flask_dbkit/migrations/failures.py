"""What a revision that failed has left behind, in words."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..databases import database_of
from ..databases.statements import first_word
from .binds import bind_title
from .connecting import MigratingConnection, invalid_indexes_query
from .exceptions import MigrationError
from .revisions import title_of
from .server import Limits

__all__ = ["explained", "locked_out"]

_NULLS = re.compile(
    r"Cannot add a NOT NULL column|NOT NULL constraint failed: _alembic_tmp_|contains null values"
    r"|Invalid use of NULL value|Data truncated for column",
    re.IGNORECASE,
)
_DDL = frozenset({"ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE"})


def explained(
    error: Exception,
    session: MigratingConnection,
    step: Any,
    key: str | None,
    metadata: MetaData,
) -> Exception:
    """Say what a failed revision has left behind.

    Args:
        error: Why it failed.
        session: The connection.
        step: The revision, ``None`` for none.
        key: The bind key.
        metadata: The models of the database.
    """
    if step is None or session.is_external or isinstance(error, MigrationError):
        return error
    ddl_commits = database_of(session.connection).ddl_commits
    last = max(session.permanent, _last_commit(session.statements) if ddl_commits else 0)
    if last == 0 and not isinstance(error, (DBAPIError, sqlite3.Error)):
        return error
    invalid = _invalid_indexes(session)
    reason = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
    failed = (
        f"Revision {title_of(step.revision)} failed in the database {bind_title(key)!r}: {reason}."
    )
    failed += _advice(reason, step, session, metadata, is_clean=last == 0 and not invalid)
    for name in invalid:
        failed += (
            f" The index {name} is invalid: it was left half built, and serves no query. Remove it"
            f" before you upgrade again: DROP INDEX CONCURRENTLY {name}."
        )
    if last == 0:
        return MigrationError(
            f"{failed} Nothing of it was applied. The revisions before it stay applied."
        )
    listed = "\n".join(f"  {' '.join(text.split())}" for text in session.statements[:last])
    why = (
        "MariaDB and MySQL commit each of these statements by itself."
        if ddl_commits
        else "What is in an autocommit_block(), and before it, is committed."
    )
    lost = ""
    if getattr(error, "connection_invalidated", False):
        lost = " The connection was lost: what was sent last may have been applied too."
    return MigrationError(
        f"{failed}\n{why} This was applied and stays:\n{listed}\nThe version table still names the"
        f" revision before.{lost} Undo these statements by hand, or take them out of the revision,"
        " before you upgrade again. One statement per revision avoids this."
    )


def _advice(
    reason: str,
    step: Any,
    session: MigratingConnection,
    metadata: MetaData,
    *,
    is_clean: bool,
) -> str:
    """Say what to do about a failure that is common."""
    if "already exists" in reason:
        is_first = not step.revision.down_revision
        if is_clean and is_first and _is_all_there(session.connection.engine, metadata):
            return " If db.create_all() has made it, note so with 'flask dbkit migrate stamp'."
        return (
            " It is there already, and not by this revision: what an earlier try has left, or what"
            " a downgrade did not remove. Compare it with the revision, and remove it or take it"
            " out of the revision."
        )
    if _NULLS.search(reason):
        return (
            " A NOT NULL column needs a value in the rows that are there: give it a server_default,"
            " in the model too, or add it nullable, fill it, and make it NOT NULL later."
        )
    return ""


def _is_all_there(engine: Engine, metadata: MetaData) -> bool:
    """Tell whether a database has every table, column and index of the models."""
    try:
        inspector = inspect(engine)
        for table in metadata.tables.values():
            if not inspector.has_table(table.name, table.schema):
                return False
            columns = {each["name"] for each in inspector.get_columns(table.name, table.schema)}
            indexes = {each["name"] for each in inspector.get_indexes(table.name, table.schema)}
            if not columns >= {each.name for each in table.columns}:
                return False
            if not indexes >= {str(each.name) for each in table.indexes}:
                return False
    except SQLAlchemyError:
        return False
    return True


def _invalid_indexes(session: MigratingConnection) -> list[str]:
    """Ask for them on another connection: this one may be lost, or in a failed transaction."""
    query = invalid_indexes_query(session.connection)
    if query is None:
        return []
    try:
        with session.connection.engine.connect() as connection:
            return [str(name) for name in connection.scalars(text(query))]
    except SQLAlchemyError:
        return []


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
