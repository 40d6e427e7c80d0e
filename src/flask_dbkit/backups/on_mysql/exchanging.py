"""The tables of one MariaDB or MySQL database in the place of another's.

``RENAME TABLE`` moves all of them in one statement, which is done or not. First the live tables
are moved aside, into a database that nobody knows: there they are as they will stay, and can be
backed up. Then the new ones are moved in. What cannot be moved (views, triggers, routines,
events) is written down before and made again, and kept in a table beside those moved aside, so
that a process that is killed takes nothing with it.

References:
    * https://mariadb.com/docs/server/reference/sql-statements/data-definition/rename-table
    * https://dev.mysql.com/doc/refman/8.4/en/rename-table.html
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..servers import escaped, send
from .catalog import names_in, quoted, routines_of, tables_of

__all__ = [
    "PROGRAMS",
    "drop_programs",
    "drop_triggers",
    "keep_programs",
    "kept_programs",
]

PROGRAMS = "flask_dbkit_programs"
"""The table that keeps what is programmed on the tables that were moved aside."""


def drop_triggers(connection: Connection, name: str) -> None:
    """Drop every trigger: a table that has one cannot go to another database."""
    for trigger in names_in(connection, "triggers", "trigger", name):
        send(connection, f"DROP TRIGGER {quoted(name)}.{quoted(trigger)}")


def drop_programs(connection: Connection, name: str) -> None:
    """Drop every view, trigger, event and routine of a database."""
    drop_triggers(connection, name)
    for view in tables_of(connection, name, ["VIEW"]):
        send(connection, f"DROP VIEW {quoted(name)}.{quoted(view)}")
    for event in names_in(connection, "events", "event", name):
        send(connection, f"DROP EVENT {quoted(name)}.{quoted(event)}")
    for kind, routine in routines_of(connection, name):
        send(connection, f"DROP {kind} IF EXISTS {quoted(name)}.{quoted(routine)}")


def keep_programs(connection: Connection, aside: str, script: Path) -> None:
    """Write a script into a table of the database that tables are moved aside to."""
    table = f"{quoted(aside)}.{quoted(PROGRAMS)}"
    send(connection, f"CREATE TABLE {table} (script LONGBLOB) ENGINE = InnoDB")
    connection.execute(
        sa.text(f"INSERT INTO {escaped(table)} VALUES (:script)"),  # noqa: S608
        {"script": script.read_bytes()},
    )


def kept_programs(connection: Connection, aside: str) -> bytes | None:
    """Return the script that was kept; ``None`` when nothing was changed yet."""
    if PROGRAMS not in tables_of(connection, aside):
        return None
    table = escaped(f"{quoted(aside)}.{quoted(PROGRAMS)}")
    script = connection.scalar(sa.text(f"SELECT script FROM {table}"))  # noqa: S608
    return None if script is None else bytes(script)
