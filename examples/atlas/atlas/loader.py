"""Fill an empty database with the atlas, once and completely.

All rows go in with one transaction. Whatever interrupts it, the next start finds either all
of the data or none of it, and loads it then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from flask_dbkit import Base, MigrationError
from flask_dbkit.migrations import Limits, upgrade

from .extensions import db
from .models import Continent, Country, DataLoad, Place
from .source import Source

__all__ = ["AtlasError", "bring_up_to_date", "is_loaded", "load"]

BATCH = 5_000
WAIT_S = 300.0


class AtlasError(Exception):
    """A database the atlas cannot use. The text says which, why, and what to do."""


def bring_up_to_date() -> None:
    """Apply the revisions that the current application's database lacks.

    Of two processes that start at once, one applies them and the other waits.

    Raises:
        AtlasError: It belongs to another application, or is newer than this code.
    """
    try:
        with db.engine.connect() as connection:
            _refuse_strangers(connection, set(sa.inspect(connection).get_table_names()))
        upgrade(limits=Limits(wait_s=WAIT_S))
    except DBAPIError as error:
        raise _unusable(db.engine, error) from error
    except MigrationError as error:
        raise AtlasError(str(error)) from error


def is_loaded(engine: sa.Engine) -> bool:
    """Tell whether the data is there. Sends a few short queries and writes nothing.

    Raises:
        AtlasError: The database cannot be reached, belongs to another application, or was
            made by another version of this one.
    """
    try:
        with engine.connect() as connection:
            tables = _check_tables(connection)
            return DataLoad.__tablename__ in tables and _has_marker(connection)
    except DBAPIError as error:
        raise _unusable(engine, error) from error


def load(
    session: Session, read: Callable[[], Source], report: Callable[[int, int], None]
) -> Source | None:
    """Make the tables and insert the data, unless another process does so meanwhile.

    Args:
        session: Of the current application, whose database :func:`is_loaded` has looked at.
            Committed here.
        read: Gives the data; called only when there is something to load.
        report: Called after each batch with the places inserted so far, and all of them.

    Returns:
        What was loaded, or ``None`` when another process was first.
    """
    bring_up_to_date()
    try:
        if not _claim(session):
            return None
        source = read()
        _insert(session, source, report)
        session.commit()
    except BaseException:
        # Ctrl-C too: let go of the database now, not when the process ends.
        session.rollback()
        raise
    return source


def _check_tables(connection: sa.Connection) -> set[str]:
    """Return the names of the tables there, after a look at whose they are."""
    inspector = sa.inspect(connection)
    found = set(inspector.get_table_names())
    _refuse_strangers(connection, found)
    ours = found & set(Base.metadata.tables)
    for name in sorted(ours):
        columns = {column["name"] for column in inspector.get_columns(name)}
        missing = {column.name for column in Base.metadata.tables[name].columns} - columns
        if missing:
            raise AtlasError(
                f"The database {_describe(connection.engine)} was made by another version of the"
                f" atlas, or by another application: its table {name} has no column"
                f" {_shorten(missing)}. Nothing was changed. Delete it, if nothing in it matters"
                " to you, and start again; or let DATABASE_URL name an empty database."
            )
    return ours


def _refuse_strangers(connection: sa.Connection, found: set[str]) -> None:
    if found - {"alembic_version"} and not found & set(Base.metadata.tables):
        raise AtlasError(
            f"The database {_describe(connection.engine)} belongs to another application: it has"
            f" the tables {_shorten(found)} and none of the atlas. Nothing was changed. Let"
            " DATABASE_URL name an empty database."
        )


def _unusable(engine: sa.Engine, error: DBAPIError) -> AtlasError:
    return AtlasError(
        f"The database {_describe(engine)} cannot be used: {_reason(error)}. Check that"
        " DATABASE_URL names a database that exists and that you may use."
    )


def _has_marker(connection: sa.Connection) -> bool:
    return connection.scalar(sa.select(DataLoad.id)) is not None


def _claim(session: Session) -> bool:
    """Insert the marker, which makes this transaction the one that loads.

    Returns:
        ``False`` when another process has loaded the data.
    """
    deadline = time.monotonic() + WAIT_S
    marker = {"id": 1, "source": "", "places": 0, "started_at": datetime.now(UTC)}
    while True:
        try:
            session.execute(sa.insert(DataLoad), marker)
        except IntegrityError:
            session.rollback()
            return False
        except OperationalError as error:
            # Another process is loading. SQLite and MariaDB give up waiting for it after some
            # seconds, PostgreSQL waits to its end.
            session.rollback()
            if not _is_busy(error):
                raise
            if time.monotonic() > deadline:
                raise AtlasError(
                    "Another process has been loading the atlas into the same database for"
                    f" {WAIT_S:.0f} seconds. Wait for it or end it, and start again."
                ) from error
            time.sleep(0.2)
        else:
            return True


def _insert(session: Session, source: Source, report: Callable[[int, int], None]) -> None:
    total = len(source.places)
    session.execute(sa.insert(Continent), source.continents)
    session.execute(sa.insert(Country), source.countries)
    # Without render_nulls the ORM leaves a NULL out of its INSERT, and rows with and without one
    # go in different statements: twenty thousand here instead of fifty.
    # https://docs.sqlalchemy.org/en/20/orm/queryguide/dml.html#sending-null-values-in-orm-bulk-insert-statements
    options = {"render_nulls": True}
    for start in range(0, total, BATCH):
        batch = source.places[start : start + BATCH]
        session.execute(sa.insert(Place), batch, execution_options=options)
        report(start + len(batch), total)
    session.execute(sa.update(DataLoad).values(source=source.name, places=total))


def _is_busy(error: OperationalError) -> bool:
    # The SQLite module names its codes; PyMySQL puts the server's number first: 1205 is a lock
    # wait timeout, 1213 a deadlock. https://mariadb.com/kb/en/mariadb-error-code-reference/
    name = getattr(error.orig, "sqlite_errorname", "")
    code = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or code in (1205, 1213)


def _describe(engine: sa.Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _reason(error: DBAPIError) -> str:
    # The drivers of servers write several lines, with addresses they tried.
    return " ".join(str(error.orig).split()).rstrip(".?")


def _shorten(names: set[str], limit: int = 5) -> str:
    text = ", ".join(sorted(names)[:limit])
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text
