"""The client programs of MariaDB and MySQL: which of them, and what each has to be told.

MySQL's write things that MariaDB's do not know, and the other way round. Either family works with
either server once that is out of the way.

References:
    * https://dev.mysql.com/doc/refman/8.4/en/mysqldump.html
    * https://mariadb.org/mariadb-dump-file-compatibility-change/
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from ..exceptions import BackupError
from ..tools import Program, find_program

__all__ = ["dump_options", "dump_program", "for_client", "knows", "load_program"]

_DUMP = ("mariadb-dump", "mysqldump")
_LOAD = ("mariadb", "mysql")
# The first line of a script of MariaDB's, which MySQL's client takes for a command of its own.
_SANDBOX = b"/*M!999999\\- enable the sandbox mode */"


def dump_program(*, for_mariadb: bool) -> Program:
    """Find the program that writes scripts."""
    return _find(_DUMP, for_mariadb=for_mariadb)


def load_program(*, for_mariadb: bool) -> Program:
    """Find the program that runs scripts."""
    return _find(_LOAD, for_mariadb=for_mariadb)


def _find(names: tuple[str, str], *, for_mariadb: bool) -> Program:
    # The server's own family first: it knows its own syntax best.
    return find_program(names if for_mariadb else names[::-1], "mysql")


def dump_options(program: Program, *, for_mariadb: bool) -> list[str]:
    """Return what a program has to be told so that its script can be run anywhere."""
    options = []
    if knows(program, "--set-gtid-purged"):
        # It would set the past of the whole server, which an account of one database may not.
        options.append("--set-gtid-purged=OFF")
    if for_mariadb and knows(program, "--column-statistics"):
        # It would ask for a table that MariaDB does not have.
        options.append("--column-statistics=0")
    return options


def knows(program: Program, option: str) -> bool:
    """Tell whether a program has an option."""
    return option in _help(program)


@cache
def _help(program: Program) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - found by us
            [program.path, "--help"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackupError(
            f"{program.path} --help failed: {error}. Install the program again.",
            code="tool.missing",
        ) from error
    return done.stdout


def for_client(program: Program, script: Path) -> Path:
    """Return a script that a program can run: the same one, or a copy without lines of others."""
    if "mariadb" in program.version_text.lower():
        return script
    with script.open("rb") as source:
        if not source.readline().startswith(_SANDBOX):
            return script
        plain = script.with_name(f"{script.name}.plain")
        source.seek(0)
        with plain.open("wb") as target:
            # Each part of the script begins with the line; in a value it cannot begin one.
            target.writelines(line for line in source if not line.startswith(_SANDBOX))
    shutil.copymode(script, plain)
    return plain
