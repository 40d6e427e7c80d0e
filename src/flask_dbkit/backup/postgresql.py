"""Backups of PostgreSQL with its own programs, ``pg_dump`` and ``pg_restore``.

One read-only transaction counts the rows and exports its snapshot, and ``pg_dump`` reads that
same snapshot: the numbers in the manifest are those of the copy, whatever is written meanwhile.

References:
    * https://www.postgresql.org/docs/current/app-pgdump.html
    * https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ..exceptions import BackupError
from .database import Contents, Database, DumpedFile, Progress, Target, not_empty
from .manifest import Manifest
from .servers import explaining, fit_name, left_over, passing_name, rows_of_revision
from .tools import Program, find_program, run_program

__all__ = ["PostgreSQLDatabase"]

_COUNT_AT_MOST = 50_000_000
"""Rows in all tables, by the server's estimate, above which they are not counted."""

_NAME_BYTES = 63
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

_RELATIONS = """
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


class PostgreSQLDatabase(Database):
    """One bind on PostgreSQL."""

    dialect = "postgresql"

    @property
    def name(self) -> str:
        """Return the name of the database."""
        return self.engine.url.database or str(self.engine.url.username)

    def check(self, *, compact: bool, jobs: int) -> None:
        """Refuse what would fail later."""
        if compact:
            raise BackupError(
                "--compact is for SQLite: pg_dump leaves out dead rows always.",
                code="option.unusable",
            )
        program = find_program(["pg_dump"], "postgresql")
        with self._connect() as connection:
            check_version(program, _server_major(connection))

    def dump(self, directory: Path, *, compact: bool, jobs: int, progress: Progress) -> DumpedFile:
        """Copy the database as it is at one moment."""
        program = find_program(["pg_dump"], "postgresql")
        folder, archive = directory / "dump", directory / "dump.archive"
        arguments = ["--no-password", "--format=custom"]
        if jobs > 1:
            arguments = ["--no-password", "--format=directory", f"--jobs={jobs}"]
            arguments.append(f"--file={folder}")
        with self._snapshot() as (connection, snapshot):
            contents = read_contents(connection)
            size = connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
            server_version = str(connection.scalar(sa.text("SHOW server_version")))
            if snapshot is not None:
                arguments.append(f"--snapshot={snapshot}")
            with archive.open("xb") as output:
                run_program(
                    program,
                    arguments,
                    environment=_environment(connection),
                    stdout=output,
                    watch=lambda: progress(_size_of(archive, folder), None),
                )
        progress(int(size or 0), int(size or 0))
        if jobs > 1:
            _pack_folder(folder, archive)
        return DumpedFile(
            path=archive,
            suffix=".dump.tar" if jobs > 1 else ".dump",
            format="directory" if jobs > 1 else "custom",
            compressed=True,
            tool=program.version_text,
            server_version=server_version,
            contents=contents,
        )

    @contextmanager
    def _snapshot(self) -> Iterator[tuple[Connection, str | None]]:
        """Yield a connection with a snapshot of its own, and the snapshot's name for others."""
        with self._connect() as connection:
            connection.rollback()
            connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                # The limits of a request would end the transaction while pg_dump reads.
                for limit in _limits(connection):
                    connection.exec_driver_sql(f"SET LOCAL {limit} = 0")
                yield connection, connection.scalar(sa.text("SELECT pg_export_snapshot()"))

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with explaining(self.name, "PostgreSQL"), self.engine.connect() as connection:
            yield connection

    def scratch(self, directory: Path) -> Target:
        """Make an empty database for one verification."""
        return self._create(passing_name(self.name, "verify", _NAME_BYTES))

    def beside(self, backup_id: str) -> Target:
        """Make an empty database named ``<name>-<id>``."""
        return self._create(fit_name(self.name, f"-{backup_id}", _NAME_BYTES))

    def _create(self, name: str) -> PostgreSQLTarget:
        with explaining(self.name, "PostgreSQL"), self._maintenance(None) as connection:
            everything = connection.scalars(sa.text("SELECT datname FROM pg_database"))
            for each in left_over(everything, self.name, _NAME_BYTES):
                _run(connection, f"DROP DATABASE IF EXISTS {_quoted(each)}")
            create_database(connection, name, like=self.name)
        return PostgreSQLTarget(self._engine(name), is_new=True, drop_from=self._maintenance)

    def as_target(self) -> Target:
        """Return this database, if it is empty; make it if it is missing."""
        with explaining(self.name, "PostgreSQL"):
            try:
                with self.engine.connect() as connection:
                    if connection.execute(sa.text(_RELATIONS)).first() is not None:
                        raise not_empty(self.name)
                return PostgreSQLTarget(self._engine(self.name), is_new=False)
            except DBAPIError:
                if not self._is_missing():
                    raise
            with self._maintenance(self.name) as connection:
                create_database(connection, self.name)
        return PostgreSQLTarget(self._engine(self.name), is_new=True, drop_from=self._maintenance)

    def _is_missing(self) -> bool:
        # Whether a database is missing has no code at connect time, so ask next door.
        with self._maintenance(self.name) as connection:
            found = connection.scalar(
                sa.text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": self.name}
            )
        return found is None

    def _engine(self, name: str) -> Engine:
        return sa.create_engine(
            self.engine.url.set(database=name), connect_args=self.connect_args, poolclass=NullPool
        )

    @contextmanager
    def _maintenance(
        self, instead_of: str | None, *, autocommit: bool = True
    ) -> Iterator[Connection]:
        """Yield a connection for commands about whole databases.

        Args:
            instead_of: The database that must not be the one it is connected to; ``None`` when
                that does not matter.
            autocommit: ``CREATE DATABASE`` and its like refuse to run in a transaction.
        """
        names = [self.name]
        if instead_of is not None:
            names = [name for name in ("postgres", "template1", self.name) if name != instead_of]
        for name in names:
            engine = self._engine(name)
            try:
                connection = engine.connect()
            except DBAPIError:
                engine.dispose()
                if name == names[-1]:
                    raise
                continue
            try:
                level = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
                yield connection.execution_options(**level)
            finally:
                connection.close()
                engine.dispose()
            return

    def other_connections(self) -> list[str]:
        """Describe who else is connected."""
        self.engine.dispose()
        with explaining(self.name, "PostgreSQL"), self._maintenance(self.name) as connection:
            rows = connection.execute(
                sa.text(
                    "SELECT pid, usename, application_name FROM pg_stat_activity"
                    " WHERE datname = :name AND pid <> pg_backend_pid() ORDER BY pid"
                ),
                {"name": self.name},
            )
            return [
                f"session {pid} of {user} ({program or 'unnamed'})" for pid, user, program in rows
            ]

    def replace(self, plain: Path, manifest: Manifest, *, force: bool, jobs: int) -> None:
        """Put a copy in the place of this database."""
        self.engine.dispose()
        old = passing_name(self.name, "replaced", _NAME_BYTES)
        with explaining(self.name, "PostgreSQL"), self._maintenance(self.name) as connection:
            new = passing_name(self.name, "restored", _NAME_BYTES)
            create_database(connection, new, like=self.name, settings=True)
            target = PostgreSQLTarget(
                self._engine(new), is_new=True, drop_from=lambda _name: self._maintenance(self.name)
            )
            try:
                target.load(plain, manifest, jobs=jobs)
                with self._maintenance(self.name, autocommit=False) as swapping:
                    _swap(swapping, self.name, new, old, force=force)
            except BaseException:
                target.drop()
                raise
            # What it held is in the safety backup.
            _run(connection, f"DROP DATABASE IF EXISTS {_quoted(old)}")


