"""The root of every error Flask-DBKit raises, and the error of a setting.

Each room has its own below it, in its ``exceptions.py``. Each is written for one reader:
:class:`ConfigError`, ``PlanError`` and ``TransactionError`` speak to the developer and name the
exact key or call to change; ``QueryError`` speaks to the client: its text holds no SQL and only
names the endpoint publishes. Facts are attributes, so nobody parses messages. SQLAlchemy's own
exceptions pass through unwrapped.
"""

from __future__ import annotations

from collections.abc import Iterable

import click

from .support.words import closest, closest_key, shorten

__all__ = ["ConfigError", "DBKitError", "closest", "closest_key", "shorten"]


class DBKitError(Exception):
    """The root of every error this library raises.

    .. versionadded:: 0.1
    """


class ConfigError(DBKitError, click.ClickException):
    """A setting, or a database URL, that cannot be used.

    Raised by ``DBKit.init_app`` before anything is created. A ``flask`` command shows it in one
    line and ends with exit code 1.

    Attributes:
        key: The setting to change, as it is written in ``app.config``.
        given: The value found there. Never a database URL, which may hold a password.
        allowed: What the setting takes, in words, or ``None`` when the key is unknown.
        nearest: The closest allowed word or key, or ``None``.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        message: str,
        *,
        key: str,
        given: object = None,
        allowed: str | None = None,
        nearest: str | None = None,
    ) -> None:
        super().__init__(message)
        self.key, self.given, self.allowed, self.nearest = key, given, allowed, nearest

    @classmethod
    def bad_value(
        cls, key: str, given: object, allowed: str, words: Iterable[str] = ()
    ) -> ConfigError:
        """Build the error for a known key with a value outside what it takes.

        Args:
            key: The setting, for example ``DBKIT_SQLITE_BEGIN``.
            given: The value found.
            allowed: What it takes, as the end of "Use …".
            words: The allowed words, to look for the nearest one.
        """
        nearest = closest(given, words)
        hint = f" Did you mean {nearest!r}?" if nearest is not None else ""
        return cls(
            f"{key} is {shorten(given)}. Use {allowed}.{hint}",
            key=key,
            given=given,
            allowed=allowed,
            nearest=nearest,
        )

    @classmethod
    def unknown_key(cls, key: str, given: object, known: Iterable[str]) -> ConfigError:
        """Build the error for a key that is no setting of this library.

        Args:
            key: The key found in ``app.config``.
            given: Its value.
            known: Every key there is.
        """
        names = sorted(known)
        nearest = closest_key(key, names)
        hint = f" Did you mean {nearest}?" if nearest is not None else ""
        allowed = "one of: " + ", ".join(names)
        return cls(
            f"{key} (set to {shorten(given)}) is no setting of Flask-DBKit.{hint} Use {allowed}.",
            key=key,
            given=given,
            allowed=allowed,
            nearest=nearest,
        )
