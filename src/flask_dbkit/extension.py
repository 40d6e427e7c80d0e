"""The extension object: reads the configuration once and wires everything below it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from flask import Blueprint, Flask, current_app, has_app_context, has_request_context, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import URL, Engine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from .application import AppState, remember
from .cli import dbkit_group, exit_on_interrupt
from .config import Config
from .databases import EngineContext, support_for
from .databases.errors import install_value_errors
from .databases.forking import after_fork_in_child, renew_after_fork
from .engines import flask_sqlalchemy as fsa
from .engines.urls import parse_database_url
from .errors.redaction import install_redaction
from .errors.requests import Errors, answer_database_errors
from .exceptions import ConfigError
from .health.checks import AppHealth
from .health.current import Health, drain_on_sigterm
from .health.databases import bind_checks, check_bind_names
from .health.views import answer_probes_first, register_health
from .migrations.health import CodeRevisions, migration_check
from .models.base import Base
from .transactions.connections import asked_begin
from .transactions.engine_guards import guard_engine
from .transactions.options import Surroundings
from .transactions.requests import run_views_in_scopes
from .transactions.session_guards import guard_sessions

__all__ = ["DBKit"]

logger = logging.getLogger("flask_dbkit")

_WRITING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_POOL_OPTIONS = frozenset(
    {"poolclass", "pool_size", "max_overflow", "pool_timeout", "pool_recycle", "pool_pre_ping"}
)
_databases: WeakSet[SQLAlchemy] = WeakSet()


class DBKit:
    """Flask-DBKit on one Flask-SQLAlchemy object, for any number of applications.

    Attributes:
        errors: What clients read when a constraint is broken, see :class:`Errors`.

    Args:
        app: Initialised at once if given.
        db: The application's Flask-SQLAlchemy object. Without it, the one registered on the
            application is used, or a new ``SQLAlchemy(model_class=Base)``.

    .. code-block:: python

        db = SQLAlchemy(model_class=Base)
        dbkit = DBKit(db=db)


        def create_app():
            app = Flask(__name__)
            app.config.from_prefixed_env()
            dbkit.init_app(app)
            return app

    .. versionadded:: 0.1
    """

    def __init__(self, app: Flask | None = None, *, db: SQLAlchemy | None = None) -> None:
        if db is not None and not isinstance(db, SQLAlchemy):
            raise TypeError(f"DBKit(db=…) takes a Flask-SQLAlchemy object, not {db!r}.")
        self._given_db = db
        self._own_db: SQLAlchemy | None = None
        self.errors = Errors()
        # Weak on both sides: the extension keeps no application alive.
        self._initialised: WeakKeyDictionary[Flask, SQLAlchemy] = WeakKeyDictionary()
        self.health = Health(lambda: list(self._initialised))
        if app is not None:
            self.init_app(app)

    def __repr__(self) -> str:
        return f"<DBKit, {len(self._initialised)} applications>"

    @property
    def db(self) -> SQLAlchemy:
        """The Flask-SQLAlchemy object, which is the one given, else the current application's.

        Outside an application context it is the object all initialised applications share.

        Raises:
            RuntimeError: There is none, or the applications have different ones.
        """
        if self._given_db is not None:
            return self._given_db
        if has_app_context():
            registered = current_app.extensions.get("sqlalchemy")
            if registered is not None:
                return registered  # type: ignore[no-any-return]
        shared = {id(db): db for db in self._initialised.values()}
        if len(shared) == 1:
            return next(iter(shared.values()))
        if not shared:
            raise RuntimeError(
                "This DBKit has no database yet. Call init_app(app) first, or give it one:"
                " DBKit(db=db)."
            )
        raise RuntimeError(
            "This DBKit serves applications with different databases. Ask for .db inside"
            " 'with app.app_context():'."
        )

    def init_app(self, app: Flask) -> None:
        """Prepare one application: configuration, engines, listeners, commands.

        Opens no connection and creates no file, except the instance folder where relative
        SQLite paths live. To be called when the configuration is complete.

        Args:
            app: The application.

        Raises:
            ConfigError: A setting, a database URL or a driver cannot be used. Nothing has
                been registered on the application then.
            RuntimeError: The application has a DBKit already, or its registered
                Flask-SQLAlchemy object is another one than ``db=``.
        """
        if isinstance(app, SQLAlchemy):
            raise TypeError("DBKit takes the Flask application first. Write DBKit(db=db).")
        if not isinstance(app, Flask):
            raise TypeError(f"init_app takes a Flask application, not {app!r}.")
        registered = app.extensions.get("sqlalchemy")
        state = app.extensions.get("dbkit")
        if state is not None and state.db is registered:
            raise RuntimeError(
                f"The Flask app {app.name!r} has a DBKit already."
                " Call init_app once per application."
            )
        if registered is not None and self._given_db not in (None, registered):
            raise RuntimeError(
                f"The Flask app {app.name!r} was initialised with another SQLAlchemy object"
                " than the db= given to DBKit. Use one and the same for both."
            )
        config = _read_config(app)
        db = registered or self._given_db or self._make_db()
        contexts = _contexts(app, db, config, late=registered is not None)
        engines = fsa.engines_of(app, db)
        for key, engine in engines.items():
            _install(engine, contexts[key])
        guard_sessions(db.session)
        app.cli.add_command(dbkit_group)
        if "flask_dbkit" not in app.blueprints:  # the application had another database before
            # Only for its templates: an application's own file of the same name comes first.
            app.register_blueprint(Blueprint("flask_dbkit", __name__, template_folder="templates"))
        exit_on_interrupt(app.cli)
        health = self._make_health(app, db, config, engines, contexts)
        app.extensions["dbkit"] = AppState(self, db, config, _surroundings(config, engines), health)
        register_health(app, config.health_prefix, config.health_aliases.items())
        answer_probes_first(app, health, config.health_details)
        if config.health_drain_on_sigterm:
            drain_on_sigterm(health)
        if config.errors:
            for engine in engines.values():
                install_value_errors(engine)
            answer_database_errors(app, db, config, self.errors)
        if config.error_redact_logs:
            install_redaction(_loggers(app), engines.values())
        if config.tx_per_request:
            run_views_in_scopes(app, config.tx_rollback_status)
        remember(app)
        self._initialised[app] = db
        _databases.add(db)

    def _make_db(self) -> SQLAlchemy:
        if self._own_db is None:
            self._own_db = SQLAlchemy(model_class=Base)
        return self._own_db

    def _make_health(
        self,
        app: Flask,
        db: SQLAlchemy,
        config: Config,
        engines: Mapping[str | None, Engine],
        contexts: Mapping[str | None, EngineContext],
    ) -> AppHealth:
        """Make the health checks of one application."""
        health = AppHealth(config, self.health.registry, app.app_context)
        revisions = CodeRevisions(app.app_context)
        for key, engine in sorted(engines.items(), key=lambda item: item[0] is not None):
            for check in bind_checks(
                key,
                engine,
                config,
                _engine_options(engine, contexts[key]),
                app_name=app.name,
                has_models=partial(_has_models, db, key),
                background=lambda: health.background,
                further=partial(migration_check, bind_key=key, revisions=revisions),
            ):
                health.add(check)
        if config.backup_max_age_s is not None:
            from .backups.current import age_check  # noqa: PLC0415 - only if used

            lasting = [
                key or "default"
                for key, engine in engines.items()
                if not isinstance(engine.pool, (StaticPool, SingletonThreadPool))
            ]
            health.add(age_check(config, app.instance_path, lasting))
        return health


def _has_models(db: SQLAlchemy, key: str | None) -> bool:
    return key in db.metadatas and bool(db.metadatas[key].tables)


def _engine_options(engine: Engine, context: EngineContext) -> dict[str, Any]:
    """Return the options an engine was made with, or would have been."""
    return fsa.merge_options(
        support_for(engine.url).engine_options(engine.url, context), context.given
    )


def _read_config(app: Flask) -> Config:
    config = Config.from_mapping(app.config)
    if config.direct_url is not None:  # used by migrations only, which come later
        parse_database_url(config.direct_url, key="DBKIT_DIRECT_URL")
    return config


def _contexts(
    app: Flask, db: SQLAlchemy, config: Config, *, late: bool
) -> Mapping[str | None, EngineContext]:
    """Initialise Flask-SQLAlchemy with our defaults below the application's own options."""
    asked: dict[str, Any] = {"asked_begin": asked_begin}
    if config.sqlite_begin_by_method:
        asked["wants_write"] = _request_announces_write

    def context(key: str | None, given: Mapping[str, Any]) -> EngineContext:
        return EngineContext(key, app.name, config, given, late=late, **asked)

    if late:
        engines, given = fsa.engines_of(app, db), fsa.given_options(app, db)
        check_bind_names(config, engines)
        # The configuration may have changed since the engines were made.
        contexts = {key: context(key, given.get(key, {})) for key in engines}
        _warn_late(engines, contexts)
        return contexts
    plans = fsa.plan_binds(app, db, lambda any_bind: _fallback_url(app, config, any_bind))
    contexts = {plan.key: context(plan.key, plan.given) for plan in plans}
    check_bind_names(config, contexts)
    options = {
        plan.key: fsa.merge_options(
            _logging_options(config),
            support_for(plan.url).engine_options(plan.url, contexts[plan.key]),
            plan.given,
            {"url": plan.url},
        )
        for plan in plans
    }
    fsa.initialise(app, db, options)
    if None in options and None not in fsa.given_options(app, db):
        # Code that looks the URL up in the configuration, as many recipes do, shall find it.
        app.config[fsa.URI] = options[None]["url"].render_as_string(hide_password=False)
    return contexts


