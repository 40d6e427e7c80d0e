"""The one module that knows how Flask-SQLAlchemy builds its engines.

Flask-SQLAlchemy computes the options of each bind inside ``SQLAlchemy.init_app``, from three
configuration keys and from the ``engine_options`` given to its constructor. To put defaults
*below* all of them, the same merge is done here first, and Flask-SQLAlchemy is handed the
result. The configuration it sees is put back afterwards, so that ``app.config`` stays what the
application wrote.

References:
    https://flask-sqlalchemy.readthedocs.io/en/stable/config/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as ChoosingSession
from flask_sqlalchemy.track_modifications import before_models_committed, models_committed
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.orm import Session, scoped_session

from ..application import current_app_object
from ..exceptions import ConfigError
from .urls import drivers_not_taken, parse_database_url

__all__ = [
    "BindPlan",
    "chooses_by_model",
    "current_engines",
    "engines_of",
    "engines_of_session",
    "forget_sessions",
    "given_options",
    "initialise",
    "is_one_for_each_context",
    "is_used",
    "merge_options",
    "plan_binds",
    "tracks_for_nobody",
]

logger = logging.getLogger("flask_dbkit")

_ENGINES = "_dbkit_engines"
"""Attribute of a session: its application, and that one's engines."""
URI, OPTIONS, BINDS = "SQLALCHEMY_DATABASE_URI", "SQLALCHEMY_ENGINE_OPTIONS", "SQLALCHEMY_BINDS"
_KEYS: Mapping[str, Callable[[], Any]] = {URI: lambda: None, OPTIONS: dict, BINDS: dict}


@dataclass(frozen=True)
class BindPlan:
    """What one engine will be made from.

    Attributes:
        key: The bind key, ``None`` for the default database.
        url: The database URL after our rules.
        given: The application's own options for this bind, without the URL.
    """

    key: str | None
    url: URL
    given: Mapping[str, Any]


def given_options(app: Flask, db: SQLAlchemy) -> dict[str | None, dict[str, Any]]:
    """Return the application's own engine options per bind, merged as Flask-SQLAlchemy does.

    The default bind is there if it has a ``url``; another bind is there in any case.
    """
    # The one private attribute of Flask-SQLAlchemy we read; there is no public door to it.
    constructor: Mapping[str, Any] = db._engine_options
    given: dict[str | None, dict[str, Any]] = {}
    for key, value in _dict_at(app, BINDS, '{"archive": "sqlite:///archive.db"}').items():
        own = value if isinstance(value, Mapping) else {"url": value}
        given[key] = merge_options(constructor, own)
    default = merge_options(constructor, _dict_at(app, OPTIONS, '{"pool_size": 5}'))
    if app.config.get(URI) is not None:
        default["url"] = app.config[URI]
    if "url" in default:
        given[None] = merge_options(given.get(None, {}), default)
    return given


def _dict_at(app: Flask, key: str, example: str) -> Mapping[Any, Any]:
    return _as_dict(app.config.get(key), key, example)


