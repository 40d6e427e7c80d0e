"""Logging while ``env.py`` runs: the application's is left as it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from logging.config import fileConfig
from pathlib import Path

__all__ = ["configure_logging", "undisturbed_logging"]


def configure_logging(ini: str | Path | None) -> None:
    """Apply the logging of ``alembic.ini``, unless the application has set up its own.

    No logger that exists is ever disabled.

    https://docs.python.org/3/library/logging.config.html#logging.config.fileConfig
    """
    if ini is None or logging.getLogger().handlers or not Path(ini).is_file():
        return
    parser = ConfigParser(interpolation=None)
    parser.read(ini, encoding="utf-8")
    if parser.has_section("loggers"):
        fileConfig(ini, disable_existing_loggers=False)


@contextmanager
def undisturbed_logging() -> Iterator[None]:
    """Put every logger back as it was, whatever an ``env.py`` of somebody else does.

    Flask-Migrate's calls ``fileConfig()``, which disables every logger it does not name:
    ``app.logger`` is silent from then on.
    """
    root = logging.getLogger()
    loggers = [root, *_loggers()]
    before = [(one, one.disabled, one.level, one.propagate, one.handlers[:]) for one in loggers]
    try:
        yield
    finally:
        for logger, disabled, level, propagate, handlers in before:
            logger.disabled, logger.propagate = disabled, propagate
            logger.setLevel(level)
            logger.handlers[:] = handlers


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [each for each in list(known) if isinstance(each, logging.Logger)]
