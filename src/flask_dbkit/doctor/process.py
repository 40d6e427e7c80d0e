"""What serves an application: how many processes and threads, and what kind of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ServerProcess"]

_OPTIONS = {
    "workers": ("-w", "--workers"),
    "threads": ("--threads",),
    "timeout": ("-t", "--timeout"),
    "worker_class": ("-k", "--worker-class"),
}
_GUNICORN_TIMEOUT_S = 30


@dataclass(frozen=True)
class ServerProcess:
    """What serves the application.

    Attributes:
        workers: Processes; ``None`` if nobody says.
        threads: Threads of each; ``None`` if nobody says.
        timeout_s: After so many seconds a worker, or a proxy in front, gives a request up.
        worker_class: Gunicorn's word, such as ``gevent``.
        preload: Whether the application is made before its workers are forked.

    References:
        https://docs.gunicorn.org/en/stable/settings.html
    """

    workers: int | None = None
    threads: int | None = None
    timeout_s: float = _GUNICORN_TIMEOUT_S
    worker_class: str = ""
    preload: bool = False

    @classmethod
    def of(
        cls, environ: Mapping[str, str], workers: int | None = None, threads: int | None = None
    ) -> ServerProcess:
        """Read it from the settings, else from the environment that a server is started with."""
        given = _arguments(environ.get("GUNICORN_CMD_ARGS", ""))
        concurrency = _number(environ.get("WEB_CONCURRENCY"))
        timeout_s = _number(given.get("timeout"))
        return cls(
            workers or _number(given.get("workers")) or concurrency,
            threads or _number(given.get("threads")),
            _GUNICORN_TIMEOUT_S if timeout_s is None else timeout_s or float("inf"),
            given.get("worker_class", ""),
            "preload" in given,
        )

    @property
    def size(self) -> int | None:
        """How many requests are worked on at the same time; ``None`` if nobody says."""
        if self.workers is None and self.threads is None:
            return None
        return (self.workers or 1) * (self.threads or 1)


def _arguments(text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError:  # a quotation mark that is never closed
        return {}
    found: dict[str, str] = {}
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in ("--preload", "--preload-app"):
            found["preload"] = "yes"
        for option, spellings in _OPTIONS.items():
            if name in spellings:
                following = words[index + 1] if index + 1 < len(words) else ""
                found[option] = value if equals else following
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
