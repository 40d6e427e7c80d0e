"""The library's own checks of one bind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool

from ..exceptions import ConfigError
from .on_server import ServerProbe
from .on_sqlite import SQLiteProbe, is_probed_as_file
from .probe import Probe, ProbedBind
from .registry import GROUPS, Check
from .report import WARN, Result
from .runner import HealthRun, Outcome
from .settings import HealthSettings

__all__ = ["bind_checks", "check_bind_names", "name_of"]

_BINDS = "DBKIT_HEALTH_BINDS"
_DEFAULT_OVERFLOW = 10  # SQLAlchemy's own


def name_of(bind_key: str | None) -> str:
    """Return what a bind is called in the name of a check."""
    return "default" if bind_key is None else bind_key


def check_bind_names(config: HealthSettings, bind_keys: Iterable[str | None]) -> None:
    """Refuse settings for a bind that is not there.

    Raises:
        ConfigError: It names the nearest bind.
    """
    names = [name_of(key) for key in bind_keys]
    for name in config.health_binds:
        if name not in names:
            raise ConfigError.bad_value(
                _BINDS, name, "the names of binds: " + (", ".join(map(repr, names))), names
            )


def bind_checks(
    bind_key: str | None,
    engine: Engine,
    config: HealthSettings,
    options: Mapping[str, Any],
    *,
    app_name: str,
    has_models: Callable[[], bool],
    background: Callable[[], bool],
    writer_gate: bool = True,
    is_replica: bool = False,
) -> list[Check]:
    """Make the checks of one bind: the database itself, and the application's pool.

    Args:
        bind_key: ``None`` for the default database.
        engine: The application's engine. Its pool is looked at and never used.
        config: The application's settings.
        options: The options the engine was made with.
        app_name: Shown by the server's list of sessions.
        has_models: Whether the application has tables on this bind.
        background: Whether a long check may be started now.
        is_replica: Whether it follows another bind: it takes no writes then, and its failure is a
            warning, unless the settings say otherwise.
        writer_gate: Whether writers of a SQLite file take fair turns.
    """
    name = name_of(bind_key)
    own = config.health_binds.get(name, {})
    critical = bool(own.get("critical", not is_replica))
    target = ProbedBind(
        bind=name,
        engine=engine,
        config=config,
        connect_args=options.get("connect_args") or {},
        creator=options.get("creator"),
        writable=bool(own.get("writable", not is_replica)),
        is_replica=is_replica,
        app_name=app_name,
        has_models=has_models,
        background=background,
        writer_gate=writer_gate,
    )
    groups = frozenset({"readiness", "startup"} if critical else {"readiness"})
    failing = frozenset(GROUPS) if critical else frozenset[str]()
    if config.health_readiness_db == "warn":
        failing -= {"readiness"}
    probe = _probe_for(target)
    checks = [
        Check(
            probe.name,
            probe,
            groups=groups,
            critical=failing,
            timeout_s=own.get("timeout"),
            timeout_code="db.timeout",
            component="datastore",
        )
    ]
    if isinstance(engine.pool, QueuePool):
        overflow = options.get("max_overflow", _DEFAULT_OVERFLOW)
        checks.append(
            Check(f"pool:{name}", _PoolWatch(name, engine, overflow, config), at_once=True)
        )
    return checks


def _probe_for(target: ProbedBind) -> Probe:
    kind = SQLiteProbe if is_probed_as_file(target.engine) else ServerProbe
    return kind(target)


class _PoolWatch:
    """Tells how much of the application's pool is in use, without touching it."""

    def __init__(self, name: str, engine: Engine, overflow: int, config: HealthSettings) -> None:
        self._name, self._engine, self._overflow = f"pool:{name}", engine, overflow
        self._limit = config.health_pool_warn

    def __call__(self, run: HealthRun) -> Outcome:
        pool = self._engine.pool
        # An application may put another pool in place, and a pool without a limit is never full.
        most = pool.size() + self._overflow if isinstance(pool, QueuePool) else 0
        if most <= 0 or self._overflow < 0:
            return {}
        used = pool.checkedout()  # type: ignore[attr-defined]
        full = self._limit is not None and used >= most * self._limit
        return {
            self._name: Result(
                WARN if full else "pass",
                "db.pool_full" if full else None,
                used,
                "connections",
                numbers={"limit": most},
                component="datastore",
            )
        }
