"""Programs of Python, each a process of its own, from one Python that has imported what all import.

Half a second of every ``flask`` command goes into importing Flask and SQLAlchemy. Here one
process does that once, and forks for each program: it has its own folder, arguments and
environment, and ends as a program ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import runpy
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from contextlib import closing, suppress
from pathlib import Path

__all__ = ["Program", "WarmPython"]

# What programs of the tests import anyway, where it is installed. The second line is what every
# `flask` command of this environment loads because it says so in its metadata.
_IMPORTED = (
    "flask.cli", "flask_migrate", "flask_dbkit", "psycopg", "pymysql", "sqlalchemy.dialects.sqlite",
    "apiflask", "flask_marshmallow",
)  # fmt: skip
# What is meant for the tests themselves, or would name somebody's own database or application.
_NOT_INHERITED = re.compile(r"DATABASE_URL$|FLASK_|COVERAGE_PROCESS_|PYTEST_")


class Program:
    """One program that was started.

    Attributes:
        pid: Its process.
        stdout: What it prints, to be read while it runs.
    """

    def __init__(self, server: WarmPython, order: dict[str, object]) -> None:
        self._server = server
        self._folder = tempfile.TemporaryDirectory()
        out, self._err = Path(self._folder.name) / "out", Path(self._folder.name) / "err"
        os.mkfifo(out)
        self.pid = server.ask(order | {"out": str(out), "err": str(self._err)})
        self._handle = os.pidfd_open(self.pid)
        self.stdout = out.open(encoding="utf-8")
        self.returncode: int | None = None

    def wait(self, timeout_s: float = 60) -> int:
        """Wait until it has ended, and return its status."""
        if self.returncode is None:
            if not select.select([self._handle], [], [], timeout_s)[0]:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"{self.pid} still ran after {timeout_s} seconds.")
            self.returncode = self._server.ask({"ended": self.pid})
        return self.returncode

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.returncode is None:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            self.wait()

    def errors(self) -> str:
        """Wait until it has ended, and return what it wrote to stderr."""
        self.wait()
        return self._err.read_text(encoding="utf-8")

    def close(self) -> None:
        """End it, and forget what it wrote."""
        self.kill()
        self.stdout.close()
        os.close(self._handle)
        self._folder.cleanup()


class WarmPython:
    """Starts programs; ended by :meth:`close`."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                name: value for name, value in os.environ.items() if not _NOT_INHERITED.match(name)
            },
        )

    def start(self, command: str | list[str], cwd: Path, **environment: str) -> Program:
        """Start one command, to be closed by the caller.

        Args:
            command: ``python [-W error] file.py …``, ``python -m module …`` or
                ``flask …``, as a list or as it is typed, ``NAME=value`` in front included.
            cwd: The folder it is started in.
            **environment: Added to the environment of the tests.
        """
        words = shlex.split(command) if isinstance(command, str) else list(command)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        return Program(self, {"words": words, "cwd": str(cwd), "environment": environment})

    def run(
        self, command: str | list[str], cwd: Path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, or kill it after two minutes; as :meth:`start`."""
        with closing(self.start(command, cwd, **environment)) as program:
            # What it prints is read until it, and what it started, has closed it.
            watch = threading.Timer(120, os.kill, (program.pid, signal.SIGKILL))
            watch.start()
            printed = program.stdout.read()
            watch.cancel()
            return subprocess.CompletedProcess(command, program.wait(), printed, program.errors())

    def ask(self, order: dict[str, object]) -> int:
        """Give one order to the process that forks, and return its answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self) -> None:
        """End the process that forks."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(timeout=30)


def _serve() -> None:
    """Fork for every order; the child leaves this function, and is the program from there on."""
    for name in _IMPORTED:
        with suppress(ImportError):
            importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and they end this
    gc.freeze()  # a collection would copy every page that parent and child share
    while line := sys.stdin.readline():
        order = json.loads(line)
        if "ended" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["ended"], 0)[1])
        elif not (answer := os.fork()):
            _become(order)
            return
        print(answer, flush=True)


def _become(order: dict[str, object]) -> None:
    """Set up what a new process would have, and run the program; it may end by an exception."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for place, name in enumerate((os.devnull, order["out"], order["err"])):
        flags = os.O_WRONLY | os.O_CREAT if place else os.O_RDONLY
        opened = os.open(str(name), flags, 0o600)
        os.dup2(opened, place)
        os.close(opened)
    os.chdir(str(order["cwd"]))
    assert isinstance(order["environment"], dict)
    os.environ.update(order["environment"])
    assert isinstance(order["words"], list)
    program, *arguments = order["words"]
    if program == "flask":
        sys.argv, sys.path[0] = ["flask", *arguments], str(Path(sys.executable).parent)
        from flask.cli import main

        main()
        return
    assert Path(program).name.startswith("python"), program
    if arguments[:2] == ["-W", "error"]:
        warnings.simplefilter("error")
        del arguments[:2]
    if arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], str(Path.cwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv, path = arguments, Path(arguments[0]).absolute()
    sys.path[0] = str(path.parent)
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    sys.modules["__main__"] = module
    exec(compile(path.read_bytes(), path, "exec"), module.__dict__)


if __name__ == "__main__":
    _serve()
