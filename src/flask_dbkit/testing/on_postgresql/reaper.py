"""Remove a test server when the process that started it is gone, however it went.

Started by :class:`~flask_dbkit.testing.on_postgresql.server.PostgresServer` with one end of a pipe
as its standard input. Reading returns when the other end closes, which the kernel does even
after ``kill -9``; then this ends what still runs in the directory and removes it.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def end_server(pid_file: Path) -> None:
    """End the server whose process id is the first word of a file, if it still runs."""
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)  # a frozen one would not hear the next signal
        # For PostgreSQL it is the "immediate" shutdown; the children of a server follow it.
        # https://www.postgresql.org/docs/current/server-shutdown.html
        os.kill(pid, signal.SIGQUIT)
        for _ in range(100):
            time.sleep(0.05)
            os.kill(pid, 0)
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Wait for the end of the starting process, then tidy up."""
    directory, pid_file = Path(sys.argv[1]), Path(sys.argv[2])
    sys.stdin.buffer.read()
    if directory.exists():
        end_server(pid_file)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
