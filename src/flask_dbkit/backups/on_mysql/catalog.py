"""What MariaDB and MySQL tell of their databases, and what is done to whole ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from ..database import Contents
from ..servers import escaped, rows_of_revision, send

__all__ = [
    "end_session",
    "move_tables",
    "names_in",
    "option_file",
    "quoted",
    "read_contents",
    "routines_of",
    "tables_of",
    "versions_of",
]

_VERSIONED = "SYSTEM VERSIONED"
_PATIENCE_S = 30
_TABLES = ("BASE TABLE", _VERSIONED, "SEQUENCE")


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
    past = [str(name) for name, kind in rows if kind == _VERSIONED] if count else []
    versions = {name: versions_of(connection, name) for name in past}
    return Contents(
        tables=counts,
        views=tuple(str(name) for name, kind in rows if kind == "VIEW"),
        revision=rows_of_revision(connection) if "alembic_version" in counts else None,
        exact=False,
        details={"versions": versions} if versions else {},
    )


def move_tables(
    connection: Connection, source: str, target: str, *, besides: Iterable[str] = ()
) -> None:
    """Move the tables of one database into another one, all or none.

    Args:
        connection: In autocommit mode.
        source: The database they are in, without triggers on them.
        target: Where they go; no table there may have one of their names.
        besides: Tables that stay where they are.
    """
    # A wait for a table that somebody uses could last a day, which is the default.
    send(connection, f"SET SESSION lock_wait_timeout = {_PATIENCE_S}")
    staying = set(besides)
    moves = [
        f"{quoted(source)}.{quoted(table)} TO {quoted(target)}.{quoted(table)}"
        for table in tables_of(connection, source)
        if table not in staying
    ]
    if moves:
        send(connection, f"RENAME TABLE {', '.join(moves)}")


def versions_of(connection: Connection, table: str) -> int:
    """Count the rows of such a table, past ones included.

    https://mariadb.com/docs/server/reference/sql-structure/temporal-tables/system-versioned-tables
    """
    statement = f"SELECT count(*) FROM {escaped(quoted(table))} FOR SYSTEM_TIME ALL"  # noqa: S608
    return int(connection.scalar(sa.text(statement)) or 0)


def routines_of(connection: Connection, name: str) -> list[tuple[str, str]]:
    """Return kind and name of every procedure, function and package."""
    rows = connection.execute(
        sa.text(
            "SELECT routine_type, routine_name FROM information_schema.routines"
            " WHERE routine_schema = :name ORDER BY routine_type DESC"
        ),
        {"name": name},
    )
    return [(str(kind), str(routine)) for kind, routine in rows]


def tables_of(connection: Connection, name: str, kinds: Sequence[str] = _TABLES) -> list[str]:
    """Return the names of the tables of a database, or of what is of these kinds."""
    statement = sa.text(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = :name AND table_type IN :kinds ORDER BY table_name"
    ).bindparams(sa.bindparam("kinds", expanding=True))
    return list(connection.scalars(statement, {"name": name, "kinds": list(kinds)}))


def names_in(connection: Connection, table: str, column: str, name: str) -> list[str]:
    """Return the names in one table of the catalog that belong to a database."""
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
    if not any(name.startswith("ssl-") for name in options):
        # From MariaDB 11.4 on its programs want a certificate they can check, and end without one;
        # the driver's connection got by. What a program does not know it skips with "loose".
        options["loose-ssl-verify-server-cert"] = 0
    lines = [f"{name}={_option(value)}" for name, value in options.items()]
    return "\n".join(["[client]", *lines, ""])


def _option(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def quoted(name: str) -> str:
    """Quote a name."""
    return "`" + name.replace("`", "``") + "`"
