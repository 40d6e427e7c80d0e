"""A private MariaDB server for the tests, which keeps its data in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pymysql
from pymysql.connections import Connection

from flask_dbkit.testing.on_postgresql import reaper
from flask_dbkit.testing.on_postgresql.server import memory_folder

__all__ = ["MariaDBError", "MariaDBServer", "has_programs", "share_tls_context"]

_INSTALLER = "mariadb-install-db"
_SERVER = "mariadbd"

# As Debian's, but nothing has to survive a power cut, so nothing waits for the disk. A version
# that does not know a "loose" option goes without it.
_OPTIONS = (
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--innodb-log-file-size=16M",
    "--loose-innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=0",
    "--loose-innodb-doublewrite=0",
    "--innodb-buffer-pool-size=64M",
    "--loose-innodb-fast-shutdown=2",
    "--loose-sync-frm=0",
    "--skip-log-bin",
    "--skip-performance-schema",
    "--max-connections=300",
)


class MariaDBError(RuntimeError):
    """The server did not do what was asked; the message ends with its log."""


def _find(name: str) -> str | None:
    """Find a program; a server's may lie where only root's ``PATH`` leads."""
    return shutil.which(
        name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    )


def has_programs() -> bool:
    """Tell whether a server can be made here."""
    return _find(_SERVER) is not None and _find(_INSTALLER) is not None


class MariaDBServer:
    """One server in a temporary directory, on a loopback port of its own; root needs no password.

    A small second process removes everything when this one ends without saying so.

    Attributes:
        port: The TCP port on 127.0.0.1.
        directory: Holds the data, the Unix socket and the log. Gone after ``close()``.
    """

    def __init__(self, *, timeout_s: float = 60.0) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="dbkit-maria-", dir=memory_folder()))
        self._pid_file = self.directory / "pid"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self._reaper = subprocess.Popen(
            [
                *(sys.executable, "-I", str(reaper.__file__)),
                *(str(self.directory), str(self._pid_file)),
            ],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the whole group; this has to outlive it
        )
        try:
            self._start(timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the server."""
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/"

    def _start(self, timeout_s: float) -> None:
        data = f"--datadir={self.directory / 'data'}"
        # As root its programs run as somebody else, who owns the directory then.
        user = ("--user=nobody",) if os.geteuid() == 0 else ()
        if user:
            shutil.chown(self.directory, "nobody")
        plain = ("--skip-test-db", "--auth-root-authentication-method=normal")
        installed = self._popen(_INSTALLER, "--no-defaults", *user, data, *plain, *_OPTIONS[2:3])
        if installed.wait(timeout_s) != 0:
            raise MariaDBError(f"{_INSTALLER} failed.\n{self._log}")
        self._process = self._popen(
            *(_SERVER, "--no-defaults", *user, data, *_OPTIONS),
            *(f"--socket={self.directory / 'socket'}", f"--port={self.port}"),
            *("--bind-address=127.0.0.1", f"--pid-file={self.directory / 'data' / 'own.pid'}"),
        )
        self._pid_file.write_text(str(self._process.pid))
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise MariaDBError(f"The server did not start.\n{self._log}")
            time.sleep(0.02)

    def _popen(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [str(_find(name)), *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.MySQLError):
            pymysql.connect(host="127.0.0.1", port=self.port, user="root").close()
            return True
        return False

    @property
    def _log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def close(self) -> None:
        """Stop the server and remove its directory. Safe to call twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()
        self._reaper.wait(10)


def share_tls_context() -> None:
    """Let PyMySQL make the context for servers without demands on TLS once, not per connection.

    It reads the certificates of the whole machine, which takes longer than most tests.
    """
    name = "_create_ssl_ctx"
    plain = getattr(Connection, name, None)
    if plain is None:  # before PyMySQL 1.2 no context is made unasked
        return

    @cache
    def shared() -> object:
        return plain(Connection.__new__(Connection), {})

    def create(self: Connection[Any], given: object) -> object:
        return plain(self, given) if given else shared()

    setattr(Connection, name, create)
