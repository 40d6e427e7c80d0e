"""What one ``DBKIT_*`` setting is, and the kinds of values there are.

A kind is a function that makes a :class:`Setting`: it knows how to read its values from Python
and from the environment, where everything is text. :mod:`flask_dbkit.config` has the table.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from .exceptions import ConfigError

__all__ = ["MAX_MS", "Setting", "flag", "integer", "path", "word"]

MAX_MS = 2**31 - 1
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True)
class Setting:
    """One ``DBKIT_*`` key.

    Attributes:
        key: The name in ``app.config``.
        type: What it takes, in words, as the end of "Use …".
        default: The value when the key is not set.
        meaning: One line for the reference page.
        parse: ``(key, value) -> parsed value``; raises :exc:`ConfigError`.
    """

    key: str
    type: str
    default: object
    meaning: str
    parse: Callable[[str, object], object]

    @property
    def attribute(self) -> str:
        """The name of the attribute of :class:`Config` that holds it."""
        return self.key.removeprefix("DBKIT_").lower()


def flag(key: str, default: bool, meaning: str) -> Setting:
    """Make a setting that is on or off."""
    allowed = "True or False"

    def parse(key: str, value: object) -> bool:
        # Environment variables arrive as text: from_prefixed_env() turns `true` into True,
        # but `True`, `yes` and `on` stay words.
        # https://flask.palletsprojects.com/en/stable/api/#flask.Config.from_prefixed_env
        word = str(value).strip().lower() if isinstance(value, (bool, int, str)) else ""
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ConfigError.bad_value(key, value, allowed, ("true", "false"))

    return Setting(key, allowed, default, meaning, parse)


def integer(
    key: str,
    default: int | None,
    meaning: str,
    *,
    low: int,
    high: int,
    nullable: bool = False,
) -> Setting:
    """Make a setting that is a whole number between two limits.

    ``None`` is taken too where it is the default, or with ``nullable``.
    """
    may_be_none = nullable or default is None
    allowed = f"a whole number from {low} to {high}" + (", or None" if may_be_none else "")

    def parse(key: str, value: object) -> int | None:
        if value is None and may_be_none:
            return None
        number: object = value
        if isinstance(value, str):
            try:
                number = int(value.strip())
            except ValueError:
                number = None
        if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
            return number
        raise ConfigError.bad_value(key, value, allowed)

    return Setting(key, allowed, default, meaning, parse)


def word(key: str, default: str | None, meaning: str, words: tuple[str, ...]) -> Setting:
    """Make a setting that is one of some words, in any case.

    ``None`` is taken too where it is the default.
    """
    allowed = "one of: " + ", ".join(repr(word) for word in words)
    if default is None:
        allowed += ", or None"

    def parse(key: str, value: object) -> str | None:
        if value is None and default is None:
            return None
        if isinstance(value, str) and value.strip().lower() in words:
            return value.strip().lower()
        raise ConfigError.bad_value(key, value, allowed, words)

    return Setting(key, allowed, default, meaning, parse)


def path(key: str, default: str, meaning: str) -> Setting:
    """Make a setting that is a path, as text or as ``os.PathLike``."""
    allowed = "a path"

    def parse(key: str, value: object) -> str:
        if isinstance(value, (str, os.PathLike)):
            text = os.fspath(value)
            if isinstance(text, str) and text.strip():
                return text
        raise ConfigError.bad_value(key, value, allowed)

    return Setting(key, allowed, default, meaning, parse)