def _as_dict(value: object, key: str, example: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    # Only its type is told: it may hold a URL with a password.
    allowed = f"a dict such as {example}"
    raise ConfigError(
        f"{key} is of type {type(value).__name__}. Use {allowed}.", key=key, allowed=allowed
    )


def plan_binds(
    app: Flask, db: SQLAlchemy, fallback: Callable[[bool], tuple[str, str] | None]
) -> list[BindPlan]:
    """Work out every bind as ``SQLAlchemy.init_app`` will, and apply the URL rules.

    Args:
        app: Its configuration is read, never changed.
        db: Its ``engine_options`` come below the configuration, as in Flask-SQLAlchemy.
        fallback: Called with "is any bind configured?" when there is no URL for the default
            database; returns one and where it comes from, or ``None`` to go without.

    Returns:
        One plan per bind.

    Raises:
        ConfigError: A URL cannot be used, or a bind has none.
    """
    given = given_options(app, db)
    where = {key: f"{BINDS}[{key!r}]" for key in given}
    where[None] = URI if app.config.get(URI) is not None else f"{OPTIONS} or {BINDS}[None]"
    if None not in given:
        found = fallback(bool(given))
        if found is not None:
            default = merge_options(db._engine_options, app.config.get(OPTIONS) or {})
            given[None] = {**default, "url": found[0]}
            where[None] = found[1]
    return [_plan(key, options, where[key]) for key, options in given.items()]


def _plan(key: str | None, given: Mapping[str, Any], where: str) -> BindPlan:
    if "url" not in given:
        allowed = "a database URL, or a dict of engine options with a 'url'"
        raise ConfigError(f"{where} has no 'url'. Give {allowed}.", key=where, allowed=allowed)
    url = parse_database_url(given["url"], key=where)
    for other in drivers_not_taken(given["url"], key=where):
        backend, _, taken = url.drivername.partition("+")
        logger.info(
            "%s names no driver: %s is used, and %s is installed too. To stay with one of them"
            " write %s+%s://… or %s+%s://…",
            *(where, taken, other, backend, taken, backend, other),
        )
    return BindPlan(key, url, {name: value for name, value in given.items() if name != "url"})


def merge_options(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge engine options, later layers winning; ``connect_args`` are merged key by key."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if name == "connect_args" and value is not None:
                own = _as_dict(value, "The engine option connect_args", '{"timeout": 10}')
                merged[name] = {**(merged.get(name) or {}), **own}
            else:
                merged[name] = value
    return merged


def initialise(app: Flask, db: SQLAlchemy, options: Mapping[str | None, Mapping[str, Any]]) -> None:
    """Call ``db.init_app(app)`` with complete engine options per bind.

    Args:
        app: The application to initialise.
        db: The Flask-SQLAlchemy object.
        options: Engine options with a ``url``, by bind key.

    Raises:
        ConfigError: The instance folder, where relative SQLite paths live, cannot be made.
    """
    completed = {key: dict(value) for key, value in options.items()}
    default = completed.pop(None, None)
    given = {
        URI: default.pop("url") if default is not None else None,
        OPTIONS: default if default is not None else {},
        BINDS: completed,
    }
    with _configured(app, given):
        try:
            db.init_app(app)
        except BaseException as error:
            # An option that SQLAlchemy refuses, say: leave the application as it was.
            app.extensions.pop("sqlalchemy", None)
            if not isinstance(error, OSError):
                raise
            raise ConfigError(
                f"The instance folder {app.instance_path} cannot be made: {error.strerror}."
                " Relative SQLite paths are kept there. Make the folder writable, pass"
                " Flask(instance_path=...), or configure a URL with an absolute path.",
                key=URI,
                given=app.instance_path,
            ) from error


@contextmanager
def _configured(app: Flask, values: Mapping[str, Any]) -> Iterator[None]:
    before = {key: app.config.get(key) for key in _KEYS}
    app.config.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            # Flask-SQLAlchemy leaves its defaults behind in app.config; so do we.
            app.config[key] = _KEYS[key]() if value is None else value


def engines_of(app: Flask, db: SQLAlchemy) -> Mapping[str | None, Engine]:
    """Return the engines of one application by bind key."""
    with app.app_context():
        return _real_engines(db)


def current_engines(db: SQLAlchemy) -> Mapping[str | None, Engine]:
    """Return the engines of the current application by bind key, the default one first."""
    return dict(sorted(_real_engines(db).items(), key=lambda item: item[0] is not None))


def _real_engines(db: SQLAlchemy) -> dict[str | None, Engine]:
    # Flask-SQLAlchemy lets a subclass make something else of an engine.
    engines: Mapping[str | None, Any] = db.engines
    return {key: engine for key, engine in engines.items() if isinstance(engine, Engine)}


def tracks_for_nobody(app: Flask) -> bool:
    """Tell whether modifications are tracked, and nothing listens to their signals."""
    signals = (models_committed, before_models_committed)
    tracks = bool(app.config.get("SQLALCHEMY_TRACK_MODIFICATIONS"))
    return tracks and not any(signal.receivers for signal in signals)


def is_used(db: SQLAlchemy) -> bool:
    """Tell whether any application was initialised with this object."""
    return bool(db._app_engines)


def is_one_for_each_context(sessions: scoped_session[Any]) -> bool:
    """Tell whether each application context has a session, and not, say, each thread.

    Flask-SQLAlchemy finds it by the ``id()`` of the context, unless ``session_options`` say
    otherwise.
    """
    chosen_by = getattr(sessions.registry, "scopefunc", None)
    return getattr(chosen_by, "__module__", None) == ChoosingSession.__module__


def chooses_by_model(get_bind: Callable[..., Any]) -> bool:
    """Tell whether a session's ``get_bind`` is Flask-SQLAlchemy's own."""
    return get_bind is ChoosingSession.get_bind


def engines_of_session(session: Session) -> Mapping[str | None, Engine | Connection]:
    """Return what Flask-SQLAlchemy's ``get_bind`` chooses from, by bind key.

    Tests put a connection in the place of an engine.
    """
    # Kept with the session, which is asked at each statement; for its application, which a
    # session of a wider scope than usual may change.
    app = current_app_object()
    kept: tuple[Flask, Mapping[str | None, Engine | Connection]] | None
    kept = session.__dict__.get(_ENGINES)
    if kept is None or kept[0] is not app:
        db: SQLAlchemy = session._db  # type: ignore[attr-defined]
        kept = session.__dict__[_ENGINES] = app, db.engines
    return kept[1]


def forget_sessions(db: SQLAlchemy) -> list[Session]:
    """Empty the session registry without closing anything.

    For a forked child: the sessions it inherited hold connections of its parent, and closing
    them would talk on the parent's sockets. Their objects become detached, so that a lazy
    load raises instead of reading from such a connection.

    Returns:
        The sessions, which the caller must keep alive: collecting them would close them.
    """
    registry: Any = db.session.registry
    # A scoped session with a scope function of its own keeps a dict; one without, which only an
    # application's own subclass can bring about, keeps a thread-local.
    sessions: Any = getattr(registry, "registry", None)
    if not isinstance(sessions, dict):
        return []
    forgotten: list[Session] = list(sessions.values())
    for session in forgotten:
        session.expunge_all()
    sessions.clear()
    return forgotten
