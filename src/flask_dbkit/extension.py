"""The extension object: ``DBKit.init_app`` goes through the list of features."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import ClassVar
from weakref import WeakKeyDictionary

from flask import Flask, current_app, has_app_context
from flask_sqlalchemy import SQLAlchemy

from . import features as features_of_the_library
from .application import Application, remember
from .cli import dbkit_group
from .config import Config, config_class
from .doctor.current import Doctor
from .engines.flask_sqlalchemy import is_used
from .engines.setup import set_up_engines
from .errors.messages import Errors
from .feature import Feature, Setup
from .health.current import Health
from .models.base import Base, databases_on
from .support.calls import explained_methods

__all__ = ["DBKit"]

logger = logging.getLogger("flask_dbkit")


@explained_methods()
class DBKit:
    """Flask-DBKit on one Flask-SQLAlchemy object, for any number of applications.

    Attributes:
        errors: What clients read when a constraint is broken, see :class:`Errors`.
        health: The health checks, see :class:`Health`.
        doctor: The checks before an application is shipped, see :class:`Doctor`.

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

    _has_served: ClassVar[bool] = False
    """Whether any application of this process was initialised."""

    def __init__(self, app: Flask | None = None, *, db: SQLAlchemy | None = None) -> None:
        if db is not None and not isinstance(db, SQLAlchemy):
            raise TypeError(f"DBKit(db=…) takes a Flask-SQLAlchemy object, not {db!r}.")
        self._given_db = db
        self._own_db: SQLAlchemy | None = None
        self.errors = Errors()
        # Weak on both sides: the extension keeps no application alive.
        self._initialised: WeakKeyDictionary[Flask, SQLAlchemy] = WeakKeyDictionary()
        self.health = Health(lambda: list(self._initialised))
        self.doctor = Doctor(lambda: list(self._initialised))
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
        features = features_of_the_library.FEATURES
        config = config_class(features).from_mapping(app.config)
        db = registered or self._given_db or self._make_db()
        binds = set_up_engines(
            app,
            db,
            config,
            check_names=lambda keys: _check(features, config, keys),
            further={
                name: told
                for feature in features
                for name, told in feature.told_to_engines(config).items()
            },
        )
        application = Application(db, config)
        published = {"health": self.health, "errors": self.errors, "doctor": self.doctor}
        setup = Setup(app, db, application, binds, published)
        for feature in features:
            dbkit_group.offer(feature.commands)
            self.doctor.registry.offer(feature.doctor)
            for bind in binds:
                feature.on_engine(bind, setup)
        for feature in features:
            feature.install(setup)
        app.extensions["dbkit"] = application
        remember(app)
        DBKit._has_served = True
        self._initialised[app] = db

    def _make_db(self) -> SQLAlchemy:
        if self._own_db is None:
            # Said to the first application only: a process with several may be set up so.
            if not DBKit._has_served and not all(map(is_used, databases_on(Base))):
                logger.warning(
                    "This process has a SQLAlchemy(model_class=Base) that no application uses yet,"
                    " and DBKit() makes another one. If it is this application's, name it:"
                    " DBKit(db=db)."
                )
            self._own_db = SQLAlchemy(model_class=Base)
        return self._own_db


def _check(features: Iterable[Feature], config: Config, bind_keys: Iterable[str | None]) -> None:
    """Let every feature refuse settings that do not fit the databases."""
    keys = list(bind_keys)
    for feature in features:
        feature.check(config, keys)
