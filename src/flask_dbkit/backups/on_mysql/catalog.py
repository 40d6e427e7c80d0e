"""What MariaDB and MySQL tell of their databases, and what is done to whole ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from ..database import Contents
from ..servers import escaped, rows_of_revision, send

__all__ = [
    "drop_other_programs",
    "end_session",
    "option_file",
    "quoted",
    "read_contents",
    "swap_tables",
]

_TABLES = ("BASE TABLE", "SYSTEM VERSIONED", "SEQUENCE")
_PATIENCE_S = 30


def read_contents(connection: Connection, *, count: bool = True) -> Contents:
    """Return tables, rows, views and revision of the connection's own database."""
    rows = connection.execute(
        sa.text(
            "SELECT table_name, table_type FROM information_schema.tables"
            " WHERE table_schema = DATABASE() ORDER BY table_name"
        )
    ).all()
    tables = [str(name) for name, kind in rows if kind in _TABLES]
    counts: dict[str, int | None] = {}
    for name in tables if count else []:
        counts[name] = connection.scalar(
            sa.text(f"SELECT count(*) FROM {escaped(quoted(name))}")  # noqa: S608
        )
    return Contents(
        tables=counts,
        views=tuple(str(name) for name, kind in rows if kind == "VIEW"),
        revision=rows_of_revision(connection) if "alembic_version" in counts else None,
        exact=False,
    )


def swap_tables(connection: Connection, live: str, new: str, old: str) -> None:
    """Move the tables of one database out and those of another one in, in one statement.

    References:
        https://mariadb.com/docs/server/reference/sql-statements/data-definition/rename-table
    """
    # A wait for a table that somebody uses could last a day, which is the default.
    send(connection, f"SET SESSION lock_wait_timeout = {_PATIENCE_S}")
    for view in set(_tables_of(connection, live, ["VIEW"])) & set(_tables_of(connection, new)):
        send(connection, f"DROP VIEW {quoted(live)}.{quoted(view)}")
    # A table with triggers cannot go to another database.
    for name in (live, new):
        for trigger in _names(connection, "triggers", "trigger", name):
            send(connection, f"DROP TRIGGER {quoted(name)}.{quoted(trigger)}")
    moves = [(live, old, table) for table in _tables_of(connection, live)]
    moves += [(new, live, table) for table in _tables_of(connection, new)]
    if moves:
        parts = [
            f"{quoted(source)}.{quoted(table)} TO {quoted(target)}.{quoted(table)}"
            for source, target, table in moves
        ]
        send(connection, f"RENAME TABLE {', '.join(parts)}")


def drop_other_programs(connection: Connection, name: str, model: str) -> None:
    """Remove the views, routines and events of a database that another one does not have."""
    for view in set(_tables_of(connection, name, ["VIEW"])) - set(
        _tables_of(connection, model, ["VIEW"])
    ):
        send(connection, f"DROP VIEW {quoted(name)}.{quoted(view)}")
    for event in set(_names(connection, "events", "event", name)) - set(
        _names(connection, "events", "event", model)
    ):
        send(connection, f"DROP EVENT {quoted(name)}.{quoted(event)}")
    for kind, routine in _routines(connection, name) - _routines(connection, model):
        send(connection, f"DROP {kind} {quoted(name)}.{quoted(routine)}")


def _routines(connection: Connection, name: str) -> set[tuple[str, str]]:
    rows = connection.execute(
        sa.text(
            "SELECT routine_type, routine_name FROM information_schema.routines"
            " WHERE routine_schema = :name AND routine_type IN ('PROCEDURE', 'FUNCTION')"
        ),
        {"name": name},
    )
    return {(str(kind), str(routine)) for kind, routine in rows}


def _tables_of(connection: Connection, name: str, kinds: Sequence[str] = _TABLES) -> list[str]:
    statement = sa.text(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = :name AND table_type IN :kinds ORDER BY table_name"
    ).bindparams(sa.bindparam("kinds", expanding=True))
    return list(connection.scalars(statement, {"name": name, "kinds": list(kinds)}))


def _names(connection: Connection, table: str, column: str, name: str) -> list[str]:
    statement = sa.text(
        f"SELECT {column}_name FROM information_schema.{table} WHERE {column}_schema = :name"  # noqa: S608
    )
    return list(connection.scalars(statement, {"name": name}))


def end_session(connection: Connection, session: int) -> None:
    """End a session of the server, unless it has ended itself."""
    try:
        connection.exec_driver_sql(f"KILL {session:d}")
    except DBAPIError:
        if session in [
            int(each)
            for each in connection.scalars(sa.text("SELECT id FROM information_schema.processlist"))
        ]:
            raise


def option_file(engine: Engine, connection: Connection) -> str:
    """Write the options that make the server's programs connect as this connection did."""
    arguments = dict(engine.dialect.create_connect_args(engine.url)[1])
    raw: Any = connection.connection.driver_connection
    for name in ("host", "port", "user", "password", "unix_socket"):
        # PyMySQL keeps them, wherever they came from; other drivers do not.
        value = getattr(raw, name, None) or arguments.get(name)
        if isinstance(value, bytes):
            value = value.decode("latin-1" if name == "password" else "utf-8")
        arguments[name] = value
    password = arguments["password"] or arguments.get("passwd") or ""
    options: dict[str, object] = {
        "host": arguments["host"] or "127.0.0.1",
        "port": arguments["port"] or 3306,
        "user": arguments["user"] or "",
        "password": password,
    }
    if arguments["unix_socket"]:
        options["socket"] = arguments["unix_socket"]
    else:
        options["protocol"] = "tcp"
    tls = arguments.get("ssl")
    for name in ("ca", "cert", "key", "capath", "cipher"):
        value = (tls.get(name) if isinstance(tls, dict) else None) or arguments.get(f"ssl_{name}")
        if value:
            options[f"ssl-{name}"] = value
    lines = [f"{name}={_option(value)}" for name, value in options.items()]
    return "\n".join(["[client]", *lines, ""])


def _option(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def quoted(name: str) -> str:
    """Quote a name."""
    return "`" + name.replace("`", "``") + "`"
