"""One run of pytest, in one process or several: what they share, and what is left of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .on_postgresql.server import PostgresServer

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None

__all__ = ["Run", "Shared"]

_REAPER = Path(__file__).with_name("reaper.py")


@dataclass(frozen=True)
class Shared:
    """What every process of a run knows.

    Attributes:
        folder: For files, of all processes.
        token: In the names of all databases of the run, and of no other one.
        postgres: The beginning of the URLs of the server that was started for the run.
    """

    folder: str
    token: str
    postgres: str | None = None

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Let one process of the run into the block at a time."""
        with Path(self.folder, "lock").open("w") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)  # closing ends it, and so does the kernel
            yield


class Run:
    """The run as its first process knows it, which begins and ends it.

    Args:
        place: The URL of a server, on which databases of the run are dropped at the end.
        drop: Drops them.
        is_private: Start a PostgreSQL server of the run's own instead.
    """

    def __init__(
        self,
        place: str | None,
        drop: Callable[[str, Shared], None],
        *,
        is_private: bool = False,
    ) -> None:
        self._place, self._drop = place, drop
        shared = Shared(tempfile.mkdtemp(prefix="dbkit-test-"), os.urandom(4).hex())
        self._reaper = subprocess.Popen(
            [sys.executable, "-P", str(_REAPER)],
            stdin=subprocess.PIPE,
            text=True,
            # Ctrl-C reaches the whole foreground group; the reaper has to outlive it.
            start_new_session=True,
        )
        self._tell_reaper({"place": place, "shared": asdict(shared)})
        self._server = PostgresServer().start() if is_private else None
        if self._server is not None:
            shared = Shared(shared.folder, shared.token, self._server.url(""))
        self.shared = shared

    def end(self) -> None:
        """Remove all that is left. Safe to call twice."""
        assert self._reaper.stdin is not None
        if self._reaper.stdin.closed:
            return
        if self._server is not None:
            self._server.close()
        if self._place is not None:
            self._drop(self._place, self.shared)
        shutil.rmtree(self.shared.folder, ignore_errors=True)
        self._tell_reaper({})
        self._reaper.stdin.close()
        self._reaper.wait(30)

    def _tell_reaper(self, left: Mapping[str, Any]) -> None:
        assert self._reaper.stdin is not None
        print(json.dumps(left), file=self._reaper.stdin, flush=True)
