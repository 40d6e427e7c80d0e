"""Isolation of one application's databases, as a context manager."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from flask import Flask, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import make_url

from ..application import current_app_object, known_applications
from ..transactions.current import abandon_at_the_end, current_transaction
from .isolation import empty_tables, rolled_back
from .leaks import tell_of_leaks, tell_of_scope

__all__ = ["close_connections", "isolated"]


def close_connections(url: str) -> None:
    """Close what the applications of this process have open to a database, and do not use."""
    for app in known_applications():
        db: SQLAlchemy = app.extensions["sqlalchemy"]
        with app.app_context():
            for engine in db.engines.values():
                if engine.url == make_url(url):
                    engine.dispose()


@contextmanager
def isolated(
    app: Flask | None = None, *, transaction: bool = False, binds: Iterable[str] | None = None
) -> Iterator[None]:
    """Undo at the end of a block all that an application has done to its databases.

    Whatever commits, by a scope, a session, ``engine.begin()``, a connection of the driver or a
    request, is undone by one rollback. The application has one connection to each database
    meanwhile, and is given as many as it likes on it. What a session of an open context has not
    committed is rolled back at the beginning and at the end.

    Args:
        app: Default: the current application.
        transaction: Real transactions instead, for threads, live servers, or DDL on MariaDB: the
            tables are emptied at the end.
        binds: Names of the databases to isolate. Default: all of them.

    Raises:
        NeedsRealTransactions: From inside the block, for what one rollback cannot undo.

    .. versionadded:: 0.1
    """
    app = current_app_object() if app is None else app
    db: SQLAlchemy = app.extensions["sqlalchemy"]
    with app.app_context():
        engines = {key: db.engines[key] for key in _keys(db, binds)}
    if transaction:
        try:
            yield
        finally:
            _end_session(app, db)
            empty_tables(
                (engine, db.metadatas[key])
                for key, engine in engines.items()
                if key in db.metadatas
            )
        return
    if _is_current(app) and db.session().in_transaction():
        db.session.rollback()  # its connection is none of the test's
    with rolled_back(engines.values()) as worlds:
        try:
            yield
        finally:
            _end_session(app, db)
            tell_of_leaks(worlds)


def _keys(db: SQLAlchemy, binds: Iterable[str] | None) -> list[str | None]:
    keys = sorted(db.engines, key=lambda key: (key is not None, key or ""))
    known = {"default" if key is None else key: key for key in keys}
    if binds is None:
        return list(known.values())
    wanted = list(binds)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(
            f"binds= names {', '.join(map(repr, unknown))}, which the application does not have."
            f" It has: {', '.join(known)}."
        )
    return [known[name] for name in wanted]


def _end_session(app: Flask, db: SQLAlchemy) -> None:
    """End the session of a context that stays open, as one of a fixture for all tests does."""
    if _is_current(app):
        if current_transaction() is not None:
            tell_of_scope()
            abandon_at_the_end()
        db.session.remove()


def _is_current(app: Flask) -> bool:
    return has_app_context() and current_app_object() is app
