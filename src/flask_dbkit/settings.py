"""What one ``DBKIT_*`` setting is, and the kinds of values there are.

A room has one frozen dataclass of settings. A kind is a function that makes one of its fields,
with the key, the default, the meaning, and how values are read from Python and from the
environment, where everything is text:

.. code-block:: python

    @dataclass(frozen=True)
    class HealthSettings(Settings):
        health_timeout: float = seconds("DBKIT_HEALTH_TIMEOUT", 0.8, "…", low=0.01, high=60)

A field is called as its key, without the prefix and in small letters. That is the one place a
setting is written down: :class:`~flask_dbkit.config.Config`, the table of settings and the
reference page are made from it.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import Field, dataclass, field, fields
from typing import Any

from .exceptions import ConfigError

__all__ = [
    "MAX_MS",
    "Setting",
    "Settings",
    "command",
    "flag",
    "integer",
    "parser_of",
    "path",
    "seconds",
    "setting",
    "settings_in",
    "share",
    "size",
    "switch",
    "text",
    "word",
]

MAX_MS = 2**31 - 1
_METADATA = "dbkit_setting"
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(|B|KB|MB|GB|TB)", re.IGNORECASE)
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


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
        """The name of the field that holds it."""
        return self.key.removeprefix("DBKIT_").lower()


@dataclass(frozen=True)
class Settings:
    """The settings of one room: the base of each room's class.

    Attributes:
        given: The keys the application set itself, so that a default never overrules its options.
    """

    given: frozenset[str] = frozenset()


def setting(
    key: str, allowed: str, default: object, meaning: str, parse: Callable[[str, object], object]
) -> Any:
    """Make the field of a setting of a kind of its own.

    Args:
        key: The name in ``app.config``.
        allowed: What it takes, in words.
        default: The value when the key is not set.
        meaning: One line for the reference page.
        parse: ``(key, value) -> parsed value``; raises :exc:`ConfigError`.
    """
    made = Setting(key, allowed, default, meaning, parse)
    return field(default_factory=lambda: copy(made.default), metadata={_METADATA: made})


def settings_in(kind: type[Any]) -> Iterator[Setting]:
    """Yield the settings of a dataclass in the order of its fields."""
    for each in fields(kind):
        if _METADATA in each.metadata:
            yield each.metadata[_METADATA]


def parser_of(made: Field[Any]) -> Callable[[str, object], Any]:
    """Return how a setting reads its values, for a setting that holds values of that kind."""
    parse: Callable[[str, object], Any] = made.metadata[_METADATA].parse
    return parse


def flag(key: str, default: bool, meaning: str) -> Any:
    """Make the field of a setting that is on or off."""
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

    return setting(key, allowed, default, meaning, parse)


def switch(key: str, meaning: str) -> Any:
    """Make the field of a setting that is on, off, or left to what is there: the default."""
    allowed = "True, False or 'auto'"

    def parse(key: str, value: object) -> bool | str:
        word = str(value).strip().lower() if isinstance(value, (bool, int, str)) else ""
        if word == "auto":
            return word
        if word in _TRUE | _FALSE:
            return word in _TRUE
        raise ConfigError.bad_value(key, value, allowed, ("true", "false", "auto"))

    return setting(key, allowed, "auto", meaning, parse)


def integer(
    key: str,
    default: int | None,
    meaning: str,
    *,
    low: int,
    high: int,
    nullable: bool = False,
) -> Any:
    """Make the field of a setting that is a whole number between two limits.

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

    return setting(key, allowed, default, meaning, parse)


def word(key: str, default: str | None, meaning: str, words: tuple[str, ...]) -> Any:
    """Make the field of a setting that is one of some words, in any case.

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

    return setting(key, allowed, default, meaning, parse)


def seconds(
    key: str,
    default: float | None,
    meaning: str,
    *,
    low: float,
    high: float,
    nullable: bool = False,
) -> Any:
    """Make the field of a setting that is a time in seconds, with or without a fraction.

    ``None`` is taken too where it is the default, or with ``nullable``.
    """
    may_be_none = nullable or default is None
    allowed = f"seconds from {low:g} to {high:g}" + (", or None" if may_be_none else "")

    def parse(key: str, value: object) -> float | None:
        if value is None and may_be_none:
            return None
        number = _number(value)
        if number is None or not low <= number <= high:
            raise ConfigError.bad_value(key, value, allowed)
        return number

    return setting(key, allowed, default, meaning, parse)


def share(key: str, default: float, meaning: str) -> Any:
    """Make the field of a part of a whole: a number from 0 to 1, or a text such as "10 %"."""
    allowed = "a number from 0 to 1, a text such as '10 %', or None"

    def parse(key: str, value: object) -> float | None:
        if value is None:
            return None
        percent = isinstance(value, str) and value.strip().endswith("%")
        number = _number(str(value).strip().removesuffix("%") if percent else value)
        if number is not None and 0 <= number <= (100 if percent else 1):
            return number / 100 if percent else number
        raise ConfigError.bad_value(key, value, allowed)

    return setting(key, allowed, default, meaning, parse)


def size(key: str, default: int, meaning: str) -> Any:
    """Make the field of a number of bytes, or a text such as "64 MB" (millions of bytes)."""
    allowed = "a number of bytes, a text such as '64 MB', or None"

    def parse(key: str, value: object) -> int | None:
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ConfigError.bad_value(key, value, allowed)
        return round(float(match[1]) * _UNITS[match[2].upper()])

    return setting(key, allowed, default, meaning, parse)


def _number(value: object) -> float | None:
    """Read a finite number from a number or a text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def text(key: str, default: str | None, allowed: str, meaning: str) -> Any:
    """Make the field of a setting that is any text but an empty one.

    ``None`` is taken too where it is the default. A path object is taken as its text.
    """
    if default is None:
        allowed += ", or None"

    def parse(key: str, value: object) -> str | None:
        if value is None and default is None:
            return None
        if isinstance(value, (str, os.PathLike)) and str(value).strip():
            return str(value).strip()
        raise ConfigError.bad_value(key, value, allowed)

    return setting(key, allowed, default, meaning, parse)


def command(key: str, meaning: str) -> Any:
    """Make the field of a setting that is a program with its arguments, or ``None``.

    Text is split as a shell would; no shell is started.
    """
    allowed = "a command as text or as a list of texts, or None"

    def parse(key: str, value: object) -> tuple[str, ...] | None:
        if value is None:
            return None
        try:
            words: Sequence[object] = shlex.split(value) if isinstance(value, str) else list(value)  # type: ignore[call-overload]
        except (TypeError, ValueError):  # no list; or a quotation mark that is never closed
            words = ()
        if words and all(isinstance(word, str) and word for word in words):
            return tuple(str(word) for word in words)
        raise ConfigError.bad_value(key, value, allowed)

    return setting(key, allowed, None, meaning, parse)


def path(key: str, default: str, meaning: str, *, nullable: bool = False) -> Any:
    """Make the field of a setting that is a path, as text or as ``os.PathLike``.

    ``None`` is taken too with ``nullable``.
    """
    allowed = "a path" + (", or None" if nullable else "")

    def parse(key: str, value: object) -> str | None:
        if value is None and nullable:
            return None
        if isinstance(value, (str, os.PathLike)):
            text = os.fspath(value)
            if isinstance(text, str) and text.strip():
                return text
        raise ConfigError.bad_value(key, value, allowed)

    return setting(key, allowed, default, meaning, parse)
