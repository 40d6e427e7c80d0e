"""What PostgreSQL tells of its databases, and what is done to whole ones."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..database import Contents
from ..servers import escaped, rows_of_revision, send

__all__ = [
    "RELATIONS",
    "create_database",
    "environment_of",
    "limits_of",
    "quoted",
    "read_contents",
    "server_major_of",
]

_COUNT_AT_MOST = 50_000_000
"""Rows in all tables, by the server's estimate, above which they are not counted."""

_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "options": "PGOPTIONS",
    "requirepeer": "PGREQUIREPEER",
    "sslcert": "PGSSLCERT",
    "sslcrl": "PGSSLCRL",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
"""What libpq's programs take from the environment.

https://www.postgresql.org/docs/current/libpq-envars.html
"""

_LISTS = frozenset(
    {"local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"}
)
"""Settings whose value is a list of names."""

RELATIONS = """
    SELECT n.nspname, c.relname, c.relkind::text, c.reltuples
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm')
        AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND n.nspname !~ '^pg_(toast|temp)'
        AND NOT EXISTS (
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
        )
    ORDER BY n.nspname, c.relname
"""
"""Every table and view that is neither the server's own nor an extension's."""


def read_contents(
    connection: Connection, *, count_at_most: int | None = _COUNT_AT_MOST
) -> Contents:
    """Return tables, rows, views and revision, as this transaction sees them.

    Args:
        connection: In a transaction, or about to begin one.
        count_at_most: With more rows than this the server's estimates are taken.
    """
    rows = connection.execute(sa.text(RELATIONS)).all()
    tables = {
        _shown(schema, name): (schema, name, guess)
        for schema, name, kind, guess in rows
        if kind in "rp"
    }
    views = tuple(_shown(schema, name) for schema, name, kind, _ in rows if kind in "vm")
    exact = count_at_most is None or sum(guess for *_, guess in tables.values()) <= count_at_most
    counts: dict[str, int | None] = {}
    for shown, (schema, name, guess) in tables.items():
        table = f"{quoted(schema)}.{quoted(name)}"
        if exact:
            counts[shown] = connection.scalar(sa.text(f"SELECT count(*) FROM {escaped(table)}"))  # noqa: S608
        else:
            counts[shown] = max(0, int(guess))
    revision = rows_of_revision(connection) if "alembic_version" in tables else None
    return Contents(tables=counts, views=views, revision=revision, exact=exact)


def create_database(
    connection: Connection, name: str, *, like: str | None = None, settings: bool = False
) -> None:
    """Make an empty database.

    Args:
        connection: In autocommit mode.
        name: Of the new database.
        like: A database whose encoding, locale and owner it gets.
        settings: Whether to copy what ``ALTER DATABASE … SET`` and ``GRANT … ON DATABASE`` said
            of that one too.
    """
    statement = f"CREATE DATABASE {quoted(name)} TEMPLATE template0"
    if like is not None:
        found = connection.execute(
            sa.text(
                "SELECT pg_encoding_to_char(encoding) AS encoding_name,"
                " pg_get_userbyid(datdba) AS owner, * FROM pg_database WHERE datname = :name"
            ),
            {"name": like},
        ).mappings()
        model = found.one()
        statement += (
            f" ENCODING {_literal(model['encoding_name'])}"
            f" LC_COLLATE {_literal(model['datcollate'])} LC_CTYPE {_literal(model['datctype'])}"
        )
        # The column was renamed in 17. https://www.postgresql.org/docs/17/catalog-pg-database.html
        locale = str(model.get("datlocale") or model.get("daticulocale"))
        if model.get("datlocprovider") == "i":
            statement += f" LOCALE_PROVIDER icu ICU_LOCALE {_literal(locale)}"
        elif model.get("datlocprovider") == "b":
            statement += f" LOCALE_PROVIDER builtin BUILTIN_LOCALE {_literal(locale)}"
        if settings:
            statement += f" OWNER {quoted(model['owner'])}"
    send(connection, statement)
    if like is not None and settings:
        _copy_settings(connection, name, like)


def _copy_settings(connection: Connection, name: str, like: str) -> None:
    settings = connection.execute(
        sa.text(
            "SELECT pg_get_userbyid(s.setrole), s.setrole <> 0, unnest(s.setconfig)"
            " FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
            " WHERE d.datname = :name"
        ),
        {"name": like},
    ).all()
    for role, for_role, text in settings:
        key, _, value = text.partition("=")
        who = f"ROLE {quoted(role)} IN DATABASE" if for_role else "DATABASE"
        # The value of a list is one of names, quoted where they have to be.
        spelt = value if key in _LISTS and value else _literal(value)
        send(connection, f"ALTER {who} {quoted(name)} SET {quoted(key)} TO {spelt}")
    grants = connection.execute(
        sa.text(
            "SELECT CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END,"
            " a.privilege_type, a.is_grantable FROM pg_database d, aclexplode(d.datacl) a"
            " WHERE d.datname = :name AND a.grantee <> d.datdba"
        ),
        {"name": like},
    ).all()
    has_acl = connection.scalar(
        sa.text("SELECT datacl IS NOT NULL FROM pg_database WHERE datname = :name"), {"name": like}
    )
    if has_acl:
        send(connection, f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC")
    for grantee, privilege, grantable in grants:
        who = "PUBLIC" if grantee is None else quoted(grantee)
        option = " WITH GRANT OPTION" if grantable else ""
        send(connection, f"GRANT {privilege} ON DATABASE {quoted(name)} TO {who}{option}")


def server_major_of(connection: Connection) -> int:
    """Return the first number of the server's version."""
    return int(connection.scalar(sa.text("SHOW server_version_num")) or 0) // 10_000


def limits_of(connection: Connection) -> list[str]:
    """Return the names of the limits this server knows."""
    return list(
        connection.scalars(
            sa.text(
                "SELECT name FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',"
                " 'idle_in_transaction_session_timeout', 'transaction_timeout')"
            )
        )
    )


def environment_of(connection: Connection) -> dict[str, str]:
    """Return what makes libpq's programs connect as this connection did.

    Read from the connection and not from the URL: parameters also come from ``connect_args``,
    from a service file, or from the environment.
    """
    info = connection.connection.driver_connection.info  # type: ignore[union-attr]
    is_psycopg3 = hasattr(info, "get_parameters")
    parameters = info.get_parameters() if is_psycopg3 else info.dsn_parameters
    known = {**parameters, "password": info.password}
    environment = {
        variable: str(known[name]) for name, variable in _VARIABLES.items() if known.get(name)
    }
    environment["PGDATABASE"] = str(known.get("dbname") or "")
    environment["PGAPPNAME"] = "flask-dbkit-backup"
    return environment


def _shown(schema: str, name: str) -> str:
    return name if schema == "public" else f"{schema}.{name}"


def quoted(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
