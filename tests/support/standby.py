"""A hot standby of a private PostgreSQL: it follows, lags as told, is promoted."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg

from tests.support.postgres import PostgresError, PostgresServer, find_binaries

__all__ = ["Standby", "can_make_standby"]

_COPIER = "pg_basebackup"
_CONTROL = "pg_ctl"


def can_make_standby() -> bool:
    """Tell whether the programs that were found include those a standby needs."""
    binaries = find_binaries()
    return binaries is not None and _has_programs(binaries)


def _has_programs(binaries: Path) -> bool:
    return all(os.access(binaries / program, os.X_OK) for program in (_COPIER, _CONTROL))


class Standby(PostgresServer):
    """A physical standby that streams from another server and answers readers.

    Stop, kill and freeze it as any other server. ``url()`` is its own address.

    Args:
        primary: The server to follow; it has to run while the standby is made.
        delay: How long it waits before it applies what others have committed, such as ``3s``.
        settings: Server settings, laid over the primary's.
    """

    def __init__(
        self,
        primary: PostgresServer,
        *,
        delay: str = "0",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        if not _has_programs(primary.binaries):
            raise PostgresError(f"There is no {_COPIER} and {_CONTROL} in {primary.binaries}.")
        self._primary = primary
        super().__init__(
            primary.binaries,
            settings={
                **primary.settings,
                "recovery_min_apply_delay": delay,
                # It looks for a primary that was away more often than each five seconds.
                "wal_retrieve_retry_interval": "100ms",
                **(settings or {}),
            },
        )

    def _initialise(self) -> None:
        self._run_program(
            _COPIER,
            *("-D", str(self.data), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            *("-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "postgres"),
        )

    def _run_program(self, name: str, *arguments: str) -> None:
        with (self.directory / "log").open("ab") as log:
            process = self._popen([str(self.binaries / name), *arguments], log)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        if code != 0:
            raise PostgresError(f"{name} ended with exit code {code}.\n{self.log}")

    def promote(self) -> None:
        """Make it a primary of its own, and wait until it takes writes."""
        self._run_program(_CONTROL, "promote", "-D", str(self.data), "--wait")

    def catch_up(self, *, timeout_s: float = 10.0) -> None:
        """Wait until it has applied all that the primary has committed by now."""
        # What is committed asynchronously is inserted now and written a moment later.
        written = _ask(self._primary, "SELECT pg_current_wal_insert_lsn()")
        deadline = time.monotonic() + timeout_s
        while not _ask(self, f"SELECT pg_last_wal_replay_lsn() >= '{written}'"):
            if time.monotonic() > deadline:
                raise PostgresError(f"The standby is behind after {timeout_s} s.\n{self.log}")
            time.sleep(0.01)


def _ask(server: PostgresServer, statement: str) -> object:
    url = server.url().replace("+psycopg", "")
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]
