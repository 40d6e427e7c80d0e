"""Guards on engines and sessions, and per-request mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import appcontext_pushed
from sqlalchemy.pool import StaticPool

from ..databases.sqlite.settings import SQLiteSettings
from ..engines.flask_sqlalchemy import is_one_for_each_context
from ..feature import Bind, Feature, Setup
from .connections import asked_begin
from .current import abandon_at_the_end, abandon_at_the_start, begin_without_session
from .engine_guards import guard_engine
from .jobs import JobBlocks
from .options import ScopeDefaults
from .requests import run_views_in_scopes
from .session_guards import guard_sessions
from .settings import TransactionSettings

__all__ = ["TRANSACTIONS"]


def _told(_settings: object) -> Mapping[str, Any]:
    return {"asked_begin": asked_begin}


def _on_engine(bind: Bind, _setup: Setup) -> None:
    guard_engine(bind.engine)


def _install(setup: Setup) -> None:
    settings = setup.settings(TransactionSettings)
    guard_sessions(setup.db.session)
    setup.application.add(JobBlocks())
    default = next((bind.engine for bind in setup.binds if bind.key is None), None)
    setup.application.add(
        ScopeDefaults(
            key=object(),
            sqlite_begin=setup.settings(SQLiteSettings).sqlite_begin,
            adopt=settings.tx_stray_work == "adopt",
            shared_memory=default is not None and isinstance(default.pool, StaticPool),
            bind_names={bind.engine: bind.key for bind in setup.binds},
        )
    )
    # Called before Flask-SQLAlchemy's own, which was there before and removes the session.
    setup.app.teardown_appcontext(abandon_at_the_end)
    setup.app.before_request_funcs.setdefault(None, []).insert(0, abandon_at_the_start)
    if is_one_for_each_context(setup.db.session):
        appcontext_pushed.connect(begin_without_session, setup.app)
    if settings.tx_per_request:
        run_views_in_scopes(setup.app, settings.tx_rollback_status)


TRANSACTIONS = Feature(
    "transactions",
    settings=TransactionSettings,
    told_to_engines=_told,
    on_engine=_on_engine,
    install=_install,
    doctor=("flask_dbkit.transactions.doctor",),
)
