"""What is kept of one application in ``app.extensions["dbkit"]``, and how it is found."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakSet

from flask import Flask, current_app, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Session

__all__ = [
    "Application",
    "application_of",
    "current_app_object",
    "current_application",
    "current_session",
    "known_databases",
    "only_application",
    "remember",
]

T = TypeVar("T")

_applications: WeakSet[Flask] = WeakSet()


@dataclass(frozen=True)
class Application:
    """The library's part of one application. It knows no room.

    Attributes:
        db: The Flask-SQLAlchemy object registered on it.
        config: Its settings, read once.
    """

    db: SQLAlchemy
    config: Any
    _parts: dict[type[Any], Any] = field(default_factory=dict)

    def settings(self, kind: type[T]) -> T:
        """Return the settings of one room.

        Args:
            kind: The room's class of settings.
        """
        settings: T = self.config
        return settings

    def add(self, part: object) -> None:
        """Keep what a room has made of this application, by its class."""
        self._parts[type(part)] = part

    def part(self, kind: type[T]) -> T:
        """Return what a room keeps of this application.

        Args:
            kind: The class of the part.

        Raises:
            KeyError: The room has added none.
        """
        part: T = self._parts[kind]
        return part


_proxied: Any = current_app
_current: Callable[[], Flask] = _proxied._get_current_object  # noqa: SLF001 - documented, whatever its name


def current_app_object() -> Flask:
    """Return the current application itself, not the proxy that stands for it.

    Raises:
        RuntimeError: There is no application context.
    """
    try:
        return _current()
    except RuntimeError:
        raise RuntimeError(
            "Working outside of application context: this needs the database of an application, and"
            " none is current here. Requests and flask commands have one; a script, a job or a"
            " thread opens it with 'with app.app_context():', or takes context, session and"
            " transaction in one: 'with session_scope(app):'."
        ) from None


def current_application() -> Application:
    """Return what is kept of the current application.

    Raises:
        RuntimeError: There is no application context, or ``DBKit`` was never initialised on
            the current application.
    """
    try:
        # The extension itself, as everybody asks who opens a scope; what is missing is told below.
        return _current().extensions["dbkit"]  # type: ignore[no-any-return]
    except (KeyError, RuntimeError):
        return application_of(current_app_object())


def application_of(app: Flask) -> Application:
    """Return what is kept of an application.

    Args:
        app: The application.

    Raises:
        RuntimeError: ``DBKit`` was never initialised on it.
    """
    kept: Application | None = app.extensions.get("dbkit")
    if kept is None:
        raise RuntimeError(
            f"The current Flask app {app.name!r} has no DBKit."
            " Call DBKit(app) or dbkit.init_app(app) in its factory."
        )
    return kept


def current_session() -> Session:
    """Return the session of the current application context.

    Raises:
        RuntimeError: As :func:`current_application`.
    """
    return current_application().db.session()


def known_databases() -> Iterator[SQLAlchemy]:
    """Yield the current application's Flask-SQLAlchemy object; outside any, those of all."""
    current = current_app.extensions.get("dbkit") if has_app_context() else None
    if current is not None:
        yield current.db
        return
    for app in list(_applications):
        yield app.extensions["dbkit"].db


def known_applications() -> list[Flask]:
    """Return every application of this process that has a DBKit."""
    return list(_applications)


def remember(app: Flask) -> None:
    """Count an application among those of this process, for as long as it lives."""
    _applications.add(app)


def only_application(
    advice: str = "Call this inside 'with app.app_context():', or name it: session_scope(app).",
) -> Flask:
    """Return the one application of this process, for code that runs outside any context.

    Args:
        advice: What the caller of ours can do when there is not exactly one.

    Raises:
        RuntimeError: There is none, or there are several.
    """
    applications = list(_applications)
    if len(applications) > 1:
        # What nothing refers to, such as the application of the test before, does not count; an
        # application and its views know each other, so that only the collector frees it.
        applications.clear()
        gc.collect()
        applications += _applications
    if len(applications) == 1:
        return applications[0]
    found = "no application" if not applications else f"{len(applications)} applications"
    raise RuntimeError(
        f"There is no current Flask app, and this process has {found} with a DBKit. {advice}"
    )
