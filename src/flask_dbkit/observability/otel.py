"""Traces and metrics for OpenTelemetry: a span for each statement, and what pools do.

Only the API is used, and only where the application, or whoever starts it, has set a provider.
The names are those of the stable semantic conventions for databases; those of pools are still in
development. Texts have no values, and neither hosts nor users are told.

References:
    * https://opentelemetry.io/docs/specs/semconv/db/sql/
    * https://opentelemetry.io/docs/specs/semconv/db/database-metrics/
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Engine

from ..databases import database_of
from ..databases.execution import Execution, Order, Watcher, watch
from ..errors.words import mask_literals
from .on_mysql import MARIADB, is_mariadb
from .operations import operation_of
from .pools import IDLE, USED, PoolWatch

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Histogram, Observation
    from opentelemetry.trace import Tracer

__all__ = ["tell_of_pool", "trace_engine"]

_NAME = "flask_dbkit"
_DURATION = "db.client.operation.duration"
_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_LONGEST = 4000
_PATIENCE = 1000  # statements without a provider; after these only one in so many asks again
_SELDOM = 100
_MOST = 1024


class _Tracing(Watcher):
    """Tells OpenTelemetry of the statements of one engine.

    Args:
        engine: Where the official instrumentation may be at work, which then has the word.
    """

    order = Order.STATISTICS
    timed = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked = 0
        self._tracer: Tracer | None = None
        self._duration: Histogram | None = None
        self._by_text: dict[tuple[str, bool], tuple[str, dict[str, Any]]] = {}

    def after(self, execution: Execution) -> None:
        """Tell of a statement that was answered."""
        if self._tracer is not None or self._is_wanted():
            self._tell(execution, None)

    def failed(self, execution: Execution, error: BaseException) -> None:
        """Tell of one that failed."""
        if self._tracer is not None or self._is_wanted():
            self._tell(execution, error)

    def _is_wanted(self) -> bool:
        self._asked += 1
        if self._asked > _PATIENCE and self._asked % _SELDOM:
            return False
        if not is_provided() or _is_instrumented(self._engine):
            return False
        from opentelemetry import metrics, trace  # noqa: PLC0415

        self._duration = metrics.get_meter(_NAME).create_histogram(
            _DURATION,
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )
        self._tracer = trace.get_tracer(_NAME)
        return True

    def _tell(self, execution: Execution, error: BaseException | None) -> None:
        if self._engine.dispatch.before_cursor_execute and _is_instrumented(self._engine):
            return
        name, known = self._words(execution)
        attributes = known
        if execution.many and len(execution.parameters) > 1:
            attributes = {**attributes, "db.operation.batch.size": len(execution.parameters)}
        if error is not None:
            attributes = {**attributes, **_failure(execution, error)}
        duration_s = execution.ended - execution.started
        ended = time.time_ns()
        assert self._tracer is not None
        assert self._duration is not None
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415

        span = self._tracer.start_span(
            name,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=ended - int(duration_s * 1e9),
        )
        if error is not None:
            span.set_status(StatusCode.ERROR)
        span.end(ended)
        self._duration.record(
            duration_s, {key: attributes[key] for key in _MEASURED if key in attributes}
        )

    def _words(self, execution: Execution) -> tuple[str, dict[str, Any]]:
        key = (execution.statement, execution.many)
        found = self._by_text.get(key)
        if found is None:
            operation = operation_of(execution)
            attributes = {
                **_facts_of(self._engine),
                "db.operation.name": operation.name,
                "db.query.summary": operation.summary,
                "db.query.text": mask_literals(execution.statement)[:_LONGEST],
            }
            if operation.table is not None:
                attributes["db.collection.name"] = operation.table
            if len(self._by_text) >= _MOST:
                self._by_text.clear()
            found = self._by_text[key] = (operation.summary, attributes)
        return found


_MEASURED = (
    "db.system.name",
    "db.namespace",
    "db.operation.name",
    "db.collection.name",
    "db.response.status_code",
    "error.type",
)


def _failure(execution: Execution, error: BaseException) -> dict[str, str]:
    kind = type(error)
    code = database_of(execution.connection).errors.name(error)
    if code is None:
        return {"error.type": f"{kind.__module__}.{kind.__qualname__}"}
    return {"error.type": str(code), "db.response.status_code": str(code)}


def is_provided() -> bool:
    """Tell whether anybody has set a provider of traces or of metrics.

    Until then OpenTelemetry's own modules answer, which do nothing.
    """
    for name, get in (("trace", "get_tracer_provider"), ("metrics", "get_meter_provider")):
        api: Any = sys.modules.get(f"opentelemetry.{name}")
        if api is not None:
            provider = getattr(api, get)()
            if not type(provider).__module__.startswith(f"opentelemetry.{name}"):
                return True
    return False


def _is_instrumented(engine: Engine) -> bool:
    """Tell whether the official instrumentation has put its listeners on an engine."""
    return any(
        str(getattr(each, "__module__", "")).startswith("opentelemetry.instrumentation")
        for each in engine.dispatch.before_cursor_execute
    )


def trace_engine(engine: Engine) -> None:
    """Tell OpenTelemetry of every statement of an engine."""
    watch(engine, _Tracing(engine))


def _facts_of(engine: Engine) -> dict[str, str]:
    database = database_of(engine)
    facts = {"db.system.name": MARIADB if is_mariadb(engine.dialect) else engine.dialect.name}
    space = engine.url.database
    if space and space != ":memory:":
        # Where a file is stored is nobody's business.
        facts["db.namespace"] = PurePath(space).name if database.is_embedded else space
    return facts


def tell_of_pool(pool: PoolWatch) -> None:
    """Tell OpenTelemetry what a pool does, by names that are still in development."""
    from opentelemetry import metrics  # noqa: PLC0415
    from opentelemetry.metrics import Observation  # noqa: PLC0415

    of_pool = {"db.client.connection.pool.name": pool.bind}
    state = "db.client.connection.state"

    def connections(_options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(pool.used, {**of_pool, state: USED})
        yield Observation(pool.idle, {**of_pool, state: IDLE})

    def most(_options: CallbackOptions) -> Iterable[Observation]:
        if pool.limit is not None:
            yield Observation(pool.limit, of_pool)

    meter = metrics.get_meter(_NAME)
    meter.create_observable_up_down_counter(
        "db.client.connection.count", [connections], unit="{connection}"
    )
    meter.create_observable_up_down_counter("db.client.connection.max", [most], unit="{connection}")
    waits = meter.create_histogram("db.client.connection.wait_time", unit="s")
    timeouts = meter.create_counter("db.client.connection.timeouts", unit="{timeout}")
    pool.waited.append(lambda seconds: waits.record(seconds, of_pool))
    pool.timed_out.append(lambda: timeouts.add(1, of_pool))
