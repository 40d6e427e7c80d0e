"""Backups of MariaDB and MySQL with their own programs.

The dump reads one snapshot, so it is consistent for InnoDB. No second connection can share that
snapshot, so the rows are counted just before and the numbers in the manifest are estimates where
somebody writes meanwhile.

References:
    * https://mariadb.com/docs/server/clients-and-utilities/backup-restore-and-import-clients/mariadb-dump
    * https://dev.mysql.com/doc/refman/8.4/en/mysqldump.html
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError

from ...databases import command_engine
from ..database import (
    Contents,
    Database,
    DumpedFile,
    Progress,
    Target,
    as_it_was,
    not_empty,
    save_nothing,
)
from ..exceptions import BackupError
from ..manifest import Manifest
from ..servers import explaining, fit_name, left_over, moved_aside, passing_name, send
from ..tools import Program, run_program
from .catalog import (
    end_session,
    move_tables,
    option_file,
    quoted,
    read_contents,
    tables_of,
)
from .exchanging import (
    PROGRAMS,
    drop_programs,
    drop_triggers,
    keep_programs,
    kept_programs,
)
from .programs import dump_options, dump_program, for_client, knows, load_program
from .script import begin_programs, split_script, with_own_definers

__all__ = ["MySQLDatabase"]

_NAME_CHARACTERS = 64
_UNKNOWN_DATABASE = 1049
_CHARSET = "--default-character-set=utf8mb4"
_PACKET = "--max-allowed-packet=1G"  # a row with a large value is one packet
_LAST_LINE = b"-- Dump completed"
_ONE_MOMENT = ("--single-transaction", "--no-tablespaces", _CHARSET, _PACKET)
_ROWS = (*_ONE_MOMENT, "--quick", "--hex-blob", "--skip-triggers")
_PROGRAMS = (*_ONE_MOMENT, "--no-create-info", "--no-data", "--add-drop-trigger")


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
        self._dump_program  # noqa: B018 - finds it
        with explaining(self.name, "The server"), self.engine.connect():
            pass

    @cached_property
    def _dump_program(self) -> Program:
        return dump_program(for_mariadb=self._is_mariadb)

    @cached_property
    def _load_program(self) -> Program:
        return load_program(for_mariadb=self._is_mariadb)

    @cached_property
    def _is_mariadb(self) -> bool:
        # SQLAlchemy knows it from the first connection on.
        with explaining(self.name, "The server"), self._server() as connection:
            return bool(getattr(connection.dialect, "is_mariadb", True))

    def dump(self, directory: Path, *, compact: bool, jobs: int, progress: Progress) -> DumpedFile:
        """Copy the database as it is at one moment."""
        program = self._dump_program
        script = directory / "dump.sql"
        with explaining(self.name, "The server"), self.engine.connect() as connection:
            contents = self._contents(connection)
            server_version = str(connection.scalar(sa.text("SELECT version()")))
        left_out = self._dump_tables(
            self.engine.url.database or "",
            script,
            without=self._no_tables(contents),
            past=contents.details.get("versions", {}),
            progress=progress,
        )
        begin_programs(script)
        self._add_programs(script)
        return DumpedFile(
            path=script,
            suffix=".sql",
            format="sql",
            compressed=False,
            tool=program.version_text,
            server_version=server_version,
            contents=replace(contents, details={**contents.details, **left_out}),
        )

    def _dump_tables(
        self,
        name: str,
        script: Path,
        *,
        without: Collection[str],
        past: Collection[str],
        progress: Progress,
    ) -> dict[str, list[str]]:
        """Write the tables of a database with their rows, and return what had to be left out."""
        program = self._dump_program
        arguments = [*_ROWS, *(f"--ignore-table={name}.{each}" for each in without)]
        left_out = []
        if past and knows(program, "--dump-history"):  # since MariaDB 10.11
            arguments.append("--dump-history")
        elif past:
            left_out.append(
                f"{program.name} is too old to back up the past of tables that keep one"
                f" ({', '.join(sorted(past))}): install MariaDB's client programs from 10.11 on."
            )
        self._run_dump(arguments, name, script, watch=lambda: progress(script.stat().st_size, None))
        return {"left_out": left_out} if left_out else {}

    def _contents(self, connection: Connection) -> Contents:
        return read_contents(connection)

    def _no_tables(self, contents: Contents) -> Collection[str]:
        """Return what is not to be dumped with the tables."""
        return contents.views

    def _add_programs(self, script: Path) -> None:
        """Append views, triggers, routines and events."""
        self._save_programs(self.name, script)

    def _run_dump(
        self,
        arguments: Sequence[str],
        name: str,
        script: Path,
        tables: Sequence[str] = (),
        *,
        watch: Callable[[], None] | None = None,
    ) -> None:
        program = self._dump_program
        with explaining(name, "The server"), self._server(name) as connection:
            options = self._options(connection)
        with script.open("ab") as output:
            # Two hyphens end the options: a name may begin with one.
            run_program(
                program,
                [
                    *dump_options(program, for_mariadb=self._is_mariadb),
                    *arguments,
                    *("--", name, *tables),
                ],
                options=options,
                stdout=output,
                watch=watch,
            )
        if not _is_complete(script):
            raise BackupError(
                f"{program.name} ended without an error, but its output has no last line.",
                code="tool.failed",
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
        return command_engine(self.engine.url.set(database=name or ""), self.connect_args)

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
        program = self._load_program
        with explaining(name, "The server"), self._server(name) as connection:
            options = self._options(connection)
        with for_client(program, script).open("rb") as source:
            run_program(
                program, [_CHARSET, _PACKET, f"--database={name}"], options=options, stdin=source
            )

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
        live = self.name
        programs = split_script(plain)
        if programs is None:
            raise BackupError(
                f"{manifest.id} does not tell its tables from its views, triggers and routines, so"
                " it cannot take the place of a live database. Restore it beside that, with"
                " 'flask dbkit backup restore'.",
                code="target.unsuitable",
            )
        with explaining(live, "The server"), self._server() as connection, self._alone(connection):
            new = self._create(passing_name(live, "restored", _NAME_CHARACTERS))
            try:
                self.load_script(plain, new.name)
                before = plain.with_name("before.sql")
                self._save_programs(live, before)
                with self._moved_aside(connection, before, new.name, force=force) as aside:
                    save(_Aside(self, aside, before, tables_of(connection, live, ["VIEW"])))
                    self._move_in(connection, new.name, programs)
                # What it held is in the safety backup.
                self.drop_database(aside)
            finally:
                new.drop()

    @contextmanager
    def _alone(self, connection: Connection) -> Iterator[None]:
        """Let one restore at a time work on this database, and end what a killed one has begun."""
        lock = "dbkit_restore_" + hashlib.sha256(self.name.encode()).hexdigest()[:40]
        if not connection.scalar(sa.text(f"SELECT GET_LOCK('{lock}', 0)")):
            raise BackupError(
                f"Another restore of {self.name} is at work. Wait until it has ended.",
                code="database.busy",
            )
        try:
            names = connection.scalars(
                sa.text("SELECT schema_name FROM information_schema.schemata")
            ).all()
            left = moved_aside(names, self.name, _NAME_CHARACTERS)
            if len(left) == 1 and self._was_begun(connection, left[0]):
                self._bring_back(left[0], new=None)
            yield
        finally:
            if not connection.closed and not connection.invalidated:
                connection.execute(sa.text(f"SELECT RELEASE_LOCK('{lock}')"))

    @contextmanager
    def _moved_aside(
        self, connection: Connection, before: Path, new: str, *, force: bool
    ) -> Iterator[str]:
        """Move the live tables aside, yield the database they are in, and bring them back."""
        live, aside = self.name, passing_name(self.name, "before", _NAME_CHARACTERS)
        self._create(aside)
        try:
            keep_programs(connection, aside, before)
            if force:
                for session, _ in self._sessions(connection):
                    end_session(connection, session)
            drop_triggers(connection, live)
            move_tables(connection, live, aside)
            yield aside
        except BaseException as error:
            self._bring_back(aside, new=new, cause=error)
            if isinstance(error, DBAPIError):
                said = " ".join(str(error.orig).split())
                error = BackupError(
                    f"The server refused while the database {live} was worked on: {said}.",
                    code="database.failed",
                )
            if isinstance(error, BackupError):
                raise as_it_was(error, live) from error
            raise

    def _move_in(self, connection: Connection, new: str, programs: Path) -> None:
        """Put the new tables where the live ones were, with what is programmed on them."""
        made = tables_of(connection, self.name)
        if made:
            raise BackupError(
                f"Somebody made tables in {self.name} while it was being replaced:"
                f" {', '.join(made)}. Stop the application first.",
                code="database.busy",
            )
        drop_programs(connection, self.name)
        move_tables(connection, new, self.name)
        self._load_new_programs(programs)

    def _load_new_programs(self, programs: Path) -> None:
        self.load_script(programs, self.name)

    def _was_begun(self, connection: Connection, aside: str) -> bool:
        """Tell whether a restore was killed before the new tables were moved in."""
        is_moved = bool(set(tables_of(connection, aside)) - {PROGRAMS})
        return not is_moved or not tables_of(connection, self.name)

    def _bring_back(
        self, aside: str, *, new: str | None, cause: BaseException | None = None
    ) -> None:
        """Undo what was begun: the tables and all that is programmed on them are as they were.

        Args:
            aside: The database that the live tables were to be moved to.
            new: The database that the new tables came from, if it is there still.
            cause: Why.
        """
        live = self.name
        try:
            with self._server() as connection:  # the other one may be lost
                script = kept_programs(connection, aside)
                if script is not None:
                    drop_programs(connection, live)
                    if set(tables_of(connection, aside)) - {PROGRAMS}:
                        self._make_room(connection, new)
                        move_tables(connection, aside, live, besides=[PROGRAMS])
                    with tempfile.TemporaryDirectory() as folder:
                        file = Path(folder, "before.sql")
                        file.write_bytes(script)
                        self.load_script(file, live)
            self.drop_database(aside)
        except (DBAPIError, BackupError) as error:
            raise BackupError(
                f"The restore failed: {cause} And what was begun could not be undone: {error} The"
                f" rows of {live} are in the database {aside}, and its views, triggers, routines"
                f" and events in its table {PROGRAMS}. The next 'flask dbkit backup restore"
                " --in-place' tries to undo it again.",
                code="restore.unfinished",
            ) from error

    def _make_room(self, connection: Connection, new: str | None) -> None:
        """Take what is in the live tables' place out of their way."""
        if not tables_of(connection, self.name):
            return
        if new is None or tables_of(connection, new):
            # The new tables were never moved in: somebody else has made these. They are kept.
            suffix = f"_stray_{os.urandom(4).hex()}"
            new = self._create(fit_name(self.name, suffix, _NAME_CHARACTERS)).name
        move_tables(connection, self.name, new)

    def _save_programs(self, name: str, script: Path) -> None:
        """Append what cannot be renamed into another database."""
        with explaining(name, "The server"), self._server(name) as connection:
            views = tables_of(connection, name, ["VIEW"])
        if views:
            # A view needs its functions. They come a second time with the rest, which drops first.
            self._run_dump([*_PROGRAMS, "--skip-triggers", "--routines"], name, script)
            self._run_dump([*_ONE_MOMENT, "--no-data", "--skip-triggers"], name, script, views)
        self._run_dump([*_PROGRAMS, "--routines", "--events", "--triggers"], name, script)


