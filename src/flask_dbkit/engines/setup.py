"""The engines of an application: its own options, our defaults below them, and their listeners."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import URL, Engine

from ..databases import EngineContext, support_for
from ..exceptions import ConfigError
from ..feature import Bind
from . import flask_sqlalchemy as fsa
from .settings import EngineSettings
from .urls import parse_database_url

__all__ = ["set_up_engines"]

logger = logging.getLogger("flask_dbkit")

_POOL_OPTIONS = frozenset(
    {"poolclass", "pool_size", "max_overflow", "pool_timeout", "pool_recycle", "pool_pre_ping"}
)


def set_up_engines(
    app: Flask,
    db: SQLAlchemy,
    settings: EngineSettings,
    *,
    check_names: Callable[[list[str | None]], None],
    further: Mapping[str, Any],
) -> tuple[Bind, ...]:
    """Make the engines of an application, or take those it has.

    Args:
        app: The application.
        db: Its Flask-SQLAlchemy object, initialised on it or not.
        settings: The application's settings.
        check_names: Called with the bind keys before anything is made; refuses settings for a
            bind that is not there.
        further: What an :class:`EngineContext` is told besides.

    Returns:
        The databases, the default one first.

    Raises:
        ConfigError: A URL, a driver or an option cannot be used. Nothing was made.
    """
    if settings.direct_url is not None:  # used by migrations only, which come later
        parse_database_url(settings.direct_url, key="DBKIT_DIRECT_URL")

    nobody = None not in fsa.given_options(app, db) and not os.environ.get("DATABASE_URL")

    def context(key: str | None, given: Mapping[str, Any], *, late: bool) -> EngineContext:
        by_default = key is None and nobody and not late
        return EngineContext(
            key, app.name, settings, given, late=late, by_default=by_default, **further
        )

    if "sqlalchemy" in app.extensions:
        given = fsa.given_options(app, db)
        keys = list(fsa.engines_of(app, db))
        check_names(keys)
        # The configuration may have changed since the engines were made.
        contexts = {key: context(key, given.get(key, {}), late=True) for key in keys}
        _warn_late(fsa.engines_of(app, db), contexts)
    else:
        plans = fsa.plan_binds(app, db, partial(_fallback_url, app, settings))
        contexts = {plan.key: context(plan.key, plan.given, late=False) for plan in plans}
        check_names(list(contexts))
        _initialise(app, db, plans, contexts)
    engines = fsa.engines_of(app, db)
    return tuple(
        Bind(key, engine, contexts[key], _options_of(engine.url, contexts[key]))
        for key, engine in sorted(engines.items(), key=lambda item: item[0] is not None)
    )


def _initialise(
    app: Flask,
    db: SQLAlchemy,
    plans: list[fsa.BindPlan],
    contexts: Mapping[str | None, EngineContext],
) -> None:
    """Initialise Flask-SQLAlchemy with our defaults below the application's own options."""
    options = {
        plan.key: fsa.merge_options(_options_of(plan.url, contexts[plan.key]), {"url": plan.url})
        for plan in plans
    }
    fsa.initialise(app, db, options)
    if None in options and None not in fsa.given_options(app, db):
        # Code that looks the URL up in the configuration, as many recipes do, shall find it.
        app.config[fsa.URI] = options[None]["url"].render_as_string(hide_password=False)


def _options_of(url: URL, context: EngineContext) -> dict[str, Any]:
    """Return the options an engine is made with, or would have been."""
    defaults = support_for(url).engine_options(url, context)
    return fsa.merge_options(defaults, context.given)


def _fallback_url(app: Flask, settings: EngineSettings, any_bind: bool) -> tuple[str, str] | None:
    """Return the URL when the application configured none, and its source."""
    from_environment = os.environ.get("DATABASE_URL")
    if from_environment:
        return from_environment, "DATABASE_URL"
    if any_bind:
        return None
    if settings.require_database_url:
        raise ConfigError(
            "No database is configured, and DBKIT_REQUIRE_DATABASE_URL forbids the development"
            " SQLite file. Set DATABASE_URL in the environment or SQLALCHEMY_DATABASE_URI in the"
            " configuration.",
            key="SQLALCHEMY_DATABASE_URI",
            allowed="a database URL",
        )
    name = f"{app.name}.db"
    logger.info(
        "No database is configured: using the development file %s",
        Path(app.instance_path, name),
    )
    return f"sqlite:///{name}", "the development default"


def _warn_late(
    engines: Mapping[str | None, Engine], contexts: Mapping[str | None, EngineContext]
) -> None:
    """Say once what could not be done to engines that exist already, naming each option."""
    missed: set[str] = set()
    for key, engine in engines.items():
        url: URL = engine.url
        options = support_for(url).engine_options(url, contexts[key])
        given = contexts[key].given
        missed |= {name for name in options if name in _POOL_OPTIONS and name not in given}
        own = given.get("connect_args") or {}
        missed |= {f"connect_args[{n!r}]" for n in options.get("connect_args", {}) if n not in own}
    named = f" Here: {', '.join(sorted(missed))}." if missed else ""
    warnings.warn(
        "db.init_app(app) ran before DBKit's init_app, so what must precede an engine's creation"
        " was not applied: the database URL rules, pool class and pool options, connect_args."
        f"{named} Leave db.init_app(app) out: dbkit.init_app(app) calls it.",
        RuntimeWarning,
        stacklevel=4,
    )
