"""Backups of PostgreSQL with its own programs, ``pg_dump`` and ``pg_restore``.

One read-only transaction counts the rows and exports its snapshot, and ``pg_dump`` reads that
same snapshot: the numbers in the manifest are those of the copy, whatever is written meanwhile.

References:
    * https://www.postgresql.org/docs/current/app-pgdump.html
    * https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from ...databases import command_engine
from ..database import (
    Database,
    DumpedFile,
    Progress,
    Target,
    not_empty,
    save_nothing,
)
from ..exceptions import BackupError
from ..manifest import Manifest
from ..servers import explaining, fit_name, left_over, passing_name, send
from ..tools import Program, find_program, run_program
from .catalog import (
    RELATIONS,
    create_database,
    environment_of,
    limits_of,
    quoted,
    read_contents,
    server_major_of,
)
from .exchanging import NAME_BYTES, alone, drop_aside, exchanged
from .loading import PostgreSQLTarget, pack_folder

__all__ = ["PostgreSQLDatabase"]


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
            check_version(program, server_major_of(connection))

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
                    environment=environment_of(connection),
                    stdout=output,
                    watch=lambda: progress(_size_of(archive, folder), None),
                )
        progress(int(size or 0), int(size or 0))
        if jobs > 1:
            pack_folder(folder, archive)
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
                for limit in limits_of(connection):
                    connection.exec_driver_sql(f"SET LOCAL {limit} = 0")
                yield connection, connection.scalar(sa.text("SELECT pg_export_snapshot()"))

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with explaining(self.name, "PostgreSQL"), self.engine.connect() as connection:
            yield connection

    def scratch(self, directory: Path) -> Target:
        """Make an empty database for one verification."""
        return self._create(passing_name(self.name, "verify", NAME_BYTES))

    def beside(self, backup_id: str) -> Target:
        """Make an empty database named ``<name>-<id>``."""
        return self._create(fit_name(self.name, f"-{backup_id}", NAME_BYTES))

    def _create(self, name: str) -> PostgreSQLTarget:
        with explaining(self.name, "PostgreSQL"), self._maintenance(None) as connection:
            everything = connection.scalars(sa.text("SELECT datname FROM pg_database"))
            for each in left_over(everything, self.name, NAME_BYTES):
                send(connection, f"DROP DATABASE IF EXISTS {quoted(each)}")
            create_database(connection, name, like=self.name)
        return PostgreSQLTarget(self._engine(name), is_new=True, drop_from=self._maintenance)

    def as_target(self) -> Target:
        """Return this database, if it is empty; make it if it is missing."""
        with explaining(self.name, "PostgreSQL"):
            try:
                with self.engine.connect() as connection:
                    if connection.execute(sa.text(RELATIONS)).first() is not None:
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
        return command_engine(self.engine.url.set(database=name), self.connect_args)

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

    def replace(
        self,
        plain: Path,
        manifest: Manifest,
        *,
        force: bool,
        jobs: int,
        save: Callable[[Database], object] = save_nothing,
    ) -> None:
        """Put a copy in the place of this database."""
        self.engine.dispose()
        new = passing_name(self.name, "restored", NAME_BYTES)
        with (
            explaining(self.name, "PostgreSQL"),
            self._maintenance(self.name) as connection,
            alone(connection, self.name),
        ):
            create_database(connection, new, like=self.name, settings=True)
            target = PostgreSQLTarget(
                self._engine(new), is_new=True, drop_from=lambda _name: self._maintenance(self.name)
            )
            try:
                target.load(plain, manifest, jobs=jobs)
                with exchanged(
                    lambda: self._maintenance(self.name), self.name, new, force=force
                ) as aside:
                    save(_Aside(self, aside))
            except BaseException:
                target.drop()
                raise
            # What it held is in the safety backup.
            drop_aside(connection, aside)


class _Aside(PostgreSQLDatabase):
    """The live database, under another name for a while."""

    def __init__(self, live: PostgreSQLDatabase, aside: str) -> None:
        super().__init__(live._engine(aside), live.connect_args)  # noqa: SLF001 - its own kind
        self._shown = live.name

    @property
    def name(self) -> str:
        """Return the name by which everybody knows it."""
        return self._shown


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


def _size_of(archive: Path, folder: Path) -> int:
    try:
        inside = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
        return archive.stat().st_size + inside
    except FileNotFoundError:  # pg_dump renames what it writes
        return 0


KIND = PostgreSQLDatabase
"""What the room looks for in each of these modules."""
