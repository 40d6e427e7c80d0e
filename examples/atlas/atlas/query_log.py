"""The statements of a request and their times, for the foot of the page."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from flask import Flask, g, has_request_context
from sqlalchemy import Connection, event

from .extensions import db

__all__ = ["Statement", "install", "recorded"]


@dataclass(frozen=True)
class Statement:
    """One statement, without its parameters, and how long the database took."""

    text: str
    duration_ms: float


def install(app: Flask) -> None:
    """Record the statements of this application's requests, and of nothing else."""
    with app.app_context():
        engine = db.engine

    @event.listens_for(engine, "before_cursor_execute")
    def begin(connection: Connection, *_: Any) -> None:
        connection.info["atlas_started"] = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def end(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if has_request_context():
            duration_ms = (time.perf_counter() - connection.info["atlas_started"]) * 1000
            recorded().append(Statement(statement, duration_ms))

    app.context_processor(lambda: {"statements": recorded()})


def recorded() -> list[Statement]:
    """Return the statements of the current request so far."""
    if "statements" not in g:
        g.statements = []
    statements: list[Statement] = g.statements
    return statements
