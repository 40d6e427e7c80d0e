"""What a probe is told, and what it is.

A probe never touches the application's pool, so that an exhausted pool and a database that is
away are told apart. It opens a connection of its own and closes it again: what a new process
would need is what is tried, and nothing is left on the server.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Engine

from .report import FAIL, WARN, Result
from .runner import HealthRun, Outcome
from .settings import HealthSettings

__all__ = ["Probe", "ProbedBind"]


def _no() -> bool:
    return False


@dataclass(frozen=True)
class ProbedBind:
    """One bind, as its probe sees it.

    Attributes:
        bind: The bind key, ``default`` for the default database.
        engine: The application's engine: its URL and its dialect are used, its pool never.
        config: The application's settings.
        connect_args: The driver arguments of the application and of the library.
        creator: The application's own function that opens a connection, if it has one.
        writable: Whether the bind has to take writes.
        is_replica: Whether it follows another bind, as ``DBKIT_REPLICAS`` says.
        app_name: Shown by the server's list of sessions.
        has_models: Whether the application has tables on this bind.
        background: Whether a long check may be started in the background now.
        writer_gate: Whether writers of a SQLite file take fair turns.
    """

    bind: str
    engine: Engine
    config: HealthSettings
    connect_args: Mapping[str, Any] = field(default_factory=dict)
    creator: Callable[[], Any] | None = None
    writable: bool = True
    is_replica: bool = False
    app_name: str = ""
    has_models: Callable[[], bool] = _no
    background: Callable[[], bool] = _no
    writer_gate: bool = True


class Probe(ABC):
    """One way of asking a database whether it can be used."""

    def __init__(self, target: ProbedBind) -> None:
        self.target = target
        self.name = f"db:{target.bind}"

    @abstractmethod
    def __call__(self, run: HealthRun) -> Outcome:
        """Ask the database; raise nothing that says more than a code."""

    @abstractmethod
    def private_connection(self, run: HealthRun) -> AbstractContextManager[Any]:
        """Return a connection of the driver's, of our own, that lets go at the deadline.

        It is ``None`` inside the block for a database that has no more than one.
        """

    def found(self, run: HealthRun, code: str | None = None, **figures: float) -> Result:
        """Build the result of the ping itself: it passed unless there is a code."""
        elapsed_ms = run.elapsed_ms()
        return Result(
            "pass" if code is None else FAIL,
            code,
            elapsed_ms,
            "ms",
            numbers=figures,
            component="datastore",
            duration_ms=elapsed_ms,
        )

    @staticmethod
    def warning(code: str | None, observed: float, unit: str, *, status: str = WARN) -> Result:
        """Build the result of a figure beside the ping; it passed unless there is a code."""
        return Result("pass" if code is None else status, code, observed, unit, component="system")
