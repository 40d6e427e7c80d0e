"""What ``/health`` shows, and to whom."""

from __future__ import annotations

import hmac

import sqlalchemy as sa
from flask import Request, current_app

from .extensions import db, dbkit
from .models import DataLoad

__all__ = ["install"]

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
_THIS_MACHINE = frozenset({"127.0.0.1", "::1"})


def install() -> None:
    """Add the check of the atlas, and say who may see details."""
    dbkit.health.check("data", critical=False, ttl=10)(_find_data)
    dbkit.health.authorize(_may_see_details)


def _find_data() -> None:
    if not sa.inspect(db.engine).has_table(DataLoad.__tablename__):
        raise dbkit.health.Warn("data.missing")
    if db.session.scalar(sa.select(sa.func.count()).select_from(DataLoad)) == 0:
        raise dbkit.health.Warn("data.missing")


def _may_see_details(request: Request) -> bool:
    token = current_app.config.get("HEALTH_TOKEN")
    if token is not None:
        given = request.headers.get("X-Health-Token", "")
        return hmac.compare_digest(given.encode(), str(token).encode())
    # Nothing stands in front of a demo. Behind a proxy every request comes from this machine.
    # Behind a proxy on this machine everybody seems to be here.
    forwarded = any(name in request.headers for name in _FORWARDED)
    return request.remote_addr in _THIS_MACHINE and not forwarded