class _Aside(MySQLDatabase):
    """The live tables in another database, and what was programmed on them in a script."""

    def __init__(
        self, live: MySQLDatabase, aside: str, programs: Path, views: Sequence[str]
    ) -> None:
        super().__init__(live.engine_of(aside), live.connect_args)
        self._shown, self._programs, self._views = live.name, programs, tuple(views)

    @property
    def name(self) -> str:
        """Return the name by which everybody knows it."""
        return self._shown

    def _contents(self, connection: Connection) -> Contents:
        found = read_contents(connection)
        tables = {name: rows for name, rows in found.tables.items() if name != PROGRAMS}
        return replace(found, tables=tables, views=self._views)

    def _no_tables(self, contents: Contents) -> Collection[str]:
        return [PROGRAMS]

    def _add_programs(self, script: Path) -> None:
        with script.open("ab") as file:
            file.write(self._programs.read_bytes())


class MySQLTarget(Target):
    """A database that a backup is loaded into."""

    def __init__(self, server: MySQLDatabase, name: str, *, is_new: bool) -> None:
        self.name = name
        self.url: URL = server.engine.url.set(database=name)
        self.is_new = is_new
        self._server = server

    def load(self, plain: Path, manifest: Manifest, *, jobs: int = 1, owner: bool = True) -> None:
        """Load a copy."""
        programs = None if owner else split_script(plain)
        self._server.load_script(plain, self.name)
        if programs is not None:
            with_own_definers(programs)
            self._server.load_script(programs, self.name)

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


def _is_complete(script: Path) -> bool:
    with script.open("rb") as file:
        file.seek(max(0, script.stat().st_size - 200))
        return _LAST_LINE in file.read()


KIND = MySQLDatabase
"""What the room looks for in each of these modules."""
