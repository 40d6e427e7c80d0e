"""Load an archive of ``pg_dump`` into an empty database with ``pg_restore``."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, Engine

from ..database import Contents, Target
from ..manifest import Manifest
from ..servers import explaining, send
from ..tools import Program, find_program, run_program
from .catalog import environment_of, quoted, read_contents, server_major_of

__all__ = ["PostgreSQLTarget", "pack_folder"]

# pg_restore from 17 on begins with a setting that servers before 17 refuse.
# https://www.postgresql.org/docs/17/runtime-config-client.html#GUC-TRANSACTION-TIMEOUT
_UNKNOWN_BEFORE = 17
_UNKNOWN_SETTING = b"\nSET transaction_timeout = 0;"
_HEADER_BYTES = 65_536


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
        arguments = [] if owner else ["--no-owner", "--no-privileges"]
        source = plain
        if manifest.format == "directory":
            source = plain.with_name("plain.folder")
            _unpack_folder(plain, source)
        with explaining(self._name, "PostgreSQL"), self._engine.connect() as connection:
            environment, server_major = environment_of(connection), server_major_of(connection)
        if program.major >= _UNKNOWN_BEFORE > server_major:
            self._load_script(program, [*arguments, str(source)], plain, environment)
            return
        arguments += [
            "--no-password",
            "--exit-on-error",
            f"--dbname={_connection_string(self._name)}",
        ]
        # Parallel workers cannot share one transaction.
        arguments.append("--single-transaction" if jobs == 1 else f"--jobs={jobs}")
        run_program(program, [*arguments, str(source)], environment=environment)

    def _load_script(
        self, program: Program, arguments: list[str], plain: Path, environment: dict[str, str]
    ) -> None:
        """Load through a script, out of which is taken what an older server does not know."""
        client = find_program(["psql"], "postgresql")
        script = plain.with_name("plain.script")
        run_program(program, [*arguments, f"--file={script}"])
        with script.open("r+b") as file:
            place = file.read(_HEADER_BYTES).find(_UNKNOWN_SETTING)
            if place >= 0:
                file.seek(place)
                file.write(b"\n---")  # a comment of the same length
        flags = ["--no-psqlrc", "--quiet", "--no-password", "--single-transaction"]
        flags += [
            "--set=ON_ERROR_STOP=1",
            f"--dbname={_connection_string(self._name)}",
            f"--file={script}",
        ]
        run_program(client, flags, environment=environment)
        script.unlink()

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
            send(connection, f"DROP DATABASE IF EXISTS {quoted(self._name)}")


def _connection_string(name: str) -> str:
    """Name a database so that nothing in its name is taken for a parameter or a URI.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
    """
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def pack_folder(folder: Path, archive: Path) -> None:
    """Put a directory archive into one file; its members are compressed already."""
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
            path.unlink()
    folder.rmdir()


def _unpack_folder(archive: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None, "only files were put in"
            # A name with a path in it could lead anywhere.
            with content, (folder / Path(member.name).name).open("xb") as file:
                shutil.copyfileobj(content, file)
