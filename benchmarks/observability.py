"""What counting costs a statement: off, statistics, and looking for N+1; and what others take.

    python benchmarks/observability.py

Each row is CPU time of one thread for one statement on SQLite in memory, the best of some runs, and
what it is more than an application without any of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import DBKit, declarative_base
from flask_dbkit.observability.windows import Window, opened

TIMES, RUNS = 2000, 5
OFF: dict[str, Any] = {"DBKIT_STATS": False, "DBKIT_SLOW_MS": None}


def microseconds(call: Callable[[], object]) -> float:
    """Return the CPU time of one call."""
    best = float("inf")
    for _ in range(RUNS):
        begun = time.thread_time()
        for _ in range(TIMES):
            call()
        best = min(best, (time.thread_time() - begun) / TIMES * 1e6)
    return best


def measure(config: dict[str, Any], window: Window | None = None) -> tuple[float, float]:
    """Return what a Core and an ORM statement take in one application."""
    base = declarative_base()

    class Item(base):  # type: ignore[misc, valid-type]
        id: Mapped[int] = mapped_column(primary_key=True)

    app = Flask("benchmark")
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", **config)
    db = SQLAlchemy(model_class=base)
    DBKit(app, db=db)
    text, select = sa.text("SELECT 1"), sa.select(Item).where(Item.id == 1)
    with ExitStack() as stack:
        stack.enter_context(app.app_context())
        db.create_all()
        db.session.add(Item(id=1))
        db.session.commit()
        if window is not None:
            stack.enter_context(opened(window))
        core = microseconds(lambda: db.session.execute(text).all())
        orm = microseconds(lambda: db.session.scalars(select).all())
    return core, orm


def main() -> None:
    """Print a row for each way of counting."""
    logging.disable()
    rows = {
        "off": measure(OFF),
        "Flask-SQLAlchemy's recording": measure({**OFF, "SQLALCHEMY_RECORD_QUERIES": True}),
        "on, outside a window": measure({}),
        "statistics": measure({}, Window("request", keep=False, threshold=None)),
        "statistics and N+1": measure({}, Window("request", keep=False, threshold=5)),
    }
    core_off, orm_off = rows["off"]
    print(f"{'µs a statement':30} {'Core':>8} {'more':>7} {'ORM':>8} {'more':>7}")
    for name, (core, orm) in rows.items():
        print(f"{name:30} {core:8.1f} {core - core_off:7.1f} {orm:8.1f} {orm - orm_off:7.1f}")


if __name__ == "__main__":
    main()
