"""What one application keeps in ``app.extensions["dbkit"]``, and how it is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from flask import Flask, current_app, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Session

from .config import Config
from .health.checks import AppHealth
from .transactions.options import Surroundings

if TYPE_CHECKING:
    from .extension import DBKit

__all__ = [
    "AppState",
    "current_session",
    "current_state",
    "known_databases",
    "only_application",
    "remember",
    "state_of",
]

_applications: WeakSet[Flask] = WeakSet()


@dataclass(frozen=True)
class AppState:
    """The library's part of one application.

    Attributes:
        extension: The ``DBKit`` that initialised the application.
        db: The Flask-SQLAlchemy object registered on it.
        config: Its settings, read once.
        surroundings: What transaction scopes have to know of it.
        health: Its health checks, and what they found.
    """

    extension: DBKit
    db: SQLAlchemy
    config: Config
    surroundings: Surroundings
    health: AppHealth


def current_state() -> AppState:
    """Return the state of the current application.

    Raises:
        RuntimeError: There is no application context, or ``DBKit`` was never initialised on
            the current application.
    """
    proxied: Any = current_app
    return state_of(proxied._get_current_object())  # noqa: SLF001 - documented, whatever its name


def state_of(app: Flask) -> AppState:
    """Return the state of the current application, once that is at hand.

    Args:
        app: The current application.

    Raises:
        RuntimeError: ``DBKit`` was never initialised on it.
    """
    state: AppState | None = app.extensions.get("dbkit")
    if state is None:
        raise RuntimeError(
            f"The current Flask app {app.name!r} has no DBKit."
            " Call DBKit(app) or dbkit.init_app(app) in its factory."
        )
    return state


def current_session() -> Session:
    """Return the session of the current application context.

    Raises:
        RuntimeError: As :func:`current_state`.
    """
    return current_state().db.session()


def known_databases() -> Iterator[SQLAlchemy]:
    """Yield the current application's Flask-SQLAlchemy object; outside any, those of all."""
    current = current_app.extensions.get("dbkit") if has_app_context() else None
    if current is not None:
        yield current.db
        return
    for app in list(_applications):
        yield app.extensions["dbkit"].db


def remember(app: Flask) -> None:
    """Count an application among those of this process, for as long as it lives."""
    _applications.add(app)


def only_application() -> Flask:
    """Return the one application of this process, for code that runs outside any context.

    Raises:
        RuntimeError: There is none, or there are several.
    """
    applications = list(_applications)
    if len(applications) == 1:
        return applications[0]
    found = "no application" if not applications else f"{len(applications)} applications"
    raise RuntimeError(
        f"There is no current Flask app, and this process has {found} with a DBKit. Call this"
        " inside 'with app.app_context():', or name the app: session_scope(app)."
    )
