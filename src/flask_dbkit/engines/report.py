"""What one engine is and does: the facts behind ``flask dbkit info``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import Pool

from ..databases import file_of, support_for
from .urls import without_secrets

__all__ = ["EngineReport", "inspect_engine"]


@dataclass(frozen=True)
class EngineReport:
    """The facts about one bind.

    Attributes:
        bind: The bind key, ``default`` for the default database.
        dialect: For example ``postgresql``.
        driver: For example ``psycopg``.
        version: Of the server, or of the SQLite library; ``None`` when nothing answered.
        url: With the password hidden.
        pool: Class and numbers of the connection pool.
        settings: Effective pragmas or session settings.
        status: ``ok``; ``absent`` for a SQLite file that is yet to be made; ``unreachable`` when
            the database did not answer.
        problem: One paragraph, unless the status is ``ok``.
        replica_of: The bind whose data it holds a copy of, as ``DBKIT_REPLICAS`` says.
    """

    bind: str
    dialect: str
    driver: str
    version: str | None
    url: str
    pool: dict[str, Any]
    settings: dict[str, str] = field(default_factory=dict)
    status: str = "ok"
    problem: str | None = None
    replica_of: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return asdict(self)


def inspect_engine(
    engine: Engine, bind_key: str | None, *, replica_of: str | None = None
) -> EngineReport:
    """Ask one database about itself, on a connection of its own pool.

    Never creates a SQLite file that is not there.

    Args:
        engine: The engine of the bind.
        bind_key: ``None`` for the default database.
        replica_of: The bind it is a replica of, if it is one.
    """
    version, settings, status, problem = None, {}, "ok", None
    shown = without_secrets(engine.url)
    path = file_of(engine.url)
    if path is not None and not Path(path).exists():
        status = "absent"
        problem = f"{path} does not exist yet. The first write, or db.create_all(), makes it."
    else:
        try:
            with engine.connect() as connection:
                settings = support_for(engine.url).settings(connection)
                version = ".".join(str(part) for part in engine.dialect.server_version_info or ())
        except SQLAlchemyError as error:
            status = "unreachable"
            problem = f"No connection to {shown}: {_reason(error)}"
    return EngineReport(
        bind="default" if bind_key is None else bind_key,
        dialect=engine.dialect.name,
        driver=engine.dialect.driver,
        version=version or None,
        url=shown,
        pool=_describe_pool(engine.pool),
        settings=settings,
        status=status,
        problem=problem,
        replica_of=replica_of,
    )


def _reason(error: SQLAlchemyError) -> str:
    """Return what the driver said, on one line and without SQLAlchemy's link."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())


def _describe_pool(pool: Pool) -> dict[str, Any]:
    described: dict[str, Any] = {"class": type(pool).__name__}
    for name in ("size", "checkedin", "checkedout", "overflow", "timeout"):
        ask = getattr(pool, name, None)
        if callable(ask):
            described[name] = ask()
    return described
