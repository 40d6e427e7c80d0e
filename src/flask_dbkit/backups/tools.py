"""The client programs of the database servers: found, started, and told a password in private.

No password is ever an argument, which everybody on the machine can read. libpq takes it from
the environment, which on today's systems only the same user and root can read and which ends
with the process; a password file would outlive a process that is killed. MariaDB's and MySQL's
programs call their variable ``MYSQL_PWD`` insecure and are about to drop it, so they read an
option file: a pipe that is inherited, has no name, and is gone once it was read.

References:
    * https://www.postgresql.org/docs/current/libpq-envars.html
    * https://mariadb.com/docs/server/server-management/install-and-upgrade-mariadb/configuring-mariadb/configuring-mariadb-with-option-files
    * https://dev.mysql.com/doc/refman/8.4/en/password-security-user.html
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..databases import MYSQL, POSTGRESQL
from .exceptions import BackupError

__all__ = ["Program", "find_program", "run_program"]

_POLL_S = 0.05
_VERSION = re.compile(r"(\d+)(?:\.(\d+))?")
_GET = {
    POSTGRESQL.name: (
        "Install PostgreSQL's client programs of the server's version or a newer one: on Debian"
        " and Ubuntu 'apt-get install postgresql-client', on Fedora 'dnf install postgresql', on"
        " macOS 'brew install libpq'; then put their folder on the PATH."
    ),
    MYSQL.name: (
        "Install MariaDB's or MySQL's client programs: on Debian and Ubuntu 'apt-get install"
        " mariadb-client', on Fedora 'dnf install mariadb', on macOS 'brew install"
        " mariadb-connector-c mariadb'; then put their folder on the PATH."
    ),
}


@dataclass(frozen=True)
class Program:
    """A client program that was found.

    Attributes:
        path: Where it is.
        version_text: What it says about itself.
        major: The first number of its version.
    """

    path: str
    version_text: str
    major: int

    @property
    def name(self) -> str:
        """The name of the file."""
        return Path(self.path).name


def find_program(names: Sequence[str], family: str) -> Program:
    """Find a program on the ``PATH`` and ask it for its version.

    Args:
        names: The names it may have, the preferred one first.
        family: The name of the database.

    Raises:
        BackupError: None of them is there, or it does not run. The code is ``tool.missing``.
    """
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        raise BackupError(
            f"{' or '.join(names)} is not on the PATH. {_GET[family]}", code="tool.missing"
        )
    try:
        answer = subprocess.run(  # noqa: S603
            [path, "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackupError(
            f"{path} cannot be started: {error}. {_GET[family]}", code="tool.missing"
        ) from error
    text = answer.stdout.strip()
    match = _VERSION.search(text)
    if answer.returncode != 0 or match is None:
        said = " ".join((answer.stderr or answer.stdout).split())
        raise BackupError(
            f"{path} --version failed: {said or 'no answer'}. {_GET[family]}", code="tool.missing"
        )
    return Program(path, text, int(match[1]))


def run_program(
    program: Program,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    options: str | None = None,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    watch: Callable[[], None] | None = None,
) -> None:
    """Run a client program to its end.

    Args:
        program: Which.
        arguments: Nothing secret.
        environment: Added to this process's.
        options: The text of an option file, which MariaDB's programs are handed as their only
            one. It may hold a password.
        stdin: What it reads; nothing by default.
        stdout: Where its output goes; nowhere by default.
        watch: Called now and then while it runs.

    Raises:
        BackupError: It failed; the text has its last words. The code is ``tool.failed``.
    """
    command = [program.path]
    descriptors: tuple[int, ...] = ()
    if options is not None:
        reading, writing = os.pipe()
        os.write(writing, options.encode())  # far below what a pipe holds
        os.close(writing)
        command.append(f"--defaults-file=/dev/fd/{reading}")  # has to be the first argument
        descriptors = (reading,)
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(  # noqa: S603
                [*command, *arguments],
                env={**os.environ, "LC_ALL": "C", **(environment or {})},
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=stdout if stdout is not None else subprocess.DEVNULL,
                stderr=words,
                pass_fds=descriptors,
            )
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        _await(process, watch)
        if process.returncode != 0:
            words.seek(0)
            said = words.read().decode(errors="replace").strip()
            raise BackupError(
                f"{program.name} failed with exit code {process.returncode}: {said[-1500:]}",
                code="tool.failed",
            )


def _await(process: subprocess.Popen[bytes], watch: Callable[[], None] | None) -> None:
    try:
        while watch is not None and process.poll() is None:
            watch()
            time.sleep(_POLL_S)
        process.wait()
    except BaseException:
        # Ctrl-C: nobody waits for it any more, and what it has written is not a backup.
        process.kill()
        process.wait()
        raise
