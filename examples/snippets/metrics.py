"""Tell Prometheus and OpenTelemetry what is asked of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

# start imports
from flask import Flask, Response
from flask_sqlalchemy import SQLAlchemy
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from flask_dbkit import Base, DBKit, prometheus_collector

# end imports

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

db = SQLAlchemy(model_class=Base)


# start prometheus
def create_app() -> Flask:
    app = Flask("shop")
    app.config.from_prefixed_env()
    DBKit(app, db=db)
    registry = CollectorRegistry()
    registry.register(prometheus_collector(app))

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return app


# end prometheus


# start gunicorn
def child_exit(server, worker):  # type: ignore[no-untyped-def]
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


# end gunicorn


# start traces
def set_up_traces(exporter: SpanExporter) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


# end traces


def check() -> None:
    import os

    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    os.environ["FLASK_SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    spans = InMemorySpanExporter()
    set_up_traces(spans)
    app = create_app()
    with app.app_context():
        db.session.execute(db.text("SELECT 1"))
    told = app.test_client().get("/metrics").text
    assert 'dbkit_query_seconds_count{bind="default",op="SELECT"} 1.0' in told
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.force_flush()
    assert [span.name for span in spans.get_finished_spans()] == ["SELECT"]


if __name__ == "__main__":
    check()
