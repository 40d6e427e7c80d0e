"""Metrics for Prometheus: statements, errors, pools, requests.

In one process each application has metrics of its own, in a registry of its own, and what is
asked for is the sum over the applications of the process. With several processes
(``PROMETHEUS_MULTIPROC_DIR``) prometheus-client keeps the values of each process in a file by the
names of metrics alone, so that all applications of a process have the same ones.

References:
    https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any
from weakref import WeakSet

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

from ..databases.execution import Execution, Order, Watcher, watch
from ..databases.forking import after_fork_in_child
from ..errors.problems import classify_error
from .operations import operation_of
from .pools import IDLE, USED, PoolWatch
from .windows import QueryStats, Repeat

__all__ = ["Meters", "collector_of", "give_to_default_registry", "make_meters", "watch_engine"]

_QUERY_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_WAIT_S = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)
_QUERIES = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
_CREATED = "_created"


class Meters:
    """The metrics of one application, or of one process of several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        given: dict[str, Any] = {"registry": self.registry}
        live: dict[str, Any] = {**given, "multiprocess_mode": "livesum"}
        self.query_seconds = Histogram(
            "dbkit_query_seconds",
            "Seconds until the driver had answered a statement.",
            ["bind", "op"],
            buckets=_QUERY_S,
            **given,
        )
        self.queries_per_request = Histogram(
            "dbkit_queries_per_request", "Statements of a request.", buckets=_QUERIES, **given
        )
        self.errors = Counter(
            "dbkit_errors", "Errors of databases and pools, by their code.", ["code"], **given
        )
        self.pool_connections = Gauge(
            "dbkit_pool_connections", "Connections, used or idle.", ["bind", "state"], **live
        )
        self.pool_limit = Gauge(
            "dbkit_pool_limit", "Most connections a pool may open.", ["bind"], **live
        )
        self.pool_wait_seconds = Histogram(
            "dbkit_pool_wait_seconds",
            "Seconds until a connection was there, with the time to open a new one.",
            ["bind"],
            buckets=_WAIT_S,
            **given,
        )
        self.n_plus_one = Counter(
            "dbkit_n_plus_one",
            "Statements that requests repeated from one place.",
            ["route"],
            **given,
        )
        self.live: list[Gauge] = []
        _living.add(self)

    def count_request(
        self, stats: QueryStats, repeats: tuple[Repeat, ...], route: str | None
    ) -> None:
        """Observe one request at its end."""
        self.queries_per_request.observe(stats.queries)
        if repeats:
            self.n_plus_one.labels(route or "").inc(len(repeats))

    def forget_connections(self) -> None:
        """Begin anew in a child; where processes have files, each begins with an empty one."""
        if not _is_multiprocess():
            for gauge in self.live:
                gauge.set(0)


_living: WeakSet[Meters] = WeakSet()
_in_default_registry: WeakSet[Meters] = WeakSet()


def _forget_connections() -> None:
    for each in list(_living):
        each.forget_connections()


after_fork_in_child(_forget_connections)


def _is_multiprocess() -> bool:
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))


@cache
def _meters_of_process() -> Meters:
    return Meters()


def make_meters() -> Meters:
    """Return metrics for one application."""
    return _meters_of_process() if _is_multiprocess() else Meters()


class _StatementMeter(Watcher):
    """Observes the time of each statement of one engine."""

    order = Order.STATISTICS
    timed = True

    def __init__(self, meters: Meters, bind: str) -> None:
        self._meters, self._bind = meters, bind
        self._by_name: dict[str, Histogram] = {}

    def after(self, execution: Execution) -> None:
        """Observe one."""
        name = operation_of(execution).name
        found = self._by_name.get(name)
        if found is None:
            found = self._meters.query_seconds.labels(self._bind, name)
            self._by_name[name] = found
        found.observe(execution.ended - execution.started)

    def failed(self, execution: Execution, error: BaseException) -> None:
        """Observe one that failed."""
        self.after(execution)


def watch_engine(meters: Meters, engine: Engine, pool: PoolWatch) -> None:
    """Measure the statements, errors and connections of one engine."""
    watch(engine, _StatementMeter(meters, pool.bind))

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        problem = classify_error(context.sqlalchemy_exception or context.original_exception)
        if problem is not None:
            meters.errors.labels(problem.code).inc()

    # Looked up once: it costs more than to count.
    gauges = {state: meters.pool_connections.labels(pool.bind, state) for state in (USED, IDLE)}
    meters.live.extend(gauges.values())

    def changed(state: str, by: int) -> None:
        gauges[state].inc(by)
        if state == IDLE:
            return
        # With the first connection: a process that has none has no pool.
        if (limit := pool.limit) is not None:
            meters.pool_limit.labels(pool.bind).set(limit)

    for state, count in ((USED, pool.used), (IDLE, pool.idle)):
        if count:
            changed(state, count)
    pool.changed.append(changed)
    pool.waited.append(meters.pool_wait_seconds.labels(pool.bind).observe)
    pool.timed_out.append(meters.errors.labels("unavailable.pool").inc)


class _Sum(Collector):
    """What several applications have measured, as one."""

    def __init__(self, meters: Callable[[], Iterable[Meters]]) -> None:
        self._meters = meters

    def describe(self) -> Iterator[Metric]:
        """Yield every metric without samples, for the registry's look at names."""
        for metric in Meters().registry.collect():
            yield Metric(metric.name, metric.documentation, metric.type)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        found: dict[str, list[Metric]] = {}
        for each in self._meters():
            for metric in each.registry.collect():
                found.setdefault(metric.name, []).append(metric)
        for metrics in found.values():
            yield metrics[0] if len(metrics) == 1 else _added(metrics)


def _added(metrics: list[Metric]) -> Metric:
    first = metrics[0]
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in (sample for metric in metrics for sample in metric.samples):
        key = (sample.name, tuple(sample.labels.items()))
        if key not in values:
            values[key] = sample.value
        elif sample.name.endswith(_CREATED):
            values[key] = min(values[key], sample.value)
        else:
            values[key] += sample.value
    made = Metric(first.name, first.documentation, first.type)
    for (name, labels), value in values.items():
        made.add_sample(name, dict(labels), value)
    return made


class _OfAllProcesses(Collector):
    """The library's metrics out of the files of all processes."""

    def describe(self) -> Iterator[Metric]:
        """Yield every metric without samples."""
        return _Sum(list).describe()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that any process has."""
        collector: Any = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        return (each for each in collector.collect() if each.name.startswith("dbkit_"))


def collector_of(meters: Meters) -> Collector:
    """Return what a registry asks for the metrics of one application."""
    return _OfAllProcesses() if _is_multiprocess() else _Sum(lambda: [meters])


@cache
def _join_default_registry() -> None:
    REGISTRY.register(_Sum(lambda: list(_in_default_registry)))


def give_to_default_registry(meters: Meters) -> None:
    """Let the default registry have the metrics of an application, for as long as it lives."""
    if not _is_multiprocess():  # where processes have files, a registry of their own reads these
        _in_default_registry.add(meters)
        _join_default_registry()
