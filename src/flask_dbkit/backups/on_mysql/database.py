"""Backups of MariaDB and MySQL with their own programs.

The dump reads one snapshot, so it is consistent for InnoDB. No second connection can share that
snapshot, so the rows are counted just before and the numbers in the manifest are estimates where
somebody writes meanwhile.

References:
    * https://mariadb.com/docs/server/clients-and-utilities/backup-restore-and-import-clients/mariadb-dump
    * https://dev.mysql.com/doc/refman/8.4/en/mysqldump.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ..database import Contents, Database, DumpedFile, Progress, Target, not_empty
from ..exceptions import BackupError
from ..manifest import Manifest
from ..servers import explaining, fit_name, left_over, passing_name, send
from ..tools import Program, find_program, run_program
from .catalog import (
    drop_other_programs,
    end_session,
    option_file,
    quoted,
    read_contents,
    swap_tables,
)

__all__ = ["MySQLDatabase"]

_NAME_CHARACTERS = 64
_UNKNOWN_DATABASE = 1049
_CHARSET = "--default-character-set=utf8mb4"
_PACKET = "--max-allowed-packet=1G"  # a row with a large value is one packet
_LAST_LINE = b"-- Dump completed"


class MySQLDatabase(Database):
    """One bind on MariaDB or MySQL."""

    dialect = "mysql"

    @property
    def name(self) -> str:
        """Return the name of the database."""
        return self.engine.url.database or ""

    def check(self, *, compact: bool, jobs: int) -> None:
        """Refuse what would fail later."""
        if compact or jobs > 1:
            raise BackupError(
                "--compact is for SQLite and --jobs for PostgreSQL; the dump of MariaDB and MySQL"
                " has neither.",
                code="option.unusable",
            )
        if not self.name:
            raise BackupError(
                "The URL of this bind names no database, and a whole server is not backed up."
                " Add the name to the URL.",
                code="database.missing",
            )
        self._program("dump")
        with explaining(self.name, "The server"), self.engine.connect():
            pass

    def _program(self, kind: str) -> Program:
        """Find the program of the server's own family first: they know their own syntax best."""
        names = {
            "dump": ["mariadb-dump", "mysqldump"],
            "client": ["mariadb", "mysql"],
        }[kind]
        is_mariadb = getattr(self.engine.dialect, "is_mariadb", True)
        return find_program(names if is_mariadb else names[::-1], "mysql")

    def dump(self, directory: Path, *, compact: bool, jobs: int, progress: Progress) -> DumpedFile:
        """Copy the database as it is at one moment."""
        program = self._program("dump")
        script = directory / "dump.sql"
        with explaining(self.name, "The server"), self.engine.connect() as connection:
            contents = read_contents(connection)
            server_version = str(connection.scalar(sa.text("SELECT version()")))
            options = self._options(connection)
        with script.open("xb") as output:
            run_program(
                program,
                [*_dump_arguments(), self.name],
                options=options,
                stdout=output,
                watch=lambda: progress(script.stat().st_size, None),
            )
        if not _is_complete(script):
            raise BackupError(
                f"{program.name} ended without an error, but its output has no last line.",
                code="tool.failed",
            )
        return DumpedFile(
            path=script,
            suffix=".sql",
            format="sql",
            compressed=False,
            tool=program.version_text,
            server_version=server_version,
            contents=contents,
        )

    def _options(self, connection: Connection) -> str:
        return option_file(self.engine, connection)

    def scratch(self, directory: Path) -> Target:
        """Make an empty database for one verification."""
        return self._create(passing_name(self.name, "verify", _NAME_CHARACTERS))

    def beside(self, backup_id: str) -> Target:
        """Make an empty database named ``<name>-<id>``."""
        return self._create(fit_name(self.name, f"-{backup_id}", _NAME_CHARACTERS))

    def _create(self, name: str, *, like: bool = True) -> MySQLTarget:
        with explaining(self.name, "The server"), self._server() as connection:
            everything = connection.scalars(
                sa.text("SELECT schema_name FROM information_schema.schemata")
            )
            for each in left_over(everything, self.name, _NAME_CHARACTERS):
                send(connection, f"DROP DATABASE IF EXISTS {quoted(each)}")
            statement = f"CREATE DATABASE {quoted(name)}"
            found = connection.execute(
                sa.text(
                    "SELECT default_character_set_name, default_collation_name"
                    " FROM information_schema.schemata WHERE schema_name = :name"
                ),
                {"name": self.name},
            ).first()
            if found is not None and like:
                statement += f" CHARACTER SET {found[0]} COLLATE {found[1]}"
            else:
                statement += " CHARACTER SET utf8mb4"
            send(connection, statement)
        return MySQLTarget(self, name, is_new=True)

    def as_target(self) -> Target:
        """Return this database, if it is empty; make it if it is missing."""
        with explaining(self.name, "The server"):
            try:
                with self.engine.connect() as connection:
                    used = connection.scalar(
                        sa.text(
                            "SELECT (SELECT count(*) FROM information_schema.tables"
                            " WHERE table_schema = DATABASE()) + (SELECT count(*) FROM"
                            " information_schema.routines WHERE routine_schema = DATABASE())"
                        )
                    )
            except DBAPIError as error:
                if error.orig is None or error.orig.args[:1] != (_UNKNOWN_DATABASE,):
                    raise
                return self._create(self.name, like=False)
        if used:
            raise not_empty(self.name)
        return MySQLTarget(self, self.name, is_new=False)

    def engine_of(self, name: str | None) -> Engine:
        """Return an engine of another database of the same server, with the same account."""
        return sa.create_engine(
            self.engine.url.set(database=name or ""),
            connect_args=self.connect_args,
            poolclass=NullPool,
        )

    @contextmanager
    def _server(self, name: str | None = None) -> Iterator[Connection]:
        engine = self.engine_of(name)
        try:
            with engine.connect() as connection:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")
        finally:
            engine.dispose()

    def other_connections(self) -> list[str]:
        """Describe who else is connected."""
        self.engine.dispose()
        with explaining(self.name, "The server"), self._server() as connection:
            return [f"session {number} of {user}" for number, user in self._sessions(connection)]

    def _sessions(self, connection: Connection) -> list[tuple[int, str]]:
        rows = connection.execute(
            sa.text(
                "SELECT id, user FROM information_schema.processlist WHERE db = :name"
                " AND id <> CONNECTION_ID() ORDER BY id"
            ),
            {"name": self.name},
        )
        return [(int(number), str(user)) for number, user in rows]

    def drop_database(self, name: str) -> None:
        """Remove a database of this server."""
        with explaining(name, "The server"), self._server() as connection:
            send(connection, f"DROP DATABASE IF EXISTS {quoted(name)}")

    def load_script(self, script: Path, name: str) -> None:
        """Run a script in a database of this server."""
        program = self._program("client")
        with explaining(name, "The server"), self._server(name) as connection:
            options = self._options(connection)
        with script.open("rb") as source:
            run_program(program, [_CHARSET, _PACKET, name], options=options, stdin=source)

    def replace(self, plain: Path, manifest: Manifest, *, force: bool, jobs: int) -> None:
        """Put a copy in the place of this database."""
        self.engine.dispose()
        new = self._create(passing_name(self.name, "restored", _NAME_CHARACTERS))
        old = passing_name(self.name, "replaced", _NAME_CHARACTERS)
        before, after = plain.with_name("before.sql"), plain.with_name("after.sql")
        try:
            new.load(plain, manifest)
            self._save_programs(self.name, before)
            self._save_programs(new.name, after)
            with explaining(self.name, "The server"), self._server() as connection:
                if force:
                    for session, _ in self._sessions(connection):
                        end_session(connection, session)
                send(connection, f"CREATE DATABASE {quoted(old)}")
                try:
                    swap_tables(connection, self.name, new.name, old)
                except BaseException:
                    self.load_script(before, self.name)  # its triggers may be gone already
                    self.drop_database(old)
                    raise
                self.load_script(after, self.name)
                drop_other_programs(connection, self.name, new.name)
            # What it held is in the safety backup.
            self.drop_database(old)
        finally:
            new.drop()

    def _save_programs(self, name: str, script: Path) -> None:
        """Write what cannot be renamed into another database: views, triggers, routines, events."""
        program = self._program("dump")
        with explaining(name, "The server"), self._server(name) as connection:
            options = self._options(connection)
            views = list(read_contents(connection, count=False).views)
        with script.open("xb") as output:
            code = ["--no-create-info", "--no-data", "--routines", "--events", "--add-drop-trigger"]
            run_program(program, [_CHARSET, *code, name], options=options, stdout=output)
            if views:
                tables = ["--no-data", "--skip-triggers", name, *views]
                run_program(program, [_CHARSET, *tables], options=options, stdout=output)