class PostgreSQLTarget(Target):
    """A database that a backup is loaded into."""

    def __init__(self, engine: Engine, *, is_new: bool, drop_from: Any = None) -> None:
        self._engine = engine
        self.url: URL = engine.url
        self.is_new = is_new
        self._drop_from = drop_from

    @property
    def _name(self) -> str:
        return str(self.url.database)

    def load(self, plain: Path, manifest: Manifest, *, jobs: int = 1, owner: bool = True) -> None:
        """Load a copy."""
        program = find_program(["pg_restore"], "postgresql")
        arguments = ["--no-password", "--exit-on-error", f"--dbname={self._name}"]
        if not owner:
            arguments += ["--no-owner", "--no-privileges"]
        if manifest.format == "directory":
            source = plain.with_name("plain.folder")
            _unpack_folder(plain, source)
            arguments.append(f"--jobs={jobs}")
        else:
            source = plain
            # Parallel workers cannot share one transaction.
            arguments.append("--single-transaction" if jobs == 1 else f"--jobs={jobs}")
        with explaining(self._name, "PostgreSQL"):
            with self._engine.connect() as connection:
                environment = _environment(connection)
            run_program(program, [*arguments, str(source)], environment=environment)

    def contents(self) -> Contents:
        """Return what is in it now."""
        with explaining(self._name, "PostgreSQL"), self._engine.connect() as connection:
            return read_contents(connection, count_at_most=None)

    def drop(self) -> None:
        """Remove the database."""
        self._engine.dispose()
        if self._drop_from is None:
            return
        with explaining(self._name, "PostgreSQL"), self._drop_from(self._name) as connection:
            _run(connection, f"DROP DATABASE IF EXISTS {_quoted(self._name)}")


