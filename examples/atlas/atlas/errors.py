"""The error pages, and what an error of the database means to a visitor.

The library answers database errors: with problem details for programs, and for browsers with
the page of the status, which is here. So no view has to know of a conflict or of an outage.
"""

from __future__ import annotations

from typing import NoReturn

import sqlalchemy as sa
from flask import Flask, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from flask_dbkit import InternalProblem, QueryError, UnavailableProblem

from .behind import ON_ERRORS
from .extensions import db, dbkit
from .models import DataLoad

__all__ = ["install"]

_NO_DATA = "The atlas has no data yet. Run: flask --app atlas load"


def install(app: Flask) -> None:
    """Show every HTTP error as a page, and say of an empty database that it is one."""
    app.register_error_handler(HTTPException, _show)
    app.register_error_handler(InternalProblem, _look_for_data)
    dbkit.errors.constraint("uq_country_iso3", "Another country has this code.", field="iso3")


def _show(error: HTTPException) -> ResponseReturnValue:
    if request.blueprint == "api":
        if isinstance(error, QueryError) or error.response is not None:
            return error  # it renders itself, as problem details
        problem = {"title": error.name, "status": error.code, "detail": error.description}
        return problem, error.code or 500, {"Content-Type": "application/problem+json"}
    html = render_template("error.html", error=error, note=ON_ERRORS.text)
    return html, error.code or 500


def _look_for_data(problem: InternalProblem) -> NoReturn:
    """Tell a table that is missing because nothing was loaded from a mistake in the code."""
    if _has_data():
        raise problem
    raise UnavailableProblem("unavailable", detail=_NO_DATA) from problem


def _has_data() -> bool:
    try:
        return sa.inspect(db.engine).has_table(DataLoad.__tablename__)
    except SQLAlchemyError:
        return True
