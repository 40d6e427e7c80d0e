"""Which revision each database is at, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from .binds import bind_title, sqlite_file
from .connecting import invalid_indexes_query
from .folder import Folder

__all__ = ["BindState", "Pending", "compare", "examine", "read_current"]


@dataclass(frozen=True)
class Pending:
    """A revision that a database lacks."""

    revision: str
    message: str


@dataclass(frozen=True)
class BindState:
    """One database and its revisions.

    Attributes:
        bind: The bind key, ``default`` for the default database.
        status: ``current``; ``pending`` when revisions are missing; ``unknown`` when it is at a
            revision that the folder does not have, because it is newer than the code; ``absent``
            for a SQLite file that is yet to be made; ``unmanaged`` when ``env.py`` leaves it out;
            ``unreachable`` when it did not answer.
        current: The revisions it is at; empty before the first.
        heads: The newest revisions of the folder.
        pending: What it lacks, in the order of an upgrade.
        unknown: Revisions it is at that the folder does not have.
        problem: Why it is unreachable.
        invalid_indexes: Indexes that were left half built, on PostgreSQL.
    """

    bind: str
    status: str
    current: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    pending: tuple[Pending, ...] = ()
    unknown: tuple[str, ...] = ()
    problem: str | None = None
    invalid_indexes: tuple[str, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether there is nothing to be done."""
        return self.status == "current" and not self.invalid_indexes

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}


def examine(folder: Folder, script: ScriptDirectory | None = None) -> list[BindState]:
    """Ask every database which revision it is at. Creates nothing.

    Args:
        folder: The revisions, and whose they are.
        script: The same, if it was read already.

    Returns:
        One state per database, the default one first.
    """
    script = script or folder.script()
    managed = folder.managed
    states = []
    for key, engine in folder.engines.items():
        if key in managed:
            states.append(_examine(key, engine, folder, script))
        elif folder.metadata(key).tables:
            states.append(BindState(bind_title(key), "unmanaged", heads=tuple(script.get_heads())))
    return states


def _examine(key: str | None, engine: Engine, folder: Folder, script: ScriptDirectory) -> BindState:
    title = bind_title(key)
    file = sqlite_file(engine)
    if file is not None and not file.exists():
        state = compare(title, (), script)
        return BindState(title, "absent", (), state.heads, state.pending)
    try:
        with engine.connect() as connection:
            current = read_current(connection, folder)
            invalid = _invalid_indexes(connection)
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        return BindState(title, "unreachable", problem=reason)
    return replace(compare(title, current, script), invalid_indexes=invalid)


def _invalid_indexes(connection: Connection) -> tuple[str, ...]:
    query = invalid_indexes_query(connection)
    return () if query is None else tuple(map(str, connection.scalars(text(query))))


def read_current(connection: Connection, folder: Folder) -> tuple[str, ...]:
    """Return the revisions a database is at, from its version table."""
    context = MigrationContext.configure(connection, opts=dict(folder.version_table))
    return tuple(sorted(context.get_current_heads()))


def compare(bind: str, current: Iterable[str], script: ScriptDirectory) -> BindState:
    """Compare the revisions of a database with those of the folder. Touches no database.

    Args:
        bind: Its name.
        current: What its version table holds.
        script: The revisions.
    """
    current = tuple(current)
    heads = tuple(script.get_heads())
    unknown = tuple(revision for revision in current if not _is_known(revision, script))
    if unknown:
        return BindState(bind, "unknown", current, heads, (), unknown)
    missing = reversed(list(script.iterate_revisions("heads", current or "base")))
    pending = tuple(Pending(str(one.revision), str(one.doc or "")) for one in missing)
    return BindState(bind, "pending" if pending else "current", current, heads, pending)


def _is_known(revision: str, script: ScriptDirectory) -> bool:
    try:
        # A part of a revision would be found as well: it has to be the whole name.
        found: Any = script.get_revision(revision)
    except (CommandError, RevisionError):
        return False
    return found is not None and found.revision == revision
