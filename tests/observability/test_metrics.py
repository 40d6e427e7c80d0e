"""Prometheus and OpenTelemetry, by their own client libraries."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Response, stream_with_context
from opentelemetry import trace as otel_trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import TimeoutError as PoolTimeout

from flask_dbkit import ConfigError, prometheus_collector, query_stats
from flask_dbkit.observability import otel
from tests.observability.shop import COUNT, Shop

NewShop = Callable[..., Shop]
ON_DISK = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
SQLITE = pytest.mark.backends("sqlite-file")


def scraped(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what a server of Prometheus would read, by name and labels."""
    return parsed(generate_latest(registry).decode())


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**given: str) -> frozenset[tuple[str, str]]:
    return frozenset(given.items())


@ON_DISK
def test_prometheus_is_told_of_statements_errors_pools_and_requests(new_shop: NewShop) -> None:
    """By the names and labels that are promised, without values, and of this application only."""
    pool = {"pool_size": 1, "max_overflow": 1, "pool_timeout": 0.05}
    shop = new_shop(DBKIT_N_PLUS_ONE="log", SQLALCHEMY_ENGINE_OPTIONS=pool)
    registry = CollectorRegistry()
    registry.register(prometheus_collector(shop.app))
    new_shop().app.test_client().get("/")  # of another application nothing is told

    @shop.app.get("/users/<secret>")
    def users(secret: str) -> str:
        found = shop.db.session.scalars(sa.select(shop.User)).all()
        shop.db.session.execute(sa.text("SELECT 's3cr3t'"))
        return str([len(user.posts) for user in found])

    @shop.app.get("/bad")
    def bad() -> str:
        shop.db.session.execute(sa.insert(shop.User).values(id=1, name="s3cr3t"))
        return "never"

    client = shop.app.test_client()
    assert client.get("/users/s3cr3t").status_code == 200
    assert client.get("/bad").status_code == 409
    with shop.app.app_context():
        engine = shop.db.engine
        with engine.connect(), engine.connect():
            with pytest.raises(PoolTimeout):
                engine.connect()
            inside = scraped(registry)
    found = scraped(registry)
    assert found["dbkit_query_seconds_count", labels(bind="default", op="SELECT")] == 2 + COUNT
    assert found["dbkit_query_seconds_count", labels(bind="default", op="INSERT")] == 1
    assert found["dbkit_queries_per_request_count", labels()] == 2
    assert found["dbkit_queries_per_request_sum", labels()] == 3 + COUNT
    assert found["dbkit_errors_total", labels(code="conflict.unique")] == 1
    assert found["dbkit_errors_total", labels(code="unavailable.pool")] == 1
    assert found["dbkit_n_plus_one_total", labels(route="/users/<secret>")] == 1
    assert found["dbkit_pool_limit", labels(bind="default")] == 2
    assert found["dbkit_pool_wait_seconds_count", labels(bind="default")] >= 4
    used, idle = labels(bind="default", state="used"), labels(bind="default", state="idle")
    assert (inside["dbkit_pool_connections", used], inside["dbkit_pool_connections", idle]) == (
        2,
        0,
    )
    assert found["dbkit_pool_connections", used] == 0
    assert found["dbkit_pool_connections", idle] >= 1
    text = generate_latest(registry).decode()
    assert not [each for each in secrets_of(engine) if each in text]


def secrets_of(engine: sa.Engine) -> list[str]:
    """Return what must stand nowhere."""
    url = engine.url
    return [each for each in ("s3cr3t", url.host, url.password, "/tmp/") if each]


@SQLITE
def test_a_body_that_broke_off_is_a_request_too(new_shop: NewShop) -> None:
    """Whoever went away in the middle has asked for what was sent until then."""
    shop = new_shop()
    registry = CollectorRegistry()
    registry.register(prometheus_collector(shop.app))

    @shop.app.get("/")
    def stream() -> Response:
        def rows() -> Iterator[str]:
            for number in range(9):
                yield str(shop.db.session.scalar(sa.text(f"SELECT {number}")))

        return Response(stream_with_context(rows()))

    answer = shop.app.test_client().get("/")
    assert next(answer.iter_encoded()) == b"0"
    answer.close()
    found = scraped(registry)
    assert found["dbkit_queries_per_request_count", labels()] == 1
    assert found["dbkit_queries_per_request_sum", labels()] == 1


