"""What is in a SQLite file, and whether it is sound."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ..database import Contents

__all__ = ["examine"]

_MOST_PROBLEMS = 10


def examine(path: Path) -> Contents:
    """Read a SQLite file from end to end.

    Runs ``integrity_check`` and ``foreign_key_check``, and counts every table. A file that
    uses functions or collations of the application cannot be checked completely without them;
    that is noted in ``details["unchecked"]`` and is no problem of the file.

    Args:
        path: A file that nobody writes.
    """
    problems: list[str] = []
    unchecked: list[str] = []
    with closing(
        sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    ) as connection:
        # SQLAlchemy gives every connection this function, so a CHECK constraint may use it.
        connection.create_function("regexp", 2, _regexp, deterministic=True)
        try:
            tables, views = _names(connection, "table"), _names(connection, "view")
            counts = {name: _count(connection, name) for name in tables}
            problems += _check(connection, unchecked)
            violations = _violations(connection)
            revision = _revision(connection) if "alembic_version" in tables else None
        except sqlite3.DatabaseError as error:
            return Contents({}, problems=(str(error),))
    details: dict[str, object] = {"foreign_key_violations": violations}
    if unchecked:
        details["unchecked"] = unchecked
    return Contents(
        tables=counts,
        views=tuple(views),
        revision=revision,
        details=details,
        problems=tuple(problems),
    )


def _regexp(pattern: str, value: str | None) -> bool | None:
    return None if value is None else re.search(pattern, value) is not None


def _names(connection: sqlite3.Connection, kind: str) -> list[str]:
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        " ORDER BY name",
        (kind,),
    )
    return [name for (name,) in found]


def _count(connection: sqlite3.Connection, table: str) -> int | None:
    name = table.replace('"', '""')
    # The second time without its indexes, which may be sorted by a collation that is not here.
    for source in (f'"{name}"', f'"{name}" NOT INDEXED'):
        try:
            (number,) = connection.execute(f"SELECT count(*) FROM {source}").fetchone()  # noqa: S608
        except sqlite3.OperationalError as error:
            if not _is_of_the_application(error):
                raise
        else:
            return int(number)
    return None


def _check(connection: sqlite3.Connection, unchecked: list[str]) -> list[str]:
    try:
        rows = connection.execute(f"PRAGMA integrity_check({_MOST_PROBLEMS})").fetchall()
    except sqlite3.OperationalError as error:
        if not _is_of_the_application(error):
            raise
        unchecked.append(str(error))
        return []
    return [str(text) for (text,) in rows if text != "ok"]


def _violations(connection: sqlite3.Connection) -> int | None:
    """Count the rows that point nowhere; a database may have had some before."""
    try:
        return len(connection.execute("PRAGMA foreign_key_check").fetchall())
    except sqlite3.OperationalError:
        return None  # a foreign key to columns that are not unique cannot be checked


def _revision(connection: sqlite3.Connection) -> str | None:
    rows = connection.execute("SELECT version_num FROM alembic_version ORDER BY 1").fetchall()
    return ",".join(str(version) for (version,) in rows) or None


def _is_of_the_application(error: sqlite3.OperationalError) -> bool:
    return str(error).startswith(("no such collation", "no such function", "no such module"))
