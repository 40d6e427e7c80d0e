"""What one application keeps in ``app.extensions["dbkit"]``, and how it is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Session

from .config import Config

if TYPE_CHECKING:
    from .extension import DBKit

__all__ = ["AppState", "current_session", "current_state"]


@dataclass(frozen=True)
class AppState:
    """The library's part of one application.

    Attributes:
        extension: The ``DBKit`` that initialised the application.
        db: The Flask-SQLAlchemy object registered on it.
        config: Its settings, read once.
    """

    extension: DBKit
    db: SQLAlchemy
    config: Config


def current_state() -> AppState:
    """Return the state of the current application.

    Raises:
        RuntimeError: There is no application context, or ``DBKit`` was never initialised on
            the current application.
    """
    state = current_app.extensions.get("dbkit")
    if state is None:
        raise RuntimeError(
            f"The current Flask app {current_app.name!r} has no DBKit."
            " Call DBKit(app) or dbkit.init_app(app) in its factory."
        )
    return cast(AppState, state)


def current_session() -> Session:
    """Return the session of the current application context.

    Raises:
        RuntimeError: As :func:`current_state`.
    """
    return current_state().db.session()