@ON_DISK
def test_nothing_that_is_told_holds_a_value_a_host_or_a_password(
    new_shop: NewShop,
    spans: InMemorySpanExporter,
    reader: InMemoryMetricReader,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever is switched on: logs, plans, headers, statistics, comments, metrics and traces."""
    shop = new_shop(
        DEBUG=True,
        DBKIT_SLOW_MS=0,
        DBKIT_SQL_COMMENTS="route",
        DBKIT_QUERY_BUDGET=1,
        DBKIT_CONNECTION_WARN_S=0.05,
        DBKIT_OTEL_POOL=True,
    )
    registry = CollectorRegistry()
    registry.register(prometheus_collector(shop.app))
    told: list[object] = []
    session, user = shop.db.session, shop.User

    @shop.app.get("/<word>")
    def view(word: str) -> str:
        for number in range(6):
            session.scalars(sa.select(user).where(user.name == "s3cr3t", user.id > number)).all()
            session.execute(sa.text("SELECT 's3cr3t'")).all()
        with pytest.raises(sa.exc.IntegrityError):
            session.execute(sa.insert(user).values(id=1, name="s3cr3t"))
        session.rollback()
        stats = query_stats()
        assert stats is not None
        told.extend([stats.statements, stats.slowest, stats.repeats, stats])
        return word

    answer = shop.app.test_client().get("/s3cr3t")
    with shop.app.app_context():
        engine = shop.db.engine
        with engine.connect():
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline and "is held for more than" not in caplog.text:
                time.sleep(0.02)
    names = {each.name for each in caplog.records}
    assert names >= {f"flask_dbkit.{name}" for name in ("slow", "n_plus_one", "budget")}
    assert "is held for more than" in caplog.text
    told += [vars(each) for each in caplog.records] + [caplog.text, answer.headers]
    told += [generate_latest(registry), points_of(reader)]
    told += [each.to_json() for each in spans.get_finished_spans()]
    text = "\n".join(map(str, told)).replace(str(Path(__file__).parent), "")
    assert [each for each in secrets_of(engine) if each in text] == []


@SQLITE
def test_the_default_registry_has_the_sum_over_the_applications(new_shop: NewShop) -> None:
    """Two applications of a process are one process for Prometheus."""
    key = "dbkit_query_seconds_count", labels(bind="default", op="SELECT")
    shops = [new_shop(DBKIT_PROMETHEUS=True) for _ in range(2)]
    before = scraped(REGISTRY).get(key, 0)
    for shop in shops:
        with shop.app.app_context():
            shop.db.session.execute(sa.text("SELECT 1"))
    assert scraped(REGISTRY)[key] == before + 2
    own = CollectorRegistry()
    own.register(prometheus_collector(shops[0].app))
    assert scraped(own)[key] < scraped(REGISTRY)[key]


SERVED = """
import os, time
from flask import Flask, Response
from prometheus_client import CollectorRegistry, generate_latest
from flask_dbkit import DBKit, prometheus_collector

app = Flask("metered")
app.config.update(SQLALCHEMY_DATABASE_URI=os.environ["SHOP_URL"], DBKIT_PROMETHEUS=True)
dbkit = DBKit(app)
held = []

@app.get("/hold")
def hold():
    held.append(dbkit.db.engine.connect())
    time.sleep(0.05)
    return str(os.getpid())

@app.get("/metrics")
def metrics():
    registry = CollectorRegistry()
    registry.register(prometheus_collector(app))
    return Response(generate_latest(registry), mimetype="text/plain")
"""


@SQLITE
def test_the_metrics_of_several_workers_are_one(tmp_path: Path) -> None:
    """Each worker of gunicorn holds a connection; whichever is asked tells of both."""
    (tmp_path / "shop.py").write_text(SERVED)
    (tmp_path / "files").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "shop:app"),
                *("--bind", f"fd://{listener.fileno()}", "--log-level", "error"),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "SHOP_URL": f"sqlite:///{tmp_path}/shop.db",
                "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "files"),
            },
            pass_fds=[listener.fileno()],
        )
        try:
            asked = 0
            seen: set[str] = set()
            with ThreadPoolExecutor(2) as both:
                while len(seen) < 2:
                    seen |= set(both.map(get, [f"{address}/hold"] * 2))
                    asked += 2
            text = get(f"{address}/metrics")
        finally:
            server.terminate()
            assert server.wait(30) == 0
    found = parsed(text)
    used = labels(bind="default", state="used")
    assert found["dbkit_pool_connections", used] == asked
    assert found["dbkit_queries_per_request_count", labels()] == asked
    assert found["dbkit_pool_limit", labels(bind="default")] > 0
    assert {name for name, _ in found if not name.startswith("dbkit_")} == set()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read(), "utf-8")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Let the process have a provider of traces and one of metrics, for a test."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(otel_trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    made = InMemoryMetricReader()
    provider = MeterProvider([made])
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", provider)
    return made


SYSTEMS = {"sqlite-file": "sqlite", "postgresql": "postgresql", "mariadb": "mariadb"}


@ON_DISK
def test_opentelemetry_is_told_of_every_statement_by_the_stable_names(
    new_shop: NewShop, database: Any, spans: InMemorySpanExporter, reader: InMemoryMetricReader
) -> None:
    """A span and a measurement, within the request's span; no values, hosts or users."""
    shop = new_shop(DBKIT_OTEL_POOL=True)
    tracer = otel_trace.get_tracer("test")
    with shop.app.app_context():
        engine = shop.db.engine
        shop.db.session.scalars(sa.select(shop.User)).all()
        spans.clear()
        with tracer.start_as_current_span("request") as around:
            shop.db.session.scalars(sa.select(shop.User).where(shop.User.name == "s3cr3t")).all()
            shop.db.session.execute(sa.select(shop.User.id, shop.Post.id).join(shop.Post.user))
            shop.db.session.execute(sa.text("SELECT 's3cr3t'"))
            rows = [{"id": 900 + number, "name": "s3cr3t"} for number in range(3)]
            shop.db.session.execute(sa.insert(shop.User.__table__), rows)
            with pytest.raises(sa.exc.IntegrityError):
                shop.db.session.execute(sa.insert(shop.User).values(id=1, name="s3cr3t"))
            shop.db.session.rollback()
    told = [each for each in spans.get_finished_spans() if each.name != "request"]
    table = shop.User.__table__.name
    assert [each.name for each in told if not each.name.startswith("SAVEPOINT")] == [
        f"SELECT {table}",
        told[1].name,
        "SELECT",
        f"INSERT {table}",
        f"INSERT {table}",
    ]
    assert sorted(told[1].name.split()) == sorted(["SELECT", table, "post"])
    assert {each.kind for each in told} == {otel_trace.SpanKind.CLIENT}
    assert {each.parent.span_id for each in told if each.parent} == {
        around.get_span_context().span_id
    }
    first, broken = dict(told[0].attributes or {}), told[-1]
    assert first["db.system.name"] == SYSTEMS[database.name]
    assert first["db.operation.name"] == "SELECT"
    assert first["db.collection.name"] == table
    assert first["db.query.summary"] == f"SELECT {table}"
    assert "FROM" in str(first["db.query.text"])
    assert "/" not in str(first["db.namespace"])
    assert "db.collection.name" not in (told[1].attributes or {})
    assert (told[3].attributes or {})["db.operation.batch.size"] == 3
    assert not broken.status.is_ok
    code = (broken.attributes or {})["db.response.status_code"]
    assert code == (broken.attributes or {})["error.type"]
    assert str(code) in {"SQLITE_CONSTRAINT_PRIMARYKEY", "23505", "1062"}
    measured = points_of(reader)
    assert sum(each.count for each in measured["db.client.operation.duration"]) >= len(told)
    pools = measured["db.client.connection.count"]
    assert {each.attributes["db.client.connection.state"] for each in pools} == {"used", "idle"}
    assert {each.attributes["db.client.connection.pool.name"] for each in pools} == {"default"}
    assert measured["db.client.connection.wait_time"][0].count >= 1
    text = "".join(each.to_json() for each in told) + str(measured)
    assert not [each for each in secrets_of(engine) if each in text]


def points_of(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data: Any = reader.get_metrics_data()
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


@SQLITE
def test_where_the_official_instrumentation_is_at_work_it_has_the_word(
    new_shop: NewShop, spans: InMemorySpanExporter
) -> None:
    """One span for each statement, not two; switched off there is none; other engines have ours."""
    for config, instrumented, expected in (
        ({}, True, "opentelemetry.instrumentation.sqlalchemy"),
        ({"DBKIT_OTEL": False}, False, None),
        ({"DBKIT_OTEL": True}, False, "flask_dbkit"),
    ):
        shop = new_shop(**config)
        with shop.app.app_context():
            engine = shop.db.engine
            if instrumented:
                SQLAlchemyInstrumentor().instrument(engine=engine, skip_dep_check=True)
            spans.clear()
            shop.db.session.execute(sa.text("SELECT 1"))
            if instrumented:
                SQLAlchemyInstrumentor().uninstrument()
        told = [each for each in spans.get_finished_spans() if "SELECT" in each.name]
        scopes = [each.instrumentation_scope.name for each in told if each.instrumentation_scope]
        assert scopes == ([expected] if expected else [])


@SQLITE
def test_without_a_provider_nothing_is_told_and_nothing_made(new_shop: NewShop) -> None:
    """What is installed is not used until somebody sets it up."""
    assert not otel.is_provided()
    shop = new_shop()
    with shop.app.app_context():
        shop.db.session.execute(sa.text("SELECT 1"))


@SQLITE
def test_a_setting_that_needs_a_missing_package_names_the_extra(
    new_shop: NewShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At start-up; 'auto' is silent, and nothing is imported that nobody asked for."""
    monkeypatch.setattr("flask_dbkit.observability.metering.find_spec", lambda _name: None)
    for key, extra in (
        ("DBKIT_PROMETHEUS", "prometheus"),
        ("DBKIT_OTEL", "otel"),
        ("DBKIT_OTEL_POOL", "otel"),
    ):
        with pytest.raises(ConfigError, match=rf"{key} needs .*flask-sqlalchemy-dbkit\[{extra}\]"):
            new_shop(**{key: True})
    shop = new_shop()
    with pytest.raises(ConfigError, match=r"\[prometheus\]"):
        prometheus_collector(shop.app)
    script = (
        "import json, sys; from flask import Flask; from flask_dbkit import DBKit;"
        "app = Flask('x'); app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite://'; DBKit(app);"
        "extras = ('prometheus_', 'opentelemetry.');"
        "print(json.dumps([name for name in sys.modules if name.startswith(extras)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