class MySQLTarget(Target):
    """A database that a backup is loaded into."""

    def __init__(self, server: MySQLDatabase, name: str, *, is_new: bool) -> None:
        self.name = name
        self.url: URL = server.engine.url.set(database=name)
        self.is_new = is_new
        self._server = server

    def load(self, plain: Path, manifest: Manifest, *, jobs: int = 1, owner: bool = True) -> None:
        """Load a copy."""
        self._server.load_script(plain, self.name)

    def contents(self) -> Contents:
        """Return what is in it now."""
        engine = self._server.engine_of(self.name)
        try:
            with explaining(self.name, "The server"), engine.connect() as connection:
                return read_contents(connection)
        finally:
            engine.dispose()

    def drop(self) -> None:
        """Remove the database."""
        self._server.drop_database(self.name)


def _dump_arguments() -> list[str]:
    return [
        "--single-transaction",
        "--quick",
        "--routines",
        "--triggers",
        "--events",
        "--hex-blob",
        "--no-tablespaces",
        _CHARSET,
        _PACKET,
    ]


def _is_complete(script: Path) -> bool:
    with script.open("rb") as file:
        file.seek(max(0, script.stat().st_size - 200))
        return _LAST_LINE in file.read()


KIND = MySQLDatabase
"""What the room looks for in each of these modules."""
