"""The error pages."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Flask, render_template, request
from sqlalchemy.exc import OperationalError, ProgrammingError
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from flask_dbkit import QueryError

from .extensions import db
from .models import DataLoad

__all__ = ["install"]


def install(app: Flask) -> None:
    """Show every HTTP error, and a database that is empty or away, as a page."""
    app.register_error_handler(HTTPException, _show)
    app.register_error_handler(OperationalError, _show_unavailable)
    app.register_error_handler(ProgrammingError, _show_unavailable)


def _show(error: HTTPException) -> tuple[str, int] | HTTPException:
    if isinstance(error, QueryError) and request.blueprint == "api":
        return error  # it renders itself, as problem details
    return render_template("error.html", error=error), error.code or 500


def _show_unavailable(
    error: OperationalError | ProgrammingError,
) -> tuple[str, int] | HTTPException:
    db.session.rollback()
    if not _has_data():
        return _show(ServiceUnavailable("The atlas has no data yet. Run: flask --app atlas load"))
    if isinstance(error, ProgrammingError):
        raise error
    return _show(ServiceUnavailable("The database is busy. Please try again in a moment."))


def _has_data() -> bool:
    try:
        return sa.inspect(db.engine).has_table(DataLoad.__tablename__)
    except OperationalError:
        return True
