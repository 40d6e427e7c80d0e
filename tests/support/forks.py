"""Work in a forked child: a process of its own, without the time it takes to start a Python."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable

__all__ = ["Child", "Talk", "exit_code", "fork", "succeeded"]


def fork(work: Callable[[], object]) -> int:
    """Do ``work`` in a forked child, which must not raise; return its process id.

    The child leads a process group of its own, so that programs it starts can be killed with it.
    """
    with warnings.catch_warnings():
        # Some drivers run a thread, and so may the tests before.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(pid: int) -> int:
    """Wait for a child; minus the number of the signal if one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def succeeded(pid: int) -> bool:
    """Wait for a child, and tell whether its work raised nothing."""
    return exit_code(pid) == 0


class Talk:
    """What a child's work says to its parent, and hears from it."""

    def __init__(self, said: int, heard: int) -> None:
        self._said, self._heard = said, heard

    def say(self, line: object) -> None:
        """Send one line."""
        os.write(self._said, f"{line}\n".encode())

    def wait(self) -> None:
        """Wait until the parent lets it go on."""
        os.read(self._heard, 1)


class Child:
    """A forked child, whose work talks to this process."""

    def __init__(self, work: Callable[[Talk], object]) -> None:
        heard, self._writing = os.pipe()
        reading, said = os.pipe()
        self.pid = fork(lambda: work(Talk(said, heard)))
        os.close(heard)
        os.close(said)
        self._lines = os.fdopen(reading)
        self._code: int | None = None

    def hear(self) -> str:
        """Wait for the next line; nothing comes after the last one."""
        return self._lines.readline().rstrip("\n")

    def let_go_on(self) -> None:
        """End its ``wait()``."""
        os.write(self._writing, b"\n")

    def kill(self) -> None:
        """End it as a power cut would. Does nothing to one that has ended."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.exit_code()

    def exit_code(self) -> int:
        """Wait for its end; minus the number of the signal if one ended it."""
        if self._code is None:
            self._code = exit_code(self.pid)
            self._lines.close()
            os.close(self._writing)
        return self._code
