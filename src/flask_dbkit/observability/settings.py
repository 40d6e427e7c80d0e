"""The settings of observability, part of the table of settings."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import Settings, flag, integer, path, seconds, switch, text, word

__all__ = ["ObservabilitySettings"]


@dataclass(frozen=True)
class ObservabilitySettings(Settings):
    """What is counted, found, logged and told of statements."""

    stats: bool = flag(
        "DBKIT_STATS", True, "Count the statements of each request, job and command."
    )
    n_plus_one: str = word(
        "DBKIT_N_PLUS_ONE",
        "auto",
        "What happens when a request repeats a statement from one place: auto logs in debug mode"
        " and raises under TESTING.",
        ("auto", "log", "raise", "off"),
    )
    n_plus_one_threshold: int = integer(
        "DBKIT_N_PLUS_ONE_THRESHOLD",
        5,
        "So many times the same statement from the same place are a finding.",
        low=2,
        high=10_000,
    )
    noticed_file: str | None = path(
        "DBKIT_NOTICED_FILE",
        "dbkit-noticed.json",
        "Where what was noticed of statements is kept for flask dbkit doctor, in the instance"
        " folder if the path is relative; None keeps it in the process.",
        nullable=True,
    )
    slow_ms: int | None = integer(
        "DBKIT_SLOW_MS",
        200,
        "Log statements that take so many milliseconds; None logs none.",
        low=0,
        high=3_600_000,
        nullable=True,
    )
    slow_explain: str = word(
        "DBKIT_SLOW_EXPLAIN",
        "select",
        "Whether the log of a slow SELECT has its plan.",
        ("select", "off"),
    )
    query_budget: int | None = integer(
        "DBKIT_QUERY_BUDGET",
        None,
        "Most statements of a request; None is no limit. A view's own query_budget() replaces it.",
        low=0,
        high=1_000_000,
        nullable=True,
    )
    budget_action: str = word(
        "DBKIT_BUDGET_ACTION",
        "log",
        "What happens when a budget is exceeded.",
        ("log", "raise", "header"),
    )
    request_id_header: str | None = text(
        "DBKIT_REQUEST_ID_HEADER",
        "X-Request-ID",
        "the name of a header, or None",
        "The header a request's id is read from and told by; None tells none.",
    )
    request_id_trust: bool = flag(
        "DBKIT_REQUEST_ID_TRUST", True, "Take the id that a client or proxy has sent, if it is one."
    )
    server_timing: str = word(
        "DBKIT_SERVER_TIMING",
        "debug",
        "When responses have a Server-Timing header with the number of statements and their time.",
        ("debug", "always", "off"),
    )
    sql_comments: str | None = word(
        "DBKIT_SQL_COMMENTS",
        None,
        "Comments behind statements, for the database's own logs: the route, or the route and the"
        " traceparent of sampled requests.",
        ("route", "trace"),
    )
    connection_warn_s: float | None = seconds(
        "DBKIT_CONNECTION_WARN_S",
        30.0,
        "Log where a connection was taken that is held for longer than this; None never does.",
        low=0.05,
        high=86_400,
        nullable=True,
    )
    prometheus: bool = flag(
        "DBKIT_PROMETHEUS",
        False,
        "Give the default registry of prometheus-client the metrics of statements and pools.",
    )
    otel: bool | str = switch(
        "DBKIT_OTEL",
        "Tell OpenTelemetry of each statement: auto does where its API is installed and the"
        " application has set a provider.",
    )
    otel_pool: bool = flag(
        "DBKIT_OTEL_POOL",
        False,
        "Tell it of the pools too; the names of these metrics may still change.",
    )