def _logging_options(config: Config) -> dict[str, Any]:
    # Else the parameters stand in the text of every error.
    # https://docs.sqlalchemy.org/en/20/core/engines.html#sqlalchemy.create_engine.params.hide_parameters
    return {"hide_parameters": True} if config.error_redact_logs else {}


def _loggers(app: Flask) -> list[str]:
    """Name the loggers whose children and selves write about the databases of an application."""
    package = app.import_name.partition(".")[0]
    return [app.name, app.import_name, package, "sqlalchemy", "flask_dbkit"]


def _fallback_url(app: Flask, config: Config, any_bind: bool) -> tuple[str, str] | None:
    """Return the URL when the application configured none, and its source."""
    from_environment = os.environ.get("DATABASE_URL")
    if from_environment:
        return from_environment, "DATABASE_URL"
    if any_bind:
        return None
    if config.require_database_url:
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


def _surroundings(config: Config, engines: Mapping[str | None, Engine]) -> Surroundings:
    default = engines.get(None)
    return Surroundings(
        key=object(),
        sqlite_begin=config.sqlite_begin,
        adopt=config.tx_stray_work == "adopt",
        shared_memory=default is not None and isinstance(default.pool, StaticPool),
        bind_names={engine: key for key, engine in engines.items()},
    )


def _install(engine: Engine, context: EngineContext) -> None:
    if context.late and "hide_parameters" not in context.given:
        # Asked for at every error, so that it need not be there from the beginning.
        engine.hide_parameters = context.config.error_redact_logs
    support_for(engine.url).install(engine, context)
    guard_engine(engine)
    in_memory = isinstance(engine.pool, (StaticPool, SingletonThreadPool))
    if not in_memory:
        renew_after_fork(engine)
        if context.late:
            engine.dispose()


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


def _request_announces_write() -> bool:
    return has_request_context() and request.method in _WRITING_METHODS


def _forget_inherited_sessions() -> object:
    return [fsa.forget_sessions(db) for db in list(_databases)]


after_fork_in_child(_forget_inherited_sessions)
