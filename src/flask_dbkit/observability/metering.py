"""What of an application is measured for others: engines, pools and requests, when asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Engine

from ..exceptions import ConfigError
from .pools import PoolWatch
from .windows import QueryStats, Repeat

if TYPE_CHECKING:
    from .prometheus import Meters

__all__ = ["Metering", "has_otel", "has_prometheus", "missing_extra"]


def has_prometheus() -> bool:
    """Tell whether prometheus-client is installed; it is not imported for that."""
    return find_spec("prometheus_client") is not None


def has_otel() -> bool:
    """Tell whether the API of OpenTelemetry is installed; it is not imported for that."""
    # The name above it is shared by packages.
    return find_spec("opentelemetry") is not None and find_spec("opentelemetry.trace") is not None


def missing_extra(key: str, package: str, extra: str) -> ConfigError:
    """Return what to raise when a setting needs a package that is not installed."""
    return ConfigError(
        f"{key} needs {package}, which is not installed."
        f" Run: pip install 'flask-sqlalchemy-dbkit[{extra}]'",
        key=key,
        given=True,
    )


class Metering:
    """Measures one application, for whoever asks.

    Args:
        binds: Each engine with the name of its database, and the overflow of its pool.
    """

    def __init__(self, binds: Iterable[tuple[Engine, str, int | None]]) -> None:
        self._binds = list(binds)
        self._pools: list[PoolWatch] | None = None
        self._meters: Meters | None = None
        self._lock = threading.RLock()

    def pools(self) -> list[PoolWatch]:
        """Return what is counted of each pool, from the first call on."""
        with self._lock:
            if self._pools is None:
                self._pools = [PoolWatch(*each) for each in self._binds]
            return self._pools

    def meters(self) -> Meters:
        """Return the metrics for Prometheus, measured from the first call on.

        Raises:
            ConfigError: prometheus-client is not installed.
        """
        if not has_prometheus():
            raise missing_extra("DBKIT_PROMETHEUS", "prometheus-client", "prometheus")
        from .prometheus import make_meters, watch_engine  # noqa: PLC0415

        with self._lock:
            if self._meters is None:
                made = make_meters()
                for (engine, _, _), pool in zip(self._binds, self.pools(), strict=True):
                    watch_engine(made, engine, pool)
                self._meters = made
            return self._meters

    def count_request(
        self, stats: QueryStats, repeats: tuple[Repeat, ...], route: str | None
    ) -> None:
        """Count a request that has ended, if anybody has asked."""
        if self._meters is not None:
            self._meters.count_request(stats, repeats, route)

    def collector(self) -> Any:
        """Return what a registry of prometheus-client asks for this application's metrics.

        Raises:
            ConfigError: prometheus-client is not installed.
        """
        meters = self.meters()
        from .prometheus import collector_of  # noqa: PLC0415

        return collector_of(meters)

    def join_default_registry(self) -> None:
        """Let the default registry of prometheus-client have the metrics."""
        meters = self.meters()
        from .prometheus import give_to_default_registry  # noqa: PLC0415

        give_to_default_registry(meters)