def check_version(program: Program, server_major: int) -> None:
    """Refuse a program that is older than the server.

    Raises:
        BackupError: As ``pg_dump`` itself would, but before anything is written, and with the
            remedy. The code is ``tool.too_old``.
    """
    if program.major < server_major:
        raise BackupError(
            f"{program.name} {program.major} cannot read a PostgreSQL {server_major} server: the"
            f" program has to be of the server's version or newer ({program.path} says"
            f" {program.version_text!r}). Install PostgreSQL {server_major}'s client programs, on"
            f" Debian and Ubuntu 'apt-get install postgresql-client-{server_major}', and put their"
            " folder first on the PATH.",
            code="tool.too_old",
        )


def read_contents(
    connection: Connection, *, count_at_most: int | None = _COUNT_AT_MOST
) -> Contents:
    """Return tables, rows, views and revision, as this transaction sees them.

    Args:
        connection: In a transaction, or about to begin one.
        count_at_most: With more rows than this the server's estimates are taken.
    """
    rows = connection.execute(sa.text(_RELATIONS)).all()
    tables = {
        _shown(schema, name): (schema, name, guess)
        for schema, name, kind, guess in rows
        if kind in "rp"
    }
    views = tuple(_shown(schema, name) for schema, name, kind, _ in rows if kind in "vm")
    exact = count_at_most is None or sum(guess for *_, guess in tables.values()) <= count_at_most
    counts: dict[str, int | None] = {}
    for shown, (schema, name, guess) in tables.items():
        table = f"{_quoted(schema)}.{_quoted(name)}"
        if exact:
            counts[shown] = connection.scalar(sa.text(f"SELECT count(*) FROM {_escaped(table)}"))  # noqa: S608
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
    statement = f"CREATE DATABASE {_quoted(name)} TEMPLATE template0"
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
            statement += f" OWNER {_quoted(model['owner'])}"
    _run(connection, statement)
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
        who = f"ROLE {_quoted(role)} IN DATABASE" if for_role else "DATABASE"
        # The value of a list is one of names, quoted where they have to be.
        spelt = value if key in _LISTS and value else _literal(value)
        _run(connection, f"ALTER {who} {_quoted(name)} SET {_quoted(key)} TO {spelt}")
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
        _run(connection, f"REVOKE ALL ON DATABASE {_quoted(name)} FROM PUBLIC")
    for grantee, privilege, grantable in grants:
        who = "PUBLIC" if grantee is None else _quoted(grantee)
        option = " WITH GRANT OPTION" if grantable else ""
        _run(connection, f"GRANT {privilege} ON DATABASE {_quoted(name)} TO {who}{option}")


def _swap(connection: Connection, live: str, new: str, old: str, *, force: bool) -> None:
    """Give the live database another name and the new one its name, both or neither."""
    if force:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = :name AND pid <> pg_backend_pid()"
            ),
            {"name": live},
        )
        connection.commit()
    try:
        with connection.begin():
            _run(connection, f"ALTER DATABASE {_quoted(live)} RENAME TO {_quoted(old)}")
            _run(connection, f"ALTER DATABASE {_quoted(new)} RENAME TO {_quoted(live)}")
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", getattr(error.orig, "pgcode", None)) != "55006":
            raise
        raise BackupError(
            f"Somebody connected to {live} while it was being replaced; it was left as it is. Stop"
            " the application first, or add --force.",
            code="database.busy",
        ) from error


def _server_major(connection: Connection) -> int:
    return int(connection.scalar(sa.text("SHOW server_version_num")) or 0) // 10_000


def _limits(connection: Connection) -> list[str]:
    return list(
        connection.scalars(
            sa.text(
                "SELECT name FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',"
                " 'idle_in_transaction_session_timeout', 'transaction_timeout')"
            )
        )
    )


def _environment(connection: Connection) -> dict[str, str]:
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


def _size_of(archive: Path, folder: Path) -> int:
    try:
        inside = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
        return archive.stat().st_size + inside
    except FileNotFoundError:  # pg_dump renames what it writes
        return 0


def _pack_folder(folder: Path, archive: Path) -> None:
    """Put a directory archive into one file; its members are compressed already."""
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
            path.unlink()
    folder.rmdir()


def _unpack_folder(archive: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def _shown(schema: str, name: str) -> str:
    return name if schema == "public" else f"{schema}.{name}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _escaped(sql: str) -> str:
    return sql.replace(":", "\\:")


def _run(connection: Connection, sql: str) -> None:
    """Send a statement whose names may hold what a driver or SQLAlchemy takes for a placeholder."""
    connection.execute(sa.text(_escaped(sql)))
