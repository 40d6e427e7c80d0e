"""Database errors as answers, and log records without values."""

from __future__ import annotations

import logging

import click
from flask import Flask, has_app_context, has_request_context

from ..application import current_app_object
from ..cli import dbkit_group
from ..databases.errors import OWN_WORDS, install_value_errors
from ..feature import Bind, Feature, Setup
from .messages import Errors
from .missing import MissingAdvice
from .redaction import install_redaction
from .requests import answer_database_errors, shows_details
from .settings import ErrorSettings

__all__ = ["ERRORS"]


def _on_engine(bind: Bind, setup: Setup) -> None:
    settings = setup.settings(ErrorSettings)
    if "hide_parameters" not in bind.context.given:
        # Else the parameters stand in the text of every error. It is looked at when one is made.
        # https://docs.sqlalchemy.org/en/20/core/engines.html#sqlalchemy.create_engine.params.hide_parameters
        bind.engine.hide_parameters = settings.error_redact_logs
    if settings.errors:
        install_value_errors(bind.engine)


def _install(setup: Setup) -> None:
    settings = setup.settings(ErrorSettings)
    setup.application.add(MissingAdvice())
    if settings.errors:
        words: Errors = setup.published["errors"]
        answer_database_errors(setup.app, setup.db, settings, words)
    if settings.error_redact_logs:
        install_redaction(
            _loggers(setup.app),
            [bind.engine for bind in setup.binds],
            detailed=shows_details,
            left_alone=_is_for_operator,
            of_others=_is_of_another,
        )


def _is_for_operator(error: BaseException) -> bool:
    """Tell whether an error goes to somebody's terminal and nowhere else.

    Where one of the library's own commands runs its messages are the whole point. A file that
    cannot be opened is named to whoever starts the application, outside requests.
    """
    if isinstance(getattr(getattr(error, "orig", None), OWN_WORDS, None), str):
        return not has_request_context()
    context = click.get_current_context(silent=True)
    while context is not None and context.command is not dbkit_group:
        context = context.parent
    return context is not None


def _is_of_another(record: logging.LogRecord) -> bool:
    """Tell whether the current application shares a logger with this one, and redacts nothing.

    A process may hold an application of the same name that has no ``DBKit``. What it logs is its
    own matter; an error of an engine of ours is harmless wherever it is logged.
    """
    if not has_app_context():
        return False
    app = current_app_object()
    found = app.extensions.get("dbkit")
    if found is not None and found.settings(ErrorSettings).error_redact_logs:
        return False
    return any(f"{record.name}.".startswith(f"{name}.") for name in _loggers(app))


def _loggers(app: Flask) -> list[str]:
    """Name the loggers whose children and selves write about the databases of an application."""
    package = app.import_name.partition(".")[0]
    return [app.name, app.import_name, package, "sqlalchemy", "flask_dbkit"]


ERRORS = Feature(
    "errors",
    settings=ErrorSettings,
    on_engine=_on_engine,
    install=_install,
    doctor=("flask_dbkit.errors.doctor",),
)
